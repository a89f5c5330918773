"""A pass through the UNet that keeps the output of the deep layers for later steps: faster, not exact.

Neighbouring denoising steps differ little in the deep, coarse layers and much in the shallow ones. At a full step
(`is_full`) everything is computed, and what the last block of the way up reads from below is kept; at the others only
the first block of the way down and the last of the way up run, on what was kept, and the ControlNets not at all, whose
residuals are kept too. After DeepCache (arXiv 2312.00858), for UNets with motion modules. `Kept` belongs to one window
of one request; nothing outlives it. Takes and gives the `Frames` of `stages.model.network.layers`; knows nothing of
guidance.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from stages.model.network.fast import Skips, add, ascend, close_unet, descend, spread, turn
from stages.model.network.layers import Call, Frames

Residuals = tuple[Skips, Frames] | None


@dataclass
class Kept:
    """What the last full step of one window left."""

    below: Frames | None = None
    residuals: Skips | None = None


def is_full(step: int, total: int, every: int) -> bool:
    """Whether step 0..total-1 computes everything: every n-th does, and the last, which draws the finest detail."""
    return step % every == 0 or step == total - 1


def run_unet(
    unet: Any,
    latents: Tensor,
    call: Call,
    control: Callable[[], Residuals],
    kept: Kept | None = None,
    *,
    full: bool = True,
) -> Tensor:
    """(B, C, F, h, w) -> (k·B, C, F, h, w).

    Args:
        control: computes the ControlNets' residuals; called at full steps only.
        kept: filled by a full step, read by the others; None if there are no others.
    """
    first, last = unet.down_blocks[0], unet.up_blocks[-1]
    top = len(last.resnets)  # how many skips stay at the finest level: what the UNet opens with, and its first block's
    skips: Skips = (spread(latents, call.copies).map(unet.conv_in),)
    if not full:
        if kept is None or kept.below is None:
            raise ValueError("Nothing was kept to reuse; the first step of a window must be full.")
        skips += descend(first, skips[0], call, shrink=False)
        return close_unet(unet, ascend(last, kept.below, add(skips, kept.residuals), call), call)
    for block in unet.down_blocks:
        skips += descend(block, skips[-1], call)
    frames = turn(unet.mid_block, skips[-1], call)
    residuals = control()
    if residuals is not None:
        skips, frames = add(skips, residuals[0]), frames + residuals[1]
    for block in unet.up_blocks[:-1]:
        skips, own = skips[: -len(block.resnets)], skips[-len(block.resnets) :]
        frames = ascend(block, frames, own, call, skips[-1].states.shape[2:])
    if kept is not None:
        kept.below, kept.residuals = frames, None if residuals is None else residuals[0][:top]
    return close_unet(unet, ascend(last, frames, skips, call), call)
