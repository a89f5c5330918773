"""V2V's strength: how many steps are run again, and how far they lead from the keyframes."""

import numpy as np
import pytest

from stages.base import InputError
from stages.model.network import vae as codec
from stages.presets import SchedulerName
from tests.stages.mechanisms.runs import clip, redraw, same
from tests.stages.mechanisms.test_control import FROM_NOISE
from tests.stages.parity.rig import SCHEDULERS, Rig, settings


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize(("strength", "left"), [(0.05, 1), (0.3, 2), (0.5, 4), (1.0, 8)])
def test_it_decides_how_many_steps_are_run(rig: Rig, strength: float, left: int, scheduler: SchedulerName) -> None:
    seen: list[tuple[int, int]] = []
    denoising = settings(scheduler, steps=8)
    redraw(rig, clip(), strength=strength, denoising=denoising, report=lambda step, total: seen.append((step, total)))
    assert seen[: left + 1] == [(step, left) for step in range(left + 1)]


def test_more_of_it_leads_further_from_the_keyframes(rig: Rig) -> None:
    frames, vae = clip(), rig.network.vae
    kept = codec.decode(vae, codec.encode(vae, codec.to_tensor(frames))).astype(float)
    denoising = settings("ddim", steps=8)
    far = [
        float(np.abs(redraw(rig, frames, strength=strength, denoising=denoising) - kept).mean())
        for strength in (0.13, 0.5, 1.0)
    ]
    assert far[0] < far[1] < far[2]


def test_at_one_and_from_pure_noise_the_keyframes_are_forgotten(rig: Rig) -> None:
    assert same(*(redraw(rig, clip(seed), **FROM_NOISE) for seed in (20, 60)))
    assert not same(*(redraw(rig, clip(seed), **FROM_NOISE | {"strength": 0.75}) for seed in (20, 60)))


def test_at_zero_the_keyframes_are_handed_on(rig: Rig) -> None:
    assert same(redraw(rig, clip(), strength=0.0), clip())


@pytest.mark.parametrize("strength", [-0.1, 1.1])
def test_beyond_its_range_it_is_refused(rig: Rig, strength: float) -> None:
    with pytest.raises(InputError, match=f"V2V's strength is {strength:g}; it must be between 0 and 1"):
        redraw(rig, clip(), strength=strength)
