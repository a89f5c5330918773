"""Keyframes of the trained tiny weights: no window's border shows, 64 fused in I2V or 24 cross-faded in V2V.

How much neighbouring frames differ depends on what moves and on each frame's own noise, so a border is compared with
the same two frames of a second clip: the same noise, and windows without overlap whose borders lie elsewhere. Those
show, which says that the measure sees borders.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.base import ignore_progress
from stages.i2v import I2V
from stages.model.sampling.windows import Span, join, plan_windows
from stages.presets import TINY, Windows, plan
from stages.settings import V2VParams
from stages.t2i import T2I
from stages.types import Clip, Image, Keyframes, UInt8
from stages.v2v import V2V

pytestmark = pytest.mark.slow

SEED, LIMIT = 11, 1.2
WORK = plan(TINY, "a whale on a beach by day", seconds="8", steps=2, seed=SEED)
FRAMES = WORK.i2v.frames
CUT = 24  # of them V2V redraws so many


def differences(frames: UInt8) -> NDArray[np.float32]:
    """How much each frame differs from the next one."""
    steps: NDArray[np.float32] = np.abs(np.diff(frames.astype(np.float32), axis=0)).mean((1, 2, 3))
    return steps


def borders(spans: tuple[Span, ...]) -> set[int]:
    """The steps at both ends of what two windows share: into the later window, and out of the earlier one."""
    return {border - 1 for before, after in pairwise(spans) for border in (after.start, before.stop)}


def compare(clip: UInt8, spans: tuple[Span, ...], cut: UInt8, cut_spans: tuple[Span, ...]) -> tuple[float, float]:
    """The largest step at a border of `clip` over that of `cut`, and the mean of the reverse; shared ones left out."""
    ratios = differences(clip) / differences(cut)
    mine, theirs = borders(spans), borders(cut_spans)
    return float(max(ratios[sorted(mine - theirs)])), float(np.mean(1 / ratios[sorted(theirs - mine)]))


@pytest.fixture(scope="module")
def image() -> Image:
    return T2I.load(TINY, "cpu")(params=WORK.t2i, seed=SEED, report=ignore_progress)


@pytest.fixture(scope="module")
def i2v() -> I2V:
    return I2V.load(TINY, "cpu")


@pytest.fixture(scope="module")
def keyframes(i2v: I2V, image: Image) -> Keyframes:
    return i2v(image, params=WORK.i2v, seed=SEED, report=ignore_progress)


def test_windows_fused_at_every_step_leave_no_seam(i2v: I2V, image: Image, keyframes: Keyframes) -> None:
    spans = plan_windows(FRAMES, WORK.i2v.windows)
    assert (FRAMES, len(spans), len(keyframes.clip.frames)) == (64, 6, 64)
    hard = Windows(length=WORK.i2v.windows.length, overlap=0)
    cut = i2v(image, params=replace(WORK.i2v, windows=hard), seed=SEED, report=ignore_progress)
    fused, sharp = compare(keyframes.clip.frames, spans, cut.clip.frames, plan_windows(FRAMES, hard))
    assert fused <= LIMIT
    assert sharp > LIMIT, "this measure sees no border at all"


def test_pieces_made_apart_and_cross_faded_leave_no_seam(image: Image, keyframes: Keyframes) -> None:
    v2v, spans = V2V.load(TINY, "cpu"), plan_windows(CUT, WORK.v2v.windows)
    first = Keyframes(None, Clip(keyframes.clip.frames[:CUT], keyframes.clip.fps))

    def redraw(params: V2VParams) -> UInt8:
        pieces = [
            v2v(image, first, params=replace(params, part=part), seed=SEED, report=ignore_progress)
            for part in range(len(plan_windows(CUT, params.windows)))
        ]
        final = [join(pieces[0]), *(join(piece, before) for before, piece in pairwise(pieces))]
        return np.concatenate([window.clip.frames[window.lead :] for window in final])

    frames = redraw(WORK.v2v)
    assert (len(spans), frames.shape) == (3, (CUT, 256, 256, 3))
    hard = Windows(length=WORK.v2v.windows.length, overlap=0)
    cut = redraw(replace(WORK.v2v, windows=hard))
    faded, sharp = compare(frames, spans, cut, plan_windows(CUT, hard))
    assert faded <= LIMIT
    assert sharp > LIMIT, "this measure sees no border at all"
