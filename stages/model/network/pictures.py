"""Resampling of frames, the same for every stage and for training. Takes and gives uint8 numpy arrays."""

import numpy as np
import PIL.Image

from stages.types import UInt8

LANCZOS, BICUBIC = PIL.Image.Resampling.LANCZOS, PIL.Image.Resampling.BICUBIC


def resize_frames(frames: UInt8, size: tuple[int, int], resample: PIL.Image.Resampling = LANCZOS) -> UInt8:
    """Every frame of (T, H, W, 3) resampled to (width, height); the same array where nothing changes."""
    if (frames.shape[2], frames.shape[1]) == size:
        return frames
    pictures = [PIL.Image.fromarray(frame).resize(size, resample) for frame in frames]
    return np.stack([np.asarray(picture) for picture in pictures])


def centre_square(frame: UInt8) -> UInt8:
    """The largest centred square of (H, W, 3)."""
    height, width = frame.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return frame[top : top + side, left : left + side]
