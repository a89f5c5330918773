"""The VFI stage: the frames between the frames.

Takes a `Window` of final V2V frames; gives a `Clip`: the frames which that window adds to the video, at `factor` times
the rate. A gap between two neighbours becomes `factor - 1` new frames at t = i / factor and then its right frame:

    window 0, lead 0   A B C    ->  A a' a" B b' b" C          factor 3
    window 1, lead 1   C D      ->                   c' c" D   C is already delivered

F frames in any number of windows become factor · (F - 1) + 1. Each new frame depends on its two neighbours and t alone,
so the video does not depend on how it was cut into windows, byte for byte, and the memory in use beside the result is
that of one gap. Frames that were there before are handed on unchanged.

Deterministic: uses no randomness, so `seed` changes nothing. Does not know: where a window comes from, encoding, and
scene cuts (two shots in one gap are morphed into each other).
"""

from typing import Self

import numpy as np
import torch

from stages.base import InputError, Report, StageName
from stages.model.windows import join
from stages.presets import Preset, VFIParams
from stages.types import Clip, Piece, UInt8, Window
from stages.vfi.rife import Encoded, Rife
from stages.vfi.weights import load_rife

__all__ = ["VFI"]


class VFI:
    """Frame interpolation by the flow model; see the top of this module."""

    name: StageName = "vfi"

    def __init__(self, net: Rife) -> None:
        self._net = net
        self._device = next(net.parameters()).device

    @classmethod
    def load(cls, preset: Preset, device: str) -> Self:
        """Build the stage from `preset.parts["flow"]`. A CPU computes in float32, a GPU in the preset's dtype.

        Raises:
            WeightsError: the file is missing, broken or of another shape.
        """
        target = torch.device(device)
        dtype: torch.dtype = torch.float32 if target.type == "cpu" else getattr(torch, preset.dtype)
        return cls(load_rife(preset.parts["flow"], target, dtype))

    def __call__(
        self, window: Window | Piece, before: Piece | None = None, *, params: VFIParams, seed: int, report: Report
    ) -> Clip:
        """The frames that `window` adds to the video: (T', H, W, 3) uint8. Calls `report` once a gap.

        Args:
            before: the piece before, where `window` is a `Piece` of V2V and not its first.

        Raises:
            InputError: a factor below 1, or a window in the middle of the clip without its left neighbour.
            Cancelled: `report` asked to stop.
        """
        if isinstance(window, Piece):
            window = join(window, before)
        _check(window, params.factor)
        frames, factor = window.clip.frames, params.factor
        gaps = len(frames) - 1
        first = 1 - window.lead
        result: UInt8 = np.empty((first + gaps * factor, *frames.shape[1:]), np.uint8)
        result[:first] = frames[:first]
        left: Encoded | None = None
        for gap in range(gaps):
            at = first + gap * factor
            if factor > 1:
                left = left or self._encode(frames[gap])
                right = self._encode(frames[gap + 1])
                for step in range(1, factor):
                    result[at + step - 1] = self._between(left, right, step / factor)
                left = right
            result[at + factor - 1] = frames[gap + 1]
            report(gap + 1, gaps)
        return Clip(result, fps=window.clip.fps * factor)

    @torch.inference_mode()
    def _encode(self, frame: UInt8) -> Encoded:
        """(H, W, 3) uint8, perhaps read-only, as the network takes it, on the device."""
        pixels = torch.from_numpy(frame.copy()).to(self._device)
        return self._net.encode(pixels.permute(2, 0, 1)[None].float().contiguous() / 255)

    @torch.inference_mode()
    def _between(self, left: Encoded, right: Encoded, t: float) -> UInt8:
        """The frame (H, W, 3) uint8 at time `t` of a gap."""
        frame = self._net.between(left, right, t)[0] * 255
        pixels: UInt8 = frame.round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        return pixels


def _check(window: Window, factor: int) -> None:
    if factor < 1:
        raise InputError(
            f"The interpolation factor is {factor}; it must be at least 1 (1 hands the frames on unchanged)."
        )
    if (window.start > 0) != (window.lead == 1):
        raise InputError(
            f"Window {window.index} starts at frame {window.start} with lead {window.lead}; the first window has "
            f"start 0 and lead 0, every later one lead 1: the left neighbour that interpolation needs."
        )
