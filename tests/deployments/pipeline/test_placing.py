"""What a job's calls are called, which are still to come, and what a pipeline has room for; seconds by shape."""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from cluster.policy.calls import Device, Queue, Rules, Running
from deployments.jobs.outlook import MAX_PRIORITY
from deployments.jobs.plans import plan_of, planned_of
from deployments.jobs.values import Claim, JobRequest, NewJob
from deployments.journal.rows import written_job
from deployments.order.desk import Desk
from deployments.order.pace import _SHAPES, Pace
from deployments.pipeline.pipeline import room
from deployments.pipeline.placing import Part, Placing, calls_in
from stages.types import STAGE_NAMES

REQUEST = JobRequest(prompt="a fox", model="tiny", size="256x256", seconds="2", seed=3)
STEPS = plan_of(REQUEST)


async def nobody(*_: str) -> None:
    """Is told to stop."""


def placing(desk: Desk, fence: int) -> Placing:
    job = written_job("job", NewJob(REQUEST), planned_of(REQUEST, STEPS), time.time(), ())
    homes = {stage: stage for stage in STAGE_NAMES}
    return Placing(desk, Pace({"v2v": 3.0}), homes, Claim("job", "here", fence), job, STEPS)


async def test_a_job_that_is_claimed_again_here_keeps_its_turn_when_the_claim_before_ends() -> None:
    desk = Desk("here", Rules(), nobody)
    desk.see("i2v", ["a"])
    async with AsyncExitStack() as before:
        first = await before.enter_async_context(placing(desk, 1).enter("i2v", STEPS.i2v, 0, Part()))
        assert first is not None
        first.began(await first.turn())
        async with placing(desk, 2).enter("i2v", STEPS.i2v, 0, Part()) as second:
            assert second is not None
            turn = asyncio.create_task(second.turn())
            await asyncio.sleep(0)
            assert not turn.done()
            await before.aclose()
            assert await asyncio.wait_for(turn, 5.0) == "a"


def test_calls_that_are_in_the_line_do_not_come_once_more_whoever_has_claimed_their_job() -> None:
    own = placing(Desk("here", Rules(), nobody), 0)
    whole = own.coming("v2v")
    assert [call.id for call in whole] == [f"job/v2v/{number:03d}/0" for number in range(len(whole))]
    assert {call.left_s for call in whole} == {3.0}
    assert len(whole) >= 2
    waits, runs = (replace(call, id=f"{call.id[:-2]}/7") for call in whole[:2])
    queue = Queue(0.0, [waits], [Device("a", Running(runs, 0.0)), Device("b")])
    assert own.coming("v2v", calls_in(queue)) == whole[2:]


@pytest.mark.parametrize(
    ("running", "most", "least"),
    [
        ([], 1, -MAX_PRIORITY),
        ([-5, 0], 3, -MAX_PRIORITY),
        ([-5, 0, 0], 3, -4),  # a fourth, if it goes before one of them
        ([0, 0, 5], 3, 1),
        ([-5, 0, 0, 5], 3, None),
        ([MAX_PRIORITY], 1, MAX_PRIORITY + 1),  # which no job has
        ([0] * 39, 32, 1),
        ([0] * 40, 32, None),
    ],
)
def test_beyond_its_jobs_a_pipeline_takes_a_quarter_more_of_a_higher_class(
    running: list[int], most: int, least: int | None
) -> None:
    assert room(running, most) == least


def test_seconds_are_remembered_of_so_many_shapes() -> None:
    pace = Pace()
    first = STEPS.i2v
    pace.learn("i2v", first, 2.0)
    for number in range(_SHAPES + 5):
        pace.learn("i2v", f"shape {number}", 8.0)
        if number % 100 == 0:
            pace.learn("i2v", first, 2.0)
    assert len(pace._shapes) == _SHAPES
    assert pace.seconds("i2v", first) == 2.0
    assert pace.seconds("i2v", "shape 0", 4.0) == 4.0
