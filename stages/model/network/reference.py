"""The reference's latents beside the noise of every frame, for a UNet whose first layer reads them.

As Stable Video Diffusion (arXiv 2311.15127) and Wan have it. What is denoised has C channels, the UNet reads 2C + 1:
the noised latents, the reference's latents in every frame, and a plane of ones in the frame that is the reference
itself, of zeros in the others. Without a reference all C + 1 are zeros, which is also how such a UNet draws single
pictures. A ControlNet beside it reads the noised latents alone. Knows nothing of schedules or guidance.
"""

from typing import Any

import torch
from torch import Tensor

__all__ = ["planes_for", "put_beside", "reads_reference"]


def planes_for(unet: Any, reference: Tensor | None, frames: int, *, first: bool) -> Tensor | None:
    """What stands beside the noise of `frames` frames: (B, C + 1, F, h, w), or None where `unet` reads nothing there.

    Args:
        reference: (B, C, h, w), scaled.
        first: whether the first of the frames is the reference; not so in a window that begins later.
    """
    if reference is None or not reads_reference(unet):
        return None
    mark = reference.new_zeros((len(reference), 1, frames, *reference.shape[2:]))
    mark[:, :, 0] = float(first)
    return torch.cat([reference[:, :, None].expand(-1, -1, frames, -1, -1), mark], 1)


def reads_reference(unet: Any) -> bool:
    """Whether the first layer of `unet` has a place for the planes."""
    channels = int(unet.config.out_channels)
    return bool(unet.config.in_channels == 2 * channels + 1)


def put_beside(unet: Any, noised: Tensor, planes: Tensor | None = None) -> Tensor:
    """What `unet` reads: `noised` (k·B, C, ...) with `planes` (B, C + 1, ...), or zeros; or `noised` as it is."""
    if not reads_reference(unet):
        return noised
    if planes is None:
        planes = noised.new_zeros((len(noised), noised.shape[1] + 1, *noised.shape[2:]))
    copies = len(noised) // len(planes)
    return torch.cat([noised, planes.to(noised).repeat(copies, *([1] * (planes.ndim - 1)))], 1)
