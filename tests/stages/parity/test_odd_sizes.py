"""The paper's sizes: 600 and 1048 pixels are 75 and 131 latents, odd, and run unpadded as in diffusers' pipelines."""

import diffusers
import pytest

from stages.presets import Control, SchedulerName
from tests.stages.parity.rig import Rig, assert_equal, call, draw, images, picture, settings

FRAMES = 2
pytestmark = [  # a scheduler knows no size: all of them are compared on small latents
    pytest.mark.slow,
    pytest.mark.parametrize(("scheduler", "path"), [("ddim", "forward"), ("euler", "once")]),
]


def test_i2v_at_600(patch_rig: Rig, scheduler: SchedulerName, path: str) -> None:
    size, rig = (600, 600), patch_rig
    denoising, noise, reference = settings(scheduler, steps=2), draw(FRAMES, 75), picture(size)
    given = rig.guide(reference, FRAMES, controls=[Control("sparse", kind="sparse")], size=size)
    pipeline = rig.pipeline(diffusers.AnimateDiffSparseControlNetPipeline, denoising, "sparse")
    theirs = pipeline(
        **call(
            denoising, size, num_frames=FRAMES, latents=noise, ip_adapter_image_embeds=given.image,
            conditioning_frames=images(reference[None]),
        )
    ).frames  # fmt: skip
    assert_equal(rig.ours(noise, given, denoising, path=path), theirs, path)


def test_v2v_at_1048(patch_rig: Rig, scheduler: SchedulerName, path: str) -> None:
    size, rig = (1048, 1048), patch_rig
    denoising, latents, reference = settings(scheduler, steps=2), draw(FRAMES, 131), picture(size)
    given = rig.guide(reference, FRAMES, controls=[Control("plain")], size=size)
    theirs = rig.pipeline(diffusers.AnimateDiffVideoToVideoControlNetPipeline, denoising, "plain")(
        **call(
            denoising, size, latents=latents, strength=0.5, ip_adapter_image_embeds=given.image,
            conditioning_frames=images(reference[None]) * FRAMES,
        )
    ).frames  # fmt: skip
    assert_equal(rig.ours(latents, given, denoising, timesteps=1, path=path), theirs, path)
