"""What a file is, what it may be, and what is wrong with it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stages.base import InputError
from stages.types import UInt8

File = Path | bytes
"""Where the bytes are."""


class MediaError(InputError):
    """A file that cannot be used. The message goes on where "The file a.mp4" ends: "has 8x40 pixels; ..."."""


@dataclass(frozen=True)
class Limits:
    """What a file may be; every frame is judged."""

    side_px: int = 4096
    frames: int = 512
    pixels: int = 2**30  # of all frames together

    def judge(self, size: tuple[int, int], frames: int = 1) -> None:
        """Raises: MediaError: more than that."""
        width, height = size
        if not min(size) >= 16 or max(size) > self.side_px:
            raise MediaError(
                f"has {width}x{height} pixels; each side must be between 16 and {self.side_px}; scale it first"
            )
        if frames > self.frames:
            raise MediaError(f"has more than {self.frames} frames, the limit; cut it first")
        if width * height * frames > self.pixels:
            raise MediaError(
                f"has {frames} or more frames of {width}x{height} pixels, {width * height * frames / 1e6:.0f} million "
                f"together; the limit is {self.pixels / 1e6:.0f} million; scale it or cut it first"
            )


@dataclass(frozen=True)
class Facts:
    """What a file is, as it is shown."""

    kind: Literal["picture", "video"]
    suffix: str
    size: tuple[int, int]  # (width, height)
    frames: int = 1  # of a video: at `fps`
    fps: float = 0.0  # constant; of a picture 0
    duration_s: float = 0.0  # of a picture 0
    sound: bool = False
    notes: tuple[str, ...] = ()  # what is shown otherwise than the file has it, each a sentence

    @property
    def moves(self) -> bool:
        return self.fps > 0


@dataclass(frozen=True)
class Shown:
    """A frame and when it is seen, in seconds from the first one."""

    start_s: float
    end_s: float
    pixels: Callable[[], UInt8]  # (H, W, 3); costs the conversion
