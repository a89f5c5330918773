"""Pictures and videos that users sent, decoded: frames in the size and number that a stage takes.

Runs in the keeper's process. A container is what its first bytes say, never what a name says.
"""

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
import PIL.Image

from stages.types import UInt8

_EBML = b"\x1a\x45\xdf\xa3"


def read_picture(data: bytes, size: tuple[int, int]) -> UInt8:
    """(H, W, 3): the centre of the picture in the proportions of `size`, scaled to it; transparency becomes white."""
    with PIL.Image.open(io.BytesIO(data)) as opened:
        picture = opened.convert("RGBA")
    ground = PIL.Image.new("RGBA", picture.size, "white")
    return _fitted(PIL.Image.alpha_composite(ground, picture).convert("RGB"), size)


def read_video(data: bytes, frames: int, fps: float | None, size: tuple[int, int]) -> UInt8:
    """(frames, H, W, 3): from the start, at `fps`, or every frame where that is None; scaled like `read_picture`."""
    taken: list[UInt8] = []
    with open_video(data) as container:
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
    with open_video(data) as container:
        for frame in container.decode(container.streams.video[0]):
            last = frame
    if last is None:
        raise ValueError("the video has no frame that can be decoded")
    return _fitted(last.to_image(), size)


def open_video(data: bytes) -> Any:
    """The container that the first bytes promise: never one whose format names other files, such as a playlist."""
    if not is_mp4(data) and data[:4] != _EBML:
        raise ValueError("neither MP4 nor WebM")
    return av.open(io.BytesIO(data), format="mp4" if is_mp4(data) else "matroska", options={"protocol_whitelist": ""})


def is_mp4(data: bytes) -> bool:
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
