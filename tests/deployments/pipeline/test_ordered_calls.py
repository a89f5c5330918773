"""Calls of jobs through a desk to replicas in this process: they stop, are taken back, and go on where they stopped."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.policy.calls import Rules
from deployments.jobs.plans import plan_of, planned_of
from deployments.jobs.values import Claim, JobRequest, NewJob
from deployments.journal.database import Database
from deployments.journal.rows import written_job
from deployments.observe.metrics import JobMetrics
from deployments.order.desk import Desk
from deployments.order.pace import Pace
from deployments.pipeline.calls import Limits, StageCalls
from deployments.pipeline.deaths import Deaths
from deployments.pipeline.demand import Demand
from deployments.pipeline.lacking import Lacking
from deployments.pipeline.placing import Part, Placing
from deployments.pipeline.progress import JobProgress
from deployments.replicas.replica import Replica
from deployments.settings.application import AppArgs
from stages.presets import TINY
from stages.state import DenoisingState
from stages.types import STAGE_NAMES, Image
from tests.journals import sqlite_journal

pytestmark = pytest.mark.slow

RUN_S, STEPS = 2.0, 24
OPTIONS = {"stage": "i2v", "run_s": RUN_S, "steps": STEPS, "bytes_out": 60_000, "state_bytes": 64}
REQUEST = JobRequest(prompt="a fox", model="tiny", size=next(iter(TINY.sizes)), seconds="2", seed=3, until="i2v")
PARAMS = plan_of(REQUEST).i2v
PICTURE = Image(np.full((64, 64, 3), 90, np.uint8))


class Response:
    """A streaming response of Serve's local testing mode."""

    def __init__(self, stream: AsyncIterator[Any]) -> None:
        self._items: asyncio.Queue[Any] = asyncio.Queue()
        self._task = asyncio.create_task(self._read(stream))

    async def _read(self, stream: AsyncIterator[Any]) -> None:
        try:
            async for item in stream:
                self._items.put_nowait((item, None))
            self._items.put_nowait((None, StopAsyncIteration()))
        except BaseException as error:
            self._items.put_nowait((None, error))
            if isinstance(error, asyncio.CancelledError):
                raise

    async def _to_object_ref_gen(self) -> None:
        raise RuntimeError("Not in local testing mode.".lower())

    def __aiter__(self) -> "Response":
        return self

    async def __anext__(self) -> Any:
        item, error = await self._items.get()
        if error is not None:
            raise error
        return item

    def cancel(self) -> None:
        self._task.cancel()


class Handle:
    """Of a deployment whose replicas are here; a call goes to the one that it names."""

    def __init__(self, replicas: dict[str, Replica]) -> None:
        self.replicas, self.sent = replicas, list[str]()
        self.run = self

    def options(self, **_: Any) -> "Handle":
        return self

    def remote(self, *inputs: Any, at: str, **about: Any) -> Response:
        self.sent.append(at)
        return Response(self.replicas[at].run(*inputs, at=at, **about))


class States:
    """Kept nowhere; counted."""

    def __init__(self, found: Part | None = None) -> None:
        self.found, self.written = found, list[int]()

    def write_state(self, stage: Any, number: int, part: Part) -> None:
        self.written.append(part.step)

    async def find_state(self, calls: Any, stage: Any, number: int) -> Part:
        return self.found or Part()


class Rig:
    def __init__(self, folder: Path, names: str, **rules: Any) -> None:
        self.replicas = {name: Replica("stages.replay:ReplayStage", "tiny", options=OPTIONS) for name in names}
        for name, replica in self.replicas.items():
            replica._name = name
        self.handle = Handle(self.replicas)
        self.desk = Desk("here", Rules(**{"hand_off_s": 0.05, "ahead_s": 0.2, **rules}), self._pause)
        self.desk.see("i2v", list(names))
        self.pace = Pace({"i2v": RUN_S})
        self.demand = Demand(AppArgs(), Database(sqlite_journal(folder)))

    async def _pause(self, home: str, replica: str, call: str) -> object:
        return await self.replicas[replica].pause(call)

    def job(self, name: str, states: States | None = None, **about: Any) -> tuple[StageCalls, JobProgress, Placing]:
        wish = NewJob(REQUEST, **about)
        job = written_job(name, wish, planned_of(REQUEST, plan_of(REQUEST)), time.time(), ())
        progress = JobProgress(time.monotonic)
        homes = {stage: stage for stage in STAGE_NAMES}
        placing = Placing(self.desk, self.pace, homes, Claim(name, "here", 1), job, plan_of(REQUEST))
        limits = Limits(dict.fromkeys(STAGE_NAMES, 60.0), 3, 1, 0.05)
        calls = StageCalls(
            dict.fromkeys(STAGE_NAMES, self.handle),
            limits,
            progress,
            JobMetrics(),
            failed={},
            demand=self.demand,
            deaths=Deaths(),
            lacking=Lacking(),
            placing=placing,
            states=states or States(),
            job_id=name,
        )
        return calls, progress, placing

    async def made(self, calls: StageCalls) -> tuple[Any, float]:
        value, info = await asyncio.wait_for(calls.one("i2v", PICTURE, params=PARAMS, seed=3), 120.0)
        return value, info["run_s"]

    async def running(self, placing: Placing, steps: int = 1) -> None:
        """Until its call has made a step."""
        end = time.monotonic() + 120.0
        while not any(
            ticket.begun and ticket.entry.steps_left and ticket.entry.steps_left <= STEPS - steps
            for ticket in self.desk._tickets.values()
            if ticket.id.startswith(placing.claim.job_id)
        ):
            assert time.monotonic() < end
            await asyncio.sleep(0.01)


def kinds(progress: JobProgress) -> list[tuple[str, dict[str, Any]]]:
    return [(kind, data) for kind, data in progress.take()[1] if kind in ("stage_yielded", "stage_resumed")]


async def test_a_film_stops_for_an_urgent_job_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    rig, states = Rig(tmp_path, "a"), States()
    film, progress, placing = rig.job("film", states, deadline_s=60.0)
    going = asyncio.create_task(rig.made(film))
    await rig.running(placing)
    urgent, _, _ = rig.job("urgent", priority=5, deadline_s=RUN_S * 1.6)
    await rig.made(urgent)
    assert not going.done()
    value, run_s = await going
    ((yielded, stopped), (resumed, went_on)) = kinds(progress)
    assert (yielded, resumed) == ("stage_yielded", "stage_resumed")
    assert stopped["step"] == went_on["step"] == states.written[0]
    assert stopped["wait_s"] > 0
    assert went_on["parked_s"] >= RUN_S * 0.9
    assert run_s >= RUN_S * 0.9  # both of its parts
    assert placing.yields == 1
    alone, _, _ = rig.job("alone")
    whole, _ = await rig.made(alone)
    assert np.array_equal(value.clip.frames, whole.clip.frames)


async def test_a_replica_that_is_to_stop_hands_its_call_to_another(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "ab")
    film, progress, placing = rig.job("film")
    going = asyncio.create_task(rig.made(film))
    await rig.running(placing)
    (at,) = rig.handle.sent
    rig.replicas[at].leave()
    rig.desk.see("i2v", set("ab") - {at})
    await going
    assert rig.handle.sent == [at, next(iter(set("ab") - {at}))]
    assert [kind for kind, _ in kinds(progress)] == ["stage_yielded", "stage_resumed"]
    assert placing.yields == 0


async def test_what_was_sent_ahead_is_taken_back_and_computed_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a", ahead_s=10.0, max_yields=0)
    first, _, placing = rig.job("1")
    running = asyncio.create_task(rig.made(first))
    await rig.running(placing)
    second, _, _ = rig.job("2")
    waiting = asyncio.create_task(rig.made(second))
    while len(rig.handle.sent) < 2:
        await asyncio.sleep(0.01)
    urgent, _, _ = rig.job("3", priority=5)
    await rig.made(urgent)
    assert running.done()
    assert not waiting.done()
    await waiting
    assert rig.handle.sent == ["a"] * 4
    assert (await rig.replicas["a"].ended())["completed"] == 3


async def test_a_kept_state_is_what_a_new_executor_goes_on_from(tmp_path: Path) -> None:
    rig, states = Rig(tmp_path, "a"), States()
    film, _, placing = rig.job("film", states)
    going = asyncio.create_task(rig.made(film))
    await rig.running(placing, steps=8)
    ticket = next(iter(rig.desk._tickets.values()))
    found: list[Part] = []
    states.write_state = lambda stage, number, part: found.append(part)  # type: ignore[method-assign]
    await rig._pause("i2v", "a", ticket.id)
    while not found:
        await asyncio.sleep(0.01)
    kept = Part(found[0].state, found[0].step, found[0].total, found[0].spent_s)
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    again, progress, _ = rig.job("film", States(kept))
    _, run_s = await rig.made(again)
    assert run_s >= RUN_S * 0.9
    ((kind, resumed),) = kinds(progress)
    assert (kind, resumed["step"], "parked_s" in resumed) == ("stage_resumed", kept.step, False)


async def test_a_state_that_does_not_fit_is_neither_told_nor_counted(tmp_path: Path) -> None:
    other = DenoisingState({"stage": "another"}, 8, STEPS, np.zeros(4, np.float16))
    rig = Rig(tmp_path, "a")
    film, progress, _ = rig.job("film", States(Part(other, 8, STEPS, 60.0)))
    _, run_s = await rig.made(film)
    assert kinds(progress) == []
    assert RUN_S * 0.9 <= run_s < 60.0
