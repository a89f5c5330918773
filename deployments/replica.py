"""One plain class that hosts any stage: load, warm up, run, report, stop, stay healthy.

Takes the path of a stage's class ("stages.t2i:T2I"), a preset and a device. `run` is an async generator of (payload,
info) pairs, see `deployments.streams`: `started` when the device is free, `progress` at most three times a second, and
the `output`. One thread is the device's lock: loading, computing and post-processing happen
on it, one call after the other, so two jobs never share an accelerator, and a call that is cancelled keeps the device
until the stage has really stopped, which is at its next `report`.

With a finisher (`deployments.encode:Mp4Finisher`) each value is post-processed before it leaves, and `finish` joins
the results. Runs without Ray too. Knows nothing of jobs, HTTP or the other stages.
"""

import asyncio
import importlib
import logging
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, is_dataclass
from typing import Any, Protocol

from deployments.errors import ConfigError, StartError
from deployments.logs import Format, Level, about, set_up
from deployments.metrics import StageMetrics
from deployments.streams import Info
from deployments.warmup import warm_up
from stages.base import Cancelled, Stage
from stages.presets import Preset, get_preset

logger = logging.getLogger(__name__)

_PROGRESS_PERIOD_S = 0.3  # each message costs replica and pipeline some milliseconds of CPU
_Pair = tuple[Any, Info]


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
        logs: tuple[Format, Level] | None = None,
    ) -> None:
        """Load and warm up. With `logs`, this process' log is set up so.

        Raises:
            StartError: one sentence on what is wrong with the path, the preset, the weights or the warm-up.
        """
        if logs is not None:
            set_up(*logs)
        self._stall_limit_s = stall_limit_s
        self._last_sign: float | None = None  # monotonic; None while the device is idle
        self._device = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._finisher: Finisher | None = resolve(finisher)(**(finisher_options or {})) if finisher else None
        self._stage: Stage = self._device.submit(_load, factory, preset, device, options or {}, threads).result()
        self._metrics = StageMetrics(self._stage.name)
        self._ended: Counter[str] = Counter()
        self._who = f"{socket.gethostname()}:{os.getpid()}"

    async def run(self, *inputs: Any, params: Any, seed: int, job: str | None = None) -> AsyncIterator[Any]:
        """Compute one call; yields payload, info, payload, info, ... The log names `job`.

        Raises:
            StageError: as the stage says.
        """
        call = _Call(asyncio.get_running_loop())
        work = self._device.submit(self._compute, call, inputs, params, seed, job)
        work.add_done_callback(lambda _: call.close())
        try:
            while (pair := await call.queue.get()) is not None:
                payload, info = pair
                yield payload
                yield info
            work.result()
        finally:
            call.stop.set()
            if not work.cancel() and not work.done():
                await asyncio.wait([asyncio.wrap_future(work)])

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

    def _compute(self, call: "_Call", inputs: tuple[Any, ...], params: Any, seed: int, job: str | None) -> None:
        """On the device's thread."""
        with about(job):
            self._compute_in_log(call, inputs, params, seed)

    def _compute_in_log(self, call: "_Call", inputs: tuple[Any, ...], params: Any, seed: int) -> None:
        call.stop_if_asked()
        queued_s = time.monotonic() - call.made
        self._metrics.waited(queued_s)
        self._last_sign = time.monotonic()
        outcome = "failed"
        try:
            call.start(queued_s)
            self._produce(call, inputs, params, seed)
            outcome = "completed"
        except Cancelled:
            outcome = "cancelled"
            raise
        finally:
            self._last_sign = None
            self._metrics.ended(outcome)
            computed_s = time.monotonic() - call.made - queued_s
            logger.info("Stage %s: a call is %s after %.2f s.", self._stage.name, outcome, computed_s)
            self._ended[outcome] += 1

    def _produce(self, call: "_Call", inputs: tuple[Any, ...], params: Any, seed: int) -> None:
        def report(step: int, total: int) -> None:
            self._last_sign = time.monotonic()
            call.report(step, total)

        since = time.monotonic()
        value = self._stage(*inputs, params=params, seed=seed, report=report)
        payload = self._finisher.encode(value) if self._finisher else value
        run_s, nbytes = time.monotonic() - since, int(payload.nbytes)
        made: Info = {"kind": "output", "last": True, "index": 0, "run_s": run_s, "bytes": nbytes, "replica": self._who}
        call.put(payload, made)
        self._metrics.produced(run_s, nbytes)


class _Call:
    """The channel between one call's thread and its async generator."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.queue: asyncio.Queue[_Pair | None] = asyncio.Queue()
        self.stop = threading.Event()
        self.made = time.monotonic()
        self._loop = loop
        self._reported = self.made

    def put(self, payload: Any, info: Info) -> None:
        self._from_thread(lambda: self.queue.put_nowait((payload, info)))

    def start(self, queued_s: float) -> None:
        self._reported = time.monotonic()  # a short call says nothing between its start and its output
        self.put(None, {"kind": "started", "last": False, "queued_s": queued_s})

    def close(self) -> None:
        self._from_thread(lambda: self.queue.put_nowait(None))

    def stop_if_asked(self) -> None:
        if self.stop.is_set():
            raise Cancelled("The call was cancelled.")

    def report(self, step: int, total: int) -> None:
        self.stop_if_asked()
        now = time.monotonic()
        if now - self._reported >= _PROGRESS_PERIOD_S:
            self._reported = now
            self.put(None, {"kind": "progress", "last": False, "step": step, "total": total})

    def _from_thread(self, action: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(action)


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
