"""Our loop equals the text-to-video pipelines of diffusers: same weights, noise and scheduler.

AnimateDiff alone, with both forms of the appearance encoder, and with every ControlNet of I2V beside it.
"""

import diffusers
import numpy as np
import pytest

from stages.presets import Control, SchedulerName
from tests.stages.parity.rig import (
    PATHS,
    SCHEDULERS,
    Rig,
    assert_equal,
    call,
    draw,
    images,
    picture,
    settings,
)

FRAMES = 4
every_path = pytest.mark.parametrize("path", PATHS)
every_scheduler = pytest.mark.parametrize("scheduler", SCHEDULERS)


@every_scheduler
@every_path
def test_animatediff(rig: Rig, scheduler: SchedulerName, path: str) -> None:
    denoising, noise = settings(scheduler), draw(FRAMES)
    given = rig.guide(picture(), FRAMES, image_scale=0.0)
    theirs = rig.pipeline(diffusers.AnimateDiffPipeline, denoising, bare=True)(
        **call(denoising, num_frames=FRAMES, latents=noise)
    ).frames
    assert_equal(rig.ours(noise, given, denoising, path=path), theirs, path)


@every_scheduler
@every_path
@pytest.mark.parametrize("form", ["rig", "patch_rig"])
def test_animatediff_with_the_appearance_encoder(
    request: pytest.FixtureRequest, form: str, scheduler: SchedulerName, path: str
) -> None:
    rig: Rig = request.getfixturevalue(form)
    denoising, noise = settings(scheduler), draw(FRAMES)
    given = rig.guide(picture(), FRAMES, image_scale=0.7)
    ours = rig.ours(noise, given, denoising, path=path)
    pipeline = rig.pipeline(diffusers.AnimateDiffPipeline, denoising, image_scale=0.7)
    theirs = pipeline(**call(denoising, num_frames=FRAMES, latents=noise, ip_adapter_image_embeds=given.image)).frames
    assert_equal(ours, theirs, path)


@every_scheduler
@every_path
def test_sparse_control_with_the_appearance_encoder(rig: Rig, scheduler: SchedulerName, path: str) -> None:
    denoising, noise, reference = settings(scheduler), draw(FRAMES), picture()
    given = rig.guide(reference, FRAMES, controls=[Control("sparse", kind="sparse", scale=0.8)])
    pipeline = rig.pipeline(diffusers.AnimateDiffSparseControlNetPipeline, denoising, "sparse")
    theirs = pipeline(
        **call(
            denoising, num_frames=FRAMES, latents=noise, ip_adapter_image_embeds=given.image,
            conditioning_frames=images(reference[None]), controlnet_conditioning_scale=0.8,
        )
    ).frames  # fmt: skip
    ours = rig.ours(noise, given, denoising, path=path)
    assert_equal(ours, theirs, path)


@every_scheduler
@every_path
def test_plain_control_with_the_appearance_encoder(rig: Rig, scheduler: SchedulerName, path: str) -> None:
    denoising, noise, reference = settings(scheduler), draw(FRAMES), picture()
    given = rig.guide(reference, FRAMES, controls=[Control("plain", scale=0.8)])
    theirs = rig.pipeline(diffusers.AnimateDiffControlNetPipeline, denoising, "plain")(
        **call(
            denoising, num_frames=FRAMES, latents=noise, ip_adapter_image_embeds=given.image,
            conditioning_frames=images(reference[None]) * FRAMES, controlnet_conditioning_scale=0.8,
        )
    ).frames  # fmt: skip
    assert_equal(rig.ours(noise, given, denoising, path=path), theirs, path)


@every_scheduler
@every_path
def test_two_controls_at_once(rig: Rig, scheduler: SchedulerName, path: str) -> None:
    denoising, noise, reference = settings(scheduler), draw(FRAMES), picture()
    keyframes = np.stack([picture(seed=10 + frame) for frame in range(FRAMES)])
    controls = [Control("plain", scale=0.8), Control("tile", image="keyframes", scale=0.5)]
    shown = {"reference": reference[None], "keyframes": keyframes}
    given = rig.guide(reference, FRAMES, controls=controls, pictures=shown)
    theirs = rig.pipeline(diffusers.AnimateDiffControlNetPipeline, denoising, "plain", "tile")(
        **call(
            denoising, num_frames=FRAMES, latents=noise, ip_adapter_image_embeds=given.image,
            conditioning_frames=[images(reference[None]) * FRAMES, images(keyframes)],
            controlnet_conditioning_scale=[0.8, 0.5],
        )
    ).frames  # fmt: skip
    assert_equal(rig.ours(noise, given, denoising, path=path), theirs, path)


@every_path
def test_without_guidance_one_copy_is_denoised(rig: Rig, path: str) -> None:
    denoising, noise = settings("ddim"), draw(FRAMES)
    given = rig.guide(picture(), FRAMES, image_scale=0.0, guidance=1.0)
    theirs = rig.pipeline(diffusers.AnimateDiffPipeline, denoising, bare=True)(
        **call(denoising, num_frames=FRAMES, latents=noise) | {"guidance_scale": 1.0}
    ).frames
    assert_equal(rig.ours(noise, given, denoising, path=path), theirs, path)
