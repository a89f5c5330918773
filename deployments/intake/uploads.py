"""Files that users send: what they are, and whether they may be.

`inspect` reads headers only and refuses what is too large before anything is decoded (`deployments.files.decoding`).
Formats come from the bytes, never from a name; no name of a user's becomes a path.
"""

import hashlib
import io
from dataclasses import dataclass

import PIL.Image

from deployments.errors import InvalidRequestError
from deployments.files.decoding import is_mp4, open_video

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
        with open_video(data) as container:
            stream = container.streams.video[0]
            size = (int(stream.codec_context.width), int(stream.codec_context.height))
            rate = float(stream.average_rate or 0.0)
            frames = sum(1 for packet in container.demux(stream) if packet.size)
            suffix = "mp4" if is_mp4(data) else "webm"
    except Exception as error:  # decoders raise whatever they meet
        raise _refused(field, f"is no MP4 or WebM video that can be read ({type(error).__name__})") from error
    if not 1.0 <= rate <= 240.0:
        raise _refused(field, f"has {rate:g} frames a second; it must be between 1 and 240")
    return Facts("video", suffix, hashlib.sha256(data).hexdigest(), size, frames, rate)


def _refused(field: str, what: str) -> InvalidRequestError:
    return InvalidRequestError(f"The file in {field} {what}.", param=field, code="invalid_file")
