"""Windows over a clip: which frames are denoised together, and how neighbouring windows become one clip.

Two uses, both fixed by the preset and the number of frames alone, so that a result does not depend on how many
replicas there are. I2V fuses its windows at every denoising step, inside one replica: `fuse_weights`. V2V denoises
each alone, on any replica, as a `Piece`; `join` cross-fades a piece with the one before and gives the frames that
are then final. At most two windows share a frame, and between three neighbours at least one frame belongs to the
middle one alone: that is why a piece needs only the one before it to be joined. Pure numpy. Knows nothing of
models.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.base import InputError
from stages.settings import Windows
from stages.types import Clip, Piece, UInt8, Window


@dataclass(frozen=True)
class Span:
    """Frames start..stop of the whole clip, stop excluded."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def plan_windows(frames: int, windows: Windows) -> tuple[Span, ...]:
    """As few spans of at most `windows.length` as cover `frames`; neighbours share exactly `windows.overlap`.

    Their lengths differ by one at most, so that no replica waits for a longer one.

    Raises:
        InputError: the overlap leaves no progress, or makes three windows share a frame.
    """
    length, overlap = windows.length, windows.overlap
    if length < 1 or not 0 <= overlap < length:
        raise InputError(f"Windows of {length} frames cannot overlap by {overlap}; use 0 to {length - 1}.")
    if frames <= length:
        return (Span(0, frames),)
    count = math.ceil((frames - overlap) / (length - overlap))
    starts = [round(index * (frames - overlap) / count) for index in range(count + 1)]
    spans = tuple(Span(start, stop + overlap) for start, stop in itertools.pairwise(starts))
    if any(spans[index + 2].start <= spans[index].stop for index in range(count - 2)):
        raise InputError(
            f"Windows of {length} frames that overlap by {overlap} meet three at a time over {frames} frames; "
            f"use an overlap of at most {max(0, (length - 2) * 2 // 5)}."
        )
    return spans


def fuse_weights(spans: tuple[Span, ...], frames: int) -> NDArray[np.float32]:
    """(windows, frames): how much each window says about each frame; every column adds up to 1.

    Over the frames that two windows share, the later one fades in linearly.
    """
    weights = np.zeros((len(spans), frames), np.float32)
    for index, span in enumerate(spans):
        weights[index, span.start : span.stop] = 1
        if index:
            shared = spans[index - 1].stop - span.start
            weights[index, span.start : span.start + shared] = _ramp(shared)
            weights[index - 1, span.start : span.start + shared] = 1 - _ramp(shared)
    return weights


def cut_piece(frames: UInt8, fps: float, spans: tuple[Span, ...], index: int) -> Piece:
    """The frames (len(span), H, W, 3) of window `index` as a piece of the whole."""
    span, last = spans[index], index == len(spans) - 1
    if len(frames) != len(span):
        raise InputError(f"Window {index} has {len(frames)} frames, its span {len(span)}.")
    new = len(span) if last else spans[index + 1].start - span.start
    return Piece(Clip(frames, fps), index, span.start, new, last)


def join(piece: Piece, before: Piece | None = None) -> Window:
    """The frames that are final once `piece` is there, led by the final frame before them.

    Raises:
        InputError: `before` is not the piece before, or is missing.
    """
    if (piece.index == 0) != (before is None) or (before is not None and before.index != piece.index - 1):
        given = "none" if before is None else f"piece {before.index}"
        wanted = "none" if piece.index == 0 else f"piece {piece.index - 1}"
        raise InputError(f"Piece {piece.index} is joined with {given}; it needs {wanted} before it.")
    frames = piece.clip.frames[: piece.new]
    if before is None:
        return Window(Clip(frames, piece.clip.fps), 0, 0, lead=0, last=piece.last)
    if before.start + before.new != piece.start:
        raise InputError(
            f"Piece {piece.index} starts at frame {piece.start}, the one before it ends at "
            f"{before.start + before.new}; both must come from the same clip."
        )
    shared = before.clip.frames[before.new :]
    weight = _ramp(len(shared))[:, None, None, None]
    mixed = (shared * (1 - weight) + frames[: len(shared)] * weight).round().astype(np.uint8)
    lead = before.clip.frames[before.new - 1 : before.new]
    pixels = np.concatenate([lead, mixed, frames[len(shared) :]])
    return Window(Clip(pixels, piece.clip.fps), piece.index, piece.start, lead=1, last=piece.last)


def _ramp(count: int) -> NDArray[np.float32]:
    return np.arange(1, count + 1, dtype=np.float32) / np.float32(count + 1)
