"""Frames out of a user's files, as `stages.media` shows them.

Takes an `Entry` of a manifest; gives (T, H, W, 3) uint8 at the rate and size that a model trains on: the frame that is
shown at each moment, scaled until it covers the size, and cut around the middle. Knows nothing of models.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from stages.base import InputError
from stages.media.pictures import animation_frames, cover, examine_animation
from stages.media.times import shown_at
from stages.media.types import Facts, MediaError
from stages.media.videos import look_at_video, video_frames
from stages.training.own_data.manifest import MOVING, STILL, Entry
from stages.types import UInt8

__all__ = ["Facts", "check_length", "probe", "read_clip", "span_of"]

_TOLERANCE = 0.02  # of a frame rate: 23.976 counts as 24


def probe(entry: Entry) -> Facts:
    """What is in the file, from its header.

    Raises:
        InputError: it cannot be read, or is shorter than the manifest says.
    """
    try:
        facts = examine_animation(entry.file) if _by_pillow(entry.file) else look_at_video(entry.file)
    except MediaError as error:
        raise InputError(f"{_name(entry)} {error}; or take it out.") from error
    if entry.file.suffix.lower() in STILL:
        facts = replace(facts, fps=0.0, duration_s=0.0)
    if entry.end_s is not None and entry.end_s > facts.duration_s + 0.05:
        raise InputError(
            f"{_name(entry)} ends at {entry.end_s:g} s, the file at {facts.duration_s:.2f} s; lower the end."
        )
    return facts


def span_of(entry: Entry, facts: Facts) -> tuple[float, float]:
    """(start, end) in seconds of what may be shown."""
    return entry.start_s, facts.duration_s if entry.end_s is None else min(entry.end_s, facts.duration_s)


def check_length(entry: Entry, facts: Facts, frames: int, fps: float) -> None:
    """Raises: InputError: the clip is too short, or slower than `fps`."""
    start, end = span_of(entry, facts)
    held = (end - start) * fps
    if facts.fps < fps * (1 - _TOLERANCE):
        raise InputError(f"{_name(entry)} has {facts.fps:.3g} frames/s, training needs at least {fps:g}; take it out.")
    if held < frames - 0.5:
        raise InputError(
            f"{_name(entry)} holds {max(0, int(held + 0.5))} frames at {fps:g} frames/s, training needs {frames}; "
            f"choose a longer clip or fewer --frames."
        )


def read_clip(entry: Entry, start_s: float, frames: int, fps: float, size: tuple[int, int]) -> UInt8:
    """(frames, H, W, 3): the frames shown from `start_s` on, `fps` a second, at (width, height).

    Raises:
        InputError: the file ends before.
    """
    times = [start_s + index / fps for index in range(frames)]
    shown = animation_frames(entry.file) if _by_pillow(entry.file) else video_frames(entry.file, start_s)
    try:
        return np.stack([cover(frame, size) for frame in shown_at(shown, times)])
    except MediaError as error:
        raise InputError(f"{_name(entry)} cannot be decoded from {start_s:.2f} s: it {error}.") from error


def _by_pillow(path: Path) -> bool:
    return path.suffix.lower() not in MOVING or path.suffix.lower() == ".gif"


def _name(entry: Entry) -> str:
    return f"{entry.where}: {entry.file.name}" if entry.where else str(entry.file)
