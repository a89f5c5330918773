"""The judges of generated clips: they learn what is easy in seconds, are kept, and judge clips of any size."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.model.network.pictures import resize_frames
from stages.training.scenes.captions import MOTIONS, all_scenes
from stages.training.scenes.data import Scenes
from stages.training.tiny.judges import VARIANTS, Judges, train_judges
from tests.stages.training.made_up import fill_subjects


@pytest.mark.slow
def test_they_learn_day_from_night_and_are_kept(tmp_path: Path) -> None:
    fill_subjects(tmp_path)
    torch.manual_seed(0)
    train_judges(Scenes(tmp_path, VARIANTS), tmp_path / "work", tmp_path / "judges", clips=24, steps=30)
    judges = Judges.load(tmp_path / "judges")
    fresh, rng = Scenes(tmp_path, range(2000, 2001)), random.Random(1)
    asked = [scene for scene in all_scenes() if scene.style == "3d" and scene.time in ("day", "night")]
    right = []
    for scene in rng.sample(asked, 16):
        clip = fresh.clip(scene, 4, rng)
        said = judges.verdict(clip)
        right.append(said.time == scene.time)
        assert said.motion in MOTIONS
        assert judges.verdict(resize_frames(clip, (128, 128))).time == said.time or not right[-1]
    assert np.mean(right) > 0.8
