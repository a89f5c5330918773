"""Drives jobs: claims one from the journal, calls the stages by reference, records how it went.

No pixel enters this process: it holds references, and drops them at the end of each job with a collection, because Ray
leaves cycles around them that keep outputs alive until then. What one attempt at a job does stands in
`deployments.pipeline.attempt`.

Takes typed arguments and the four stages' handles. Knows nothing of HTTP; a job is what the journal says.
"""

import asyncio
import gc
import logging
import math
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from client.schema import JobError
from deployments.errors import JobFailure, LeaseLostError
from deployments.jobs.outlook import MAX_PRIORITY, Promised
from deployments.jobs.values import Claim, Event, Job, JobRequest
from deployments.jobs.work import loads_of
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from deployments.observe.logs import job_context, set_up
from deployments.observe.metrics import JobMetrics
from deployments.observe.traces import Tracer
from deployments.on_ray.failures import Fault, fault_of, words_of
from deployments.on_ray.ray_internals import end_ghosts, own_actor
from deployments.on_ray.sweeping import collect_soon
from deployments.pipeline.attempt import Attempt, PausedJob, remake
from deployments.pipeline.calls import Limits, OutputLostError, StageCalls
from deployments.pipeline.deaths import Deaths
from deployments.pipeline.demand import Demand
from deployments.pipeline.dispatch import Dispatch, app_name
from deployments.pipeline.kept import Kept, PutOffError
from deployments.pipeline.lacking import Lacking
from deployments.pipeline.progress import JobProgress, Origin
from deployments.pipeline.recorder import Recorder
from deployments.pipeline.standing import Standing
from deployments.pipeline.sweeper import Sweeper
from deployments.settings.application import AppArgs
from deployments.settings.rollout import with_live
from stages.types import StageName

logger = logging.getLogger(__name__)

_GHOSTS_S = 20.0  # between two looks for replicas that were called off

_Stop = Literal["cancelled", "lost", "released"]


@dataclass
class _Running:
    """A job at hand: `work` computes and may be cancelled, `driver` records its end and may not."""

    claim: Claim
    work: asyncio.Task[dict[str, Any]]
    driver: asyncio.Task[None]
    priority: int
    progress: JobProgress
    path: str
    stop: _Stop | None = None


class Pipeline:
    """One replica of the deployment `pipeline`."""

    def __init__(self, args: AppArgs, t2i: Any, i2v: Any, v2v: Any, vfi: Any, keeper: Any = None) -> None:
        """Open the journal and begin to claim. Needs a running event loop, as Ray Serve gives it."""
        self._args = args
        self._keeper = keeper
        self._handles: Mapping[StageName, Any] = {"t2i": t2i, "i2v": i2v, "v2v": v2v, "vfi": vfi}
        self._database = Database(args.storage.database(), check=True)
        self._leases = Leases(self._database)
        self._standing = Standing(self._database)
        self._owner = f"pipeline-{uuid.uuid4().hex[:12]}"
        set_up(args.observability.log_format, args.observability.log_level)
        self._metrics = JobMetrics()
        telling = args.observability
        counted = self._metrics.traced
        self._tracer = Tracer(telling.otlp_url, telling.service, counted) if telling.otlp_url else None
        self._recorder = Recorder(
            self._leases,
            flush_s=args.pipeline.flush_s,
            lease_s=args.pipeline.lease_s,
            on_lost=lambda job_id: self._stop(job_id, "lost"),
            on_cancel=lambda job_id: self._stop(job_id, "cancelled"),
        )
        self._demand = Demand(args, self._database)
        self._deaths = Deaths()
        self._lacking = Lacking()
        self._caller = own_actor()
        self._dispatch = Dispatch(args, self._owner, self._handles, Journal(self._database), self._lacking)
        self._running: dict[str, _Running] = {}
        self._wake = asyncio.Event()
        loops = [self._claim_jobs(), self._recorder.run(), *self._dispatch.loops()]
        self._loops = [asyncio.create_task(loop) for loop in loops]
        self._beside = self._begin_beside()

    def _begin_beside(self) -> list[asyncio.Task[None]]:
        """What runs as the settings of the moment say."""
        args = self._args
        loops = [Sweeper(args, self._database, self._metrics).run()]
        if args.scaling is not None:
            loops += [self._look_out(args.scaling.report_s), self._end_ghosts()]
        return [asyncio.create_task(loop) for loop in loops]

    async def reconfigure(self, told: Mapping[str, Any]) -> None:
        """Ray Serve calls this at the start, and when a roll-out changes settings: they hold for what begins now."""
        args = with_live(self._args, told)
        if args == self._args:
            return
        set_up(args.observability.log_format, args.observability.log_level)
        self._args = args
        self._recorder.take(args.pipeline.flush_s, args.pipeline.lease_s)
        self._demand.take(args)
        self._dispatch.take(args)
        for loop in self._beside:
            loop.cancel()
        self._beside = self._begin_beside()
        self._wake.set()

    async def nudge(self) -> None:
        """There is a new job, or a cancel to learn of: look now instead of at the next poll."""
        self._wake.set()
        self._recorder.beat_soon()

    async def remake(self, job_id: str) -> None:
        """Have the result of a finished job written again, of its checkpoints, as far as they are there."""
        job = await asyncio.to_thread(Journal(self._database).get, job_id)
        try:
            await remake(self._keeper, job)
        except Exception as error:
            logger.warning("The result of job %s cannot be made again: %s", job_id, words_of(error))

    async def glimpse(self, job_id: str) -> bytes | None:
        """The denoising step of a job that was shown last; None where there is none, or another replica drives it."""
        running = self._running.get(job_id)
        return None if running is None else running.progress.glimpse

    async def promise(self, request: JobRequest, tenant: str, priority: int, deadline_s: float) -> Promised | None:
        """What may be said of a deadline before the job is accepted; see `deployments.pipeline.dispatch`."""
        return await self._dispatch.promise(request, tenant, priority, deadline_s)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Serve asks, and hands it to the scaling policy (`cluster.policy.autoscaler`)."""
        return self._demand.read(len(self._running))

    def check_health(self) -> None:
        """Raise when this replica no longer claims or records."""
        for loop in (*self._loops, *self._beside):
            if loop.done():
                raise RuntimeError(f"The pipeline's {loop.get_coro()} has ended; it must run for ever.")

    async def __del__(self) -> None:
        """Ray Serve awaits this at shutdown: give the jobs back, so that another replica has them at once."""
        for loop in (*self._loops, *self._beside):
            loop.cancel()
        claims = [running.claim for running in self._running.values()]
        drivers = [running.driver for running in self._running.values()]
        for job_id in list(self._running):
            self._stop(job_id, "released")
        if drivers:
            await asyncio.wait(drivers, timeout=5.0)
        await asyncio.to_thread(self._leases.release, claims)
        if self._tracer is not None:
            await asyncio.to_thread(self._tracer.close)
        self._database.close()

    async def _claim_jobs(self) -> None:
        gc.collect()
        gc.freeze()  # what start-up made is never garbage; collections at the end of jobs skip it
        while True:
            self._wake.clear()
            try:
                while await self._standing.claims(self._args) and (least := self._room()) is not None:
                    claimed = await asyncio.to_thread(
                        self._leases.claim, self._owner, self._args.pipeline.lease_s, self._args.limits, least
                    )
                    if claimed is None:
                        break
                    self._begin(*claimed)
            except Exception:
                logger.exception("No job could be claimed from the journal; trying again.")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._args.pipeline.poll_s)

    def _room(self) -> int | None:
        return room([own.priority for own in self._running.values()], self._args.pipeline.max_jobs)

    async def _look_out(self, period_s: float) -> None:
        while True:
            try:
                await self._demand.look()
            except Exception:
                logger.exception("The journal could not be asked for the scaling policy; trying again.")
            await asyncio.sleep(period_s)

    async def _end_ghosts(self) -> None:
        """The scaling policy may call off a replica that no node had a place for."""
        while True:
            await asyncio.sleep(_GHOSTS_S)
            try:
                if ended := await asyncio.to_thread(end_ghosts, app_name()):
                    logger.info("%d replicas that were called off before they had a place were ended.", ended)
            except Exception as error:
                logger.warning("Ray Serve could not be asked for replicas that were called off: %s", words_of(error))

    def _begin(self, claim: Claim, job: Job) -> None:
        progress = JobProgress(time.monotonic)
        if job.claims == 1:
            self._metrics.begun(claim.waited_s)
        self._recorder.watch(claim, progress)
        work = asyncio.create_task(self._make(claim, job, progress))
        driver = asyncio.create_task(self._drive(claim, work))
        path = "-".join(loads_of(job.request))
        self._running[claim.job_id] = _Running(claim, work, driver, job.priority, progress, path)

    def _stop(self, job_id: str, why: _Stop) -> None:
        running = self._running.get(job_id)
        if running is not None and running.stop is None and not running.work.done():
            running.stop = why
            running.work.cancel()

    async def _drive(self, claim: Claim, work: asyncio.Task[dict[str, Any]]) -> None:
        """Wait for the work and write its end into the journal."""
        with job_context(claim.job_id):
            await self._watch(claim, work)

    async def _watch(self, claim: Claim, work: asyncio.Task[dict[str, Any]]) -> None:
        started, own = time.monotonic(), self._running[claim.job_id]
        await asyncio.wait([work])
        stop = own.stop
        last = await self._recorder.last_words(claim.job_id)
        state, error, result = _outcome(claim.job_id, work, stop)
        raised = None if work.cancelled() else work.exception()
        try:
            if isinstance(raised, PausedJob):
                await self._write(partial(self._leases.pause, last, raised.stage))
            elif raised is not None and (reason := _waits_for(raised)) is not None:
                logger.warning("Job %s is put off: %s", claim.job_id, reason)
                await self._write(partial(self._leases.put_off, last, reason))
            elif stop == "lost":
                await self._write(partial(self._leases.release, [claim]))
            elif state is not None:
                self._metrics.ended(state, time.monotonic() - started, own.path)
                await self._write(partial(self._leases.finish, last, state, error=error, result=result))
                logger.info("Job %s %s after %.1f s.", claim.job_id, state, time.monotonic() - started)
                if self._tracer is not None:
                    self._tracer.offer(claim.job_id, partial(self._told, claim.job_id))
        except LeaseLostError as lost:
            logger.warning("%s", lost)
        except Exception:
            logger.exception("The end of job %s could not be recorded; it runs again once its lease lapses.", claim)
        finally:
            if self._running.get(claim.job_id) is own:  # else it was claimed again while the database was away
                del self._running[claim.job_id]
            del own, work, raised
            collect_soon()
            self._wake.set()

    async def _write(self, write: Callable[[], None]) -> None:
        """What has become of a job, tried again while the database is away: so that nobody counts that against it."""
        while True:
            try:
                return await asyncio.to_thread(write)
            except Exception as error:
                if fault_of(error) is not Fault.DATABASE_AWAY:
                    raise
                logger.warning("The journal takes no word of a job; trying again: %s", words_of(error))
                await asyncio.sleep(self._args.pipeline.poll_s)

    def _told(self, job_id: str) -> tuple[Job, Sequence[Event]]:
        journal = Journal(self._database)
        return journal.get(job_id), journal.events(job_id)

    async def _make(self, claim: Claim, job: Job, progress: JobProgress) -> dict[str, Any]:
        """The video of one job, from its checkpoints again when an output died with its node."""
        with job_context(claim.job_id):
            logger.info("Job %s is claimed for the %d. time.", claim.job_id, job.claims)
            return await self._repeated(claim, job, progress)

    async def _repeated(self, claim: Claim, job: Job, progress: JobProgress) -> dict[str, Any]:
        copied: Origin | None = "reused" if job.parent_id is not None and job.claims == 1 else None
        kept = Kept(self._keeper, self._leases, claim, job, progress, self._metrics, copied)
        try:
            for attempt in range(1, self._args.pipeline.job_attempts + 1):
                try:
                    return await self._attempt(claim, job, progress, kept)
                except OutputLostError as lost:
                    logger.warning("Job %s, attempt %d: %s", claim.job_id, attempt, lost)
                    progress.restarted(attempt, str(lost))
        finally:
            kept.close()
            self._dispatch.end(claim)
        raise PutOffError(
            f"An output of this job died with its node {self._args.pipeline.job_attempts} times in a row; "
            "look for nodes that keep going down."
        )

    async def _attempt(self, claim: Claim, job: Job, progress: JobProgress, kept: Kept) -> dict[str, Any]:
        limits_s = {name: stage.run_timeout_s for name, stage in self._args.stages.items()}
        limits = Limits(
            run_s=limits_s,
            attempts=self._args.pipeline.stage_attempts,
            failures=self._args.pipeline.stage_failures,
            backoff_s=self._args.pipeline.retry_backoff_s,
            state_every_s=self._args.keeper.state_every_s if self._args.keeper.enabled else 0.0,
        )
        calls = StageCalls(
            self._handles,
            limits,
            progress,
            self._metrics,
            failed=job.failures,
            demand=self._demand,
            deaths=self._deaths,
            lacking=self._lacking,
            placing=self._dispatch.begin(claim, job),
            states=kept,
            keeper=self._keeper,
            job_id=claim.job_id,
            caller=self._caller,
        )
        key, speeds = f"videos/{claim.job_id}/{claim.fence}", self._args.speeds
        return await Attempt(claim.job_id, job.request, key, calls, kept, speeds).run()


def room(running: Sequence[int], most: int) -> int | None:
    """The lowest class that there is room for beside running jobs of those; None: for no job. Beyond `most` jobs a
    quarter more may come that go before one of them.
    """
    if len(running) < most:
        return -MAX_PRIORITY
    return min(running) + 1 if len(running) < most + math.ceil(most / 4) else None


def _waits_for(error: BaseException) -> str | None:
    """What a job that ended so is put off for; None where the error is the job's own."""
    if isinstance(error, PutOffError):
        return str(error)
    if fault_of(error).whose != "platform":
        return None
    return f"The platform lacks something ({words_of(error)}); the job begins again."


_Outcome = tuple[Literal["succeeded", "failed", "cancelled"] | None, JobError | None, dict[str, Any] | None]


def _outcome(job_id: str, work: asyncio.Task[dict[str, Any]], stop: _Stop | None) -> _Outcome:
    """What to write; the state None means nothing, because the job is or will be somebody else's."""
    if work.cancelled():
        if stop == "cancelled":
            return "cancelled", JobError(code="cancelled", message="The job was cancelled."), None
        return None, None, None
    error = work.exception()
    if error is None:
        return "succeeded", None, work.result()
    if isinstance(error, PausedJob) or _waits_for(error) is not None:
        return None, None, None
    if isinstance(error, JobFailure):
        logger.warning("Job %s failed: %s", job_id, error)
        return "failed", JobError(code=error.code, message=str(error)), None
    logger.error("Job %s failed for a reason nobody foresaw.", job_id, exc_info=error)
    message = f"The server failed with {type(error).__name__}; its log has the details under {job_id}."
    return "failed", JobError(code="server_error", message=message), None
