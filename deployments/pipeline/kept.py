"""The checkpoints of one job under one claim: used where there are some, written beside the hot path.

Files are the keeper's, records the journal's; this module has the two agree, and tells the job's progress. An output is
kept while the next stage works; a file that cannot be written costs the checkpoint, never the job.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from deployments.errors import InputGoneError
from deployments.jobs.values import Claim, Job, Source
from deployments.journal.leases import Leases
from deployments.observe.metrics import JobMetrics
from deployments.on_ray.failures import replica_lost
from deployments.on_ray.sweeping import collect_soon
from deployments.pipeline.calls import StageCalls
from deployments.pipeline.progress import JobProgress, Origin
from stages.presets import Plan
from stages.types import STAGE_NAMES, StageName

logger = logging.getLogger(__name__)

_ATTEMPTS = 3  # of one call to the keeper
_HEAD_START_S = 0.1  # of the next stage: it copies the same bytes at that moment


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
        self._writing: set[asyncio.Task[None]] = set()

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
        value = await calls.restored(self._keeper, stage, record, number, self._origins.get(at, "restored"))
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

    async def settle(self) -> None:
        """Wait until everything is kept that is being kept."""
        while self._writing:
            await asyncio.wait(set(self._writing))

    async def take_in(self, source: Source, steps: Plan) -> None:
        """Make checkpoints of a file that somebody sent, unless an earlier attempt did.

        Raises:
            InputGoneError: it cannot be read.
        """
        if self._records:
            return
        folder = self._key("source")
        try:
            made: dict[StageName, list[dict[str, Any]]] = await _asked(
                lambda: self._keeper.ingest.remote(source, steps, folder)
            )
        except Exception as error:
            cause = " ".join(str(getattr(error, "cause", None) or error).split())
            raise InputGoneError(cause[:500]) from error
        for stage, records in made.items():
            for number, record in enumerate(records):
                whole = {**record, "digest": f"{source.sha256}/{stage}/{number}/{record['sha256']}"}
                await asyncio.to_thread(self._leases.keep, self._claim, stage, number, whole)
                self._records[stage, number] = whole
                self._origins[stage, number] = "uploaded"

    async def export(self, value: Any, key: str, provenance: Mapping[str, Any]) -> dict[str, Any]:
        """Write a picture or keyframes as the job's result."""
        made: dict[str, Any] = await _asked(lambda: self._keeper.export.remote(value, key, provenance))
        return made

    def _written(self, task: "asyncio.Task[None]") -> None:
        self._writing.discard(task)
        collect_soon()  # a call leaves cycles around the references it was given

    async def _keep(self, stage: StageName, number: int, value: Any, about: Mapping[str, Any]) -> None:
        await asyncio.sleep(_HEAD_START_S)
        try:
            made = await _asked(lambda: self._keeper.keep.remote(value, f"{self._key(f'{stage}-{number}')}.bin"))
            record = {**made, **about}
            if await asyncio.to_thread(self._leases.keep, self._claim, stage, number, record):
                first = stage == STAGE_NAMES[-1] and not any(at[0] == stage for at in self._records)
                self._records[stage, number] = record
                self._progress.kept(stage, number)
                self._metrics.kept(stage, int(record["bytes"]))
                if first:
                    self._metrics.first_frame(time.monotonic() - self._accepted)
        except Exception as error:  # a full disk costs the checkpoint, never the job
            self._metrics.kept(stage, None)
            logger.warning("Output %d of %s of job %s was not kept: %s", number, stage, self._claim.job_id, error)

    def _key(self, name: str) -> str:
        claim = self._claim
        return f"checkpoints/{claim.job_id}/{claim.fence}-{name}-{uuid.uuid4().hex[:6]}"


async def _asked(call: Callable[[], Any]) -> Any:
    """A keeper's answer; when its replica dies, another one is asked."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return await call()
        except Exception as error:
            if not replica_lost(error):
                raise
            logger.warning("A replica of the keeper died; another one is asked.")
    return await call()
