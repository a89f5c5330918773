"""What is measured in the pixels of a clip, without any model: motion, flicker, sharpness, likeness, variety.

Takes clips (T, H, W, 3) uint8 and gives plain numbers. None is a quality: a still video has little flicker, a noisy one
is sharp. A figure of generated clips means something beside the same figure of real ones (`benchmarks.quality`), or
beside people's votes (`deployments.studies`).
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stages.model.network.pictures import resize_frames
from stages.types import UInt8

__all__ = ["flicker", "mean_distance", "motion_energy", "of_pixels", "psnr_db", "sharpness", "thumbnail"]

_THUMBNAIL_FRAMES, _THUMBNAIL_PX = 4, 32


def of_pixels(clip: UInt8) -> dict[str, float]:
    """All numbers of one clip, by name."""
    grey = clip.mean(axis=-1, dtype=np.float32)
    return {
        "motion_energy": motion_energy(clip) if len(clip) > 1 else 0.0,
        "flicker": flicker(clip) if len(clip) > 2 else 0.0,
        "sharpness": sharpness(clip),
        "contrast": float(grey.std(axis=(1, 2)).mean()),
        "loop_jump": float(np.abs(grey[-1] - grey[0]).mean()),
    }


def motion_energy(clip: UInt8) -> float:
    """Mean absolute difference of neighbouring frames, in grey levels."""
    return float(np.abs(np.diff(clip.astype(np.float32), axis=0)).mean())


def flicker(clip: UInt8) -> float:
    """Mean absolute second difference over time, in grey levels: even motion has little, coming and going much."""
    return float(np.abs(np.diff(clip.astype(np.float32), n=2, axis=0)).mean())


def sharpness(clip: UInt8) -> float:
    """Mean absolute second difference across and down, in grey levels: an upscaled clip has little."""
    values = clip.astype(np.float32)
    return float(np.abs(np.diff(values, n=2, axis=1)).mean() + np.abs(np.diff(values, n=2, axis=2)).mean())


def psnr_db(made: UInt8, real: UInt8) -> float:
    """Peak signal-to-noise ratio over all values of two arrays of one shape; infinite where they are equal."""
    error = float(np.mean((made.astype(np.float64) - real) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def thumbnail(clip: UInt8) -> NDArray[np.uint8]:
    """Four frames of 32x32: enough to tell how far two clips of one prompt are apart."""
    places = np.linspace(0, len(clip) - 1, _THUMBNAIL_FRAMES).round().astype(int)
    return resize_frames(clip[places], (_THUMBNAIL_PX, _THUMBNAIL_PX))


def mean_distance(thumbnails: Sequence[NDArray[np.uint8]]) -> float:
    """Mean absolute difference over all pairs, in grey levels."""
    values = [one.astype(np.float32) for one in thumbnails]
    pairs = [(a, b) for index, a in enumerate(values) for b in values[index + 1 :]]
    return float(np.mean([np.abs(a - b).mean() for a, b in pairs]))
