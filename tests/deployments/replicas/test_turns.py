"""Batches at a replica without Ray: what is computed together, who leaves, who fails; by the order of events alone."""

import asyncio
import threading
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pytest

from deployments.errors import StartError
from deployments.on_ray.streams import Info
from deployments.replicas.replica import Replica
from stages.base import InputError, Report
from stages.presets import TINY, Preset, T2IParams, plan
from stages.types import Image, StageName

HERE = "tests.deployments.replicas.test_turns"
PLAN = plan(TINY, "a fox").t2i
OTHER = replace(PLAN, size=(64, 64))
BAD = 13  # a seed that the stage cannot take
DEADLINE_S = 120.0
STEPS = 4


class Gated:
    """A T2I whose every step waits to be let through, and which remembers what it was asked for."""

    name: StageName = "t2i"
    made: "Gated"

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.entered = threading.Semaphore(0)
        self.asked: list[list[int]] = []  # seeds of each call or batch, in the order of computing
        self.steps = 0
        Gated.made = self

    @classmethod
    def load(cls, preset: Preset, device: str) -> Self:
        return cls()

    def warm_up(self) -> None:
        """Nothing to warm."""

    def __call__(self, *inputs: Any, params: Any, seed: int, report: Report) -> Image:
        return self._compute([seed], report)[0]

    def shape(self, params: T2IParams) -> Hashable:
        return params.size

    def batch(self, requests: Sequence[tuple[T2IParams, int]], report: Report) -> Sequence[Image]:
        return self._compute([seed for _, seed in requests], report)

    def _compute(self, seeds: list[int], report: Report) -> list[Image]:
        self.asked.append(seeds)
        self.entered.release()
        for step in range(STEPS):
            assert self.gate.acquire(timeout=DEADLINE_S)
            report(step + 1, STEPS)
            self.steps += 1
        if BAD in seeds:
            raise InputError(f"The seed {BAD} is unlucky.")
        return [Image(np.full((8, 8, 3), seed, np.uint8)) for seed in seeds]


def gated(size: int = 4, wait_s: float = 0.0) -> tuple[Replica, Gated]:
    return Replica(f"{HERE}:Gated", "tiny", batch=(size, wait_s)), Gated.made


Pairs = list[tuple[Any, Info]]


def ask(replica: Replica, seed: int, params: T2IParams = PLAN) -> "asyncio.Task[Pairs]":
    async def collect() -> Pairs:
        flat = [item async for item in replica.run(params=params, seed=seed)]
        return list(zip(flat[::2], flat[1::2], strict=True))

    return asyncio.create_task(collect())


async def computing(stage: Gated) -> None:
    """The next call or batch is on the device."""
    assert await asyncio.to_thread(stage.entered.acquire, timeout=DEADLINE_S)


async def behind(replica: Replica, stage: Gated, *seeds: int, **others: Any) -> "list[asyncio.Task[Pairs]]":
    """Calls that wait while the first one, of seed 1, is on the device."""
    first = ask(replica, 1)
    await computing(stage)
    calls = [first, *(ask(replica, seed, **others) for seed in seeds)]
    await asyncio.sleep(0)  # they have come
    return calls


def picture(pairs: Pairs) -> int:
    return int(pairs[-1][0].pixels[0, 0, 0])


async def test_a_lone_call_waits_for_nobody() -> None:
    replica, stage = gated()
    call = ask(replica, 1)
    await computing(stage)  # although nobody else has come
    stage.gate.release(STEPS)
    assert all("batch" not in info for _, info in await call)


async def test_what_waits_for_a_busy_device_is_computed_together() -> None:
    replica, stage = gated(size=3)
    calls = await behind(replica, stage, 2, 3, 4, 5)
    stage.gate.release(3 * STEPS)
    given = await asyncio.gather(*calls)
    assert stage.asked == [[1], [2, 3, 4], [5]]
    assert [picture(pairs) for pairs in given] == [1, 2, 3, 4, 5]
    assert [pairs[-1][1].get("batch", 1) for pairs in given] == [1, 3, 3, 3, 1]
    assert [pairs[0][1].get("batch", 1) for pairs in given] == [1, 3, 3, 3, 1]
    assert await replica.ended() == {"completed": 5}


async def test_without_a_batch_nothing_is_computed_together() -> None:
    replica, stage = gated(size=1)
    calls = await behind(replica, stage, 2, 3)
    stage.gate.release(3 * STEPS)
    await asyncio.gather(*calls)
    assert stage.asked == [[1], [2], [3]]


async def test_shapes_are_not_mixed_and_the_oldest_goes_first() -> None:
    replica, stage = gated()
    calls = await behind(replica, stage, 2)
    calls += [ask(replica, 3, OTHER), ask(replica, 4), ask(replica, 5, OTHER)]
    await asyncio.sleep(0)
    stage.gate.release(3 * STEPS)
    assert [picture(pairs) for pairs in await asyncio.gather(*calls)] == [1, 2, 3, 4, 5]
    assert stage.asked == [[1], [2, 4], [3, 5]]


async def test_one_that_is_cancelled_leaves_and_the_others_go_on() -> None:
    replica, stage = gated()
    first, second, third = await behind(replica, stage, 2, 3)
    stage.gate.release(STEPS)
    await first
    await computing(stage)
    second.cancel()
    await asyncio.sleep(0)  # it has left, so the next step lets go of it
    stage.gate.release()
    with pytest.raises(asyncio.CancelledError):
        await second  # at the next step, before the batch has ended
    assert not third.done()
    stage.gate.release(STEPS)
    assert picture(await third) == 3
    assert stage.asked == [[1], [2, 3]]
    assert await replica.ended() == {"completed": 2, "cancelled": 1}


async def test_when_all_are_cancelled_the_batch_stops_within_a_step() -> None:
    replica, stage = gated()
    first, *others = await behind(replica, stage, 2, 3)
    stage.gate.release(STEPS)
    await first
    await computing(stage)
    for call in others:
        call.cancel()
    await asyncio.sleep(0)
    assert not any(call.done() for call in others)  # the device is not free before the stage has stopped
    stage.gate.release()
    await asyncio.gather(*others, return_exceptions=True)
    assert all(call.cancelled() for call in others)
    assert stage.steps == STEPS  # those of the first
    assert await replica.ended() == {"completed": 1, "cancelled": 2}


async def test_one_that_is_cancelled_before_its_turn_is_in_no_batch() -> None:
    replica, stage = gated()
    first, second, third = await behind(replica, stage, 2, 3)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    stage.gate.release(2 * STEPS)
    await asyncio.gather(first, third)
    assert stage.asked == [[1], [3]]


async def test_an_invalid_call_fails_alone() -> None:
    replica, stage = gated()
    first, second, bad, third = await behind(replica, stage, 2, BAD, 3)
    stage.gate.release(5 * STEPS)  # the first, the batch, then each alone
    with pytest.raises(InputError, match="unlucky"):
        await bad
    assert [picture(pairs) for pairs in await asyncio.gather(first, second, third)] == [1, 2, 3]
    assert stage.asked == [[1], [2, BAD, 3], [2], [BAD], [3]]
    assert await replica.ended() == {"completed": 3, "failed": 1}


async def test_progress_goes_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.replicas.turns._PROGRESS_PERIOD_S", 0.0)
    replica, stage = gated()
    calls = await behind(replica, stage, 2, 3)
    stage.gate.release(2 * STEPS)
    for pairs in await asyncio.gather(*calls):
        assert [info["step"] for _, info in pairs if info["kind"] == "progress"] == list(range(1, STEPS + 1))


async def test_with_a_waiting_time_the_first_goes_as_soon_as_the_batch_is_full() -> None:
    replica, stage = gated(size=2, wait_s=3600.0)
    calls = [ask(replica, 1), ask(replica, 2)]
    await computing(stage)
    stage.gate.release(STEPS)
    await asyncio.gather(*calls)
    assert stage.asked == [[1, 2]]


async def test_one_that_waits_for_company_can_be_cancelled() -> None:
    replica, stage = gated(size=2, wait_s=3600.0)
    call = ask(replica, 1)
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    calls = [ask(replica, 2), ask(replica, 3)]
    await computing(stage)
    stage.gate.release(STEPS)
    await asyncio.gather(*calls)
    assert stage.asked == [[2, 3]]


async def test_a_batch_that_hangs_makes_the_replica_unhealthy_although_a_member_has_left() -> None:
    replica = Replica(f"{HERE}:Gated", "tiny", batch=(4, 0.0), stall_limit_s=0.0)
    stage = Gated.made
    first, second, third = await behind(replica, stage, 2, 3)
    stage.gate.release(STEPS)
    await first
    await computing(stage)
    second.cancel()
    stage.gate.release()
    await asyncio.gather(second, return_exceptions=True)
    async with asyncio.timeout(DEADLINE_S):
        while stage.steps == STEPS:  # the step in which it left has ended
            await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="t2i has reported no step"):
        replica.check_health()
    stage.gate.release(STEPS)
    await third
    replica.check_health()


def test_a_stage_that_computes_one_call_after_the_other_refuses_a_batch() -> None:
    with pytest.raises(StartError, match=r"stages.t2i.batch.size must be 1 or left out; it is 2"):
        Replica(f"{HERE}:Alone", "tiny", batch=(2, 0.0))


class Alone:
    """A T2I without batches."""

    name: StageName = "t2i"

    @classmethod
    def load(cls, preset: Preset, device: str) -> Self:
        return cls()

    def warm_up(self) -> None:
        """Nothing to warm."""

    def __call__(self, *inputs: Any, params: Any, seed: int, report: Report) -> Image:
        return Image(np.full((8, 8, 3), seed, np.uint8))
