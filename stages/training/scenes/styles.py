"""Styles of drawing, as filters over finished pictures: "oil" smears along edges, "pencil" leaves lines on paper.

Takes and gives (T, H, W, 3) uint8, each frame by itself. They add no grain of canvas or paper: noise is what a small
VAE cannot carry, and it would spend itself on it. "3d" is the picture as it is.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stages.training.scenes.captions import STYLES
from stages.types import UInt8

_BRUSH_PX = 4  # the brush covers squares of 5 pixels


def apply_style(style: str, clip: UInt8) -> UInt8:
    """`clip` in one of `STYLES`."""
    if style not in STYLES:
        raise ValueError(f"There is no style {style!r}; there are {', '.join(STYLES)}.")
    if style == "3d":
        return clip
    pixels = torch.from_numpy(np.array(clip)).permute(0, 3, 1, 2).float() / 255
    made = _oil(pixels) if style == "oil" else _pencil(pixels)
    made = made.clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return np.ascontiguousarray(made.numpy())


def _oil(pixels: Tensor) -> Tensor:
    """Kuwahara's filter: of four squares around a pixel, the mean of the one that varies least; then colour."""
    side = _BRUSH_PX + 1
    padded = F.pad(pixels, (_BRUSH_PX,) * 4, mode="replicate")
    means = F.avg_pool2d(padded, side, stride=1)
    grey = padded.mean(1, keepdim=True)
    spread = F.avg_pool2d(grey**2, side, stride=1) - F.avg_pool2d(grey, side, stride=1) ** 2
    height, width = pixels.shape[-2:]
    corners = [(top, left) for top in (0, _BRUSH_PX) for left in (0, _BRUSH_PX)]
    spreads = torch.stack([spread[..., top : top + height, left : left + width] for top, left in corners])
    colours = torch.stack([means[..., top : top + height, left : left + width] for top, left in corners])
    least = spreads.argmin(0, keepdim=True).expand(1, *pixels.shape)
    painted = colours.gather(0, least)[0]
    light = painted.mean(1, keepdim=True)
    return light + 1.3 * (painted - light)


def _pencil(pixels: Tensor) -> Tensor:
    """Lines where brightness changes, light shading, on paper that is a little warm."""
    grey = (pixels * torch.tensor([0.3, 0.59, 0.11]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    soft = F.avg_pool2d(F.pad(grey, (3,) * 4, mode="replicate"), 7, stride=1)
    lines = (1 - 7 * (soft - grey).clamp(min=0)).clamp(0.1, 1)
    shade = 0.62 + 0.38 * soft
    return (lines * shade) * torch.tensor([1.0, 0.985, 0.95]).view(1, 3, 1, 1)
