"""The stages, called as they are served, equal the pipelines of diffusers called with the same pictures and prompts.

The pipelines encode text, reference and ControlNet pictures themselves. What goes in from us is the noise, and for V2V
the noised keyframes; what is compared is the keyframes' latents, in float16 as they leave the stage, and the pixels.
"""

from dataclasses import replace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPImageProcessorPil

from stages.base import derive_seed, ignore_progress
from stages.i2v import I2V
from stages.model.network import vae as codec
from stages.model.network.pictures import resize_frames
from stages.model.sampling.sampler import build_scheduler, draw_noise, tail_timesteps
from stages.presets import PAPER, Control, Guide, I2VParams, Prior, SchedulerName, T2IParams, V2VParams
from stages.t2i.stage import T2I, OwnLoop
from stages.types import Clip, Image, Keyframes, UInt8
from stages.v2v import V2V
from tests.stages.parity.rig import (
    NEGATIVE,
    PROMPT,
    SCHEDULERS,
    Rig,
    call,
    hooked,
    images,
    picture,
    settings,
)

FRAMES, SEED = 3, 11
LOW, HIGH = (40, 40), (72, 56)
every_scheduler = pytest.mark.parametrize("scheduler", SCHEDULERS)


def read_as_clip(rig: Rig, reference: UInt8) -> list[Any]:
    """`ip_adapter_image` as the pipelines want it: what CLIP's own processor makes of the picture."""
    assert rig.network.appearance is not None
    side = rig.network.appearance.encoder.config.image_size
    processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    return [processor(images(reference[None])[0], return_tensors="pt").pixel_values]


def pixels(frames: Any) -> UInt8:
    return (np.asarray(frames) * 255).round().astype(np.uint8)


@pytest.mark.parametrize(("form", "scheduler"), [*(("rig", name) for name in SCHEDULERS), ("patch_rig", "ddim")])
def test_i2v_with_sparse_control(request: pytest.FixtureRequest, form: str, scheduler: SchedulerName) -> None:
    rig: Rig = request.getfixturevalue(form)
    denoising, reference = settings(scheduler), picture((56, 56))
    guide = Guide(image_scale=0.8, controls=(Control("sparse", kind="sparse", scale=0.7),))
    params = I2VParams(PROMPT, NEGATIVE, LOW, FRAMES, 8.0, denoising, Prior(0.0, 0.0, 0.0), guide, PAPER.i2v_windows)
    with hooked(rig.network.unet):
        ours = I2V(rig.network)(Image(reference), params=params, seed=SEED, report=ignore_progress)
    pipeline = rig.pipeline(diffusers.AnimateDiffSparseControlNetPipeline, denoising, "sparse", image_scale=0.8)
    options = call(
        denoising, LOW, num_frames=FRAMES, latents=draw_noise((1, 4, FRAMES, 5, 5), SEED, "i2v"),
        ip_adapter_image=read_as_clip(rig, reference), controlnet_conditioning_scale=0.7,
        conditioning_frames=images(resize_frames(reference[None], LOW)),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(derive_seed(SEED, "i2v", "steps"))
    theirs = pipeline(**options | {"generator": generator}).frames[0].transpose(0, 1)
    assert ours.latents is not None
    np.testing.assert_allclose(ours.latents.values, theirs.half().numpy(), rtol=1e-3, atol=1e-3)
    generator.manual_seed(derive_seed(SEED, "i2v", "steps"))
    shown = pixels(pipeline(**options | {"generator": generator, "output_type": "np"}).frames[0])
    assert int(np.abs(ours.clip.frames.astype(int) - shown).max()) <= 1


@every_scheduler
def test_i2v_starts_from_the_noised_still(rig: Rig, scheduler: SchedulerName) -> None:
    denoising, reference = settings(scheduler), picture(LOW)
    params = I2VParams(
        PROMPT, NEGATIVE, LOW, FRAMES, 8.0, denoising, Prior(1.0, 0.0, 0.0), Guide(1.0, (Control("plain"),)),
        PAPER.i2v_windows,
    )  # fmt: skip
    ours = I2V(rig.network)(Image(reference), params=params, seed=SEED, report=ignore_progress)
    noising = build_scheduler(denoising)
    noising.set_timesteps(denoising.steps)
    still = codec.encode(rig.network.vae, codec.to_tensor(reference[None]))[:, :, None].expand(-1, -1, FRAMES, -1, -1)
    start = noising.add_noise(still, draw_noise((1, 4, FRAMES, 5, 5), SEED, "i2v"), noising.timesteps[:1])
    pipeline = rig.pipeline(diffusers.AnimateDiffControlNetPipeline, denoising, "plain")
    theirs = pipeline(
        **call(
            denoising, LOW, num_frames=FRAMES, latents=start / noising.init_noise_sigma, output_type="np",
            generator=torch.Generator().manual_seed(derive_seed(SEED, "i2v", "steps")),
            ip_adapter_image=read_as_clip(rig, reference), conditioning_frames=images(reference[None]) * FRAMES,
        )
    ).frames[0]  # fmt: skip
    assert int(np.abs(ours.clip.frames.astype(int) - pixels(theirs)).max()) <= 1


@pytest.mark.parametrize(("image", "scheduler"), [*(("keyframes", name) for name in SCHEDULERS), ("reference", "ddim")])
def test_v2v_with_plain_control(rig: Rig, image: Any, scheduler: SchedulerName) -> None:
    denoising, reference = settings(scheduler, steps=5), picture(HIGH)
    clip = np.stack([picture(LOW, seed=10 + frame) for frame in range(FRAMES)])
    guide = Guide(image_scale=1.0, controls=(Control("tile", image=image, scale=0.9),))
    params = V2VParams(PROMPT, NEGATIVE, HIGH, denoising, 0.6, guide, PAPER.v2v_windows)
    ours = V2V(rig.network)(
        Image(reference), Keyframes(None, Clip(clip, 8.0)), params=params, seed=SEED, report=ignore_progress
    )
    noising = build_scheduler(denoising)
    noising.set_timesteps(denoising.steps)
    left = tail_timesteps(noising, 0.6)
    upscaled = resize_frames(clip, HIGH)
    clean = codec.encode(rig.network.vae, codec.to_tensor(upscaled)).transpose(0, 1)[None]
    latents = noising.add_noise(clean, draw_noise(tuple(clean.shape), SEED, "v2v"), left[:1])
    pipeline = rig.pipeline(diffusers.AnimateDiffVideoToVideoControlNetPipeline, denoising, "tile")
    theirs = pipeline(
        **call(
            denoising, HIGH, latents=latents, strength=0.6, output_type="np", controlnet_conditioning_scale=0.9,
            generator=torch.Generator().manual_seed(derive_seed(SEED, "v2v", "steps", 0)),
            ip_adapter_image=read_as_clip(rig, reference),
            conditioning_frames=images(upscaled if image == "keyframes" else np.stack([reference] * FRAMES)),
        )
    ).frames[0]  # fmt: skip
    assert int(np.abs(ours.clip.frames.astype(int) - pixels(theirs)).max()) <= 1


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpmpp_2m"])
def test_t2i_equals_stable_diffusion_bit_for_bit(rig: Rig, scheduler: SchedulerName) -> None:
    denoising = replace(settings(scheduler), beta_schedule="scaled_linear")
    params = T2IParams(PROMPT, NEGATIVE, HIGH, denoising)
    network = rig.network
    stage = T2I(OwnLoop(rig.spatial, network.vae, network.text))
    ours = stage(params=params, seed=SEED, report=ignore_progress).pixels
    pipeline = StableDiffusionPipeline(
        vae=network.vae, text_encoder=network.text.model, tokenizer=network.text.tokenizer, unet=rig.spatial,
        scheduler=build_scheduler(denoising), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    latents = draw_noise((1, 4, HIGH[1] // 8, HIGH[0] // 8), SEED, "t2i")
    theirs = pipeline(**call(denoising, HIGH, latents=latents)).images
    assert np.array_equal(ours, codec.decode(network.vae, theirs)[0])
    shown = pixels(pipeline(**call(denoising, HIGH, latents=latents, output_type="np")).images[0])
    assert int(np.abs(ours.astype(int) - shown).max()) <= 1
