"""One plain class that hosts any stage: load, warm up, run, report, stop, stay healthy.

Takes the path of a stage's class ("stages.t2i:T2I"), a preset and a device. `run` is an async generator of (payload,
info) pairs, see `deployments.streams`: `started` when the device is free, `progress` at most three times a second, and
the `output`. One thread is the device's lock: loading, computing and post-processing happen
on it, one call after the other, so two jobs never share an accelerator, and a call that is cancelled keeps the device
until the stage has really stopped, which is at its next `report`. With a `batch`, calls of one shape that wait while
the device is busy are computed together once it is free (`deployments.turns`).

With a finisher (`deployments.encode:Mp4Finisher`) each value is post-processed before it leaves, and `finish` joins
the results. Runs without Ray too. Knows nothing of jobs, HTTP or the other stages.
"""

import asyncio
import importlib
import logging
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, is_dataclass
from functools import partial
from typing import Any, Protocol, cast

from deployments.errors import ConfigError, StartError
from deployments.logs import Format, Level, about, set_up
from deployments.metrics import StageMetrics
from deployments.turns import Call, Turns
from deployments.warmup import warm_up
from stages.base import BatchStage, Cancelled, Stage
from stages.presets import Preset, get_preset

logger = logging.getLogger(__name__)


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
    module, _, name = path.partition(":")
    if not module or not name:
        raise ConfigError(f"{path!r} is not a path like 'stages.t2i:T2I'.")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{path!r} cannot be imported: {error}.") from error


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
        stall_limit_s: float = 600.0,
        batch: tuple[int, float] = (1, 0.0),
        logs: tuple[Format, Level] | None = None,
    ) -> None:
        """Load and warm up. With `logs`, this process' log is set up so.

        `batch`: how many calls are computed at once at most, and seconds that the first waits for as many.

        Raises:
            StartError: one sentence on what is wrong with the path, the preset, the weights, the warm-up or the batch.
        """
        if logs is not None:
            set_up(*logs)
        self._stall_limit_s = stall_limit_s
        self._last_sign: float | None = None  # monotonic; None while the device is idle
        self._device = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._finisher: Finisher | None = resolve(finisher)(**(finisher_options or {})) if finisher else None
        self._stage: Stage = self._device.submit(_load, factory, preset, device, options or {}, threads).result()
        self._turns = Turns(*batch)
        self._batched: BatchStage | None = None
        if batch[0] > 1:
            if not isinstance(self._stage, BatchStage):
                raise StartError(
                    f"Stage {factory} computes one call after the other, so stages.{self._stage.name}.batch.size must "
                    f"be 1 or left out; it is {batch[0]}."
                )
            self._batched = self._stage
        self._metrics = StageMetrics(self._stage.name)
        self._ended: Counter[str] = Counter()
        self._who = f"{socket.gethostname()}:{os.getpid()}"

    async def run(self, *inputs: Any, params: Any, seed: int, job: str | None = None) -> AsyncIterator[Any]:
        """Compute one call; yields payload, info, payload, info, ... The log names `job`.

        Raises:
            StageError: as the stage says.
        """
        shape = self._batched.shape(params) if self._batched is not None and not inputs else None
        call = Call(asyncio.get_running_loop(), inputs, params, seed, job, shape)
        self._turns.add(call)
        self._device.submit(self._turn)
        try:
            while (pair := await call.queue.get()) is not None:
                payload, info = pair
                yield payload
                yield info
            if call.error is not None:
                raise call.error
        finally:
            call.stop.set()
            if not self._turns.withdraw(call) and not call.over.done():
                await asyncio.wait([asyncio.wrap_future(call.over)])

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
                self._metrics.waited(time.monotonic() - call.made)
            if len(calls) == 1:
                self._alone(calls[0])
            elif calls:
                self._together(calls)
        finally:
            self._last_sign = None

    def _alone(self, call: Call) -> None:
        def report(step: int, total: int) -> None:
            self._last_sign = time.monotonic()
            call.report(step, total)

        self._last_sign = time.monotonic()
        call.start()
        self._settle(call, lambda: self._stage(*call.inputs, params=call.params, seed=call.seed, report=report))

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
        for call in calls:
            call.start(len(calls))
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
        with about(call.job):
            try:
                call.stop_if_asked()
                value = compute()
                payload = self._finisher.encode(value) if self._finisher else value
                run_s = spent_s + time.monotonic() - since
                call.give(payload, run_s, self._who, batch)
                self._metrics.produced(run_s, int(payload.nbytes))
            except Cancelled as cancelled:
                outcome, error = "cancelled", cancelled
            except BaseException as raised:
                outcome, error = "failed", raised
            self._end(call, outcome, error)

    def _end(self, call: Call, outcome: str, error: BaseException | None) -> None:
        self._metrics.ended(outcome)
        self._ended[outcome] += 1
        with about(call.job):
            computed_s = time.monotonic() - call.started
            logger.info("Stage %s: a call is %s after %.2f s.", self._stage.name, outcome, computed_s)
        self._last_sign = None  # before anybody learns of the end; a batch that goes on gives its next sign at once
        call.end(error)


def _same(value: Any) -> Any:
    return value


def _load(factory: str, preset_name: str, device: str, options: Mapping[str, Any], threads: int | None) -> Stage:
    """On the device's thread, so that what a library keeps per thread is set where it is used."""
    try:
        preset: Preset = get_preset(preset_name)
        stage_class = resolve(factory)
        if threads is not None and (torch := sys.modules.get("torch")) is not None:
            torch.set_num_threads(threads)
        stage: Stage = stage_class.load(preset, device, **options)
        warm_up(stage, preset)
    except StartError:
        raise
    except Exception as error:
        raise StartError(_sentence(factory, preset_name, device, error)) from error
    return stage


def _sentence(factory: str, preset: str, device: str, error: Exception) -> str:
    text = " ".join(str(error).split()) or "no message"
    return f"Stage {factory} with preset {preset!r} on {device} did not start: {type(error).__name__}: {text}"
