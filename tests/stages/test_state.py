"""A state is read back whole or not at all; who asks a stage to stop gets one; the replayed stage stops, too."""

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.base import ignore_progress
from stages.presets import TINY, plan
from stages.replay import PAPER_PAYLOADS, ReplayProfile, ReplayStage
from stages.state import (
    DenoisingState,
    Item,
    Offer,
    Pause,
    StateError,
    Take,
    Yielded,
    can_yield,
    digest_of,
)
from stages.types import Image

STATE = DenoisingState(
    facts={"stage": "i2v", "preset": "tiny 0a1b", "steps": "20"},
    step=7,
    total=20,
    latents=np.linspace(-3, 3, 2 * 4 * 3 * 5 * 5).reshape(2, 4, 3, 5, 5).astype(np.float16),
    scheduler={
        "_step_index": (7,),
        "model_outputs": (None, np.arange(6, dtype=np.float32), np.arange(6, dtype=np.uint16)),
        "timestep_list": (np.array(921),),
        "ets": (),
        "sigma_min": (0.029,),
    },
    draws=(np.arange(99, dtype=np.uint8),),
    spans=((0, 4), (3, 7)),
)
PLAN = plan(TINY, "a fox")


def assert_equal(read: Sequence[Item], written: Sequence[Item]) -> None:
    for one, other in zip(read, written, strict=True):
        assert type(one) is type(other)
        if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert np.array_equal(one, other)  # type: ignore[arg-type]


def test_what_was_written_is_read() -> None:
    read = DenoisingState.from_bytes(STATE.to_bytes())
    assert read.digest == STATE.digest
    assert (read.facts, read.step, read.total, read.spans) == (STATE.facts, 7, 20, STATE.spans)
    assert read.scheduler.keys() == STATE.scheduler.keys()
    for own, items in STATE.scheduler.items():
        assert_equal(read.scheduler[own], items)
    assert_equal((read.latents, *read.draws), (STATE.latents, *STATE.draws))
    turned = replace(STATE, latents=STATE.latents.transpose(1, 0, 2, 3, 4))  # it lies otherwise in memory
    assert np.array_equal(DenoisingState.from_bytes(turned.to_bytes()).latents, turned.latents)


@given(place=st.integers(0, 10**9), bit=st.integers(0, 7))
def test_no_damage_goes_unseen(place: int, bit: int) -> None:
    data = bytearray(STATE.to_bytes())
    data[place % len(data)] ^= 1 << bit
    try:
        read = DenoisingState.from_bytes(bytes(data))
    except StateError:
        return
    assert read.digest == STATE.digest  # a blank of the head became another blank


@given(st.one_of(st.binary(max_size=64), st.integers(0, len(STATE.to_bytes()) - 1).map(lambda n: STATE.to_bytes()[:n])))
def test_bytes_that_are_no_state_are_refused(data: bytes) -> None:
    with pytest.raises(StateError, match="the kept state cannot be read"):
        DenoisingState.from_bytes(data)


def test_a_state_says_what_keeps_it_from_being_continued() -> None:
    assert STATE.misfit(dict(STATE.facts)) is None
    assert STATE.misfit({**STATE.facts, "steps": "25"}) == (
        "the kept state, after 7 of 20 steps, has steps '20', here it is '25'"
    )
    assert "device 'unknown', here it is 'cuda'" in str(STATE.misfit({**STATE.facts, "device": "cuda"}))
    with pytest.raises(StateError, match="0 to 20 of its 20 steps, not after 21"):
        replace(STATE, step=21)


def test_each_value_has_a_digest_of_its_own() -> None:
    image = Image(np.zeros((2, 3, 3), np.uint8))
    values = [
        (PLAN.t2i, 1),
        (PLAN.t2i, 2),
        (replace(PLAN.t2i, prompt="a whale"), 1),
        (PLAN.i2v, 1, image),
        (PLAN.i2v, 1, Image(np.ones((2, 3, 3), np.uint8))),
        (PLAN.i2v, 1, Image(np.zeros((3, 2, 3), np.uint8))),
        ("ab", "c"),
        ("a", "bc"),
    ]
    assert len({digest_of(*value) for value in values}) == len(values)
    assert digest_of(PLAN.i2v, 1, image) == digest_of(PLAN.i2v, 1, Image(image.pixels.copy()))


def test_a_pause_stops_once_asked_and_keeps_in_between() -> None:
    kept: list[DenoisingState] = []
    pause = Pause(kept.append, every_s=0)
    pause(lambda: STATE)
    assert [state.step for state in kept] == [7]
    asking = threading.Thread(target=pause.ask)
    asking.start()
    asking.join()
    with pytest.raises(Yielded, match="Stopped after 7 of 20 steps") as told:
        pause(lambda: STATE)
    assert told.value.state is STATE
    untouched: list[DenoisingState] = []
    Pause(untouched.append, every_s=3600)(lambda: STATE)
    Pause()(lambda: STATE)
    assert untouched == []


# The replayed stage


def replayed(**profile: int) -> ReplayStage:
    return ReplayStage.load(TINY, "cpu", stage="i2v", **{"run_s": 0, "steps": 9, "state_bytes": 1000, **profile})


def at(step: int) -> Offer:
    """Stops there."""

    def offer(take: Take) -> None:
        state = take()
        if state.step == step:
            raise Yielded(state)

    return offer


@pytest.mark.slow
@given(st.lists(st.integers(0, 9), max_size=4).map(sorted))
def test_a_replayed_stage_goes_on_where_it_stopped(stops: list[int]) -> None:
    seen: list[int] = []
    call = partial(replayed(), params=PLAN.i2v, seed=3, report=lambda step, total: seen.append(step))
    state: bytes | None = None
    for stop in stops:
        with pytest.raises(Yielded) as told:
            call(offer=at(stop), resume=state)
        assert told.value.state.step == stop
        assert told.value.state.nbytes == 1000
        state = told.value.state.to_bytes()
    made = call(resume=state)
    whole = replayed()(params=PLAN.i2v, seed=3, report=ignore_progress)
    assert digest_of(made) == digest_of(whole)
    assert sorted(set(seen)) == list(range(10))
    assert len(seen) == 10 + len(stops)  # each call reports where it begins; no step is waited for twice


def test_a_replayed_state_of_another_call_starts_over(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Yielded) as told:
        replayed()(params=PLAN.i2v, seed=3, report=ignore_progress, offer=at(4))
    others: list[tuple[ReplayStage, int, str]] = [
        (replayed(), 4, "the kept state, after 4 of 9 steps, has request"),
        (replayed(steps=8), 3, "has steps '9', here it is '8'"),
        (replayed(state_bytes=0), 3, "it cannot go on from a kept state"),
    ]
    for stage, seed, words in others:
        seen: list[int] = []
        caplog.clear()
        with caplog.at_level(logging.WARNING, "stages.state"):
            stage(
                params=PLAN.i2v,
                seed=seed,
                report=lambda step, total, seen=seen: seen.append(step),  # type: ignore[misc]
                resume=told.value.state,
            )
        assert seen[0] == 0
        assert "Stage i2v starts from its first step: " in caplog.text
        assert words in caplog.text


def test_who_cannot_stop_says_so() -> None:
    class Old:
        name = "vfi"

    for stage, may in ((replayed(), True), (replayed(state_bytes=0), False)):
        assert can_yield(stage) is may
    assert not can_yield(Old())
    replayed(state_bytes=0)(params=PLAN.i2v, seed=3, report=ignore_progress, offer=at(0))  # never offered
    with pytest.raises(ValueError, match="state_bytes >= 0, got -1"):
        ReplayProfile(state_bytes=-1)
    assert PAPER_PAYLOADS["i2v"].state_bytes == 32 * 75 * 75 * 4 * 2
