"""The motion module: it alone carries anything from frame to frame, and pictures may go around it."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from stages.model.network.network import inflate
from stages.model.sampling.sampler import build_scheduler, draw_noise
from stages.presets import Windows
from tests.stages import random_parts as parts
from tests.stages.mechanisms.runs import I2V_OFF, SEED, animate, change, clip, redraw, same
from tests.stages.parity.rig import Rig, call


def test_i2v_without_it_makes_other_frames(rig: Rig) -> None:
    assert not same(animate(rig, motion=True), animate(rig, motion=False))


def test_v2v_carries_what_changes_to_the_other_frames_only_with_it(rig: Rig) -> None:
    frames = clip()
    for motion in (True, False):
        before, after = (redraw(rig, given, motion=motion) for given in (frames, change(frames, 1)))
        assert not same(before[1], after[1])
        for index in (0, 2):
            assert same(before[index], after[index]) != motion


def test_silent_motion_modules_leave_the_per_picture_output() -> None:
    torch.manual_seed(0)
    spatial, motion = parts.make_unet().eval(), parts.make_motion()
    for name, module in motion.named_modules():
        if name.endswith("proj_out"):
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)
    unet = inflate(spatial, motion).eval()
    latents, text = torch.randn(1, 4, 4, 5, 5), torch.randn(4, 7, parts.TEXT)
    with torch.no_grad():
        video = unet(latents, 500, text).sample
        pictures = spatial(latents[0].transpose(0, 1), 500, text).sample
    assert torch.allclose(video[0].transpose(0, 1), pictures, atol=1e-5)


def test_a_single_frame_goes_through_it_or_around_it(rig: Rig) -> None:
    through, around = (animate(rig, frames=1, image_mode=mode) for mode in ("single_frame", "bypass"))
    assert not same(through, around)
    assert same(around, animate(rig, frames=1, motion=False))


def test_several_frames_go_through_it_in_either_image_mode(rig: Rig) -> None:
    assert same(animate(rig, image_mode="single_frame"), animate(rig, image_mode="bypass"))


@pytest.mark.parametrize("options", [{"image_mode": "bypass"}, {"motion": False}])
def test_around_it_a_single_frame_is_the_picture_of_the_base_model(rig: Rig, options: dict[str, Any]) -> None:
    network = rig.network
    pipeline = StableDiffusionPipeline(
        vae=network.vae, text_encoder=network.text.model, tokenizer=network.text.tokenizer, unet=rig.spatial,
        scheduler=build_scheduler(I2V_OFF.denoising), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    latents = draw_noise((1, 4, 5, 5), SEED, "i2v")
    theirs = pipeline(**call(I2V_OFF.denoising, latents=latents)).images.half().float().numpy()
    np.testing.assert_allclose(animate(rig, frames=1, **options), theirs, rtol=1e-3, atol=1e-3)


def test_windows_change_nothing_where_frames_do_not_know_each_other(rig: Rig) -> None:
    whole, cut = (animate(rig, frames=5, motion=False, windows=Windows(length, 1)) for length in (8, 3))
    np.testing.assert_allclose(cut, whole, rtol=1e-3, atol=1e-3)
    whole, cut = (animate(rig, frames=5, motion=True, windows=Windows(length, 1)) for length in (8, 3))
    assert np.abs(cut - whole).max() > 0.1
