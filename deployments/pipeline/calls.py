"""The stage calls of one job: references in, references out, repeated when a replica dies, stopped on cancellation.

A call goes out with `outputs` (a stream of values) or `one` (exactly one value); both give references to payloads, in
order, and tell the job's progress what the replica says. `deployments.on_ray.failures` says whose fault an error is. A
call that raises is repeated after a pause, while the job's budget for that lasts; bad input is not. When a replica
dies, the same call goes to another one while the references to its inputs are still held; what it had already given is
skipped, because a stage is a pure function. Where a stage's calls are ordered (`deployments.order`) a call waits for
its turn and names its replica; until it begins it may be taken back. One that is told to stop gives its state, by
reference, waits again, and goes on from there elsewhere; so does one whose replica dies, from the last state that it
gave. Deaths are charged to the calls that were on the device, with pauses that
double; a call that came clearly farther than ever before begins a new budget. What the platform lacks is waited for.
`finish` has the last stage's outputs joined: by the keeper, where a join waits for nobody's computing, or without one
by the stage's own replica.

A job that is cancelled leaves through `CancelledError`; every call that is then under way is cancelled at its replica,
not only the one that is awaited. Knows Ray's handles, not what the stages compute.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol, cast

from deployments.errors import JobFailure, ReplicaLostError, StageFailedError, StageTimeoutError, StoreAwayError
from deployments.observe.metrics import JobMetrics
from deployments.on_ray.failures import Fault, dead_replica, fault_of, reason_of, stage_failed, words_of
from deployments.on_ray.streams import Info, pairs
from deployments.order.desk import Ticket
from deployments.pipeline.deaths import Deaths, Try
from deployments.pipeline.demand import Demand
from deployments.pipeline.lacking import Lacking
from deployments.pipeline.placing import Part, Placing
from deployments.pipeline.progress import JobProgress, Origin
from deployments.pipeline.sending import Pair, begun
from stages.types import StageName

logger = logging.getLogger(__name__)

_LOAD_S = 120.0  # a store that gives a checkpoint no sooner is away
_FARTHER = 0.1  # of a call: a replica that dies so much later than ever before was not killed by it
MAX_PAUSE_S = 10.0  # between two looks at whether what the platform lacks is there


class OutputLostError(Exception):
    """A stage's output died with its node; the job starts again."""


@dataclass(frozen=True)
class Limits:
    """How long and how often a stage is asked."""

    run_s: Mapping[StageName, float]  # of computing
    attempts: int  # of one call whose replica dies
    failures: int  # calls of one stage that may raise in a job
    backoff_s: float  # before the first repetition of a call that raised; it doubles each time
    state_every_s: float = 0.0  # a call that runs gives its state so often; 0: never


class States(Protocol):
    """Where states of calls are kept; `deployments.pipeline.kept` is one."""

    def write_state(self, stage: StageName, number: int, part: Part) -> None:
        """Keep the newest, without waiting."""

    async def find_state(self, calls: "StageCalls", stage: StageName, number: int) -> Part:
        """A kept one as a reference; of a call that has none, the beginning."""


@dataclass
class _Budget:
    """What one call has cost so far."""

    lost: int = 0  # deaths of its replica since it came farther than before
    waits: int = 0  # for the platform, in a row
    farthest: float = 0.0  # of its steps

    def reached(self, share: float) -> None:
        self.waits = 0
        if share > self.farthest + _FARTHER:
            self.farthest, self.lost = share, 0


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
        deaths: Deaths,
        lacking: Lacking,
        placing: Placing,
        states: States,
        keeper: Any = None,
        job_id: str | None = None,
        caller: str | None = None,
    ) -> None:
        """`failed`: calls that have raised under earlier claims of the job; they count. `job_id` is for the logs.

        `caller`: the actor that this process is; replicas stop its calls when it dies.
        """
        self._handles = handles
        self._limits = limits
        self._metrics = metrics
        self._failed = dict(failed)
        self._demand = demand
        self._placing, self._states = placing, states
        self._keeper = keeper
        self._job_id = job_id
        self._deaths = deaths
        self._lacking = lacking
        self._caller = caller
        self._computing = 0
        self.progress = progress

    @property
    def idle(self) -> bool:
        """Whether no stage works for the job."""
        return self._computing == 0

    def expect(self, stage: StageName, calls: int) -> None:
        """The job will call a stage so often, or find as many outputs kept."""
        self.progress.expect_calls(stage, calls)
        self._demand.expect(stage, calls)

    async def one(self, stage: StageName, *inputs: Any, params: Any, seed: int, number: int = 0) -> Pair:
        """The reference to the only value of a call, the `number`-th of this stage, and what is said of it.

        Raises:
            JobFailure: the stage raised, took too long, gave another number of values, or its replicas kept dying.
            OutputLostError: an input died with its node.
        """
        given = [pair async for pair in self.outputs(stage, *inputs, params=params, seed=seed, number=number)]
        if len(given) != 1:
            raise StageFailedError(f"Stage {stage} gave {len(given)} values where one was expected.")
        return given[0]

    async def outputs(
        self, stage: StageName, *inputs: Any, params: Any, seed: int, number: int = 0
    ) -> AsyncGenerator[tuple[Any, Info], None]:
        """References to the values of a call, each as soon as it is there. Raises as `one` does."""
        self.progress.sent(stage)
        given, budget, part = 0, _Budget(), await self._states.find_state(self, stage, number)
        async with self._placing.enter(stage, params, number, part) as ticket:
            while True:
                own = Try(asyncio.get_running_loop().time())
                try:
                    async with aclosing(self._call(stage, inputs, params, seed, ticket, part, own)) as stream:
                        async for payload, info in stream:
                            own.began = own.began or info["kind"] != "yielded"
                            if info["kind"] == "output" and info["index"] < given:
                                continue
                            if info["kind"] in ("state", "yielded"):
                                self._stopped(stage, number, params, payload, info, ticket, part)
                                continue
                            self._told(stage, number, params, info, ticket, part)
                            if info["kind"] == "progress":
                                budget.reached(info["step"] / max(1, info["total"]))
                            if info["kind"] == "output":
                                given += 1
                                budget = _Budget()
                                yield payload, info
                    if given:
                        return
                except Exception as error:
                    self._again(stage, params, ticket, part)
                    if part.state is not None and fault_of(error) is Fault.OUTPUT_LOST and not part.sought:
                        logger.warning("A state of stage %s died with its node; the kept one is looked for.", stage)
                        part.take(await self._states.find_state(self, stage, number))
                        self._again(stage, params, ticket, part)
                    else:
                        await self._judge(stage, error, budget, own, number)

    def _told(self, stage: StageName, number: int, params: Any, info: Info, ticket: Ticket | None, part: Part) -> None:
        """What a replica says of a call that it computes."""
        whole_s = self._placing.whole_s(stage, params)
        if info["kind"] != "started" and part.goes_on(info.get("step")):
            self.progress.resumed(stage, number, part.step, part.total, part.parked_s)
            self._metrics.parked(stage, part.parked_s)
        if info["kind"] == "output":
            info["run_s"] += part.before_s
            if info.get("batch", 1) == 1:
                self._placing.pace.learn(stage, params, info["run_s"])
        self.progress.info(stage, info, number)
        if info["kind"] == "started":
            part.begin(asyncio.get_running_loop().time())
            if ticket is not None:
                ticket.began(info.get("at"), whole_s if info.get("stops") else 0.0)
        elif info["kind"] == "progress" and ticket is not None:
            ticket.reached(info["step"], info["total"], whole_s)

    def _stopped(
        self, stage: StageName, number: int, params: Any, state: Any, info: Info, ticket: Ticket | None, part: Part
    ) -> None:
        """A call has given its state, and goes on; or has stopped, and waits for its turn."""
        began = info["kind"] == "state" or info["total"] > 0
        if began:
            part.reached(state, info["step"], info["total"], info["run_s"])
            self._states.write_state(stage, number, part)
        if info["kind"] == "yielded" and ticket is not None:
            if began:
                part.stopped_s = asyncio.get_running_loop().time()
                self._placing.yields += ticket.urged
                self.progress.yielded(stage, number, part.step, part.total, ticket.wait_s if ticket.urged else None)
                self._metrics.yielded(stage)
            self._again(stage, params, ticket, part)

    def _again(self, stage: StageName, params: Any, ticket: Ticket | None, part: Part) -> None:
        """A call is nowhere now, and will take its turn with what is left of it."""
        if ticket is not None:
            left_s = part.left(self._placing.whole_s(stage, params))
            ticket.again(left_s, step=part.step, yields=self._placing.yields)

    async def restored(
        self, keeper: Any, stage: StageName, record: Mapping[str, Any], number: int = 0, origin: Origin = "restored"
    ) -> Any | None:
        """The reference to a kept output; None where its file is gone or damaged, so that it must be made again.

        Raises:
            StoreAwayError: the artifact store is away; the file may well be there.
        """
        payload = await self.loaded(keeper, stage, record, number)
        if payload is not None:
            self.progress.restored(stage, int(record["bytes"]), number, origin)
            self._metrics.taken_over(stage, origin, float(record.get("run_s") or 0.0))
        return payload

    async def loaded(self, keeper: Any, stage: StageName, record: Mapping[str, Any], number: int = 0) -> Any | None:
        """As `restored`, of any file that is kept for a stage, and without a word of it."""
        budget = _Budget()
        while True:
            own = Try(asyncio.get_running_loop().time())
            response = keeper.options(stream=True).load.remote(record["key"], record["sha256"])
            try:
                async with asyncio.timeout(_LOAD_S), aclosing(pairs(response)) as stream:  # type: ignore[type-var]
                    payload, _ = await anext(stream)
                return payload
            except asyncio.CancelledError:
                response.cancel()
                raise
            except TimeoutError:
                response.cancel()
                raise StoreAwayError(f"The artifact store has not given a checkpoint for {_LOAD_S:g} s.") from None
            except Exception as error:
                response.cancel()
                if fault_of(error).whose == "platform" or fault_of(error) is Fault.REPLICA_DIED:
                    with suppress(ReplicaLostError):  # what kills the keeper is made again
                        await self._judge(stage, error, budget, own, number, keeper=True)
                        continue
                logger.warning("Checkpoint %s of stage %s is not used: %s", record["key"], stage, error)
                return None

    async def finish(self, stage: StageName, chunks: Sequence[Any], **options: Any) -> dict[str, Any]:
        """Have the stage's `chunks` joined; gives the description of what was kept. Raises as `one` does.

        Raises:
            StoreAwayError: the artifact store is full or away.
        """
        joiner = self._handles[stage] if self._keeper is None else self._keeper
        budget = _Budget()
        while True:
            own = Try(asyncio.get_running_loop().time(), began=True)
            response = joiner.finish.remote(*chunks, **options)
            try:
                async with asyncio.timeout(self._limits.run_s[stage]):
                    made: dict[str, Any] = await response
                return made
            except TimeoutError:
                response.cancel()
                if self._keeper is None:
                    raise self._too_long(stage) from None
                said = f"The artifact store has not taken a video for {self._limits.run_s[stage]:g} s."
                raise StoreAwayError(said) from None
            except asyncio.CancelledError:
                response.cancel()
                raise
            except Exception as error:
                await self._judge(stage, error, budget, own, keeper=self._keeper is not None)

    async def _call(
        self,
        stage: StageName,
        inputs: Sequence[Any],
        params: Any,
        seed: int,
        ticket: Ticket | None,
        part: Part,
        own: Try,
    ) -> AsyncGenerator[tuple[Any, Info], None]:
        loop = asyncio.get_running_loop()
        sent = loop.time()
        since: float | None = None  # waiting for a replica is not limited, computing is
        started: float | None = None
        ended, came = False, cast("Pair | None", None)
        with self._demand.call(stage) as call, self._lacking.call(stage, self.progress) as waiting, self._counted():
            run = self._handles[stage].options(stream=True).run
            about = {"params": params, "seed": seed, "job": self._job_id, "stage": stage, "caller": self._caller}
            if ticket is not None:
                about["state_every_s"] = self._limits.state_every_s
            response, stream, came = await begun(run, inputs, about, ticket, part.state)
            try:
                while True:
                    try:
                        until = None if since is None else since + self._limits.run_s[stage] - part.counted_s
                        async with asyncio.timeout_at(until) as limit:
                            payload, info = await anext(stream) if came is None else came
                    except StopAsyncIteration:
                        ended = True
                        return
                    except TimeoutError:
                        if limit.expired():
                            raise self._too_long(stage) from None
                        raise
                    came = None
                    if info["kind"] == "started":
                        since = started = loop.time()
                        self._lacking.began(waiting)
                        self._demand.began(call, info.get("batch", 1))
                        if load_s := info.get("load_s"):
                            self._demand.loaded(stage, load_s)
                        self._metrics.queued(stage, started - sent)
                    elif info["kind"] == "state":
                        started = loop.time()  # what was before is not lost any more
                    yield payload, info
                    if info["kind"] == "output":  # with the seconds of its parts
                        call.run_s = info["run_s"]
            finally:
                if not ended:
                    response.cancel()
                    if started is not None:
                        own.lost_s = (loop.time() - started) / call.batch
                        self._metrics.wasted(stage, own.lost_s)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._computing += 1
        try:
            yield
        finally:
            self._computing -= 1

    async def _judge(
        self, stage: StageName, error: Exception, budget: _Budget, own: Try, number: int = 0, *, keeper: bool = False
    ) -> None:
        """Return, after a pause, when the call should be repeated, else raise what the error means.

        `keeper`: it was one to the keeper, for that stage.
        """
        if isinstance(error, JobFailure):
            raise error
        fault, reason = fault_of(error), reason_of(error)
        if fault is Fault.OUTPUT_LOST:
            raise OutputLostError(f"An input of stage {stage} died with its node.") from error
        if fault is Fault.STORE_AWAY:
            raise StoreAwayError(words_of(error)) from error
        asked = "The keeper" if keeper else f"Stage {stage}"
        if fault.whose == "platform":
            budget.waits += 1
            said = f"{asked} has no replica that takes a call, which is asked for again: {words_of(error)}"
            self.progress.waits(stage, said)
            logger.warning("%s", said)
            await asyncio.sleep(self._pause_s(budget.waits))
        elif fault is Fault.REPLICA_DIED:
            if await self._deaths.charged(dead_replica(error), own):
                budget.lost += 1
                if budget.lost >= self._limits.attempts:
                    raise ReplicaLostError(
                        f"The replica of stage {stage} died under this job {budget.lost} times, the limit of "
                        "pipeline.stage_attempts; look into its log for what killed it."
                    ) from error
            if not keeper:
                self.progress.retried(stage, budget.lost, reason, number, own.lost_s)
            if budget.lost > 1:
                await asyncio.sleep(self._pause_s(budget.lost - 1))
        else:
            failed = self._failed.get(stage, 0) + 1
            if fault.whose == "job" or failed > self._limits.failures:
                raise stage_failed(stage, error) from error
            self._failed[stage] = failed
            self.progress.failed(stage, number, reason)
            logger.warning("Stage %s raised and is asked again: %s", stage, stage_failed(stage, error))
            await asyncio.sleep(self._limits.backoff_s * 2 ** (failed - 1))
        self._metrics.retried(stage)

    def _pause_s(self, times: int) -> float:
        return float(min(MAX_PAUSE_S, self._limits.backoff_s * 2 ** min(times - 1, 20)))

    def _too_long(self, stage: StageName) -> StageTimeoutError:
        return StageTimeoutError(
            f"Stage {stage} computed for more than {self._limits.run_s[stage]:g} s, the limit of "
            f"stages.{stage}.run_timeout_s; raise it or ask for fewer steps."
        )
