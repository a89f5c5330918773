"""Every use of the video recipe lowers its loss, leaves what is frozen bit for bit, and says what cannot be learnt."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stages.base import InputError
from stages.presets import TINY
from stages.settings import ImageMode
from stages.training.loop.loop import Options, Schedule
from stages.training.video.batches import Batch, MixedSource
from stages.training.video.noising import Noising
from stages.training.video.recipe import VideoRecipe, reached_by, train_video
from stages.training.video.trainee import TARGETS, Target, Trainee
from tests.stages.training.networks import make_trainee

NOISING = Noising(replace(TINY.i2v, prediction_type="epsilon"))
SCHEDULE = Schedule(25, 3e-3, warmup=1, decay=0.01, ema=0.5)


class Fixed:
    """The same two clips for ever; tells how often it was asked."""

    def __init__(self, frames: int) -> None:
        generator = torch.Generator().manual_seed(frames)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        references, keyframes = draw(2, 3, 40, 40).clamp(-1, 1), draw(2, frames, 3, 24, 24).clamp(-1, 1)
        self.batch = Batch(1 + 0.3 * draw(2, frames, 4, 5, 5), references, ("a fox", "an owl"), keyframes)
        self.asked = 0

    def draw(self, count: int, rng: random.Random) -> Batch:
        assert count == 2
        self.asked += 1
        return self.batch


def judge(trainee: Trainee, batch: Batch) -> float:
    """The loss at fixed times with fixed noise."""
    total = 0.0
    with torch.no_grad():
        for seed in range(8):
            torch.manual_seed(seed)
            times = torch.tensor([60 * seed + 100, 60 * seed + 300])
            total += float(trainee.loss(batch, times, NOISING, random.Random(3)))
    return total / 8


def marked(name: str) -> Target:
    """Which part a parameter belongs to."""
    if "motion_modules" in name and name.startswith("unet."):
        return "motion"
    if "_ip." in name or "encoder_hid_proj" in name:
        return "appearance"
    if name.startswith("controls."):
        return "control"
    return "encoder" if name.startswith("encoder.") else "spatial"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("targets", "control", "ratio", "mode"),
    [
        (("motion",), "plain", 0.0, "single_frame"),
        (("motion",), "sparse", 0.5, "single_frame"),
        (("motion", "spatial"), "plain", 0.5, "single_frame"),
        (TARGETS, "plain", 0.5, "bypass"),
        (("control",), "sparse", 0.0, "single_frame"),
        (("control",), "keyframes", 0.5, "bypass"),
        (("appearance",), "plain", 1.0, "bypass"),
    ],
)
def test_the_loss_falls_and_the_rest_stays(
    tmp_path: Path, targets: tuple[Target, ...], control: str, ratio: float, mode: ImageMode
) -> None:
    torch.manual_seed(0)
    trainee = make_trainee(control, patches=control == "sparse", image_mode=mode)
    clips, pictures = Fixed(4), Fixed(1)
    before = {name: p.detach().clone() for name, p in trainee.all_modules().named_parameters()}
    judged = [source.batch for source, share in ((clips, 1 - ratio), (pictures, ratio)) if share]
    losses = [judge(trainee, batch) for batch in judged]
    recipe = VideoRecipe("test", targets, clips, 2, pictures, 2, ratio)
    train_video(trainee, recipe, NOISING, SCHEDULE, tmp_path, options=Options(row_every=5))
    assert all(judge(trainee, batch) < 0.97 * loss for batch, loss in zip(judged, losses, strict=True))
    assert clips.asked + pictures.asked == 25
    assert (clips.asked > 0, pictures.asked > 0) == (ratio < 1, ratio > 0)
    moved = set()
    for name, parameter in trainee.all_modules().named_parameters():
        if marked(name) in targets:
            moved |= {marked(name)} if not torch.equal(parameter, before[name]) else set()
        else:
            assert torch.equal(parameter, before[name]), name
    assert moved == set(targets)


@pytest.mark.parametrize(
    ("changes", "mode", "message"),
    [
        ({"image_ratio": 1.5}, "bypass", "image ratio is 1.5; it must be between 0 and 1"),
        ({"image_ratio": 0.5, "pictures": None}, "bypass", "image ratio is 0.5 and there are no pictures"),
        ({"image_ratio": 0.5}, "bypass", "pictures would teach nothing"),
    ],
)
def test_what_cannot_be_learnt_is_said(
    tmp_path: Path, changes: dict[str, object], mode: ImageMode, message: str
) -> None:
    recipe = VideoRecipe("test", ("motion",), Fixed(4), 2, Fixed(1), 2)
    with pytest.raises(InputError, match=message):
        train_video(make_trainee(image_mode=mode), replace(recipe, **changes), NOISING, SCHEDULE, tmp_path)  # type: ignore[arg-type]


def test_v2v_sees_no_noise_above_its_strength(tmp_path: Path) -> None:
    assert (reached_by(0.45), reached_by(0.95), reached_by(1.0)) == (550, 1000, 1000)
    seen: list[int] = []
    trainee = make_trainee()
    real = trainee.network.unet.forward

    def watch(sample: Tensor, times: Tensor, *args: object, **options: object) -> object:
        seen.extend(times.tolist())
        return real(sample, times, *args, **options)

    trainee.network.unet.forward = watch
    recipe = VideoRecipe("test", ("motion",), Fixed(2), 2, highest=300)
    train_video(trainee, recipe, NOISING, replace(SCHEDULE, steps=8), tmp_path)
    assert len(seen) == 16
    assert 150 < max(seen) < 300


def test_a_source_may_give_fewer_pictures_than_were_asked_for(tmp_path: Path) -> None:
    """As a `MixedSource` does, whose larger pictures give a smaller share."""
    pictures = Fixed(1)
    mixed = MixedSource((pictures, 0.5))
    recipe = VideoRecipe("test", ("motion",), Fixed(2), 2, mixed, 4, 1.0)
    train_video(make_trainee(), recipe, NOISING, replace(SCHEDULE, steps=2), tmp_path)
    assert pictures.asked == 2
