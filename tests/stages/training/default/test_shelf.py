"""A shelf of clips: parts that come later are found, a part repeats from its name, a clip is what its scene says."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.training.default.autoencoder import build
from stages.training.default.shelf import ClipShelf, fill_part
from stages.training.scenes.backgrounds import PAINTED
from stages.training.scenes.captions import TIMES
from stages.training.scenes.crops import VARIANTS
from stages.training.scenes.moving import Clips
from stages.training.scenes.sentences import Scene, subjects
from tests.stages.training.scenes.made_animations import made_animations


@pytest.mark.slow
def test_a_shelf_grows_and_a_part_repeats(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = build(widths=(32,)).eval()
    clips = Clips(made_animations(), np.zeros((len(PAINTED) * len(TIMES) * VARIANTS, 256, 256, 3), np.uint8))
    fill_part(clips, vae, tmp_path / "000000.npy", count=2, frames=3)
    shelf = ClipShelf(tmp_path)
    assert len(shelf) == 2
    fill_part(clips, vae, tmp_path / "000002.npy", count=2, frames=3)
    assert len(shelf) == 2
    shelf.refresh()
    assert len(shelf) == 4
    latents, scene = shelf.draw(random.Random(0))
    assert latents.shape == (3, 16, 32, 32)
    assert isinstance(scene, Scene)
    assert set(scene.subjects) <= set(subjects())
    assert not scene.held_out
    once = (tmp_path / "000000.npy").read_bytes()
    fill_part(clips, vae, tmp_path / "000000.npy", count=2, frames=3)
    assert (tmp_path / "000000.npy").read_bytes() == once
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".jsonl", ".jsonl", ".npy", ".npy"]
