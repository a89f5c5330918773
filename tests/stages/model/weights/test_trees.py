"""`weights --pull --dry-run` against the recorded file lists of every repository: what is missing is found there."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stages.base import WeightsError
from stages.local.weights_command import main
from stages.model.hub.published import PUBLISHED
from stages.model.weights.files import components, fetch, is_hub_id, is_pipeline
from stages.model.weights.trees import lacking, to_fetch
from stages.presets import LTX_2, PAPER, PRESETS, Part
from tests.stages.model.weights.hub import TREES, as_the_hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The recorded one, with an empty cache."""
    with as_the_hub(monkeypatch, tmp_path / "hub"):
        yield


HUB_PARTS = {
    f"{preset.name}/{name}": (name, part)
    for preset in PRESETS.values()
    for name, part in preset.parts.items()
    if is_hub_id(part)
}
# What nobody says in public: whoever adds a part adds its files, or its name here.
UNKNOWN_COMMIT = {"kandinsky-6/v2v_pipeline", "ltx-2/v2v_pipeline"}
UNKNOWN_FILES = {"kandinsky-6/i2v_pipeline"}
UNKNOWN_SIZE = {*UNKNOWN_COMMIT, "ltx-2/i2v_pipeline", "modern/i2v_vae", "modern/v2v_vae"}  # a VAE is in its pipeline's


@pytest.mark.parametrize("where", HUB_PARTS)
def test_every_part_can_be_had_at_its_revision_and_is_as_large_as_the_table_says(where: str) -> None:
    name, part = HUB_PARTS[where]
    known = TREES[part.source]
    assert part.revision == known["revision"]
    assert (part.revision == "main") == (where in UNKNOWN_COMMIT)
    assert ("unsaid" in known) == (where in UNKNOWN_FILES)
    assert (part.size_gb == 0) == (where in UNKNOWN_SIZE)
    assert part.revision == "main" or (len(part.revision) == 40 and int(part.revision, 16) > 0)
    index = PUBLISHED[part.source]["model_index"] if is_pipeline(name) else None
    if "unsaid" in known:
        files = [path for component in components(index or {}) for path in known["files"] if path.startswith(component)]
        assert len(files) > 8
        found = dict.fromkeys(files, 0)
    else:
        found = to_fetch(name, part, known["files"], index)
    assert found
    assert not [path for path in found if path.endswith((".bin", ".ckpt", ".onnx", ".msgpack"))]
    if part.size_gb:
        assert (sum(found.values()) or known["total"]) / 1e9 == pytest.approx(part.size_gb, rel=0.01)


def test_of_a_pipeline_comes_what_its_index_names_and_nothing_else() -> None:
    """SDXL has its VAE three times more, for other programs; LTX-2 its language model twice, which is 50 GB."""
    part = LTX_2.parts["i2v_pipeline"]
    found = to_fetch("i2v_pipeline", part, TREES[part.source]["files"], PUBLISHED[part.source]["model_index"])
    weights = [path for path in found if path.startswith("text_encoder/") and path.endswith(".safetensors")]
    assert weights == [f"text_encoder/model-{number:05}-of-00011.safetensors" for number in range(1, 12)]
    assert not [path for path in found if path.startswith(("latent_upsampler", "ltx-2"))]
    part = PAPER.parts["t2i"]
    found = to_fetch("t2i", part, TREES[part.source]["files"], PUBLISHED[part.source]["model_index"])
    assert sorted(path for path in found if path.startswith("vae")) == [
        "vae/config.json", "vae/diffusion_pytorch_model.fp16.safetensors"
    ]  # fmt: skip


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("name", PRESETS)
def test_nothing_of_a_preset_is_missing(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    whole = name not in {where.partition("/")[0] for where in UNKNOWN_FILES}
    assert main(["--preset", name, "--pull", "--dry-run"]) == (0 if whole else 3)
    assert " GB would come" in capsys.readouterr().err


@pytest.mark.usefixtures("hub")
def test_a_dry_run_of_pull_asks_the_hub_and_fetches_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--preset", "paper", "--pull", "--dry-run", "--json"]) == 0
    told, document = capsys.readouterr(), None
    assert "appearance: h94/IP-Adapter models ip-adapter-plus_sd15.safetensors\n  1 files, 0.098 GB" in told.err
    document = json.loads(told.out)
    assert document["parts"]["control_v2v"]["revision"] == "4db89880533c858b379a07cfb438995c5c8d7734"
    assert set(document["absent"]) == set(PAPER.parts) - {"flow", "gan"}
    assert not list((tmp_path / "hub").rglob("*.safetensors"))
    with pytest.raises(SystemExit) as refused:
        main(["--preset", "paper", "--dry-run"])
    assert refused.value.code == 2


@pytest.mark.usefixtures("hub")
def test_a_file_that_went_missing_is_exit_code_3(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = dict(TREES["h94/IP-Adapter"]["files"])
    del files["models/ip-adapter-plus_sd15.safetensors"]
    monkeypatch.setitem(TREES["h94/IP-Adapter"], "files", files)
    assert main(["--preset", "paper", "--pull", "--dry-run"]) == 3
    told = capsys.readouterr().err
    assert "Part 'appearance' needs models/ip-adapter-plus_sd15.safetensors, which h94/IP-Adapter does not have" in told


@pytest.mark.usefixtures("hub")
def test_a_revision_that_is_not_there_is_told_before_anything_is_fetched() -> None:
    part = replace(PAPER.parts["motion"], revision="0" * 40)
    with pytest.raises(WeightsError) as refused:
        fetch("motion", part)
    assert str(refused.value) == (
        f"Part 'motion' wants revision '{'0' * 40}' of guoyww/animatediff-motion-adapter-v1-5-3, which has none of "
        f"that name; take a commit that https://huggingface.co/guoyww/animatediff-motion-adapter-v1-5-3/commits lists, "
        f"or 'main', as the part's `revision` in the preset."
    )


@pytest.mark.usefixtures("hub")
def test_a_disk_without_room_is_told_before_anything_is_fetched(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    vast = dict.fromkeys(TREES["h94/IP-Adapter"]["files"], 10**16)
    monkeypatch.setitem(TREES["h94/IP-Adapter"], "files", vast)
    assert main(["--preset", "paper", "--pull", "--dry-run"]) == 0
    assert f" GB are free at {tmp_path / 'hub'}." in capsys.readouterr().err
    assert main(["--preset", "paper", "--pull"]) == 3
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("Error: Preset 'paper' needs 30000")
    assert "make room there, or set HF_HUB_CACHE to a folder on a larger disk." in told
    assert {file.name for file in (tmp_path / "hub").rglob("*.*") if file.is_symlink()} == {"model_index.json"}


@pytest.mark.usefixtures("hub")
def test_what_has_come_already_is_not_counted_again(tmp_path: Path) -> None:
    part = PAPER.parts["motion"]
    wanted = to_fetch("motion", part, TREES[part.source]["files"])
    home = tmp_path / "hub" / f"models--{part.source.replace('/', '--')}"
    (home / "snapshots" / part.revision).mkdir(parents=True)
    (home / "snapshots" / part.revision / "config.json").write_text("{}")
    (home / "blobs").mkdir()
    (home / "blobs" / "abc.incomplete").write_bytes(bytes(1000))
    weights = "diffusion_pytorch_model.safetensors"
    assert lacking(part, wanted) == {weights: wanted[weights] - 1000}


@pytest.mark.usefixtures("hub")
def test_a_repository_that_the_hub_does_not_show() -> None:
    with pytest.raises(WeightsError, match="Part 'motion': the hub shows you no repository nobody/nothing; check `sou"):
        fetch("motion", Part("nobody/nothing", "test"))


SHARDS = {"config.json": 1, **{f"model-{number:05}-of-00003.safetensors": 1 for number in (1, 2, 3)}}
GAPS: list[tuple[str, Part, dict[str, int], str]] = [
    ("motion", Part("a/b", "test"), {"config.json": 1, "diffusion_pytorch_model.bin": 1}, "publishes none of them"),
    ("unet", Part("a/b", "test", variant="fp16"), SHARDS, "needs diffusion_pytorch_model.fp16.safetensors"),
    ("unet", Part("a/b", "test"), {k: v for k, v in SHARDS.items() if "2-of" not in k}, "needs diffusion_pytorch"),
    ("unet", Part("a/b", "test", "unet"), SHARDS, "needs unet/config.json"),
    ("tokenizer", Part("a/b", "test"), {"merges.txt": 1}, "needs vocab.json"),
    ("t2i", Part("a/b", "test"), {"unet/config.json": 1}, "needs model_index.json"),
    (
        "i2v_pipeline",
        Part("a/b", "test"),
        {"model_index.json": 1, **{f"transformer/{path}": 1 for path in SHARDS if "1-of" not in path}},
        "needs transformer/model.safetensors",
    ),
    (
        "i2v_pipeline",
        Part("a/b", "test"),
        {"model_index.json": 1, "transformer/config.json": 1, "transformer/model.bin": 1},
        "publishes none of them",
    ),
    ("i2v_pipeline", Part("a/b", "test"), {"model_index.json": 1, "vae/config.json": 1}, r"needs transformer/\*.json"),
]


@pytest.mark.parametrize(("name", "part", "tree", "told"), GAPS)
def test_what_is_not_whole_is_named(name: str, part: Part, tree: dict[str, int], told: str) -> None:
    with pytest.raises(WeightsError, match=told):
        to_fetch(name, part, tree, {"transformer": ["transformers", "Any"], "left_out": [None, None]})


def test_shards_are_whole_where_all_are_there() -> None:
    assert to_fetch("unet", Part("a/b", "test"), SHARDS) == SHARDS
