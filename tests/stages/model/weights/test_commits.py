"""Of "main" the first pull takes a commit for good; what was pulled is found again, with network and without."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.base import WeightsError
from stages.local.weights_command import main
from stages.model.weights.commits import commit_of, keep, record_file
from stages.model.weights.files import fetch, find_folder, local_state
from stages.model.weights.identity import identity_of
from stages.presets import Part
from tests.stages.model.weights.hub import TREES, as_the_hub, publish
from tests.stages.modern.rig import modern_preset

REPOSITORY, OLD, NEW = "somebody/motion", "a" * 40, "b" * 40
PART = Part(REPOSITORY, "test")
WEIGHTS = "diffusion_pytorch_model.safetensors"


def files(content: bytes) -> dict[str, bytes]:
    """With a file that the part does not need, so that its snapshot is never the whole repository."""
    return {"config.json": b"{}", WEIGHTS: content, "other.bin": b"never"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Its cache; the hub has one repository, at its first commit."""
    monkeypatch.setattr("tests.stages.model.weights.hub.TREES", dict(TREES))
    publish(REPOSITORY, OLD, files(b"old"))
    with as_the_hub(monkeypatch, tmp_path / "hub"):
        yield tmp_path / "hub"


def read(folder: Path) -> bytes:
    assert not (folder / "other.bin").exists()
    return (folder / WEIGHTS).read_bytes()


def test_a_second_pull_gets_what_the_first_one_got(hub: Path) -> None:
    folder = fetch("motion", PART)
    assert read(folder) == b"old"
    publish(REPOSITORY, NEW, files(b"new"))
    (folder / WEIGHTS).unlink()
    assert local_state("motion", PART) == "partly cached"
    assert read(fetch("motion", PART)) == b"old"
    assert record_file().read_text() == f"{REPOSITORY}@main {OLD}\n"
    record_file().unlink()
    assert read(fetch("motion", PART)) == b"new"
    assert identity_of("motion", PART) == f"commit {NEW}"


def test_what_was_pulled_is_found_without_network(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library knows the whole list of files by then, and calls a snapshot of some of them incomplete."""
    fetch("motion", PART)
    assert local_state("motion", PART) == "cached"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert local_state("motion", PART) == "cached"
    assert read(find_folder("motion", PART)) == b"old"


def test_a_pipeline_is_pulled_by_its_index(hub: Path) -> None:
    index = {"_class_name": "P", "unet": ["diffusers", "U"], "text": ["transformers", "T"], "image": [None, None]}
    wanted = {f"unet/{WEIGHTS}": b"u", "unet/config.json": b"{}", "text/model.safetensors": b"t"}
    others = {f"text/{WEIGHTS}": b"second set", f"old_unet/{WEIGHTS}": b"other", "whole.safetensors": b"other"}
    publish(REPOSITORY, NEW, {"model_index.json": json.dumps(index).encode(), **wanted, **others})
    folder = fetch("t2i", PART)
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {
        "model_index.json",
        *wanted,
    }


def test_a_repository_that_is_no_pipeline(hub: Path) -> None:
    with pytest.raises(WeightsError, match=r"needs model_index\.json, which somebody/motion does not have at revision"):
        fetch("t2i", PART)


def test_the_command_says_and_shows_it(
    hub: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stages.presets.PRESETS", {"test": modern_preset({"motion": REPOSITORY})})
    assert main(["--preset", "test", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parts"]["motion"]["commit"] is None
    assert main(["--preset", "test", "--pull"]) == 0
    told = capsys.readouterr()
    assert f"motion: main of {REPOSITORY} is commit {OLD} from now on, as recorded in {record_file()}." in told.err
    assert f"main {OLD[:8]}" in told.out
    assert main(["--preset", "test", "--json"]) == 0
    motion = json.loads(capsys.readouterr().out)["parts"]["motion"]
    assert (motion["revision"], motion["commit"], motion["state"]) == ("main", OLD, "cached")


def test_what_another_program_has_fetched_is_recorded_too(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch("motion", PART)
    record_file().unlink()
    refs = hub / f"models--{REPOSITORY.replace('/', '--')}" / "refs"
    refs.mkdir(exist_ok=True)
    (refs / "main").write_text(OLD)
    monkeypatch.setattr("stages.presets.PRESETS", {"test": modern_preset({"motion": REPOSITORY})})
    assert main(["--preset", "test", "--pull"]) == 0
    assert commit_of(PART) == OLD


def test_a_commit_that_was_taken_back(hub: Path) -> None:
    keep(PART, NEW)
    with pytest.raises(WeightsError) as told:
        fetch("motion", PART)
    assert str(told.value) == (
        f"Part 'motion' was fetched at commit {NEW} of {REPOSITORY}, which is not there any more; take its line out of "
        f"{record_file()} to fetch what 'main' is now."
    )


def test_a_record_that_somebody_broke(hub: Path) -> None:
    record_file().parent.mkdir(parents=True)
    record_file().write_text(f"{REPOSITORY}@main\n")
    with pytest.raises(WeightsError, match=r"has the line 'somebody/motion@main'; mend it or take it out"):
        fetch("motion", PART)


def test_a_commit_is_not_recorded(hub: Path) -> None:
    fetch("motion", Part(REPOSITORY, "test", revision=OLD))
    assert not record_file().exists()
