"""Tells a scene cut from motion: two neighbouring frames in, a verdict out.

Two looks, and both must say "cut", because each alone is fooled:

    colours   the histograms of the two frames share little; fast motion moves colours about and keeps them
    places    most blocks of either frame have no like within an eighth of the frame around their place in the other;
              a thing that flies in changes its own blocks, a cut changes all

The verdict depends on these two frames alone, so that it is the same however a clip is cut into windows, and is
computed on the CPU, so that it is the same on every device. Thresholds: chosen on Big Buck Bunny (frames of different
shots for cuts, frames of one shot, one to six apart, for motion). Knows nothing of flow, time or clips.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.types import UInt8

__all__ = ["Look", "compare", "differ", "is_cut", "look_at"]

_BLOCKS = 32  # a frame is seen as 32 x 32 mean colours
_REACH = 4  # blocks that a thing may move between two frames and still be known
_LEVELS = 6  # of each colour in the histogram
_COLOURS_DIFFER = 0.35  # share of the pixels, 0..1
_PLACES_DIFFER = 10.0  # mean absolute difference of a block and its best like, of 255


@dataclass(frozen=True, slots=True)
class Look:
    """What a verdict needs of one frame."""

    blocks: Tensor  # (1, 3, _BLOCKS, _BLOCKS) float32, 0..255
    colours: Tensor  # (_LEVELS ** 3,) float32, adds up to 1


def look_at(frame: UInt8) -> Look:
    """See a frame (H, W, 3) uint8."""
    height, width = frame.shape[:2]
    rows, columns = max(1, height // 128), max(1, width // 128)
    thin = torch.from_numpy(frame[::rows, ::columns].copy()).permute(2, 0, 1)[None].float()
    blocks = F.adaptive_avg_pool2d(thin, _BLOCKS)
    level = (F.adaptive_avg_pool2d(thin, 2 * _BLOCKS) * (_LEVELS / 256)).long().clamp(0, _LEVELS - 1)
    index = (level[:, 0] * _LEVELS + level[:, 1]) * _LEVELS + level[:, 2]
    counts = torch.bincount(index.flatten(), minlength=_LEVELS**3).float()
    return Look(blocks, counts / counts.sum())


def compare(left: Look, right: Look) -> tuple[float, float]:
    """(how far the colours differ 0..1, how far the places differ 0..255)."""
    colours = float((left.colours - right.colours).abs().sum()) / 2
    return colours, max(_unlike(left.blocks, right.blocks), _unlike(right.blocks, left.blocks))


def is_cut(left: UInt8, right: UInt8) -> bool:
    """Whether two neighbouring frames (H, W, 3) uint8 belong to different shots."""
    return differ(look_at(left), look_at(right))


def differ(left: Look, right: Look) -> bool:
    """The verdict on two frames already seen."""
    colours, places = compare(left, right)
    return colours > _COLOURS_DIFFER and places > _PLACES_DIFFER


def _unlike(blocks: Tensor, others: Tensor) -> float:
    """Mean over `blocks` of the difference to the likest of `others` within reach."""
    side = 2 * _REACH + 1
    near = F.pad(others, (_REACH,) * 4, mode="replicate").unfold(2, side, 1).unfold(3, side, 1)  # (1, 3, B, B, s, s)
    difference = (near - blocks[..., None, None]).abs().mean(dim=1).flatten(3)
    return float(difference.amin(dim=-1).mean())
