"""Pipelines of diffusers that stop after any step and go on with the same bytes; the others say they cannot."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pytest

from stages.base import ignore_progress
from stages.model.hub.skipping import RESUMABLE
from stages.presets import plan
from stages.state import DenoisingState, Take, Yielded, can_yield, digest_of
from tests.stages.modern import test_i2v, test_t2i, test_v2v
from tests.stages.modern.rig import Shelf, keyframes, picture

pytestmark = pytest.mark.slow  # together they take half a minute

CAN = [
    *(("t2i", name) for name in ("stable_diffusion", "stable_diffusion_xl", "flux")),
    *(("i2v", name) for name in ("wan_a14b", "wan_5b", "ltx_text", "stable_video")),
    *(("v2v", name) for name in ("wan_text", "ltx_condition", "animatediff")),
]
CANNOT = [("t2i", "pixart"), ("i2v", "cogvideox_image"), ("v2v", "cogvideox_text")]
Made = tuple[Any, Callable[..., Any]]  # a stage, and its call with all but `report`


@pytest.fixture(scope="module")
def made(shelf: Shelf) -> Callable[[str, str], Made]:
    def make(stage: str, name: str) -> Made:
        loaded: Any
        if stage == "t2i":
            loaded, preset = test_t2i.load(shelf, name)
            return loaded, partial(loaded, params=plan(preset, "a fox").t2i, seed=3)
        if stage == "i2v":
            loaded, preset = test_i2v.load(shelf, name)
            return loaded, partial(loaded, picture(), params=plan(preset, "a fox").i2v, seed=3)
        loaded, preset = test_v2v.load(shelf, name)
        clip = keyframes(plan(preset, "a fox").i2v.frames)
        return loaded, partial(loaded, picture(), clip, params=plan(preset, "a fox").v2v, seed=3)

    return cache(make)


def stop(call: Callable[..., Any], at: int, resume: bytes | None) -> DenoisingState:
    def offer(take: Take) -> None:
        state = take()
        if state.step == at:
            raise Yielded(state)

    with pytest.raises(Yielded) as told:
        call(report=ignore_progress, offer=offer, resume=resume)
    return told.value.state


@pytest.mark.parametrize(("stage", "name"), CAN, ids=[name for _, name in CAN])
def test_it_goes_on_after_every_step_with_the_same_bytes(
    made: Callable[[str, str], Made], stage: str, name: str
) -> None:
    loaded, call = made(stage, name)
    assert can_yield(loaded)
    counted: list[tuple[int, int]] = []
    whole = call(report=lambda step, total: counted.append((step, total)))
    total = counted[-1][1]
    assert total >= 2
    kept: bytes | None = None
    for at in range(1, total + 1):
        state = stop(call, at, kept)
        assert (state.step, state.total) == (at, total)
        kept = state.to_bytes()
        seen: list[int] = []
        left = call(report=lambda step, total, seen=seen: seen.append(step), resume=kept)
        assert digest_of(left) == digest_of(whole)
        assert min(seen) == at
    assert digest_of(call(report=ignore_progress)) == digest_of(whole)  # nothing of the stops is left


@pytest.mark.parametrize(("stage", "name"), CANNOT, ids=[name for _, name in CANNOT])
def test_what_cannot_stop_says_so_and_is_never_asked(made: Callable[[str, str], Made], stage: str, name: str) -> None:
    loaded, call = made(stage, name)
    assert not can_yield(loaded)
    asked: list[Take] = []
    call(report=ignore_progress, offer=asked.append)
    assert asked == []


def test_each_that_may_stop_was_seen_to(made: Callable[[str, str], Made]) -> None:
    seen = set()
    for stage, name in CAN:
        loaded, _ = made(stage, name)
        maker = loaded._painter if stage == "t2i" else loaded.maker
        seen.add(maker.runner.name)
    assert seen == RESUMABLE
