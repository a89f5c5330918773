"""Frames out of a user's files: videos through PyAV, animations and pictures through Pillow.

Takes an `Entry` of a manifest; gives (T, H, W, 3) uint8 at the rate and size that a model trains on: the frame that is
shown at each moment, scaled until it covers the size, and cut around the middle. Knows nothing of models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import PIL.Image

from stages.base import InputError
from stages.training.own_data.manifest import MOVING, STILL, Entry
from stages.types import UInt8

_TOLERANCE = 0.02  # of a frame rate: 23.976 counts as 24


@dataclass(frozen=True)
class Facts:
    """What a file holds."""

    size: tuple[int, int]  # (width, height)
    duration_s: float  # 0 for a picture
    fps: float  # mean; 0 for a picture

    @property
    def moves(self) -> bool:
        return self.fps > 0


def probe(entry: Entry) -> Facts:
    """What is in the file, from its header.

    Raises:
        InputError: it cannot be read, or is shorter than the manifest says.
    """
    try:
        facts = _probe_pillow(entry.file) if _by_pillow(entry.file) else _probe_video(entry.file)
    except (av.error.FFmpegError, OSError, ValueError, StopIteration) as error:
        reason = " ".join(str(error).split())[:160] or "it holds no picture"
        raise InputError(f"{_name(entry)} cannot be read ({reason}); encode it again or take it out.") from error
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
    try:
        read = _read_pillow if _by_pillow(entry.file) else _read_video
        return np.stack([cover(frame, size) for frame in read(entry.file, times)])
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"{_name(entry)} cannot be decoded from {start_s:.2f} s ({reason}); encode it again."
        ) from error


def cover(frame: UInt8, size: tuple[int, int]) -> UInt8:
    """(H, W, 3) scaled with Lanczos until it covers (width, height), and cut around the middle."""
    height, width = frame.shape[:2]
    if (width, height) == size:
        return frame
    scale = max(size[0] / width, size[1] / height)
    cut_w, cut_h = size[0] / scale, size[1] / scale
    left, top = (width - cut_w) / 2, (height - cut_h) / 2
    picture = PIL.Image.fromarray(np.ascontiguousarray(frame))
    scaled = picture.resize(size, PIL.Image.Resampling.LANCZOS, box=(left, top, left + cut_w, top + cut_h))
    return np.asarray(scaled)


def _by_pillow(path: Path) -> bool:
    return path.suffix.lower() not in MOVING or path.suffix.lower() == ".gif"


def _name(entry: Entry) -> str:
    return f"{entry.where}: {entry.file.name}" if entry.where else str(entry.file)


def _probe_video(path: Path) -> Facts:
    with av.open(str(path)) as container:
        stream = container.streams.video[0] if container.streams.video else None
        if stream is None:
            raise ValueError("it holds no video stream")
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        if stream.duration is not None and stream.time_base is not None:
            duration = float(stream.duration * stream.time_base)
        else:
            duration = (container.duration or 0) / 1_000_000
        if not rate or not duration:
            raise ValueError("its rate or its length is unknown")
        return Facts((stream.width, stream.height), duration, rate)


def _probe_pillow(path: Path) -> Facts:
    with PIL.Image.open(path) as picture:
        count = getattr(picture, "n_frames", 1)
        if count == 1 or path.suffix.lower() in STILL:
            return Facts(picture.size, 0.0, 0.0)
        total = 0.0
        for index in range(count):
            picture.seek(index)
            picture.load()
            total += float(picture.info.get("duration", 0)) / 1000
        if total <= 0:
            raise ValueError("its frames last 0 s")
        return Facts(picture.size, total, count / total)


def _read_video(path: Path, times: Sequence[float]) -> list[UInt8]:
    """The frame shown at each of the rising `times`."""
    out: list[UInt8] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        origin = float((stream.start_time or 0) * (stream.time_base or 0))
        if times[0] > 0:
            container.seek(int((times[0] + origin) / (stream.time_base or 1)), stream=stream)
        shown: UInt8 | None = None
        for frame in container.decode(stream):
            at = float(frame.time or 0) - origin
            while shown is not None and len(out) < len(times) and times[len(out)] < at - 1e-4:
                out.append(shown)
            if len(out) == len(times):
                break
            shown = frame.to_ndarray(format="rgb24")
    if shown is None:
        raise ValueError("no frame is there")
    missing = len(times) - len(out)
    if missing > 1 and times[-1] - times[len(out)] > 0.1:  # rounding may put the last moment behind the last frame
        raise ValueError(f"the video ends {missing} frames early")
    return out + [shown] * missing


def _read_pillow(path: Path, times: Sequence[float]) -> list[UInt8]:
    with PIL.Image.open(path) as picture:
        count = getattr(picture, "n_frames", 1)
        out: list[UInt8] = []
        until = 0.0
        for index in range(count):
            picture.seek(index)
            picture.load()
            until += float(picture.info.get("duration", 0)) / 1000
            last = index == count - 1
            if len(out) < len(times) and (times[len(out)] < until - 1e-4 or last):
                frame = np.array(picture.convert("RGB"))
                while len(out) < len(times) and (times[len(out)] < until - 1e-4 or last):
                    out.append(frame)
        return out
