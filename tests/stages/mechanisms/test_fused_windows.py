"""Fused windows of I2V: one window is none; of several, each frame's prediction is their weighted sum at every step."""

from typing import Any

import numpy as np
import pytest
import torch

from stages.model.sampling.sampler import build_scheduler
from stages.model.sampling.windows import plan_windows
from stages.presets import Control, Guide, SchedulerName, Windows
from tests.stages.mechanisms.runs import REFERENCE, SIZE, animate, same
from tests.stages.parity.rig import GUIDANCE, PATHS, ROUNDING, SCHEDULERS, Rig, difference, draw, settings

FRAMES = 7
WINDOWS = Windows(4, 1)  # frames 0-3 and 3-6
SPANS = plan_windows(FRAMES, WINDOWS)
GUIDE = Guide(image_scale=1.0, controls=(Control("plain"),))


def naive(rig: Rig, noise: torch.Tensor, given: Any, scheduler: SchedulerName) -> torch.Tensor:
    """By the published modules, window after window; frame 3 is the mean of the two that hold it."""
    made = build_scheduler(settings(scheduler))
    made.set_timesteps(3)
    latents: torch.Tensor = noise * made.init_noise_sigma
    unet = rig.network.unet
    rgb = torch.from_numpy(REFERENCE.copy()).permute(2, 0, 1)[None].float() / 255
    generator = torch.Generator().manual_seed(5)
    draws = {"generator": generator} if scheduler == "lcm" else {}
    for t in made.timesteps:
        said = torch.zeros(2, *latents.shape)
        for window, (start, stop) in enumerate([(0, 4), (3, 7)]):
            text = given.text.repeat_interleave(stop - start, 0)
            inputs = made.scale_model_input(torch.cat([latents[:, :, start:stop]] * 2), t)
            pictures = rgb.expand(2 * (stop - start), -1, -1, -1)
            down, middle = rig.nets["plain"](inputs.transpose(1, 2).flatten(0, 1), t, text, pictures, return_dict=False)
            without, with_text = unet(
                inputs, t, text, added_cond_kwargs={"image_embeds": given.image},
                down_block_additional_residuals=down, mid_block_additional_residual=middle,
            ).sample.chunk(2)  # fmt: skip
            said[window, :, :, start:stop] = without + GUIDANCE * (with_text - without)
        blended = said.sum(0)
        blended[:, :, 3] /= 2
        latents = made.step(blended, t, latents, **draws).prev_sample
    return latents


def test_the_plan_is_what_the_naive_computation_takes() -> None:
    assert [(span.start, span.stop) for span in SPANS] == [(0, 4), (3, 7)]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_each_prediction_is_the_weighted_sum(rig: Rig, scheduler: SchedulerName, path: str) -> None:
    noise = draw(FRAMES)
    given = rig.guide(REFERENCE, FRAMES, controls=GUIDE.controls)
    ours = rig.ours(noise, given, settings(scheduler), spans=SPANS, path=path)
    with torch.no_grad():
        theirs = naive(rig, noise, given, scheduler)
    assert difference(ours, theirs) < ROUNDING
    assert difference(rig.ours(noise, given, settings(scheduler), path=path), theirs) > 100 * ROUNDING


@pytest.mark.parametrize("path", PATHS)
def test_one_window_is_none_bit_for_bit(rig: Rig, path: str) -> None:
    noise, given = draw(FRAMES), rig.guide(REFERENCE, FRAMES, controls=GUIDE.controls)
    whole, one = (
        rig.ours(noise, given, settings("ddim"), spans=spans, path=path)
        for spans in ((), plan_windows(FRAMES, Windows(FRAMES, 2)))
    )
    assert torch.equal(whole, one)


def test_the_stage_cuts_by_its_parameters(rig: Rig) -> None:
    whole, longer, cut = (
        animate(rig, frames=FRAMES, windows=windows, guide=GUIDE, size=SIZE)
        for windows in (Windows(FRAMES, 2), Windows(FRAMES + 5, 2), WINDOWS)
    )
    assert same(whole, longer)
    assert float(np.abs(cut - whole).max()) > 0.1
