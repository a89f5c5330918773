"""The stage calls of one job: references in, references out, repeated when a replica dies, stopped on cancellation.

A call goes out with `outputs` (a stream of values) or `one` (exactly one value); both give references to payloads, in
order, and tell the job's progress what the replica says. A call that raises is repeated after a pause, while the job's
budget for that lasts; bad input is not. When a replica dies, the same call goes to another one while
the references to its inputs are still held; what it had already given is skipped, because a stage is a pure function.
`finish` has the last stage's outputs joined: by the keeper, where a join waits for nobody's computing, or without one
by the stage's own replica.

A job that is cancelled leaves through `CancelledError`; every call that is then under way is cancelled at its replica,
not only the one that is awaited. Knows Ray's handles, not what the stages compute.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from deployments.errors import JobFailure, ReplicaLostError, StageFailedError, StageTimeoutError
from deployments.observe.metrics import JobMetrics
from deployments.on_ray.failures import is_final, output_lost, reason_of, replica_lost, stage_failed
from deployments.on_ray.streams import Info, pairs
from deployments.pipeline.demand import Demand
from deployments.pipeline.fan_out import FanOut
from deployments.pipeline.progress import JobProgress, Origin
from stages.types import StageName

logger = logging.getLogger(__name__)

_LOAD_S = 120.0  # a store that gives a checkpoint no sooner is slower than computing


class OutputLostError(Exception):
    """A stage's output died with its node; the job starts again."""


@dataclass(frozen=True)
class Limits:
    """How long and how often a stage is asked."""

    run_s: Mapping[StageName, float]  # of computing
    attempts: int  # of one call whose replica dies
    failures: int  # calls of one stage that may raise in a job
    backoff_s: float  # before the first repetition of a call that raised


class StageCalls:
    """What one job may do with the stages."""

    def __init__(
        self,
        handles: Mapping[StageName, Any],
        limits: Limits,
        progress: JobProgress,
        metrics: JobMetrics,
        failed: Mapping[StageName, int],
        demand: Demand,
        fan_out: FanOut,
        keeper: Any = None,
        job_id: str | None = None,
    ) -> None:
        """`failed`: calls that have raised under earlier claims of the job; they count. `job_id` is for the logs."""
        self._handles = handles
        self._limits = limits
        self._metrics = metrics
        self._failed = dict(failed)
        self._demand = demand
        self._fan_out = fan_out
        self._keeper = keeper
        self._job_id = job_id
        self.progress = progress

    def expect(self, stage: StageName, calls: int) -> None:
        """The job will call a stage so often, or find as many outputs kept."""
        self.progress.expect_calls(stage, calls)
        self._demand.expect(stage, calls)

    async def one(self, stage: StageName, *inputs: Any, params: Any, seed: int, number: int = 0) -> tuple[Any, float]:
        """The reference to the only value of a call, the `number`-th of this stage, and its seconds of computing.

        Raises:
            JobFailure: the stage raised, took too long, gave another number of values, or its replicas kept dying.
            OutputLostError: an input died with its node.
        """
        given = [pair async for pair in self.outputs(stage, *inputs, params=params, seed=seed, number=number)]
        if len(given) != 1:
            raise StageFailedError(f"Stage {stage} gave {len(given)} values where one was expected.")
        payload, info = given[0]
        return payload, info["run_s"]

    async def outputs(
        self, stage: StageName, *inputs: Any, params: Any, seed: int, number: int = 0
    ) -> AsyncGenerator[tuple[Any, Info], None]:
        """References to the values of a call, each as soon as it is there. Raises as `one` does."""
        self.progress.sent(stage)
        given, lost = 0, 0
        while True:
            try:
                async with aclosing(self._call(stage, inputs, params, seed)) as stream:
                    async for payload, info in stream:
                        if info["kind"] == "output" and info["index"] < given:
                            continue
                        self.progress.info(stage, info, number)
                        if info["kind"] == "output":
                            given += 1
                            yield payload, info
                return
            except Exception as error:
                lost = await self._judge(stage, error, lost, number)

    async def restored(
        self, keeper: Any, stage: StageName, record: Mapping[str, Any], number: int = 0, origin: Origin = "restored"
    ) -> Any | None:
        """The reference to a kept output; None where its file is gone or damaged, so that it must be made again."""
        payload = None
        for attempt in range(1, self._limits.attempts + 1):
            response = keeper.options(stream=True).load.remote(record["key"], record["sha256"])
            try:
                async with asyncio.timeout(_LOAD_S), aclosing(pairs(response)) as stream:  # type: ignore[type-var]
                    payload, _ = await anext(stream)
                break
            except asyncio.CancelledError:
                response.cancel()
                raise
            except Exception as error:
                response.cancel()
                if replica_lost(error) and attempt < self._limits.attempts:
                    continue
                logger.warning("Checkpoint %s of stage %s is not used: %s", record["key"], stage, error)
                return None
        self.progress.restored(stage, int(record["bytes"]), number, origin)
        self._metrics.taken_over(stage, origin, float(record.get("run_s") or 0.0))
        return payload

    async def finish(self, stage: StageName, chunks: Sequence[Any], **options: Any) -> dict[str, Any]:
        """Have the stage's `chunks` joined; gives the description of what was kept. Raises as `one` does."""
        joiner = self._handles[stage] if self._keeper is None else self._keeper
        lost = 0
        while True:
            response = joiner.finish.remote(*chunks, **options)
            try:
                async with asyncio.timeout(self._limits.run_s[stage]):
                    made: dict[str, Any] = await response
                return made
            except TimeoutError:
                response.cancel()
                raise self._too_long(stage) from None
            except asyncio.CancelledError:
                response.cancel()
                raise
            except Exception as error:
                lost = await self._judge(stage, error, lost)

    async def _call(
        self, stage: StageName, inputs: Sequence[Any], params: Any, seed: int
    ) -> AsyncGenerator[tuple[Any, Info], None]:
        loop = asyncio.get_running_loop()
        sent = loop.time()
        deadline: float | None = None  # waiting for a replica is not limited, computing is
        started: float | None = None
        ended = False
        with self._demand.call(stage) as call:
            async with self._fan_out.turn(stage, self):  # a window that has no turn yet counts as waiting
                run = self._handles[stage].options(stream=True).run
                response = run.remote(*inputs, params=params, seed=seed, job=self._job_id, stage=stage)
                stream = pairs(response)
                try:
                    while True:
                        try:
                            async with asyncio.timeout_at(deadline) as limit:
                                payload, info = await anext(stream)
                        except StopAsyncIteration:
                            ended = True
                            return
                        except TimeoutError:
                            if limit.expired():
                                raise self._too_long(stage) from None
                            raise
                        if info["kind"] == "started":
                            started = loop.time()
                            self._demand.began(call, info.get("batch", 1))
                            self._metrics.queued(stage, started - sent)
                            deadline = started + self._limits.run_s[stage]
                        call.run_s = info.get("run_s", call.run_s)
                        yield payload, info
                finally:
                    if not ended:
                        response.cancel()
                        if started is not None:
                            self._metrics.wasted(stage, (loop.time() - started) / call.batch)

    async def _judge(self, stage: StageName, error: Exception, lost: int, number: int = 0) -> int:
        """Return, after a pause, when the call should be repeated, else raise what the error means.

        Gives how often the call's replicas have died, which was `lost` so far.
        """
        if isinstance(error, JobFailure):
            raise error
        if output_lost(error):
            raise OutputLostError(f"An input of stage {stage} died with its node.") from error
        reason = reason_of(error)
        if replica_lost(error):
            lost += 1
            if lost >= self._limits.attempts:
                raise ReplicaLostError(
                    f"The replica of stage {stage} died under this job {lost} times, the limit of "
                    "pipeline.stage_attempts; look into its log for what killed it."
                ) from error
            self.progress.retried(stage, lost, reason, number)
        else:
            failed = self._failed.get(stage, 0) + 1
            if is_final(error) or failed > self._limits.failures:
                raise stage_failed(stage, error) from error
            self._failed[stage] = failed
            self.progress.failed(stage, number, reason)
            logger.warning("Stage %s raised and is asked again: %s", stage, stage_failed(stage, error))
            await asyncio.sleep(self._limits.backoff_s * 2 ** (failed - 1))
        self._metrics.retried(stage)
        return lost

    def _too_long(self, stage: StageName) -> StageTimeoutError:
        return StageTimeoutError(
            f"Stage {stage} computed for more than {self._limits.run_s[stage]:g} s, the limit of "
            f"stages.{stage}.run_timeout_s; raise it or ask for fewer steps."
        )
