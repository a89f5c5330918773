"""The checkpoints of one job under one claim: used where there are some, written beside the hot path.

Files are the keeper's, records the journal's; this module has the two agree, and tells the job's progress. An output is
kept while the next stage works, and tried again while the store or the database is away; any other file that cannot be
written costs the checkpoint, never the job. A job that needs the store while that is away waits (`patiently`): in its
place as long as something that it made is not kept, else it is put off, so that nothing is computed twice.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from deployments.errors import InputGoneError, ReplicaLostError, StoreAwayError
from deployments.jobs.values import Claim, Job, Source
from deployments.journal.leases import Leases
from deployments.observe.metrics import JobMetrics
from deployments.on_ray.failures import Fault, fault_of, words_of
from deployments.on_ray.sweeping import collect_soon
from deployments.pipeline.calls import MAX_PAUSE_S, StageCalls
from deployments.pipeline.placing import Part
from deployments.pipeline.progress import JobProgress, Origin
from stages.presets import Plan
from stages.types import STAGE_NAMES, StageName

logger = logging.getLogger(__name__)

_Made = TypeVar("_Made")

_ATTEMPTS = 3  # of one call to the keeper whose replica dies
_PAUSE_S = 0.5  # before a call to a keeper or a store that is away is repeated; it doubles each time
_HEAD_START_S = 0.1  # of the next stage: it copies the same bytes at that moment


class PutOffError(Exception):
    """The platform lacks something for long; the job is to begin again later, from its checkpoints."""


class Kept:
    """See the top of this module. Without a keeper nothing is found and nothing is written."""

    def __init__(
        self,
        keeper: Any,
        leases: Leases,
        claim: Claim,
        job: Job,
        progress: JobProgress,
        metrics: JobMetrics,
        copied: Origin | None,
    ) -> None:
        """`copied`: where the outputs came from that the job has never computed itself."""
        self._keeper, self._leases, self._claim, self._progress = keeper, leases, claim, progress
        self._metrics, self._accepted = metrics, time.monotonic() - claim.waited_s
        self._records = {(stage, n): record for stage, own in job.outputs.items() for n, record in own.items()}
        self._origins: dict[tuple[StageName, int], Origin] = {}
        if copied is not None:
            self._origins = dict.fromkeys(self._records, copied)
        self._states = {(stage, n): record for stage, own in job.states.items() for n, record in own.items()}
        self._writing: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()

    async def find(
        self, calls: StageCalls, stage: StageName, number: int, digest: str, *, reuse: bool
    ) -> tuple[Any, str] | None:
        """The reference to a kept output and its own digest; None where it has to be computed."""
        if self._keeper is None:
            return None
        at = (stage, number)
        record = self._records.get(at)
        if record is None and reuse:
            record = await asyncio.to_thread(self._leases.adopt, self._claim, stage, number, digest)
            self._origins[at] = "reused"
        if record is None:
            return None
        origin = self._origins.get(at, "restored")
        value = await self.patiently(calls, stage, lambda: calls.restored(self._keeper, stage, record, number, origin))
        if value is None:
            self._records.pop(at, None)
            return None
        return value, str(record.get("digest", digest))

    def write(self, stage: StageName, number: int, value: Any, about: Mapping[str, Any]) -> None:
        """Keep an output, without waiting. `about` goes into its record."""
        if self._keeper is None:
            return
        task = asyncio.create_task(self._keep(stage, number, value, about))
        self._writing.add(task)
        task.add_done_callback(self._written)

    def write_state(self, stage: StageName, number: int, part: Part) -> None:
        """Keep the state of a call that has not ended, without waiting; it goes when the call's output is kept."""
        if self._keeper is not None:
            about = {"step": part.step, "total": part.total, "run_s": part.spent_s}
            task = asyncio.create_task(self._keep_state(stage, number, part.state, about))
            self._writing.add(task)
            task.add_done_callback(self._written)

    async def find_state(self, calls: StageCalls, stage: StageName, number: int) -> Part:
        """The kept one of a call; the beginning where there is none, or it cannot be had now."""
        record = self._states.get((stage, number))
        if self._keeper is None or record is None:
            return Part()
        try:
            state = await calls.loaded(self._keeper, stage, record, number)
        except StoreAwayError as away:
            logger.warning("Stage %s of job %s begins anew: %s", stage, self._claim.job_id, away)
            return Part()
        return Part(state, record["step"], record["total"], record["run_s"]) if state is not None else Part()

    async def patiently(self, calls: StageCalls, stage: StageName, act: Callable[[], Awaitable[_Made]]) -> _Made:
        """What `act` gives, which needs the store, when that is there.

        Raises:
            PutOffError: it is away, and all that the job has made is kept.
        """
        times = 0
        while True:
            try:
                made = await act()
                self._progress.goes_on(stage)
                return made
            except StoreAwayError as away:
                self._progress.waits(stage, str(away))
                if self._keeper is not None and not self._writing and calls.idle:
                    raise PutOffError(str(away)) from away
                logger.warning("Job %s waits: %s", self._claim.job_id, away)
                await asyncio.sleep(_pause_s(times))
                times += 1

    def close(self) -> None:
        """The job has ended, or is somebody else's: what the store does not take now is given up."""
        self._over.set()

    async def settle(self, at_most_s: float | None = None) -> None:
        """Wait until everything is kept that is being kept."""
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                while self._writing:
                    await asyncio.wait(set(self._writing))

    async def take_in(self, calls: StageCalls, source: Source, steps: Plan) -> None:
        """Make checkpoints of a file that somebody sent, unless an earlier attempt did.

        Raises:
            InputGoneError: it cannot be read.
        """
        if self._records:
            return
        folder = self._key("source")
        try:
            made: dict[StageName, list[dict[str, Any]]] = await self.patiently(
                calls, source.enters, lambda: self._asked(lambda: self._keeper.ingest.remote(source, steps, folder))
            )
        except (PutOffError, ReplicaLostError):
            raise
        except Exception as error:
            raise InputGoneError(words_of(error)) from error
        for stage, records in made.items():
            for number, record in enumerate(records):
                whole = {**record, "digest": f"{source.sha256}/{stage}/{number}/{record['sha256']}"}
                await asyncio.to_thread(self._leases.keep, self._claim, stage, number, whole)
                self._records[stage, number] = whole
                self._origins[stage, number] = "uploaded"

    async def export(
        self, calls: StageCalls, stage: StageName, value: Any, key: str, provenance: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Write a picture or keyframes as the job's result."""
        made: dict[str, Any] = await self.patiently(
            calls, stage, lambda: self._asked(lambda: self._keeper.export.remote(value, key, provenance))
        )
        return made

    def _written(self, task: "asyncio.Task[None]") -> None:
        self._writing.discard(task)
        collect_soon()  # a call leaves cycles around the references it was given

    async def _keep(self, stage: StageName, number: int, value: Any, about: Mapping[str, Any]) -> None:
        await asyncio.sleep(_HEAD_START_S)
        try:
            key = f"{self._key(f'{stage}-{number}')}.bin"
            made = await self._in_the_end(lambda: self._asked(lambda: self._keeper.keep.remote(value, key)))
            record = {**made, **about}
            put = partial(self._leases.keep, self._claim, stage, number, record)
            if await self._in_the_end(lambda: asyncio.to_thread(put)):
                first = stage == STAGE_NAMES[-1] and not any(at[0] == stage for at in self._records)
                self._records[stage, number] = record
                self._progress.kept(stage, number)
                self._metrics.kept(stage, int(record["bytes"]))
                if first:
                    self._metrics.first_frame(time.monotonic() - self._accepted)
        except Exception as error:  # what cannot be kept costs the checkpoint, never the job
            self._metrics.kept(stage, None)
            logger.warning("Output %d of %s of job %s was not kept: %s", number, stage, self._claim.job_id, error)

    async def _keep_state(self, stage: StageName, number: int, state: Any, about: Mapping[str, Any]) -> None:
        try:
            key = f"{self._key(f'{stage}-{number}-state')}.bin"
            made = await self._asked(lambda: self._keeper.keep.remote(state, key))
            record = {**made, **about}
            if await asyncio.to_thread(self._leases.keep_state, self._claim, stage, number, record):
                self._states[stage, number] = record
        except Exception as error:  # the next one is soon there; without any the stage begins anew
            logger.warning("A state of %s of job %s was not kept: %s", stage, self._claim.job_id, error)

    def _key(self, name: str) -> str:
        claim = self._claim
        return f"checkpoints/{claim.job_id}/{claim.fence}-{name}-{uuid.uuid4().hex[:6]}"

    async def _in_the_end(self, act: Callable[[], Awaitable[_Made]]) -> _Made:
        """What `act` gives, tried again while the store or the database is away and the job under way."""
        times = 0
        while True:
            try:
                return await act()
            except Exception as error:
                if fault_of(error) not in (Fault.STORE_AWAY, Fault.DATABASE_AWAY) or self._over.is_set():
                    raise
                logger.warning("An output of job %s is not kept yet: %s", self._claim.job_id, words_of(error))
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._over.wait(), _pause_s(times))
                times += 1

    async def _asked(self, call: Callable[[], Any]) -> Any:
        """A keeper's answer; when its replica dies another one is asked, and while there is none it is waited for.

        Raises:
            StoreAwayError: the store is away.
            ReplicaLostError: its replicas kept dying.
        """
        times, lost = 0, 0
        while True:
            try:
                return await call()
            except Exception as error:
                fault = fault_of(error)
                if fault is Fault.STORE_AWAY:
                    raise StoreAwayError(words_of(error)) from error
                if fault not in (Fault.NO_REPLICA, Fault.REPLICA_DIED):
                    raise
                lost += fault is Fault.REPLICA_DIED
                if lost >= _ATTEMPTS:
                    raise ReplicaLostError(
                        f"The keeper died under this job {lost} times; look into its log for what killed it."
                    ) from error
                logger.warning("The keeper is asked again: %s", words_of(error))
                await asyncio.sleep(_pause_s(times))
                times += 1


def _pause_s(times: int) -> float:
    return float(min(MAX_PAUSE_S, _PAUSE_S * 2 ** min(times, 20)))
