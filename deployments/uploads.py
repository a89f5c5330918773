"""Files that users send: what they are, whether they may be, and their frames in the shape that a stage takes.

`inspect` reads headers only and refuses what is too large before anything is decoded; `read_picture` and `read_video`
decode, in the keeper's process. Formats come from the bytes, never from a name; no name of a user's becomes a path.
"""

import hashlib
import io
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
import PIL.Image

from deployments.errors import InvalidRequestError
from stages.types import UInt8

_EBML = b"\x1a\x45\xdf\xa3"
_PICTURES = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}


@dataclass(frozen=True)
class Limits:
    """What a file may be."""

    max_side_px: int = 4096
    max_frames: int = 512


@dataclass(frozen=True)
class Facts:
    """What a file is."""

    kind: str  # "picture" | "video"
    suffix: str
    sha256: str
    size: tuple[int, int]  # (width, height)
    frames: int = 1
    fps: float = 0.0


def inspect(data: bytes, kind: str, field: str, limits: Limits) -> Facts:
    """What the file is, from its headers.

    Raises:
        InvalidRequestError: not such a file, or beyond the limits.
    """
    facts = _picture_facts(data, field) if kind == "picture" else _video_facts(data, field)
    width, height = facts.size
    if not min(width, height) >= 16 or max(width, height) > limits.max_side_px:
        raise _refused(
            field, f"has {width}x{height} pixels; each side must be between 16 and {limits.max_side_px}; scale it first"
        )
    if facts.frames > limits.max_frames:
        raise _refused(field, f"has {facts.frames} frames; the limit is {limits.max_frames}; cut it first")
    if kind == "video" and facts.frames < 2:
        raise _refused(field, f"has {facts.frames} frames; a video needs at least 2")
    return facts


def read_picture(data: bytes, size: tuple[int, int]) -> UInt8:
    """(H, W, 3): the centre of the picture in the proportions of `size`, scaled to it; transparency becomes white."""
    with PIL.Image.open(io.BytesIO(data)) as opened:
        picture = opened.convert("RGBA")
    ground = PIL.Image.new("RGBA", picture.size, "white")
    return _fitted(PIL.Image.alpha_composite(ground, picture).convert("RGB"), size)


def read_video(data: bytes, frames: int, fps: float | None, size: tuple[int, int]) -> UInt8:
    """(frames, H, W, 3): from the start, at `fps`, or every frame where that is None; scaled like `read_picture`."""
    taken: list[UInt8] = []
    with _opened(data) as container:
        stream = container.streams.video[0]
        rate = Fraction(stream.average_rate or 24)
        for index, frame in enumerate(container.decode(stream)):
            moment = index / rate
            while len(taken) < frames and (fps is None or len(taken) / Fraction(fps) <= moment):
                taken.append(_fitted(frame.to_image(), size))
                if fps is None:
                    break
            if len(taken) == frames:
                break
    if not taken:
        raise ValueError("the video has no frame that can be decoded")
    taken += [taken[-1]] * (frames - len(taken))
    return np.stack(taken)


def last_frame(data: bytes, size: tuple[int, int]) -> UInt8:
    """(H, W, 3): the last frame of a video."""
    last = None
    with _opened(data) as container:
        for frame in container.decode(container.streams.video[0]):
            last = frame
    if last is None:
        raise ValueError("the video has no frame that can be decoded")
    return _fitted(last.to_image(), size)


def _picture_facts(data: bytes, field: str) -> Facts:
    try:
        with PIL.Image.open(io.BytesIO(data), formats=tuple(_PICTURES)) as opened:
            size, suffix = opened.size, _PICTURES[opened.format or "PNG"]
            if size[0] * size[1] <= 2**24:  # a larger one is refused by its caller
                opened.verify()
    except Exception as error:  # decoders raise whatever they meet
        raise _refused(field, f"is no PNG, JPEG or WebP picture that can be read ({type(error).__name__})") from error
    return Facts("picture", suffix, hashlib.sha256(data).hexdigest(), size)


def _video_facts(data: bytes, field: str) -> Facts:
    try:
        with _opened(data) as container:
            stream = container.streams.video[0]
            size = (int(stream.codec_context.width), int(stream.codec_context.height))
            rate = float(stream.average_rate or 0.0)
            frames = sum(1 for packet in container.demux(stream) if packet.size)
            suffix = "mp4" if _is_mp4(data) else "webm"
    except Exception as error:  # decoders raise whatever they meet
        raise _refused(field, f"is no MP4 or WebM video that can be read ({type(error).__name__})") from error
    if not 1.0 <= rate <= 240.0:
        raise _refused(field, f"has {rate:g} frames a second; it must be between 1 and 240")
    return Facts("video", suffix, hashlib.sha256(data).hexdigest(), size, frames, rate)


def _opened(data: bytes) -> Any:
    """The container that the first bytes promise: never one whose format names other files, such as a playlist."""
    if not _is_mp4(data) and data[:4] != _EBML:
        raise ValueError("neither MP4 nor WebM")
    return av.open(io.BytesIO(data), format="mp4" if _is_mp4(data) else "matroska", options={"protocol_whitelist": ""})


def _is_mp4(data: bytes) -> bool:
    return data[4:8] == b"ftyp"


def _fitted(picture: PIL.Image.Image, size: tuple[int, int]) -> UInt8:
    width, height = size
    scale = max(width / picture.width, height / picture.height)
    if (picture.width, picture.height) != size:
        shown = (width / scale, height / scale)
        left, top = (picture.width - shown[0]) / 2, (picture.height - shown[1]) / 2
        box = (left, top, left + shown[0], top + shown[1])
        picture = picture.resize(size, PIL.Image.Resampling.LANCZOS, box=box)
    return np.asarray(picture.convert("RGB"))


def _refused(field: str, what: str) -> InvalidRequestError:
    return InvalidRequestError(f"The file in {field} {what}.", param=field, code="invalid_file")
