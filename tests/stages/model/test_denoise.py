"""The one loop equals the pipelines of diffusers, with the same weights, seed and latents."""

from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import AnimateDiffControlNetPipeline, UNetMotionModel

from stages.base import ignore_progress
from stages.model.appearance import Appearance, split_adapter
from stages.model.control import PlainControl, prepare_hints
from stages.model.denoise import condition, denoise
from stages.model.network import VideoNetwork, inflate, largest_difference, share_spatial
from stages.model.sampler import build_scheduler
from stages.model.text import TextEncoder
from stages.presets import PAPER, Control
from tests.stages import random_parts as parts

FRAMES = 4
SIZE = (40, 40)


def network() -> VideoNetwork:
    torch.manual_seed(0)
    spatial = parts.make_unet()
    unet = inflate(spatial, parts.make_motion())
    appearance = Appearance(parts.make_image_encoder().eval(), split_adapter(parts.global_adapter()))
    appearance.install(unet)
    return VideoNetwork(
        unet=unet.eval(),
        vae=parts.make_vae().eval(),
        text=TextEncoder(parts.make_tokenizer(), parts.make_text().eval()),
        appearance=appearance,
        controls={"control": PlainControl(parts.make_control(spatial).eval())},
        max_frames=32,
    )


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpmpp_2m", "lcm"])
def test_it_equals_animatediff_with_controlnet_and_ip_adapter(scheduler: str) -> None:
    made = network()
    denoising = replace(PAPER.i2v, scheduler=scheduler, steps=4, guidance=5.0)  # type: ignore[arg-type]
    rng = np.random.default_rng(1)
    reference = rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    noise = torch.randn((1, 4, FRAMES, 5, 5), generator=torch.Generator().manual_seed(7))

    ours = build_scheduler(denoising)
    ours.set_timesteps(denoising.steps)
    given = condition(made, ("blur", "a fox"), reference, guidance=5.0, image_scale=1.0)
    hints = prepare_hints(made.controls, [Control("control")], {"reference": reference[None]}, SIZE, FRAMES)
    given = replace(given, hints=hints)
    torch.manual_seed(5)  # LCM draws noise at every step
    latents = denoise(made, noise * ours.init_noise_sigma, ours, ours.timesteps, given, ignore_progress)

    loaded = made.controls["control"]
    assert isinstance(loaded, PlainControl)
    control = loaded.model
    control.controlnet_cond_embedding = loaded.embedding
    pipeline = AnimateDiffControlNetPipeline(
        vae=made.vae, text_encoder=made.text.model, tokenizer=made.text.tokenizer, unet=made.unet,
        motion_adapter=None, controlnet=control, scheduler=build_scheduler(denoising),
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    torch.manual_seed(5)
    theirs = pipeline(
        prompt="a fox", negative_prompt="blur", num_frames=FRAMES, height=SIZE[1], width=SIZE[0],
        num_inference_steps=4, guidance_scale=5.0, latents=noise, ip_adapter_image_embeds=given.image,
        conditioning_frames=[PIL.Image.fromarray(reference)] * FRAMES, output_type="latent",
    ).frames  # fmt: skip
    assert torch.equal(latents, theirs)


def test_the_appearance_scale_zero_is_no_appearance() -> None:
    made = network()
    scheduler = build_scheduler(PAPER.i2v)
    scheduler.set_timesteps(2)
    noise = torch.randn((1, 4, FRAMES, 5, 5), generator=torch.Generator().manual_seed(7))
    results = []
    for value in (0, 255):
        picture = np.full((*SIZE, 3), value, np.uint8)
        given = condition(made, ("", "a fox"), picture, guidance=5.0, image_scale=0.0)
        results.append(denoise(made, noise, scheduler, scheduler.timesteps, given, ignore_progress))
    assert torch.equal(*results)


def test_silent_motion_modules_leave_the_per_picture_output() -> None:
    torch.manual_seed(0)
    spatial, motion = parts.make_unet().eval(), parts.make_motion()
    for name, module in motion.named_modules():
        if name.endswith("proj_out"):
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)
    unet = inflate(spatial, motion).eval()
    latents, text = torch.randn(1, 4, FRAMES, 5, 5), torch.randn(FRAMES, 7, parts.TEXT)
    with torch.no_grad():
        video = unet(latents, 500, text).sample
        pictures = spatial(latents[0].transpose(0, 1), 500, text).sample
    assert torch.allclose(video[0].transpose(0, 1), pictures, atol=1e-5)


def test_sharing_the_backbone_changes_nothing_and_saves_memory() -> None:
    torch.manual_seed(0)
    spatial = parts.make_unet()
    one, other = (inflate(spatial, parts.make_motion()).eval() for _ in range(2))
    assert isinstance(other, UNetMotionModel)
    inputs = (torch.randn(1, 4, 2, 5, 5), 10, torch.randn(2, 7, parts.TEXT))
    with torch.no_grad():
        before = other(*inputs).sample
        assert largest_difference(one, other) == 0
        saved = share_spatial(other, one)
        after = other(*inputs).sample
    assert torch.equal(before, after)
    assert saved == sum(p.nbytes for n, p in one.state_dict().items() if "motion_modules" not in n)
