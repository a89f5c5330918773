"""What is measured in pixels, on clips whose answer is known."""

import math

import numpy as np
import pytest

from stages.measures import pixels as measures
from stages.types import UInt8


def ramp(step: int, frames: int = 6) -> UInt8:
    """Every pixel rises by `step` a frame."""
    levels = (np.arange(frames) * step).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (frames, 8, 8, 3)).copy()


def test_even_motion_has_energy_and_no_flicker() -> None:
    assert measures.motion_energy(ramp(3)) == pytest.approx(3)
    assert measures.flicker(ramp(3)) == 0
    blinking = ramp(0)
    blinking[1::2] = 10
    assert (measures.motion_energy(blinking), measures.flicker(blinking)) == (10, 20)


def test_edges_are_sharp_and_slopes_are_not() -> None:
    board = np.indices((8, 8)).sum(0) % 2 * 100
    clip = np.broadcast_to(board[None, :, :, None], (2, 8, 8, 3)).astype(np.uint8)
    slope = np.broadcast_to((np.arange(8) * 10)[None, None, :, None], (2, 8, 8, 3)).astype(np.uint8)
    assert measures.sharpness(clip) == pytest.approx(400)
    assert measures.sharpness(slope) == 0


def test_likeness_is_in_decibels() -> None:
    assert measures.psnr_db(ramp(0), ramp(0)) == math.inf
    assert measures.psnr_db(ramp(0), ramp(0) + 255) == 0
    assert measures.psnr_db(ramp(0), ramp(0) + 1) == pytest.approx(48.13, abs=0.01)


def test_variety_is_the_mean_over_pairs() -> None:
    small = [measures.thumbnail(ramp(0) + level) for level in (0, 10, 20)]
    assert small[0].shape == (4, 32, 32, 3)
    assert measures.mean_distance(small) == pytest.approx((10 + 20 + 10) / 3)
