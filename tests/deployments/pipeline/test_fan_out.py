"""How many windows of a job are computed at once: the rule alone, then the order in which turns are given."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.pipeline.fan_out import FanOut, level
from stages.types import StageName


@pytest.mark.parametrize(
    ("replicas", "wanted", "most"),
    [
        (3, [6], 6),  # alone: all are sent, those behind have paid their way when their turn comes
        (4, [6, 6], 2),
        (3, [6, 6], 2),  # no replica idles
        (3, [6, 6, 6], 1),  # a job each
        (2, [6] * 9, 1),
        (4, [1, 6], 3),  # what one job does not want, another may have
        (8, [2, 2], 2),
        (0, [3, 3], 1),
        (2, [], 1),
    ],
)
def test_replicas_are_shared_out_among_jobs(replicas: int, wanted: list[int], most: int) -> None:
    assert level(replicas, wanted) == most


@given(st.integers(0, 50), st.lists(st.integers(1, 20), min_size=2, max_size=30))
def test_no_replica_idles_and_a_loaded_stage_keeps_each_job_to_one(replicas: int, wanted: Sequence[int]) -> None:
    most = level(replicas, wanted)
    assert 1 <= most <= max(wanted)
    assert sum(min(own, most) for own in wanted) >= min(replicas, sum(wanted))
    if len(wanted) >= replicas:
        assert most == 1


class Stage:
    """Windows that end when the test says so; who has a turn is read off `inside`."""

    def __init__(self, fan_out: FanOut, stage: StageName = "v2v") -> None:
        self.fan_out, self.stage = fan_out, stage
        self.inside: list[tuple[str, int]] = []
        self.ends: dict[tuple[str, int], asyncio.Event] = {}
        self.tasks: dict[tuple[str, int], asyncio.Task[None]] = {}

    async def send(self, job: str, windows: int) -> None:
        for number in range(windows):
            self.ends[job, number] = asyncio.Event()
            self.tasks[job, number] = asyncio.create_task(self._window(job, number))
        await settle()

    async def _window(self, job: str, number: int) -> None:
        async with self.fan_out.turn(self.stage, job):
            self.inside.append((job, number))
            try:
                await self.ends[job, number].wait()
            finally:
                self.inside.remove((job, number))

    async def end(self, job: str, number: int) -> None:
        self.ends[job, number].set()
        await self.tasks[job, number]
        await settle()


async def settle() -> None:
    """Every task that can go on has gone on."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_lone_job_fills_every_replica_and_the_place_behind_it() -> None:
    fan_out = FanOut({"v2v": 2})
    fan_out.know({"v2v": 3})
    stage = Stage(fan_out)
    await stage.send("a", 8)
    assert stage.inside == [("a", number) for number in range(6)]
    await stage.end("a", 2)
    assert stage.inside[-1] == ("a", 6)


async def test_with_others_waiting_a_job_keeps_to_one_and_the_first_is_done_first() -> None:
    fan_out = FanOut({"v2v": 1})
    fan_out.know({"v2v": 2})
    stage = Stage(fan_out)
    for job in "abc":
        await stage.send(job, 2)
    assert stage.inside == [("a", 0), ("a", 1)]  # it was alone when it came
    await stage.end("a", 0)
    await stage.end("a", 1)
    assert stage.inside == [("b", 0), ("c", 0)]
    await stage.end("c", 0)
    assert stage.inside == [("b", 0), ("c", 1)]
    await stage.end("c", 1)
    assert stage.inside == [("b", 0), ("b", 1)]  # nobody else wants it any more


async def test_a_window_that_is_cancelled_leaves_its_turn_or_its_place_to_others() -> None:
    fan_out = FanOut({"v2v": 1})
    fan_out.know({"v2v": 1})
    stage = Stage(fan_out)
    await stage.send("a", 3)
    await stage.send("b", 1)
    for number in (1, 0):
        stage.tasks["a", number].cancel()
        await settle()
    assert stage.inside == [("a", 2)]
    stage.tasks["a", 2].cancel()
    await settle()
    assert stage.inside == [("b", 0)]


async def test_more_replicas_let_more_in_and_an_unknown_number_lets_all_in() -> None:
    fan_out = FanOut({"v2v": 1})
    fan_out.know({"v2v": 1})
    stage = Stage(fan_out)
    await stage.send("a", 4)
    assert len(stage.inside) == 1
    fan_out.know({"v2v": 2})
    await settle()
    assert len(stage.inside) == 2
    fan_out.know({})
    await settle()
    assert len(stage.inside) == 4
    other = Stage(fan_out, "t2i")
    await other.send("a", 3)
    assert len(other.inside) == 3
