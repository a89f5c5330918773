"""Where a part is found: a copy for machines without network, the hub's cache, or one sentence on how to get it."""

import json
import re
from pathlib import Path

import pytest
import torch
from diffusers import MotionAdapter
from safetensors.torch import save_file

from stages.base import WeightsError
from stages.local.weights_command import main
from stages.model.weights.contents import read_header, refuse_pickle
from stages.model.weights.files import check_files, local_state, patterns, source_of
from stages.model.weights.loading import load_module, load_tensors, load_tokenizer
from stages.presets import PAPER, PRESETS, Part
from stages.vfi.weights import load_gan
from tests.stages.model.weights.test_loading import preset_with
from tests.stages.random_parts import make_motion, patch_adapter

REPOSITORY = "somebody/motion"


@pytest.fixture
def no_copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of the hub, and no folder of copies."""
    monkeypatch.delenv("MAGICVIDEO_WEIGHTS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def cache(hub: Path, repository: str, revision: str = "abc") -> Path:
    """The folder of a snapshot in the layout of the hub's cache."""
    root = hub / f"models--{repository.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(revision)
    snapshot = root / "snapshots" / revision
    snapshot.mkdir(parents=True)
    return snapshot


def load(part: str = REPOSITORY) -> MotionAdapter:
    return load_module(preset_with(motion=part), "motion", MotionAdapter, "cpu", torch.float32)


def test_without_network_one_sentence_names_repository_command_and_folder(no_copy: Path) -> None:
    with pytest.raises(WeightsError) as failed:
        load()
    told = str(failed.value)
    assert "hf download somebody/motion" in told
    assert "--include 'diffusion_pytorch_model.safetensors'" in told
    assert "MAGICVIDEO_WEIGHTS=/models" in told
    assert "/models/somebody/motion" in told
    assert local_state("motion", Part(REPOSITORY, "test")) == "missing"


def test_what_lies_in_the_hubs_cache_is_taken(no_copy: Path) -> None:
    snapshot = cache(no_copy, REPOSITORY)
    motion = make_motion()
    motion.save_pretrained(snapshot)
    assert local_state("motion", Part(REPOSITORY, "test")) == "cached"
    assert all(torch.equal(a, b) for a, b in zip(load().parameters(), motion.parameters(), strict=True))
    (snapshot / "diffusion_pytorch_model.safetensors").unlink()
    assert local_state("motion", Part(REPOSITORY, "test")) == "partly cached"


def test_a_folder_of_copies_comes_first(no_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    motion = make_motion()
    motion.save_pretrained(tmp_path / "models" / "somebody" / "motion")
    monkeypatch.setenv("MAGICVIDEO_WEIGHTS", str(tmp_path / "models"))
    assert local_state("motion", Part(REPOSITORY, "test")) == "local"
    assert source_of(Part(REPOSITORY, "test")) == str(tmp_path / "models" / "somebody" / "motion")
    assert all(torch.equal(a, b) for a, b in zip(load().parameters(), motion.parameters(), strict=True))


def test_the_published_adapter_is_one_file_in_a_subfolder(no_copy: Path) -> None:
    snapshot = cache(no_copy, "h94/IP-Adapter", PAPER.parts["appearance"].revision)
    (snapshot / "models").mkdir()
    assert local_state("appearance", PAPER.parts["appearance"]) == "partly cached"
    torch.manual_seed(0)
    tensors = patch_adapter()
    save_file(tensors, snapshot / "models" / "ip-adapter-plus_sd15.safetensors")
    assert local_state("appearance", PAPER.parts["appearance"]) == "cached"
    loaded = load_tensors(PAPER, "appearance")
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def test_the_table_shows_every_part_and_pulling_without_network_is_exit_code_3(
    no_copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["--preset", "paper"]) == 0
    shown = capsys.readouterr().out
    for name, part in PAPER.parts.items():
        assert name in shown
        assert part.source in shown
    assert main(["--preset", "paper", "--pull"]) == 3
    told = capsys.readouterr().err
    for repository in {part.source for part in PAPER.parts.values() if "/" in part.source}:
        assert f"hf download {repository}" in told
    assert main(["--preset", "tiny", "--pull"]) == 0
    assert main(["--preset", "huge"]) == 2
    capsys.readouterr()
    assert main(["--preset", "paper", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["parts"]["motion"]["state"], document["parts"]["flow"]["state"]) == ("missing", "embedded")
    assert set(document["absent"]) == set(PAPER.parts) - {"flow", "gan"}


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_only_what_is_needed_is_fetched_and_never_a_pickle(preset: object) -> None:
    for name, part in preset.parts.items():  # type: ignore[attr-defined]
        wanted = patterns(name, part)
        assert wanted
        assert not any(pattern.endswith((".bin", ".ckpt", ".pt", "*")) for pattern in wanted)
        assert all(pattern.startswith(part.subfolder) for pattern in wanted if part.subfolder)


def test_a_header_is_read_without_the_tensors(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, 3)}, tmp_path / "one.safetensors")
    assert read_header(tmp_path / "one.safetensors")["a"]["shape"] == [2, 3]
    (tmp_path / "two.safetensors").write_bytes(json.dumps({}).encode())
    with pytest.raises(ValueError, match="its header would be"):
        read_header(tmp_path / "two.safetensors")


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def test_a_git_lfs_pointer_is_broken_and_says_what_to_run(tmp_path: Path) -> None:
    part = Part(str(tmp_path), "mine")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_text(POINTER)
    assert local_state("motion", part) == "broken"
    with pytest.raises(WeightsError, match=r"model\.safetensors: it is a git-lfs pointer.*run `git lfs pull` in"):
        check_files("motion", part, tmp_path)
    single = Part(str(tmp_path), "mine", weight_name="model.safetensors")
    with pytest.raises(WeightsError, match="it is a git-lfs pointer"):
        refuse_pickle("appearance", single, tmp_path / "model.safetensors")
    (tmp_path / "gan.safetensors").write_text(POINTER)
    with pytest.raises(WeightsError, match=r"gan\.safetensors is a git-lfs pointer.*run `git lfs pull` in"):
        load_gan(Part(str(tmp_path), "mine"), torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("file", ["tokenizer.json", "merges.txt", "spiece.model"])
def test_a_pointer_in_the_place_of_a_vocabulary_is_told_too(tmp_path: Path, file: str) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / file).write_text(POINTER)
    preset = preset_with(tokenizer=str(tmp_path))
    assert local_state("tokenizer", preset.parts["tokenizer"]) == "broken"
    with pytest.raises(WeightsError, match=rf"{re.escape(file)}: it is a git-lfs pointer.*run `git lfs pull` in"):
        load_tokenizer(preset, "tokenizer")


def test_a_pointer_in_the_place_of_an_index_is_told_too(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_text(POINTER)
    assert local_state("motion", Part(str(tmp_path), "mine")) == "broken"
    with pytest.raises(WeightsError, match=r"index\.json: it is a git-lfs pointer"):
        check_files("motion", Part(str(tmp_path), "mine"), tmp_path)
