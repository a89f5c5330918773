"""Windows: they cover the clip, and blending them gives every frame once."""

import itertools

import numpy as np
import pytest

from stages.base import InputError
from stages.model.windows import Blender, plan_windows
from stages.types import UInt8

CASES = [(16, 10, 4), (8, 10, 4), (32, 18, 4), (11, 10, 0), (23, 5, 4), (10, 10, 9), (1, 1, 0)]


def clip(frames: int) -> UInt8:
    return np.random.default_rng(0).integers(0, 256, (frames, 4, 6, 3)).astype(np.uint8)


@pytest.mark.parametrize(("frames", "window", "overlap"), CASES)
def test_windows_cover_the_clip_and_overlap_enough(frames: int, window: int, overlap: int) -> None:
    spans = plan_windows(frames, window, overlap)
    assert spans[0].start == 0
    assert spans[-1].stop == frames
    assert all(len(span) == min(window, frames) for span in spans)
    for left, right in itertools.pairwise(spans):
        assert left.stop - right.start >= overlap
        assert right.start > left.start


@pytest.mark.parametrize(("frames", "window", "overlap"), CASES)
def test_windows_of_one_clip_blend_to_that_clip(frames: int, window: int, overlap: int) -> None:
    whole = clip(frames)
    spans = plan_windows(frames, window, overlap)
    blender = Blender(spans)
    given = [blender.push(whole[span.start : span.stop]) for span in spans]
    assert all(len(part) for part in given)
    assert np.array_equal(np.concatenate(given), whole)


def test_the_later_window_fades_in() -> None:
    spans = plan_windows(8, 5, 2)
    blender = Blender(spans)
    dark, light = np.zeros((5, 2, 2, 3), np.uint8), np.full((5, 2, 2, 3), 90, np.uint8)
    first, second = blender.push(dark), blender.push(light)
    assert len(first) == 3
    assert [int(frame[0, 0, 0]) for frame in second] == [30, 60, 90, 90, 90]


def test_a_window_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(InputError, match=r"has 3 frames, its span 5"):
        Blender(plan_windows(8, 5, 2)).push(clip(3))


@pytest.mark.parametrize(("window", "overlap"), [(0, 0), (4, 4), (4, -1)])
def test_an_overlap_without_progress_is_refused(window: int, overlap: int) -> None:
    with pytest.raises(InputError, match=f"Windows of {window} frames cannot overlap by {overlap}"):
        plan_windows(8, window, overlap)
