"""Writes the progress of all jobs of one pipeline replica into the journal, many words in one transaction.

A job's progress is gathered for `flush_s` and written in a thread, so that no step of any stage waits for a disk. The
recorder also keeps the leases: a heartbeat renews those of all jobs at hand and brings back which were taken over and
which should be cancelled. Both are told to the pipeline through `on_lost` and `on_cancel`. Where no lease could be
renewed for two thirds of its time, because the database is away, hangs, or this process was stopped, every job counts
as lost: another replica may have it soon.

Takes `JobProgress` objects and `Leases`. Knows nothing of Ray.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from deployments.jobs.values import Beat, Claim, Update
from deployments.journal.leases import Leases
from deployments.pipeline.progress import JobProgress

logger = logging.getLogger(__name__)


@dataclass
class _Watched:
    claim: Claim
    progress: JobProgress
    unsaved: Update | None = None  # taken from the progress, and not yet in the journal

    def gather(self) -> Update:
        """All that there is to say: what could not be written, then what is new."""
        waits, paused = self.progress.waits_for, self.progress.paused_for
        new = Update(self.claim, *self.progress.take(), waits_for=waits, paused_for=paused)
        old = self.unsaved
        if old is not None:
            failures = {name: new.failures.get(name, 0) + count for name, count in old.failures.items()}
            new = replace(
                new,
                stages=(*old.stages, *new.stages),
                events=(*old.events, *new.events),
                failures={**new.failures, **failures},
            )
        self.unsaved = new
        return new


class Recorder:
    """One for each pipeline replica."""

    def __init__(
        self,
        leases: Leases,
        *,
        flush_s: float,
        lease_s: float,
        on_lost: Callable[[str], None],
        on_cancel: Callable[[str], None],
    ) -> None:
        self._leases = leases
        self.take(flush_s, lease_s)
        self._on_lost = on_lost
        self._on_cancel = on_cancel
        self._watched: dict[str, _Watched] = {}
        self._beat_now = asyncio.Event()
        self._beaten = time.monotonic()  # when the newest beat that succeeded was sent
        self._writing = asyncio.Lock()  # the end of a job is written after what was said before it

    def take(self, flush_s: float, lease_s: float) -> None:
        """Work with these from now on."""
        self._flush_s, self._lease_s = flush_s, lease_s
        self._beat_s = min(1.0, lease_s / 4)  # a cancel that reached another replica is learnt by a heartbeat

    def watch(self, claim: Claim, progress: JobProgress) -> None:
        self._watched[claim.job_id] = _Watched(claim, progress)

    async def last_words(self, job_id: str) -> Update:
        """Stop watching a job; what it has still to say goes into the transaction that ends it."""
        async with self._writing:
            return self._watched.pop(job_id).gather()

    def beat_soon(self) -> None:
        """Somebody may have cancelled a job: ask at the next flush, not at the next heartbeat."""
        self._beat_now.set()

    async def run(self) -> None:
        """Flush and beat until cancelled. A database that cannot be reached is tried again and again."""
        self._beaten = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write())
            group.create_task(self._guard())

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(self._flush_s)
            try:
                await self._flush()
                if self._beat_now.is_set() or time.monotonic() - self._beaten > self._beat_s:
                    self._beat_now.clear()
                    await self._beat()
            except Exception:
                logger.exception("The job journal could not be written; trying again.")

    async def _beat(self) -> None:
        sent = time.monotonic()
        claims = [watched.claim for watched in self._watched.values()]
        if claims:
            self._tell(await asyncio.to_thread(self._leases.beat, claims, self._lease_s))
        self._beaten = sent

    async def _guard(self) -> None:
        """Beside `_write`, because a call to a database that hangs neither returns nor raises."""
        while True:
            await asyncio.sleep(self._beat_s / 4)
            if time.monotonic() - self._beaten > self._lease_s * 2 / 3:
                for job_id in list(self._watched):
                    self._on_lost(job_id)

    async def _flush(self) -> None:
        async with self._writing:
            news = [watched for watched in self._watched.values() if watched.progress.dirty or watched.unsaved]
            if not news:
                return
            updates = [watched.gather() for watched in news]
            told = await asyncio.to_thread(self._leases.record, updates)
            for watched in news:
                watched.unsaved = None
        self._tell(told)

    def _tell(self, beat: Beat) -> None:
        for job_id in beat.lost & self._watched.keys():
            self._on_lost(job_id)
        for job_id in beat.cancelled & self._watched.keys():
            self._on_cancel(job_id)
