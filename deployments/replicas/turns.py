"""The calls of one replica that wait for its device, and who goes next: the oldest, with those that may join it.

    add, add, add ─► waiting ─► take ─► one call, or a batch of one shape

Nobody waits for company while the device is free, unless `wait_s` says so: a batch forms of what has come while the
device was busy. Calls of another shape keep their places. `add` and `withdraw` belong to the event loop, `take` to the
device's thread. A `Call` is also the channel from that thread to the call's async generator. Knows nothing of stages.
"""

import asyncio
import io
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future
from types import MappingProxyType
from typing import Any

from PIL import Image, WebPImagePlugin  # noqa: F401 - else the first picture would wait for it

from deployments.on_ray.streams import Info, InfoKind
from stages.base import Cancelled
from stages.state import DenoisingState, Pause
from stages.types import UInt8

_PROGRESS_PERIOD_S = 0.3  # each message costs replica and pipeline some milliseconds of CPU
_Pair = tuple[Any, Info]


class Call:
    """One call of `deployments.replicas.replica`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        inputs: tuple[Any, ...],
        params: Any,
        seed: int,
        job: str | None = None,
        shape: Hashable = None,
        stage: str = "",
        name: str | None = None,
        resume: DenoisingState | None = None,
        state_every_s: float = 0.0,
    ) -> None:
        """Calls of equal `shape` may be computed together; None goes alone. `stage` is whose call it is.

        One with a `name` may be told to stop between two steps (`pause`), goes on from `resume`, and gives its state
        every `state_every_s`, unless that is 0.
        """
        self.inputs, self.params, self.seed, self.job, self.shape = inputs, params, seed, job, shape
        self.stage, self.name, self.resume = stage, name, resume
        keeps = state_every_s > 0
        self.pause = Pause(self._keep, state_every_s) if keeps else Pause()
        self.queue: asyncio.Queue[_Pair | None] = asyncio.Queue()
        self.stop = threading.Event()
        self.over: Future[None] = Future()  # done once the device has nothing more to do for it
        self.error: BaseException | None = None
        self.made = self.started = time.monotonic()
        self._loop = loop
        self._glimpse: Callable[[], UInt8] | None = None
        self._reported = self._gave = self.made

    def start(self, batch: int = 1, load_s: float = 0.0, at: str | None = None, *, stops: bool = False) -> None:
        """The device is its own now, or that of `batch` calls together; its replica took `load_s` to load.

        `at`: the replica's name. `stops`: whether it can stop between two steps.
        """
        self.started = self._reported = self._gave = (
            time.monotonic()
        )  # a short call says nothing between its start and its output
        if self.resume is not None:
            self._reported = 0.0  # its first step says whether it goes on from there
        queued_s = self.started - self.made
        about: Info = {"kind": "started", "last": False, "queued_s": queued_s, "load_s": load_s}
        self.put(None, {**about, "at": at, "stops": stops, **_in_batch(batch)})

    def report(self, step: int, total: int) -> None:
        """Tell of a step, now and then.

        Raises:
            Cancelled: nobody wants the output any more.
        """
        self.stop_if_asked()
        now = time.monotonic()
        if now - self._reported >= _PROGRESS_PERIOD_S:
            self._reported = now
            told: Info = {"kind": "progress", "last": False, "step": step, "total": total}
            make, self._glimpse = self._glimpse, None
            self.put(None, {**told, "glimpse": packed(make())} if make else told)

    def show(self, make: Callable[[], UInt8]) -> None:
        """How a picture of the step is made; it is, if the step is told of."""
        self._glimpse = make

    def give(
        self,
        payload: Any,
        run_s: float,
        replica: str,
        batch: int = 1,
        peak_memory_mb: float | None = None,
        speed: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """The output, its share of the seconds that its batch took, and the most memory that the batch needed.

        `speed`: the knobs of the replica that change bytes.
        """
        made: Info = {"kind": "output", "last": True, "index": 0, "run_s": run_s, "bytes": int(payload.nbytes)}
        if peak_memory_mb is not None:
            made["peak_memory_mb"] = peak_memory_mb
        self.put(payload, {**made, "replica": replica, "speed": dict(speed), **_in_batch(batch)})

    def give_up(self, state: DenoisingState | None) -> None:
        """It has stopped after a step, and may go on from `state` elsewhere; None: it has not begun."""
        self.put(state, self._about("yielded", state))

    def _keep(self, state: DenoisingState) -> None:
        self.put(state, self._about("state", state))

    def _about(self, kind: InfoKind, state: DenoisingState | None) -> Info:
        """A state's step, its bytes, and the seconds of computing since the one before."""
        said: Info = {"kind": kind, "last": kind == "yielded", "step": 0, "total": 0, "run_s": 0.0, "bytes": 0}
        if state is not None:
            now = time.monotonic()
            run_s, self._gave = now - self._gave, now
            said = {**said, "step": state.step, "total": state.total, "run_s": run_s, "bytes": state.nbytes}
        return said

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more comes, and what came in is let go of: it would lie in the object store as long as this call."""
        self.inputs, self.resume, self._glimpse, self.error = (), None, None, error
        self.over.set_result(None)
        self._from_thread(lambda: self.queue.put_nowait(None))

    def stop_if_asked(self) -> None:
        if self.stop.is_set():
            raise Cancelled("The call was cancelled.")

    def put(self, payload: Any, info: Info) -> None:
        self._from_thread(lambda: self.queue.put_nowait((payload, info)))

    def _from_thread(self, action: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(action)


class Teller:
    """The `report` of a call that is computed alone; with `every`, each so many steps it may show one as a picture."""

    def __init__(self, call: Call, sign: Callable[[], None], every: int = 0) -> None:
        self._call, self._sign, self._every = call, sign, every
        self._steps = 0
        if every:
            self.glimpse = self._glimpse  # what a stage looks for

    def __call__(self, step: int, total: int) -> None:
        """As `Call.report`, which says what it raises."""
        self._sign()
        self._call.report(step, total)

    def _glimpse(self, make: Callable[[], UInt8]) -> None:
        self._steps += 1
        if self._steps % self._every == 0:
            self._call.show(make)


def packed(pixels: UInt8) -> bytes:
    """A WebP of some hundred bytes."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=70)
    return file.getvalue()


class Turns:
    """See the top of this module."""

    def __init__(self, size: int = 1, wait_s: float = 0.0) -> None:
        """At most `size` calls go together; with `wait_s`, the oldest waits so long for that many."""
        self._size, self._wait_s = size, wait_s
        self._waiting: list[Call] = []
        self._changed = threading.Condition()

    def add(self, call: Call) -> None:
        """It waits from now on."""
        with self._changed:
            self._waiting.append(call)
            self._changed.notify()

    def withdraw(self, call: Call) -> bool:
        """Whether it still waited, and does no more."""
        with self._changed:
            if call not in self._waiting:
                return False
            self._waiting.remove(call)
            self._changed.notify()
            return True

    def take(self) -> list[Call]:
        """Those whose turn it is, which wait no more; none where nobody waits."""
        with self._changed:
            while self._waiting:
                together = self._together()
                left_s = together[0].made + self._wait_s - time.monotonic()
                if together[0].shape is None or len(together) >= self._size or left_s <= 0:
                    self._waiting = [call for call in self._waiting if call not in together]
                    return together
                self._changed.wait(left_s)
            return []

    def _together(self) -> list[Call]:
        first = self._waiting[0]
        if first.shape is None:
            return [first]
        return [call for call in self._waiting if call.shape == first.shape][: self._size]


def _in_batch(size: int) -> Info:
    """What says that a call was one of several; nothing where it was alone."""
    return {"batch": size} if size > 1 else {}  # type: ignore[typeddict-item]
