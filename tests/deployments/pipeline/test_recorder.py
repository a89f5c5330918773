"""The recorder on a real journal: progress is written, cancels and lost leases are learnt."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from deployments.jobs.values import Beat, Claim, JobRequest, NewJob, Update
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from deployments.journal.tables import jobs
from deployments.on_ray.streams import Info
from deployments.pipeline.progress import JobProgress
from deployments.pipeline.recorder import Recorder
from tests.journals import sqlite_journal

REQUEST = JobRequest(prompt="a fox", model="tiny", size="256x256", seconds="2", seed=7)
DEADLINE_S = 120.0


class Watched:
    """A claimed job under a running recorder."""

    def __init__(self, journal: Journal, lease_s: float, leases: Leases | None = None) -> None:
        leases = leases or Leases(journal.database)
        self.job_id = journal.submit(NewJob(REQUEST))[0].id
        claimed = leases.claim("a", lease_s)
        assert claimed is not None
        self.claim: Claim = claimed[0]
        self.progress = JobProgress(lambda: 0.0)
        self.lost: list[str] = []
        self.cancelled: list[str] = []
        self.recorder = Recorder(
            leases, flush_s=0.01, lease_s=lease_s, on_lost=self.lost.append, on_cancel=self.cancelled.append
        )
        self.recorder.watch(self.claim, self.progress)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        loop = asyncio.create_task(self.recorder.run())
        try:
            yield
        finally:
            loop.cancel()

    @staticmethod
    async def until(probe: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not probe():
                await asyncio.sleep(0.005)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(Database(sqlite_journal(tmp_path)))


async def test_progress_reaches_the_journal_and_the_last_words_the_end(journal: Journal, leases: Leases) -> None:
    job = Watched(journal, lease_s=60.0)
    async with job.running():
        job.progress.sent("t2i")
        job.progress.info("t2i", Info(kind="started", last=False))
        await job.until(lambda: journal.get(job.job_id).stages[0].status == "running")
        job.progress.completed("t2i")
        leases.finish(await job.recorder.last_words(job.job_id), "succeeded", result={})
    kinds = [event.kind for event in journal.events(job.job_id)]
    assert kinds == ["queued", "started", "stage_queued", "stage_started", "stage_completed", "completed"]


async def test_what_is_being_written_comes_before_the_end(journal: Journal) -> None:
    class Slow(Leases):
        entered, go = threading.Event(), threading.Event()

        def record(self, updates: Sequence[Update]) -> Beat:
            self.entered.set()
            assert self.go.wait(DEADLINE_S)
            return super().record(updates)

    leases = Slow(journal.database)
    job = Watched(journal, lease_s=60.0, leases=leases)
    async with job.running():
        job.progress.sent("t2i")
        await job.until(leases.entered.is_set)
        last = asyncio.create_task(job.recorder.last_words(job.job_id))
        await asyncio.sleep(0)
        leases.go.set()
        leases.finish(await last, "succeeded", result={})
    assert [event.kind for event in journal.events(job.job_id)] == ["queued", "started", "stage_queued", "completed"]


async def test_what_could_not_be_written_is_written_later_and_once(journal: Journal) -> None:
    class Unreachable(Leases):
        failures = 2

        def record(self, updates: Sequence[Update]) -> Beat:
            if self.failures:
                self.failures -= 1
                raise OSError("no database")
            return super().record(updates)

    leases = Unreachable(journal.database)
    job = Watched(journal, lease_s=60.0, leases=leases)
    async with job.running():
        job.progress.sent("t2i")
        job.progress.failed("t2i", 0, "RuntimeError")
        await job.until(lambda: journal.get(job.job_id).failures == {"t2i": 1})
        job.progress.info("t2i", Info(kind="started", last=False))
        leases.finish(await job.recorder.last_words(job.job_id), "succeeded", result={})
    kinds = [event.kind for event in journal.events(job.job_id)]
    assert kinds == ["queued", "started", "stage_queued", "stage_retried", "stage_started", "completed"]
    assert journal.get(job.job_id).failures == {"t2i": 1}


async def test_a_cancel_is_learnt_at_once_when_told_and_by_heartbeat_when_not(journal: Journal) -> None:
    told = Watched(journal, lease_s=60.0)
    journal.request_cancel(told.job_id)
    told.recorder.beat_soon()
    untold = Watched(journal, lease_s=3.0)
    journal.request_cancel(untold.job_id)
    async with told.running(), untold.running():
        await told.until(lambda: told.cancelled == [told.job_id])
        await untold.until(lambda: untold.job_id in untold.cancelled)
    assert (told.lost, untold.lost) == ([], [])


async def test_a_job_that_was_taken_over_is_reported_lost_and_not_written(journal: Journal, leases: Leases) -> None:
    job = Watched(journal, lease_s=-1.0)
    assert leases.claim("b", 60.0) is not None
    async with job.running():
        job.progress.sent("t2i")
        await job.until(lambda: job.job_id in job.lost)
    assert journal.get(job.job_id).stages[0].status == "waiting"


@pytest.mark.slow
async def test_a_lease_is_renewed_again_and_again(journal: Journal, tmp_path: Path) -> None:
    job = Watched(journal, lease_s=3.0)
    database = Database(sqlite_journal(tmp_path))

    def lease_until() -> float:
        with database.read() as connection:
            return float(connection.execute(select(jobs.c.lease_until)).scalar_one())

    first = lease_until()
    async with job.running():
        await job.until(lambda: lease_until() > first + 2.5)
    database.close()
    assert job.lost == []
