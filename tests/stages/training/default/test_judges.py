"""The judges of the wider world: what they learn from, and what they say of a clip of any size and length."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stages.training.default import judges
from stages.training.default.features import Features
from stages.training.default.judges import AXES, Judges, Lesson, MotionHead, PictureHeads, any_scene, see, teach
from stages.training.scenes.sentences import MOTIONS, subjects


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(16, 256, 256, 3), (5, 128, 128, 3)])
def test_they_name_everything_of_a_clip_and_the_subject_of_every_frame(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    said = Judges(Features(), PictureHeads(), MotionHead()).verdict(np.zeros(shape, np.uint8))
    assert said.subject in AXES["subject"]
    assert said.motion in MOTIONS
    assert said.frames == (said.subject,) * 16


def test_a_lesson_shows_one_subject_held_out_or_not() -> None:
    rng = random.Random(0)
    scenes = [any_scene(rng) for _ in range(400)]
    assert {len(scene.subjects) for scene in scenes} == {1}
    assert 0.2 < np.mean([scene.held_out for scene in scenes]) < 0.4
    assert all(subjects()[scene.subjects[0]].kind in ("animal", "vehicle") for scene in scenes if scene.colour)


@pytest.mark.slow
def test_heads_learn_what_features_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judges, "_BATCH", 8)
    rng, torch_rng = random.Random(1), torch.Generator().manual_seed(1)
    scenes = [any_scene(rng) for _ in range(48)]
    features = 0.1 * torch.rand(48, 152, 16, 16, generator=torch_rng)
    for row, scene in enumerate(scenes):
        features[row, AXES["time"].index(scene.time)] += 3.0
    moves = torch.tensor([row % len(MOTIONS) for row in range(16)])
    clips = (24 * moves[:, None, None, None]).expand(16, 16, 64, 64).to(torch.uint8)
    teach(Lesson(features.half(), scenes, clips, moves), tmp_path, 60)
    heads = PictureHeads().eval()
    heads.load_state_dict({name: value.float() for name, value in load_file(tmp_path / "pictures.safetensors").items()})
    said = heads(features)["time"].argmax(1)
    assert (said == torch.tensor([AXES["time"].index(scene.time) for scene in scenes])).float().mean() > 0.9
    assert (tmp_path / "motion.safetensors").exists()


def test_frames_of_any_size_are_looked_at_alike() -> None:
    torch.manual_seed(0)
    features = Features()
    assert see(features, np.zeros((2, 256, 256, 3), np.uint8)).shape == (2, 152, 16, 16)
    assert see(features, np.zeros((1, 64, 64, 3), np.uint8)).dtype == torch.float16
