"""Sixty-four keyframes of the trained tiny weights: no window's border shows, fused in I2V or cross-faded in V2V.

Neighbouring frames of these clips differ by 0.7 to 1.4 times the clip's median wherever the windows lie, because each
frame has noise of its own; so a second clip with the same noise and windows without overlap shows what a border is.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from stages.base import ignore_progress
from stages.i2v import I2V
from stages.model.windows import Span, join, plan_windows
from stages.presets import TINY, Windows, plan
from stages.t2i import T2I
from stages.types import Image, Keyframes, UInt8
from stages.v2v import V2V

pytestmark = pytest.mark.slow

SEED, LIMIT = 11, 1.2
WORK = plan(TINY, "a whale on a beach by day", seconds="8", steps=4, seed=SEED)
FRAMES = WORK.i2v.frames


def differences(frames: UInt8) -> list[float]:
    """How much each frame differs from the next one, as a multiple of the clip's median."""
    steps = np.abs(np.diff(frames.astype(np.float32), axis=0)).mean((1, 2, 3))
    return [float(step) for step in steps / np.median(steps)]


def at_borders(frames: UInt8, spans: tuple[Span, ...]) -> list[float]:
    """At both ends of what two windows share: into the later window, and out of the earlier one."""
    steps = differences(frames)
    return [steps[border - 1] for before, after in pairwise(spans) for border in {after.start, before.stop}]


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
    assert max(at_borders(keyframes.clip.frames, spans)) <= LIMIT

    hard = Windows(length=WORK.i2v.windows.length, overlap=0)
    cut = i2v(image, params=replace(WORK.i2v, windows=hard), seed=SEED, report=ignore_progress)
    assert min(at_borders(cut.clip.frames, plan_windows(FRAMES, hard))) > LIMIT, "this measure sees no border at all"


def test_pieces_made_apart_and_cross_faded_leave_no_seam(image: Image, keyframes: Keyframes) -> None:
    v2v, spans = V2V.load(TINY, "cpu"), plan_windows(FRAMES, WORK.v2v.windows)
    pieces = [
        v2v(image, keyframes, params=replace(WORK.v2v, part=part), seed=SEED, report=ignore_progress)
        for part in range(len(spans))
    ]
    final = [join(pieces[0]), *(join(piece, before) for before, piece in pairwise(pieces))]
    frames = np.concatenate([window.clip.frames[window.lead :] for window in final])
    assert (len(spans), frames.shape) == (9, (64, 256, 256, 3))
    assert max(at_borders(frames, spans)) <= LIMIT
