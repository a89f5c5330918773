"""Windows over a clip: which frames are denoised together, and how neighbouring windows become one clip.

Pure numpy. A blender takes windows in order and gives back frames as soon as nothing can change them any more: where
two windows overlap, the later one fades in over the shared frames. Knows nothing of models.
"""

from dataclasses import dataclass

import numpy as np

from stages.base import InputError
from stages.types import UInt8


@dataclass(frozen=True)
class Span:
    """Frames start..stop of the whole clip, stop excluded."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def plan_windows(frames: int, window: int, overlap: int) -> tuple[Span, ...]:
    """Spans of at most `window` frames that cover `frames`; neighbours share at least `overlap`.

    All but a lone one have exactly `window` frames, the last is moved back to end with the clip.

    Raises:
        InputError: the overlap leaves no progress.
    """
    if window < 1 or not 0 <= overlap < window:
        raise InputError(f"Windows of {window} frames cannot overlap by {overlap}; use 0 to {window - 1}.")
    if frames <= window:
        return (Span(0, frames),)
    starts = [*range(0, frames - window, window - overlap), frames - window]
    return tuple(Span(start, start + window) for start in starts)


class Blender:
    """Joins windows to a clip; see the top of this module."""

    def __init__(self, spans: tuple[Span, ...]) -> None:
        self._spans = spans
        self._next = 0
        self._tail: UInt8 | None = None  # frames of earlier windows that the next one still changes

    def push(self, frames: UInt8) -> UInt8:
        """Take the next window's frames, (len(span), H, W, 3); give those that are now final, in order."""
        span = self._spans[self._next]
        self._next += 1
        if len(frames) != len(span):
            raise InputError(f"Window {self._next - 1} has {len(frames)} frames, its span {len(span)}.")
        if self._tail is not None:
            shared = len(self._tail)
            weight = (np.arange(1, shared + 1, dtype=np.float32) / (shared + 1))[:, None, None, None]
            mixed = self._tail * (1 - weight) + frames[:shared] * weight
            frames = np.concatenate([mixed.round().astype(np.uint8), frames[shared:]])
        if self._next == len(self._spans):
            self._tail = None
            return frames
        final = self._spans[self._next].start - span.start
        self._tail = frames[final:]
        return frames[:final]
