"""Styles of drawing, as filters over finished pictures: "oil" smears along edges, "pencil" leaves lines on paper,
"watercolour" thins the colours and lets them gather at edges, "book" is flat colours in brown ink, as for children.

Takes and gives (T, H, W, 3) uint8, each frame by itself. They add no grain of canvas or paper: noise is what a small
VAE cannot carry, and it would spend itself on it; the washes of watercolour are wide and always lie in the same place.
"3d" is the picture as it is.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stages.training.scenes.captions import STYLES
from stages.types import UInt8

DRAWN = (*STYLES, "watercolour", "book")  # all that can be drawn; prompts can so far ask for the former

_BRUSH_PX = 4  # the brush covers squares of 5 pixels
_INK = (0.25, 0.15, 0.12)
_SHADES = 6  # levels of lightness in a children's book


def apply_style(style: str, clip: UInt8) -> UInt8:
    """`clip` in one of `DRAWN`."""
    if style not in DRAWN:
        raise ValueError(f"There is no style {style!r}; there are {', '.join(DRAWN)}.")
    if style == "3d":
        return clip
    pixels = torch.from_numpy(np.array(clip)).permute(0, 3, 1, 2).float() / 255
    made = _FILTERS[style](pixels)
    made = made.clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return np.ascontiguousarray(made.numpy())


def _smeared(pixels: Tensor) -> Tensor:
    """Kuwahara's filter: of four squares around a pixel, the mean of the one that varies least."""
    padded = F.pad(pixels, (_BRUSH_PX,) * 4, mode="replicate")
    grey = padded.mean(1, keepdim=True)
    means = _boxes(torch.cat([padded, grey, grey**2], 1), _BRUSH_PX + 1)
    spread = means[:, 4:] - means[:, 3:4] ** 2
    height, width = pixels.shape[-2:]
    made = least = torch.empty(0)
    for top, left in ((0, 0), (0, _BRUSH_PX), (_BRUSH_PX, 0), (_BRUSH_PX, _BRUSH_PX)):
        rows, columns = slice(top, top + height), slice(left, left + width)
        colours, varied = means[:, :3, rows, columns], spread[..., rows, columns]
        if top == left == 0:
            made, least = colours, varied
        else:
            made = torch.where(varied < least, colours, made)
            least = torch.minimum(varied, least)
    return made


def _rounded(pixels: Tensor) -> Tensor:
    """Without the steps of single pixels that smearing leaves at slanting edges."""
    padded = F.pad(pixels, (1,) * 4, mode="replicate")
    return _boxes(_boxes(padded, 2), 2)


def _boxes(pixels: Tensor, side: int) -> Tensor:
    """The mean of every square of `side` pixels."""
    return F.avg_pool2d(F.avg_pool2d(pixels, (1, side), stride=1), (side, 1), stride=1)


def _oil(pixels: Tensor) -> Tensor:
    """Smeared along edges; then colour."""
    return _saturated(_rounded(_smeared(pixels)), 1.3)


def _pencil(pixels: Tensor) -> Tensor:
    """Lines where brightness changes, light shading, on paper that is a little warm."""
    grey = _grey(pixels)
    soft = _soft(grey, 7)
    lines = (1 - 7 * (soft - grey).clamp(min=0)).clamp(0.1, 1)
    shade = 0.62 + 0.38 * soft
    return (lines * shade) * torch.tensor([1.0, 0.985, 0.95]).view(1, 3, 1, 1)


def _watercolour(pixels: Tensor) -> Tensor:
    """Thin pigment on white paper, in wide washes, darker where a patch of colour ends."""
    flat = _soft(_smeared(pixels), 3)
    grey = _grey(flat)
    rim = (_soft(grey, 9) - grey).clamp(min=0)
    height, width = pixels.shape[-2:]
    y, x = torch.arange(height).view(-1, 1) / 256, torch.arange(width).view(1, -1) / 256
    bent = 5 * x + 2.3 * torch.sin(4 * y + 1) + 1.1 * torch.sin(9 * x * y + 7 * y)
    wash = 0.76 + 0.035 * torch.sin(2.1 * bent) + 0.035 * torch.sin(7 * y + 1.7 * torch.sin(bent))
    return (1 - wash * (1 - _saturated(flat, 1.15))) * (1 - 2.2 * rim).clamp(0.35, 1)


def _book(pixels: Tensor) -> Tensor:
    """Flat, warm colours of few shades, with an outline in brown ink wherever two of them meet."""
    flat = _rounded(_smeared(pixels))
    grey = _grey(flat)
    steps = grey * _SHADES
    level = steps.floor() + ((steps - steps.floor() - 0.5) * 6 + 0.5).clamp(0, 1)  # a short ramp, not a jump
    flat = _saturated(flat * (0.35 + 0.65 * (level / _SHADES + 0.04) / (grey + 0.04)), 1.25)
    flat = 0.04 + 0.96 * flat * torch.tensor([1.02, 0.99, 0.92]).view(1, 3, 1, 1)
    blurred = F.pad(_soft(pixels, 3), (1,) * 4, mode="replicate")
    across = (blurred[..., 1:-1, 2:] - blurred[..., 1:-1, :-2]).abs().amax(1, keepdim=True)
    down = (blurred[..., 2:, 1:-1] - blurred[..., :-2, 1:-1]).abs().amax(1, keepdim=True)
    ink = (3.2 * ((across**2 + down**2).sqrt() - 0.16)).clamp(0, 0.9)
    return flat.clamp(0, 1).lerp(torch.tensor(_INK).view(1, 3, 1, 1).expand_as(flat), ink.expand_as(flat))


def _grey(pixels: Tensor) -> Tensor:
    return (pixels * torch.tensor([0.3, 0.59, 0.11]).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _soft(pixels: Tensor, side: int) -> Tensor:
    """The mean of squares of `side` pixels, an odd number."""
    return _boxes(F.pad(pixels, (side // 2,) * 4, mode="replicate"), side)


def _saturated(pixels: Tensor, gain: float) -> Tensor:
    light = pixels.mean(1, keepdim=True)
    return light + gain * (pixels - light)


_FILTERS = {"oil": _oil, "pencil": _pencil, "watercolour": _watercolour, "book": _book}
