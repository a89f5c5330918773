"""Windows: they cover the clip, and joining their pieces gives every frame once."""

import itertools

import numpy as np
import pytest

from stages.base import InputError
from stages.model.sampling.windows import cut_piece, fuse_weights, join, plan_windows
from stages.settings import Windows
from stages.types import Piece, UInt8

CASES = [
    (16, 10, 4),
    (8, 10, 4),
    (32, 18, 4),
    (64, 18, 4),
    (64, 16, 6),
    (11, 10, 0),
    (23, 5, 1),
    (10, 10, 3),
    (1, 1, 0),
]


def clip(frames: int) -> UInt8:
    return np.random.default_rng(0).integers(0, 256, (frames, 4, 6, 3)).astype(np.uint8)


def pieces(whole: UInt8, length: int, overlap: int) -> list[Piece]:
    spans = plan_windows(len(whole), Windows(length, overlap))
    return [cut_piece(whole[span.start : span.stop], 8.0, spans, index) for index, span in enumerate(spans)]


@pytest.mark.parametrize(("frames", "length", "overlap"), CASES)
def test_windows_cover_the_clip_and_overlap_exactly(frames: int, length: int, overlap: int) -> None:
    spans = plan_windows(frames, Windows(length, overlap))
    assert spans[0].start == 0
    assert spans[-1].stop == frames
    assert max(len(span) for span in spans) - min(len(span) for span in spans) <= 1
    assert all(len(span) <= length for span in spans)
    for left, right in itertools.pairwise(spans):
        assert left.stop - right.start == overlap


@pytest.mark.parametrize(("frames", "length", "overlap"), CASES)
def test_pieces_of_one_clip_join_to_that_clip(frames: int, length: int, overlap: int) -> None:
    whole = clip(frames)
    cut = pieces(whole, length, overlap)
    windows = [join(piece, before) for piece, before in zip(cut, [None, *cut], strict=False)]
    assert np.array_equal(np.concatenate([window.clip.frames[window.lead :] for window in windows]), whole)
    assert [window.start for window in windows] == [piece.start for piece in cut]
    assert all(np.array_equal(window.clip.frames[0], whole[window.start - 1]) for window in windows[1:])
    assert [window.last for window in windows] == [False] * (len(cut) - 1) + [True]


@pytest.mark.parametrize(("frames", "length", "overlap"), CASES)
def test_fused_windows_weigh_every_frame_once(frames: int, length: int, overlap: int) -> None:
    spans = plan_windows(frames, Windows(length, overlap))
    weights = fuse_weights(spans, frames)
    assert np.allclose(weights.sum(0), 1)
    for span, row in zip(spans, weights, strict=True):
        assert (row[span.start : span.stop] > 0).all()
        assert row[: span.start].sum() == row[span.stop :].sum() == 0


def test_the_later_piece_fades_in() -> None:
    spans = plan_windows(8, Windows(5, 2))
    dark, light = np.zeros((5, 2, 2, 3), np.uint8), np.full((5, 2, 2, 3), 90, np.uint8)
    first, second = cut_piece(dark, 8.0, spans, 0), cut_piece(light, 8.0, spans, 1)
    assert len(join(first).clip.frames) == 3
    assert [int(frame[0, 0, 0]) for frame in join(second, first).clip.frames] == [0, 30, 60, 90, 90, 90]


def test_pieces_that_are_no_neighbours_are_refused() -> None:
    first, second, third = pieces(clip(23), 9, 2)
    with pytest.raises(InputError, match="Piece 2 is joined with piece 0; it needs piece 1 before it"):
        join(third, first)
    with pytest.raises(InputError, match="Piece 1 is joined with none; it needs piece 0"):
        join(second)
    with pytest.raises(InputError, match="Piece 0 is joined with piece 1; it needs none"):
        join(first, second)
    with pytest.raises(InputError, match=r"Piece 1 starts at frame \d+, the one before it ends at \d+"):
        join(pieces(clip(40), 19, 2)[1], first)


def test_a_window_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(InputError, match=r"has 3 frames, its span 5"):
        cut_piece(clip(3), 8.0, plan_windows(8, Windows(5, 2)), 0)


@pytest.mark.parametrize(("length", "overlap"), [(0, 0), (4, 4), (4, -1)])
def test_an_overlap_without_progress_is_refused(length: int, overlap: int) -> None:
    with pytest.raises(InputError, match=f"Windows of {length} frames cannot overlap by {overlap}"):
        plan_windows(8, Windows(length, overlap))


def test_three_windows_over_one_frame_are_refused() -> None:
    with pytest.raises(
        InputError, match="overlap by 8 meet three at a time over 25 frames; use an overlap of at most 5"
    ):
        plan_windows(25, Windows(16, 8))
