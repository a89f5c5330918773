"""Steps as pictures: they come near to what is drawn, cost next to nothing, and change no byte of it."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from stages.base import ignore_progress
from stages.i2v import I2V
from stages.model.network import vae as codec
from stages.model.sampling.glimpses import Colours
from stages.presets import TINY, plan
from stages.t2i import T2I
from stages.types import UInt8
from tests.stages.random_parts import make_vae

PLAN = plan(TINY, "a fox in a snowy forest at dusk", steps=4, seed=7)


class Watching:
    """A report that looks at every step."""

    def __init__(self) -> None:
        self.seen: list[UInt8] = []

    def __call__(self, step: int, total: int) -> None:
        """It lets everything go on."""

    def glimpse(self, make: Callable[[], UInt8]) -> None:
        self.seen.append(make())


def apart(picture: UInt8, glimpse: UInt8) -> float:
    side = picture.shape[0] // glimpse.shape[0]
    means = picture.reshape(glimpse.shape[0], side, glimpse.shape[1], side, 3).mean((1, 3))
    return float(np.abs(means - glimpse).mean())


@pytest.mark.slow
def test_what_is_drawn_is_seen_before_it_is_done_and_stays_the_same() -> None:
    t2i, watching = T2I.load(TINY, "cpu"), Watching()
    plain = t2i(params=PLAN.t2i, seed=7, report=ignore_progress)
    picture = t2i(params=PLAN.t2i, seed=7, report=watching)
    assert np.array_equal(plain.pixels, picture.pixels)
    assert len(watching.seen) == 4
    assert apart(picture.pixels, watching.seen[-1]) < 30 < 60 < apart(255 - picture.pixels, watching.seen[-1])
    assert apart(picture.pixels, watching.seen[1]) < 60
    moving = Watching()
    keyframes = I2V.load(TINY, "cpu")(picture, params=PLAN.i2v, seed=7, report=moving)
    middle = keyframes.clip.frames[len(keyframes.clip.frames) // 2]
    assert len(moving.seen) == 4
    assert apart(middle, moving.seen[-1]) < 30


@pytest.mark.parametrize("name", ["pred_original_sample", "denoised", "model_outputs", None])
def test_the_guess_at_what_is_clean_is_shown_where_a_scheduler_makes_one(name: str | None) -> None:
    vae: AutoencoderKL = make_vae()
    clean, noisy = torch.zeros(1, 4, 3, 2), torch.full((1, 4, 3, 2), 9.0)
    watching, colours = Watching(), Colours(vae)
    colours.fit(ignore_progress)
    colours.show(watching, object(), object())  # it was not fitted, as nobody had looked
    assert watching.seen == []
    colours.fit(watching)
    scheduler = type("Scheduler", (), {"model_outputs": [clean]} if name == "model_outputs" else {})()
    about = {"prev_sample": noisy, **({name: clean} if name not in (None, "model_outputs") else {})}
    colours.show(watching, scheduler, type("Stepped", (), about)())
    colours.show(watching, scheduler, type("Stepped", (), {"prev_sample": noisy, "denoised": clean[:, :, None]})())
    assert watching.seen[0].shape == (3, 2, 3)
    assert np.array_equal(watching.seen[0], watching.seen[1]) is (name is not None)
    assert codec.reduction(vae) == 8
