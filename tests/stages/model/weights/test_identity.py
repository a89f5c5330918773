"""Which weights a part has: the same text for the same bytes, another one for any other."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from deployments.pipeline.digests import model_digest
from stages.model.weights.identity import identity_of
from stages.presets import PAPER, Part
from tests.stages.model.weights.test_files import cache

REPOSITORY = "somebody/unet"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of the hub, and no folder of copies."""
    monkeypatch.delenv("MAGICVIDEO_WEIGHTS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def module(folder: Path, seed: int) -> Path:
    """Of 2 MB: more than is read of it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    weights = torch.randn(500_000, generator=torch.Generator().manual_seed(seed))
    save_file({"weight": weights}, folder / "diffusion_pytorch_model.safetensors")
    return folder


def test_a_new_commit_in_the_hubs_cache_is_another_model(hub: Path) -> None:
    part = Part(REPOSITORY, "test")
    assert identity_of("unet", part) == "absent"
    module(cache(hub, REPOSITORY, "abc"), 1)
    assert identity_of("unet", part) == "commit abc"
    root = hub / "models--somebody--unet"
    module(root / "snapshots" / "def", 2)
    (root / "refs" / "main").write_text("def")
    assert identity_of("unet", part) == "commit def"


def test_other_weights_of_the_same_shape_in_a_folder_are_another_model(hub: Path, tmp_path: Path) -> None:
    folder = module(tmp_path / "own", 1)
    part = Part(str(folder), "test")
    first = identity_of("unet", part)
    elsewhere = module(tmp_path / "copy", 1)
    os.utime(elsewhere / "diffusion_pytorch_model.safetensors", (1, 1))
    assert identity_of("unet", Part(str(elsewhere), "test")) == first
    module(folder, 2)
    second = identity_of("unet", part)
    (folder / "config.json").write_text('{"layers": 2}')
    assert len({first, second, identity_of("unet", part), "absent"}) == 4


@pytest.mark.parametrize("name", ["unet", "vae", "motion"])
def test_what_jobs_reuse_depends_on_the_pinned_revision_of_each_part(hub: Path, name: str) -> None:
    part, read = PAPER.parts[name], model_digest.__wrapped__
    absent = read("paper")
    module(cache(hub, part.source, part.revision) / part.subfolder, 1)
    pinned = read("paper")
    assert len({absent, pinned, read("tiny")}) == 3
    root = hub / f"models--{part.source.replace('/', '--')}"
    (root / "snapshots" / part.revision).rename(root / "snapshots" / "two")
    (root / "refs" / "main").write_text("two")
    assert read("paper") == absent, "another commit is not what the preset names"
