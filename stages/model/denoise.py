"""The one denoising loop that I2V and V2V share.

Takes latents (1, C, F, h, w) and what guides them; gives the latents after the last timestep. Text, appearance tokens
and the control condition are made once a request. It equals the pipelines of diffusers bit for bit; `report` is called
at every step and may raise to stop. Knows nothing of where the latents came from or of windows.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from stages.base import Report
from stages.model.appearance import set_scale
from stages.model.control import ControlFn
from stages.model.network import VideoNetwork
from stages.types import UInt8


@dataclass(frozen=True)
class Conditions:
    """What guides one denoising."""

    text: Tensor  # (2, L, C): negative, positive
    image: list[Tensor]  # one (2, 1, ...): without, with the reference
    control: ControlFn | None
    guidance: float
    image_scale: float


def condition(
    network: VideoNetwork, prompts: tuple[str, str], reference: UInt8, *, guidance: float, image_scale: float
) -> Conditions:
    """What text and reference say, still without a ControlNet.

    Args:
        prompts: negative, positive.
        reference: (H, W, 3) uint8, for the appearance encoder.
    """
    return Conditions(
        text=network.text.encode(prompts),
        image=network.appearance.encode(reference),
        control=None,
        guidance=guidance,
        image_scale=image_scale,
    )


def with_control(
    given: Conditions, network: VideoNetwork, pictures: UInt8, *, size: tuple[int, int], frames: int, scale: float
) -> Conditions:
    """The same with the network's ControlNet, if it has one, reading 1 or `frames` pictures (N, H, W, 3)."""
    if network.control is None:
        return given
    return replace(given, control=network.control.prepare(pictures, size, frames, scale))


@torch.no_grad()
def denoise(
    network: VideoNetwork,
    latents: Tensor,
    scheduler: Any,
    timesteps: Tensor,
    given: Conditions,
    report: Report,
    *,
    done: int = 0,
    total: int | None = None,
) -> Tensor:
    """(1, C, F, h, w) after all `timesteps`.

    Args:
        done, total: steps already reported for this call of the stage, and how many there will be in all.
    """
    total = len(timesteps) if total is None else total
    frames = latents.shape[2]
    text = given.text.repeat_interleave(frames, 0)  # (2F, L, C)
    set_scale(network.unet, given.image_scale)
    report(done, total)
    for step, t in enumerate(timesteps, done + 1):
        pair = scheduler.scale_model_input(torch.cat([latents] * 2), t)
        down, mid = given.control(pair, t, text) if given.control else (None, None)
        without, with_text = network.unet(
            pair,
            t,
            text,
            added_cond_kwargs={"image_embeds": given.image},
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
        ).sample.chunk(2)
        guided = without + given.guidance * (with_text - without)
        latents = scheduler.step(guided, t, latents).prev_sample
        report(step, total)
    return latents
