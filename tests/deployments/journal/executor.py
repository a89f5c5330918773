"""A stand-in for a pipeline replica, in a process of its own: claims, heartbeats, keeps outputs and ends jobs.

It drives the real `Leases`, `Recorder` and `JobProgress`; only the stages are pauses. `Settings.mutant` takes one
guard away, to see whether `violations` notices; `stubborn` has it write on although it learnt that a job is lost.
What it does beside the journal it says in a file, a JSON object a line: `{"owner", "what", "job", "stage"}`.

`violations` reads the journal afterwards: a sentence for each invariant that was broken. Imported by tests only.
"""

import asyncio
import json
import os
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Select, event, select

from deployments.errors import LeaseLostError
from deployments.jobs.values import FINAL, Beat, Claim, Event, Job
from deployments.journal import database, leases, tables
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from deployments.on_ray.streams import Info
from deployments.pipeline.progress import JobProgress
from deployments.pipeline.recorder import Recorder
from stages.types import STAGE_NAMES

Mutant = Literal["no_fence", "no_row_lock", "no_heartbeat"]
ENDS = ("completed", "failed", "cancelled")


@dataclass(frozen=True)
class Settings:
    """One executor."""

    url: str
    owner: str
    log: str
    lease_s: float = 1.0
    stage_s: float = 0.05
    first_s: float = 0.0  # of the first stage, where that takes longer
    slots: int = 2
    poll_s: float = 0.05
    stubborn: bool = False
    look_s: float = 0.0  # between looking for a due job and taking it
    mutant: Mutant | None = None


def main(settings: Settings) -> None:
    """The whole life of the process."""
    if settings.mutant is not None:
        MUTATIONS[settings.mutant]()
    asyncio.run(_Executor(settings).run())


def said(log: Path, owner: str, what: str) -> list[dict[str, Any]]:
    """What an executor has said about one thing."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [line for line in map(json.loads, lines) if (line["owner"], line["what"]) == (owner, what)]


class _Executor:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._database = Database(settings.url)
        self._leases = Leases(self._database)
        if settings.look_s:
            event.listen(self._database.engine, "after_cursor_execute", self._hesitate)
        self._work: dict[str, asyncio.Task[None]] = {}
        self._cancelled: set[str] = set()
        self._left: set[str] = set()  # jobs that are being let go: told once, like the pipeline's
        self._recorder = Recorder(
            self._leases, flush_s=0.01, lease_s=settings.lease_s, on_lost=self._lost, on_cancel=self._cancel
        )

    async def run(self) -> None:
        loop = asyncio.create_task(self._recorder.run())
        self._say("ready")
        while not loop.done():
            try:
                while len(self._work) < self._settings.slots:
                    claimed = await asyncio.to_thread(self._leases.claim, self._settings.owner, self._settings.lease_s)
                    if claimed is None:
                        break
                    self._begin(*claimed)
            except Exception as error:
                self._say("claim failed", stage=type(error).__name__)
            await asyncio.sleep(self._settings.poll_s)

    def _begin(self, claim: Claim, job: Job) -> None:
        progress = JobProgress(time.monotonic)
        self._recorder.watch(claim, progress)
        self._say("claimed", claim.job_id)
        self._work[claim.job_id] = asyncio.create_task(self._make(claim, job, progress))

    async def _make(self, claim: Claim, job: Job, progress: JobProgress) -> None:
        try:
            stopped = True
            try:
                with suppress(asyncio.CancelledError):
                    for stage in STAGE_NAMES:
                        await self._stage(claim, job, progress, stage)
                    stopped = False
            finally:  # whatever it was: without a heartbeat somebody else has the job soon
                last = await self._recorder.last_words(claim.job_id)
            cancelled = stopped and claim.job_id in self._cancelled
            if stopped and not cancelled:
                return
            result = {"key": f"videos/{claim.job_id}/{claim.fence}.mp4", "owner": self._settings.owner}
            await asyncio.to_thread(
                self._leases.finish,
                last,
                "cancelled" if cancelled else "succeeded",
                result=None if cancelled else result,
            )
        except LeaseLostError:
            self._say("stale end", claim.job_id)
        except Exception as error:
            self._say("broke", claim.job_id, type(error).__name__)
        finally:
            self._work.pop(claim.job_id, None)
            self._left.discard(claim.job_id)

    async def _stage(self, claim: Claim, job: Job, progress: JobProgress, stage: Any) -> None:
        if 0 in job.outputs.get(stage, {}):
            progress.restored(stage, 1)
            progress.completed(stage)
            return
        progress.sent(stage)
        progress.info(stage, Info(kind="started", last=False))
        await asyncio.sleep(max(self._settings.stage_s, self._settings.first_s if stage == STAGE_NAMES[0] else 0.0))
        made = Info(kind="output", last=True, index=0, run_s=self._settings.stage_s, bytes=1)
        progress.info(stage, Info(**{**made, "replica": self._settings.owner}))
        record = {"key": f"checkpoints/{claim.job_id}/{claim.fence}-{stage}.bin", "bytes": 1, "sha256": "00"}
        if await asyncio.to_thread(self._leases.keep, claim, stage, 0, record):
            progress.kept(stage, 0)
        else:
            self._say("stale output", claim.job_id, stage)
        progress.completed(stage)

    def _lost(self, job_id: str) -> None:
        self._say("lost", job_id)
        if not self._settings.stubborn and job_id in self._work and job_id not in self._left:
            self._left.add(job_id)
            self._work[job_id].cancel()

    def _cancel(self, job_id: str) -> None:
        if job_id in self._work and job_id not in self._cancelled | self._left:
            self._cancelled.add(job_id)
            self._work[job_id].cancel()

    def _hesitate(self, _c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "LIMIT" in statement and "jobs.priority DESC" in statement:
            time.sleep(self._settings.look_s)

    def _say(self, what: str, job: str = "", stage: str = "") -> None:
        line = {"owner": self._settings.owner, "what": what, "job": job, "stage": stage}
        file = os.open(self._settings.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(file, (json.dumps(line) + "\n").encode())
        os.close(file)


# Mutants


def _without_fence() -> None:
    """Every write names the fence that the job has now, as if it were the writer's."""

    def fresh(connection: Connection, claim: Claim) -> Claim:
        known = select(tables.jobs.c.fence).where(tables.jobs.c.id == claim.job_id)
        return replace(claim, fence=connection.execute(known).scalar() or 0)

    hold, held_tenant = leases._hold, leases._held_tenant
    leases._hold = lambda c, claim, **values: hold(c, fresh(c, claim), **values)
    leases._held_tenant = lambda c, claim, **values: held_tenant(c, fresh(c, claim), **values)


def _without_row_lock() -> None:
    """A claim looks without locking: no FOR UPDATE on PostgreSQL, a transaction that only reads at first on SQLite."""
    Select.with_for_update = lambda self, *_args, **_kwargs: self  # type: ignore[method-assign]

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    database._begin_sqlite = begin


def _without_heartbeat() -> None:
    Leases.beat = lambda *_: Beat()  # type: ignore[method-assign]


MUTATIONS: dict[Mutant, Callable[[], None]] = {
    "no_fence": _without_fence,
    "no_row_lock": _without_row_lock,
    "no_heartbeat": _without_heartbeat,
}


# What must hold


def violations(url: str, struck: Collection[str] = ()) -> list[str]:
    """Sentences about broken invariants; none when all is well. `struck`: executors that were killed or stopped."""
    journal = Journal(Database(url))
    try:
        found, more = journal.page(limit=1000, order="asc")
        assert not more
        return [text for job in found for text in _broken(job, journal.events(job.id), struck)]
    finally:
        journal.database.close()


def _broken(job: Job, events: list[Event], struck: Collection[str]) -> list[str]:
    kinds = [event.kind for event in events]
    found = []
    if job.state not in FINAL:
        found.append(f"1: {job.id} is {job.state}")
    if (ends := sum(kind in ENDS for kind in kinds)) > 1:
        found.append(f"2: {job.id} ended {ends} times")
    if kinds and kinds[-1] not in ENDS:
        found.append(f"2: {job.id} went on after its end with {kinds[-1]}")
    owner: str | None = None
    kept: set[tuple[str, int]] = set()
    for event_ in events:
        what, at = event_.kind, (event_.data.get("stage", ""), event_.data.get("index", 0))
        if what == "started" and owner is not None:
            found.append(f"7: {job.id} was started by {event_.data['owner']} while {owner} had it")
        if what == "restarted" and owner not in struck:
            found.append(f"6: {job.id} was taken from {owner}, which was alive")
        if what in ("started", "restarted"):
            owner = event_.data["owner"]
        if what == "released":
            owner = None
        if what == "stage_kept" and at in kept:
            found.append(f"3: {job.id} has two outputs of {at}")
        if what == "stage_kept":
            kept.add(at)
        if what == "stage_output" and at in kept:
            found.append(f"4: {job.id} ran {at} again although its output was kept")
        if what == "stage_output" and event_.data["replica"] != owner:
            found.append(f"5: {job.id} has an output that {event_.data['replica']} wrote while {owner} had it")
    ender = (job.result or {}).get("owner", owner)
    if ender != owner:
        found.append(f"5: {job.id} was ended by {ender} while {owner} had it")
    return found
