"""One plain class that hosts any stage, or several that live together: load, warm up, run, report, stop, stay healthy.

Takes the path of a stage's class ("stages.t2i:T2I"), a preset and a device. `run` is an async generator of (payload,
info) pairs, see `deployments.on_ray.streams`: `started` when the device is free, `progress` at most three times a
second, and the `output`; or `yielded`, where the call was told to stop (`pause`) or the replica is: then it stops at
its next step, if the stage can, and gives the state from which another replica goes on.

One thread is the device's lock: loading, computing and post-processing happen
on it, one call after the other, so two jobs never share an accelerator, and a call that is cancelled keeps the device
until the stage has really stopped, which is at its next `report`. With a `batch`, calls of one shape that wait while
the device is busy are computed together once it is free (`deployments.replicas.turns`). Stages that live together take
turns on the device, and hold their common layers once (`stages.v2v.together`).

With a finisher (`deployments.files.mp4:Mp4Finisher`) each value is post-processed before it leaves, and `finish` joins
the results. Runs without Ray too. Knows nothing of jobs, HTTP or the other stages.
"""

import asyncio
import logging
import os
import pkgutil
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from functools import partial
from typing import Any, Protocol, cast

from deployments.errors import ConfigError, StartError
from deployments.observe.logs import Format, Level, job_context, set_up
from deployments.observe.metrics import StageMetrics
from deployments.on_ray.ray_internals import actor_ended, own_replica, when_stopped
from deployments.replicas.memory import PeakMemory
from deployments.replicas.turns import Call, Teller, Turns
from deployments.replicas.warmup import warm_up
from stages.base import BatchStage, Cancelled, Stage
from stages.presets import get_preset
from stages.settings import with_speeds
from stages.state import DenoisingState, Yielded, can_yield
from stages.types import STAGE_NAMES, StageName

logger = logging.getLogger(__name__)

_CALLER_S = 1.0  # between two looks at whether a call's caller lives


class Finisher(Protocol):
    """What a replica may do with its stage's values before they leave."""

    def encode(self, value: Any) -> Any:
        """What leaves in the value's place; needs `nbytes`."""

    def assemble(self, chunks: Any, key: str, provenance: Mapping[str, Any], before: str | None = None) -> Any:
        """Join what `encode` gave, behind the result kept under `before`; returns a small dataclass."""


def resolve(path: str) -> Any:
    """The object at "package.module:name".

    Raises:
        ConfigError: the path is malformed or leads nowhere.
    """
    try:
        return pkgutil.resolve_name(path)
    except (ValueError, ImportError, AttributeError) as error:
        raise ConfigError(f"{path!r} cannot be imported: {error}; write a path like 'stages.t2i:T2I'.") from error


class Replica:
    """Hosts one stage."""

    def __init__(
        self,
        factory: str,
        preset: str,
        *,
        device: str = "cpu",
        options: Mapping[str, Any] | None = None,
        threads: int | None = None,
        finisher: str | None = None,
        finisher_options: Mapping[str, Any] | None = None,
        finished: StageName | None = None,
        stall_limit_s: float = 600.0,
        glimpse_every: int = 0,
        batch: tuple[int, float] = (1, 0.0),
        guests: Mapping[StageName, tuple[str, Mapping[str, Any]]] | None = None,
        logs: tuple[Format, Level] | None = None,
        gpu: str | None = None,
        speeds: Mapping[StageName, Mapping[str, Any]] | None = None,
    ) -> None:
        """Load and warm up. With `logs`, this process' log is set up so; with `gpu`, it sees that one alone.

        `batch`: how many calls are computed at once at most, and seconds that the first waits for as many.
        `glimpse_every`: denoising steps between two that may be shown as pictures; 0: none is.
        `finished`: the stage whose values the finisher gets; the replica's own, when left out. `guests`: path and
        options of stages that live here, too. `speeds`: knobs that are turned otherwise than in the preset
        (`stages.speed`).

        Raises:
            StartError: one sentence on what is wrong with the path, the preset, the weights, the warm-up or the batch.
        """
        began = time.monotonic()
        if logs is not None:
            set_up(*logs)
        self._stall_limit_s, self._glimpse_every = stall_limit_s, glimpse_every
        self._last_sign: float | None = None  # monotonic; None while the device is idle
        self._device = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._finisher: Finisher | None = resolve(finisher)(**(finisher_options or {})) if finisher else None
        if gpu is not None:  # before CUDA looks; Ray, which counts GPUs, may have named another
            os.environ.update(CUDA_DEVICE_ORDER="PCI_BUS_ID", CUDA_VISIBLE_DEVICES=gpu)
        asked = [(factory, options or {}), *(guests or {}).values()]
        loaded = self._device.submit(_load, asked, preset, device, threads, speeds or {}).result()
        self._stage = loaded[0]
        self._stages: dict[str, Stage] = {stage.name: stage for stage in loaded}
        self._finished = finished or self._stage.name
        chosen = with_speeds(get_preset(preset), speeds or {})
        self._inexact: dict[str, dict[str, Any]] = {name: chosen.speed(name).inexact for name in STAGE_NAMES}
        self._turns = Turns(*batch)
        self._peak = PeakMemory(device)
        self._batched: BatchStage | None = None
        if batch[0] > 1:
            if not isinstance(self._stage, BatchStage):
                raise StartError(
                    f"Stage {factory} computes one call after the other, so stages.{self._stage.name}.batch.size must "
                    f"be 1 or left out; it is {batch[0]}."
                )
            self._batched = self._stage
        self._metrics = {name: StageMetrics(name) for name in self._stages}
        self._ended: Counter[str] = Counter()
        self._who = f"{socket.gethostname()}:{os.getpid()}"
        self._named: dict[str, Call] = {}  # calls here that may be told to stop
        self._name, self._leaves = own_replica(), False
        if self._name is not None:
            when_stopped(self.leave)
        self._load_s = time.monotonic() - began

    def reconfigure(self, told: Mapping[str, Any]) -> None:
        """Ray Serve calls this at the start, and when a roll-out changes what a replica is told while it works."""
        set_up(*told["logs"])
        self._stall_limit_s, self._glimpse_every = told["stall_limit_s"], told["glimpse_every"]

    async def run(
        self,
        *inputs: Any,
        params: Any,
        seed: int,
        job: str | None = None,
        stage: StageName | None = None,
        caller: str | None = None,
        call: str | None = None,
        at: str | None = None,
        resume: DenoisingState | None = None,
        state_every_s: float = 0.0,
    ) -> AsyncIterator[Any]:
        """Compute one call; yields payload, info, payload, info, ... The log names `job`.

        `stage`: whose call it is, of those that live here; by default the replica's own. `caller`: the actor that wants
        it; when that has died, the call stops at its next step. `call`: its name, for one that may be told to stop.
        `at`: for the router. `resume`: where it stopped elsewhere. `state_every_s`: how often it gives a state.

        Raises:
            StageError: as the stage says.
            ConfigError: that stage does not live here.
        """
        name = stage or self._stage.name
        if name not in self._stages:
            raise ConfigError(f"Stage {name} does not live in this replica, which hosts {', '.join(self._stages)}.")
        batches = self._batched if name == self._stage.name and not inputs else None
        shape = batches.shape(params) if batches is not None else None
        loop = asyncio.get_running_loop()
        own = Call(loop, inputs, params, seed, job, shape, name, call, resume, state_every_s)
        self._turns.add(own)
        if call is not None:
            self._named[call] = own
            if self._leaves:
                self._stop(own)
        self._device.submit(self._turn)
        watch = None if caller is None else asyncio.create_task(_stop_with(caller, own))
        try:
            while (pair := await own.queue.get()) is not None:
                payload, info = pair
                yield payload
                yield info
            error, own.error = own.error, None
            if error is not None:
                raise error
        finally:
            error = None  # it holds this frame
            own.stop.set()
            if watch is not None:
                watch.cancel()
            if call is not None and self._named.get(call) is own:
                del self._named[call]
            if not self._turns.withdraw(own) and not own.over.done():
                await asyncio.wait([asyncio.wrap_future(own.over)])

    async def pause(self, call: str, at: str | None = None) -> bool:
        """Tell a call to stop at its next step; whether it is here. `at` is for the router."""
        own = self._named.get(call)
        if own is None:
            return False
        self._stop(own)
        return True

    def leave(self) -> None:
        """This replica is to stop: so are its calls, each at its next step. From any thread."""
        self._leaves = True
        for own in list(self._named.values()):
            self._stop(own)

    def _stop(self, call: Call) -> None:
        if self._turns.withdraw(call):
            call.give_up(None)
            call.end()
        else:
            call.pause.ask()

    async def finish(
        self, *chunks: Any, key: str, provenance: Mapping[str, Any], before: str | None = None
    ) -> dict[str, Any]:
        """Join the post-processed outputs of a job, behind the kept result `before`; gives its description."""
        if self._finisher is None:
            raise ConfigError(f"Stage {self._stage.name} has no finisher; set stages.{self._stage.name}.finisher.")
        made = await asyncio.to_thread(self._finisher.assemble, chunks, key, provenance, before)
        return asdict(made) if is_dataclass(made) and not isinstance(made, type) else dict(made)

    async def ended(self) -> dict[str, int]:
        """Calls that this replica has ended: completed, cancelled, failed."""
        return dict(self._ended)

    def check_health(self) -> None:
        """Raise when a running call has given no sign for too long: Ray Serve then replaces the replica."""
        sign = self._last_sign
        if sign is not None and (silent_s := time.monotonic() - sign) > self._stall_limit_s:
            raise RuntimeError(
                f"Stage {self._stage.name} has reported no step for {silent_s:.0f} s, "
                f"the limit is {self._stall_limit_s:.0f} s."
            )

    # On the device's thread

    def _turn(self) -> None:
        """One call, or several at once; nothing where an earlier turn has taken them along."""
        calls = self._turns.take()
        try:
            for call in calls:
                self._metrics[call.stage].waited(time.monotonic() - call.made)
            if len(calls) == 1:
                self._alone(calls[0])
            elif calls:
                self._together(calls)
        finally:
            self._last_sign = None

    def _alone(self, call: Call) -> None:
        def sign() -> None:
            self._last_sign = time.monotonic()

        sign()
        report = Teller(call, sign, self._glimpse_every)
        stage = self._stages[call.stage]
        stops = call.name is not None and can_yield(stage)
        more: dict[str, Any] = {"offer": call.pause, "resume": call.resume} if stops else {}
        self._peak.begin()
        call.start(load_s=self._load_s, at=self._name, stops=stops)
        self._settle(call, lambda: stage(*call.inputs, params=call.params, seed=call.seed, report=report, **more))

    def _together(self, calls: Sequence[Call]) -> None:
        """As a batch. One that is cancelled leaves at the next step; a batch that raises is computed call by call."""

        def report(step: int, total: int) -> None:
            for call in calls:
                if not call.over.done():
                    try:
                        call.report(step, total)
                    except Cancelled as cancelled:
                        self._end(call, "cancelled", cancelled)
            if all(call.over.done() for call in calls):
                raise Cancelled("Every call of the batch was cancelled.")
            self._last_sign = time.monotonic()

        began = self._last_sign = time.monotonic()
        self._peak.begin()
        for call in calls:
            call.start(len(calls), self._load_s)
        try:
            assert self._batched is not None
            values = self._batched.batch([(call.params, call.seed) for call in calls], report)
            if len(values) != len(calls):
                raise RuntimeError(f"it gave {len(values)} values for {len(calls)} calls")
        except Exception as error:
            left = [call for call in calls if not call.over.done()]
            if left:  # what raises alone, too, raises for its own job then
                said = (self._stage.name, len(calls), error)
                logger.warning("Stage %s: %d calls at once raised %r; each is computed alone.", *said)
            for call in left:
                self._alone(call)
            return
        share_s = (time.monotonic() - began) / len(calls)
        for call, value in zip(calls, values, strict=True):
            if not call.over.done():
                self._settle(call, partial(_same, value), share_s, len(calls))

    def _settle(self, call: Call, compute: Callable[[], Any], spent_s: float = 0.0, batch: int = 1) -> None:
        """Compute, post-process and hand out a call's value, and end it however that goes."""
        outcome, error = "completed", cast("BaseException | None", None)
        since = time.monotonic()
        with job_context(call.job):
            try:
                call.stop_if_asked()
                value = compute()
                finishes = self._finisher is not None and call.stage == self._finished
                payload = self._finisher.encode(value) if self._finisher and finishes else value
                run_s = spent_s + time.monotonic() - since
                call.give(payload, run_s, self._who, batch, self._peak.mb(), self._inexact[call.stage])
                self._metrics[call.stage].produced(run_s, int(payload.nbytes))
            except Yielded as told:
                outcome = "yielded"
                call.give_up(told.state)
            except Cancelled as cancelled:
                outcome, error = "cancelled", cancelled
            except BaseException as raised:
                outcome, error = "failed", raised
            self._end(call, outcome, error)
            error = None  # which holds this frame, and so what came in

    def _end(self, call: Call, outcome: str, error: BaseException | None) -> None:
        self._metrics[call.stage].ended(outcome)
        self._ended[outcome] += 1
        with job_context(call.job):
            computed_s = time.monotonic() - call.started
            logger.info("Stage %s: a call is %s after %.2f s.", call.stage, outcome, computed_s)
        self._last_sign = None  # before anybody learns of the end; a batch that goes on gives its next sign at once
        call.end(error)


async def _stop_with(caller: str, call: Call) -> None:
    """Nobody takes what a dead caller has asked for, and Ray does not cancel it."""
    while not await asyncio.to_thread(actor_ended, caller):
        await asyncio.sleep(_CALLER_S)
    logger.warning("The caller of a call of stage %s has died; the call stops.", call.stage)
    call.stop.set()


def _same(value: Any) -> Any:
    return value


def _load(
    asked: Sequence[tuple[str, Mapping[str, Any]]],
    preset_name: str,
    device: str,
    threads: int | None,
    speeds: Mapping[StageName, Mapping[str, Any]],
) -> list[Stage]:
    """On the device's thread, so that what a library keeps per thread is set where it is used."""
    loaded: list[Stage] = []
    for factory, options in asked:
        with _starting(factory, preset_name, device):
            preset = with_speeds(get_preset(preset_name), speeds)
            stage_class = resolve(factory)
            if threads is not None and (torch := sys.modules.get("torch")) is not None:
                torch.set_num_threads(threads)
            loaded.append(stage_class.load(preset, device, **options))
    _share(loaded, preset_name)
    for (factory, _), stage in zip(asked, loaded, strict=True):
        with _starting(factory, preset_name, device):
            warm_up(stage, get_preset(preset_name))
    return loaded


def _share(loaded: Sequence[Stage], preset: str) -> None:
    """What stages that live together have in common is held once."""
    named = {stage.name: stage for stage in loaded}
    if "i2v" in named and "v2v" in named and "torch" in sys.modules:
        from stages.v2v.together import share_backbone  # torch: a stand-in for a stage does without

        saved = share_backbone(get_preset(preset), named["i2v"], named["v2v"])
        logger.info("Stages i2v and v2v share %.1f MB.", saved / 1e6)


@contextmanager
def _starting(factory: str, preset: str, device: str) -> Iterator[None]:
    """Whatever goes wrong in here becomes one sentence."""
    try:
        yield
    except StartError:
        raise
    except Exception as error:
        raise StartError(_sentence(factory, preset, device, error)) from error


def _sentence(factory: str, preset: str, device: str, error: Exception) -> str:
    text = " ".join(str(error).split()) or "no message"
    return f"Stage {factory} with preset {preset!r} on {device} did not start: {type(error).__name__}: {text}"
