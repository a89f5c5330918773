"""The values that cross a stage's edge: frozen, checked once when they are made, numpy inside.

They hold numpy arrays because those are read from shared memory without a copy; torch stays inside a stage.
An array that came from another process is read-only: copy it before writing.

This module knows nothing of torch, Ray or files.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

StageName = Literal["t2i", "i2v", "v2v", "vfi"]
STAGE_NAMES: tuple[StageName, ...] = ("t2i", "i2v", "v2v", "vfi")  # in the order of the pipeline

UInt8 = NDArray[np.uint8]
Float16 = NDArray[np.float16]


class ValueShapeError(ValueError):
    """An array that does not have the shape or the dtype which its type promises."""


def _check(array: NDArray[Any], owner: str, axes: str, dtype: type, **fixed: int) -> None:
    names = axes.split()
    if array.dtype != np.dtype(dtype) or array.ndim != len(names):
        raise ValueShapeError(
            f"{owner} needs ({', '.join(names)}) {np.dtype(dtype).name}, got {array.shape} {array.dtype.name}."
        )
    for name, size in zip(names, array.shape, strict=True):
        if size < 1 or (name in fixed and size != fixed[name]):
            raise ValueShapeError(f"{owner} needs {name} {fixed.get(name, '>= 1')}, got {size} in shape {array.shape}.")


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """One picture, RGB."""

    pixels: UInt8  # (H, W, 3) uint8

    def __post_init__(self) -> None:
        _check(self.pixels, "Image", "H W channels", np.uint8, channels=3)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def nbytes(self) -> int:
        return int(self.pixels.nbytes)


@dataclass(frozen=True, slots=True, eq=False)
class Latents:
    """What the denoiser works on, scaled by the VAE's factor, one a frame. Public VAEs have 4 channels."""

    values: Float16  # (T, C, h, w) float16

    def __post_init__(self) -> None:
        _check(self.values, "Latents", "T C h w", np.float16)
        if not np.isfinite(self.values).all():
            raise ValueShapeError(
                "Latents must be finite; the denoiser overflowed. Use a wider dtype or lower guidance."
            )

    @property
    def nbytes(self) -> int:
        return int(self.values.nbytes)


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Frames in order, RGB, at a constant rate."""

    frames: UInt8  # (T, H, W, 3) uint8
    fps: float

    def __post_init__(self) -> None:
        _check(self.frames, "Clip", "T H W channels", np.uint8, channels=3)
        if not self.fps > 0:
            raise ValueShapeError(f"Clip needs fps > 0, got {self.fps}.")

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.frames.shape[2], self.frames.shape[1]

    @property
    def nbytes(self) -> int:
        return int(self.frames.nbytes)


@dataclass(frozen=True, slots=True, eq=False)
class Keyframes:
    """What I2V hands on: the frames as pixels, and as latents where its model has one a frame."""

    latents: Latents | None
    clip: Clip

    def __post_init__(self) -> None:
        if self.latents is not None and len(self.latents.values) != len(self.clip.frames):
            raise ValueShapeError(
                f"Keyframes need one latent a frame, got {len(self.latents.values)} latents "
                f"and {len(self.clip.frames)} frames."
            )

    @property
    def nbytes(self) -> int:
        return self.clip.nbytes + (0 if self.latents is None else self.latents.nbytes)


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """One window of V2V as it was denoised, alone: its neighbours share frames with it, and are not blended in yet.

    `start` is the position of its first frame in the whole clip, `new` how many of its frames the clip takes from here
    on: the rest comes again with the next piece.
    """

    clip: Clip
    index: int
    start: int
    new: int
    last: bool

    def __post_init__(self) -> None:
        if not 1 <= self.new <= len(self.clip.frames):
            raise ValueShapeError(
                f"Piece needs 1 to {len(self.clip.frames)} new frames, as many as it has; got {self.new}."
            )

    @property
    def nbytes(self) -> int:
        return self.clip.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Consecutive frames of a longer clip, final: nothing after them changes them.

    `clip` holds `lead` frames that the window before has already delivered (0 or 1: the left neighbour that
    interpolation needs), then the new ones. `start` is the position of the first new frame in the whole clip.
    """

    clip: Clip
    index: int
    start: int
    lead: int
    last: bool

    def __post_init__(self) -> None:
        if self.lead not in (0, 1) or len(self.clip.frames) <= self.lead:
            raise ValueShapeError(
                f"Window needs lead 0 or 1 and at least one new frame, "
                f"got lead {self.lead} and {len(self.clip.frames)} frames."
            )

    @property
    def nbytes(self) -> int:
        return self.clip.nbytes


Value = Image | Keyframes | Piece | Clip | Window
