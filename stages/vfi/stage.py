"""The VFI stage: the frames between the frames.

Takes a `Window` of final V2V frames; gives a `Clip`: the frames which that window adds to the video, at `factor` times
the rate. A gap between two neighbours becomes `factor - 1` new frames at t = i / factor and then its right frame:

    window 0, lead 0   A B C    ->  A a' a" B b' b" C          factor 3
    window 1, lead 1   C D      ->                   c' c" D   C is already delivered

F frames in any number of windows become factor · (F - 1) + 1, less the `params.drop` last ones. Each new frame depends
on its two neighbours and t alone, so the video does not depend on how it was cut into windows, byte for byte, and the
memory in use beside the result is that of one gap. Frames that were there before are handed on unchanged.

The flow model makes a frame; the GAN, where the preset switches it on and `params.gan` wants it, makes a better one of
it (`stages.vfi.gan`). Across a scene cut (`stages.vfi.cuts`) nothing is blended: a new frame is a copy of the neighbour
that is nearer in time, of the left one in the middle.

Deterministic: uses no randomness, so `seed` changes nothing. Does not know: where a window comes from, and encoding.
"""

from typing import Self

import numpy as np
import torch

from stages.base import InputError, Report, StageName, WeightsError
from stages.model.sampling.windows import join
from stages.model.weights.loading import compute_dtype
from stages.presets import Preset, VFIParams
from stages.types import Clip, Piece, UInt8, Window
from stages.vfi.cuts import is_cut
from stages.vfi.gan import Gan
from stages.vfi.interpolator import Interpolator, Neighbour
from stages.vfi.rife import Rife
from stages.vfi.weights import MIDDLE, fixed_time_of, load_gan, load_rife

__all__ = ["VFI"]


class VFI:
    """Frame interpolation by flow model and GAN; see the top of this module.

    Args:
        fixed: what can make the middle alone, by name ("flow weights ..."); empty where everything takes any t.
    """

    name: StageName = "vfi"

    def __init__(self, flow: Rife, gan: Gan | None = None, fixed: str = "") -> None:
        self._plain = Interpolator(flow, None)
        self._full = Interpolator(flow, gan)
        self._fixed = fixed

    @classmethod
    def load(cls, preset: Preset, device: str) -> Self:
        """Build the stage from the preset's parts `flow` and, if it is switched on, `gan`. A CPU computes in float32.

        Raises:
            WeightsError: a file is missing, broken, of another shape, or cannot make the times that `vfi_factor` needs.
        """
        preset.speed(cls.name)  # refuses what interpolation does not have
        dtype, target = compute_dtype(preset, device), torch.device(device)
        parts = {name: preset.parts[name] for name in ("flow", *("gan",) * preset.gan) if name in preset.parts}
        fixed = fixed_time_of(parts)
        if fixed and not _only_middle(preset.vfi_factor):
            raise WeightsError(
                f"{_too_many_times(fixed, preset.vfi_factor)} in preset {preset.name!r}; "
                f"set vfi_factor=2, or use weights that are told the time."
            )
        flow = load_rife(parts["flow"], target, dtype)
        return cls(flow, load_gan(parts["gan"], target, dtype) if "gan" in parts else None, fixed)

    def __call__(
        self, window: Window | Piece, before: Piece | None = None, *, params: VFIParams, seed: int, report: Report
    ) -> Clip:
        """The frames that `window` adds to the video: (T', H, W, 3) uint8. Calls `report` once a gap.

        Args:
            before: the piece before, where `window` is a `Piece` of V2V and not its first.

        Raises:
            InputError: a factor below 1, or one that the weights cannot make; more to drop than a gap gives; or a
                window in the middle of the clip without its left neighbour.
            Cancelled: `report` asked to stop.
        """
        if isinstance(window, Piece):
            window = join(window, before)
        self._check(window, params.factor, params.drop)
        frames, factor = window.clip.frames, params.factor
        gaps = len(frames) - 1
        first = 1 - window.lead
        result: UInt8 = np.empty((first + gaps * factor, *frames.shape[1:]), np.uint8)
        result[:first] = frames[:first]
        between = self._full if params.gan else self._plain
        left: Neighbour | None = None
        for gap in range(gaps):
            at = first + gap * factor
            new, last = result[at : at + factor - 1], frames[gap + 1]
            if factor > 1 and is_cut(frames[gap], last):
                for step in range(1, factor):
                    new[step - 1] = frames[gap] if 2 * step <= factor else last
                left = None
            elif factor > 1:
                left = left or between.see(frames[gap])
                right = between.see(last)
                for step in range(1, factor):
                    new[step - 1] = between.frame(left, right, step / factor)
                left = right
            result[at + factor - 1] = last
            report(gap + 1, gaps)
        if window.last and params.drop:
            result = result[: -params.drop]
        return Clip(result, fps=window.clip.fps * factor)

    def _check(self, window: Window, factor: int, drop: int) -> None:
        if factor < 1:
            raise InputError(
                f"The interpolation factor is {factor}; it must be at least 1 (1 hands the frames on unchanged)."
            )
        if not 0 <= drop <= factor:
            raise InputError(f"VFI was asked to drop {drop} frames at the end; it can drop 0 to {factor}.")
        if self._fixed and not _only_middle(factor):
            raise InputError(f"{_too_many_times(self._fixed, factor)}; ask for factor 2, or load other weights.")
        if (window.start > 0) != (window.lead == 1):
            raise InputError(
                f"Window {window.index} starts at frame {window.start} with lead {window.lead}; the first window has "
                f"start 0 and lead 0, every later one lead 1: the left neighbour that interpolation needs."
            )


def _only_middle(factor: int) -> bool:
    return factor <= 2


def _too_many_times(fixed: str, factor: int) -> str:
    times = ", ".join(f"{step}/{factor}" for step in range(1, factor))
    return (
        f"The {fixed} make the frame at t = {MIDDLE} alone, whatever time they are asked for, "
        f"but factor {factor} needs {times}"
    )
