"""Between pixels and latents: an AutoencoderKL of diffusers, one picture at a time or many.

Takes and gives torch tensors: pictures (N, 3, H, W) float in -1..1, latents (N, C, h, w) multiplied by the scaling
factor. The public VAEs read pixels as they are. Ours reads blocks of 2x2 pixels as 12 channels, which makes it four
times as cheap at the same width; how large the blocks are follows from `in_channels`. VAE tiling is not used: norms and
attention look at a whole picture. Knows nothing of frames or time.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from stages.base import InputError
from stages.types import UInt8


def block_px(vae: AutoencoderKL) -> int:
    """Side of the block of pixels that one position of the VAE's input holds: 1 for the public ones."""
    return math.isqrt(int(vae.config.in_channels) // 3)


def reduction(vae: AutoencoderKL) -> int:
    """Pixels a latent along each axis: 8 for the public VAEs."""
    return int(block_px(vae) * 2 ** (len(vae.config.block_out_channels) - 1))


def latent_size(who: str, reduction: int, size: tuple[int, int]) -> tuple[int, int]:
    """(h, w) of the latents of a picture of `size` (width, height).

    Raises:
        InputError: a side that is no multiple of `reduction`; `who` cannot make it.
    """
    width, height = size
    if width % reduction or height % reduction:
        raise InputError(f"{who} makes multiples of {reduction} pixels, the size is {width}x{height}.")
    return height // reduction, width // reduction


def to_tensor(frames: UInt8, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, H, W) in -1..1."""
    pixels = torch.from_numpy(np.array(frames)).to(device)
    return (pixels.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1).to(dtype)


def to_pixels(pictures: Tensor) -> UInt8:
    """(N, 3, H, W) in -1..1 -> (N, H, W, 3) uint8; values outside are clamped."""
    scaled = ((pictures.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def encode_moments(vae: AutoencoderKL, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the posterior, before scaling; with gradients."""
    posterior = vae.encode(F.pixel_unshuffle(pictures, block_px(vae))).latent_dist
    return posterior.mean, posterior.std


def decode_raw(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Pictures from unscaled latents; with gradients."""
    pictures: Tensor = F.pixel_shuffle(vae.decode(latents).sample, block_px(vae))
    return pictures


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """(N, 3, H, W) -> scaled latents (N, C, h, w): the posterior's mean, so that no noise is drawn."""
    planes = pictures.to(vae.device, vae.dtype).contiguous()  # norms over channels-last pictures lose two digits
    mean, _ = encode_moments(vae, planes)
    scaled: Tensor = mean * vae.config.scaling_factor
    return scaled


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: Tensor, each: Callable[[], None] | None = None) -> UInt8:
    """Scaled latents (N, C, h, w) -> (N, H, W, 3) uint8, one at a time so that memory stays that of one picture.

    `each` is called after every picture; it may raise to stop.
    """
    frames = []
    for latent in torch.split(latents, 1):
        frames.append(to_pixels(decode_raw(vae, latent.to(vae.device, vae.dtype) / vae.config.scaling_factor)))
        if each is not None:
            each()
    return np.concatenate(frames)
