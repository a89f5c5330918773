"""Warp error: how far a clip is from one whose pixels only move, by the flow model of VFI.

Both neighbours of a gap are moved to the middle between them along the flow; where they then differ, something was not
motion: flicker, melting, what comes out of nowhere. After the warp error of Lai et al., "Learning Blind Video Temporal
Consistency", ECCV 2018; the flow is RIFE's, and no pixel is left out as occluded, so fast motion counts, too.
"""

import numpy as np
import torch

from stages.measures.plugs import MeasureError
from stages.presets import TINY
from stages.types import UInt8
from stages.vfi.cuts import is_cut
from stages.vfi.rife import Rife, warp
from stages.vfi.weights import load_rife

MOST_GAPS = 16  # of a clip, evenly spread
_MIDDLE = 0.5


class WarpError:
    """Loads the committed flow model once."""

    def __init__(self) -> None:
        self._flow: Rife = load_rife(TINY.parts["flow"], torch.device("cpu"), torch.float32)

    @torch.inference_mode()
    def of(self, clip: UInt8) -> float:
        """Mean absolute difference in grey levels of (T, H, W, 3), over gaps that are no cuts; NaN where all are.

        Raises:
            MeasureError: it has no two frames.
        """
        if len(clip) < 2:
            raise MeasureError(f"A clip of {len(clip)} frame has no motion; measure a video.")
        gaps = np.unique(np.linspace(0, len(clip) - 2, MOST_GAPS).round().astype(int))
        found = [self._gap(clip[at], clip[at + 1]) for at in gaps if not is_cut(clip[at], clip[at + 1])]
        return float(np.mean(found)) if found else float("nan")

    def _gap(self, left: UInt8, right: UInt8) -> float:
        a, b = (self._flow.encode(_tensor(frame)) for frame in (left, right))
        flow = self._flow.estimate(a, b, _MIDDLE).flow
        height, width = a.size
        apart = (warp(a.frame, flow[:, :2]) - warp(b.frame, flow[:, 2:]))[..., :height, :width]
        return float(apart.abs().mean()) * 255


def _tensor(frame: UInt8) -> torch.Tensor:
    return torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].float().contiguous() / 255
