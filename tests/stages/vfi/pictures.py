"""Moving pictures whose in-between frames are known: a textured square that travels over a textured ground.

Takes a size and a position in pixels (fractions allowed), gives frames (H, W, 3) uint8.
"""

import math

import numpy as np

from stages.types import Clip, UInt8, Window


def texture(height: int, width: int, seed: int) -> UInt8:
    """Smooth random colours (H, W, 3) uint8: something for the flow to hold on to."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    picture = np.zeros((height, width, 3))
    for _ in range(12):
        frequency, phase, colour = random.uniform(-0.35, 0.35, 2), random.uniform(0, 6.28), random.normal(size=3)
        picture += np.cos(frequency[0] * rows + frequency[1] * columns + phase)[..., None] * colour
    picture = (picture - picture.min()) / np.ptp(picture)
    pixels: UInt8 = (picture * 255).round().astype(np.uint8)
    return pixels


def scene(at: float, size: tuple[int, int] = (96, 128), side: int = 40) -> UInt8:
    """The square with its left edge at column `at`, on a ground that stands still; its edges are smoothed."""
    height, width = size
    ground, square = texture(height, width, seed=1) // 3, texture(side, side, seed=2) // 2 + 127
    whole, share = math.floor(at), at - math.floor(at)
    frame = ground.astype(np.float64)
    top = (height - side) // 2
    for column, weight in ((whole, 1 - share), (whole + 1, share)):
        moved, cover = np.zeros_like(frame), np.zeros((height, width, 1))
        moved[top : top + side, column : column + side] = square
        cover[top : top + side, column : column + side] = 1.0
        layer = ground * (1 - cover) + moved
        frame += weight * (layer - ground)
    pixels: UInt8 = frame.round().astype(np.uint8)
    return pixels


def psnr_db(made: UInt8, real: UInt8) -> float:
    error = float(np.mean((made.astype(np.float64) - real) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def average(left: UInt8, right: UInt8, t: float = 0.5) -> UInt8:
    """What needs no model: both frames, weighted by time."""
    mean: UInt8 = (left * (1 - t) + right * t).round().astype(np.uint8)
    return mean


def centre_px(frame: UInt8) -> float:
    """Column of the centre of what is brighter than the ground can be."""
    bright = np.maximum(frame.astype(np.float64).mean(axis=2) - 85, 0)
    columns = np.arange(frame.shape[1])
    return float((bright.sum(axis=0) * columns).sum() / bright.sum())


def first_window(*frames: UInt8, fps: float = 8.0) -> Window:
    """A whole clip in one window."""
    return Window(Clip(np.stack(frames), fps), index=0, start=0, lead=0, last=True)


def cut(frames: UInt8, *lengths: int, fps: float = 8.0) -> list[Window]:
    """The clip in windows that bring so many new frames each; every later one leads with its left neighbour."""
    assert sum(lengths) == len(frames), (lengths, len(frames))
    windows, start = [], 0
    for index, length in enumerate(lengths):
        lead = 1 if start else 0
        part = frames[start - lead : start + length]
        windows.append(Window(Clip(part, fps), index, start, lead, last=start + length == len(frames)))
        start += length
    return windows
