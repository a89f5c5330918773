"""Our loop equals the video-to-video pipelines of diffusers: same weights, noise, strength and scheduler.

`strength` leaves the timesteps that `get_timesteps` leaves (at least one, where theirs may leave none), and noises the
keyframes as `prepare_latents` does.
"""

from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from stages.model.network import vae as codec
from stages.model.sampling.sampler import build_scheduler, tail_timesteps
from stages.presets import Control, SchedulerName
from tests.stages.parity.rig import (
    PATHS,
    SCHEDULERS,
    SMALL,
    Rig,
    assert_equal,
    call,
    difference,
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
@pytest.mark.parametrize("net", ["none", "plain", "tile"])
def test_video_to_video(rig: Rig, net: str, scheduler: SchedulerName, path: str) -> None:
    denoising, latents, reference = settings(scheduler, steps=5), 2 * draw(FRAMES), picture()
    keyframes = np.stack([picture(seed=10 + frame) for frame in range(FRAMES)])
    shown = {"reference": reference[None], "keyframes": keyframes}
    controls = {
        "none": [],
        "plain": [Control("plain", scale=0.8)],
        "tile": [Control("tile", image="keyframes", scale=0.8)],
    }[net]
    given = rig.guide(reference, FRAMES, controls=controls, pictures=shown)
    ours = rig.ours(latents, given, denoising, timesteps=3, path=path)
    options: dict[str, Any] = {"latents": latents, "strength": 0.6, "ip_adapter_image_embeds": given.image}
    if net == "none":
        pipeline = rig.pipeline(diffusers.AnimateDiffVideoToVideoPipeline, denoising)
    else:
        pipeline = rig.pipeline(diffusers.AnimateDiffVideoToVideoControlNetPipeline, denoising, net)
        options["conditioning_frames"] = images(keyframes if net == "tile" else np.stack([reference] * FRAMES))
        options["controlnet_conditioning_scale"] = 0.8
    theirs = pipeline(**call(denoising, **options)).frames
    assert_equal(ours, theirs, path)


@every_scheduler
@pytest.mark.parametrize("steps", [1, 6, 20, 25, 50])
def test_strength_leaves_the_timesteps_that_diffusers_leaves(rig: Rig, steps: int, scheduler: SchedulerName) -> None:
    pipeline = rig.pipeline(diffusers.AnimateDiffVideoToVideoPipeline, settings(scheduler))
    for percent in range(1, 101):
        ours, theirs = build_scheduler(settings(scheduler)), pipeline.scheduler
        ours.set_timesteps(steps)
        theirs.set_timesteps(steps)
        left, count = pipeline.get_timesteps(steps, theirs.timesteps, percent / 100, "cpu")
        expected = left if count else theirs.timesteps[-1:]
        assert torch.equal(tail_timesteps(ours, percent / 100), expected), percent


@every_scheduler
@pytest.mark.parametrize("strength", [0.05, 0.45, 1.0])
def test_keyframes_are_noised_as_diffusers_does(rig: Rig, strength: float, scheduler: SchedulerName) -> None:
    pipeline = rig.pipeline(diffusers.AnimateDiffVideoToVideoPipeline, settings(scheduler))
    pipeline.scheduler.set_timesteps(20)
    timesteps, _ = pipeline.get_timesteps(20, pipeline.scheduler.timesteps, strength, "cpu")
    keyframes = np.stack([picture(seed=10 + frame) for frame in range(FRAMES)])
    video = codec.to_tensor(keyframes)[None]
    with torch.no_grad():
        theirs = pipeline.prepare_latents(
            video=video, height=SMALL[1], width=SMALL[0], num_channels_latents=4, batch_size=1,
            timestep=timesteps[:1], dtype=torch.float32, device="cpu", generator=torch.Generator().manual_seed(3),
        )  # fmt: skip
    drawn = torch.Generator().manual_seed(3)
    torch.randn((FRAMES, 4, 5, 5), generator=drawn)  # what the posterior draws, times a width of 0
    noise = torch.randn((1, FRAMES, 4, 5, 5), generator=drawn).transpose(1, 2)
    scheduler_of_ours = build_scheduler(settings(scheduler))
    scheduler_of_ours.set_timesteps(20)
    left = tail_timesteps(scheduler_of_ours, strength)
    clean = torch.cat([codec.encode(rig.network.vae, frame[None]) for frame in video[0]]).transpose(0, 1)[None]
    ours = scheduler_of_ours.add_noise(clean, noise, left[:1])
    assert difference(ours, theirs) < 1e-6  # the frames are encoded one by one
