"""What the server waits for, each behind a wall of its own: a few threads, and a limit to the wait.

A database, a store or a controller that is frozen holds the threads of its own `Bulkhead` and no others: who needs it
is answered within its `wait_s`, or at once where all of its threads hang, and everybody else notices nothing. A
`Shared` answer is read once at a time, however many ask for it.

Knows nothing of what is called.
"""

import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Generic, ParamSpec, TypeVar

from deployments.errors import UnavailableError

P = ParamSpec("P")
T = TypeVar("T")
_END = object()


class Bulkhead:
    """Threads for blocking calls to one dependency. `about` is what a message calls it: "The artifact store"."""

    def __init__(self, about: str, *, threads: int, wait_s: float) -> None:
        self.about, self.wait_s = about, wait_s
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, about.rpartition(" ")[2])
        self._hanging = 0  # calls that were given up and still hold their thread
        self._lock = threading.Lock()

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The call's result, computed in a thread.

        Raises:
            UnavailableError: there is none after `wait_s`, or every thread hangs; the call may still take effect.
        """
        if self._hanging >= self._threads:
            raise self._unavailable()
        context = contextvars.copy_context()
        running = self._pool.submit(context.run, partial(call, *args, **kwargs))
        waiting = asyncio.wrap_future(running)
        done, _ = await asyncio.wait((waiting,), timeout=self.wait_s)
        if done:
            return waiting.result()
        if not running.cancel():
            with self._lock:
                self._hanging += 1
            running.add_done_callback(self._let_go)
        waiting.cancel()
        raise self._unavailable()

    async def wait(self, answer: Awaitable[T]) -> T:
        """An answer that needs no thread.

        Raises:
            UnavailableError: there is none after `wait_s`.
        """
        try:
            async with asyncio.timeout(self.wait_s):
                return await answer
        except TimeoutError:
            raise self._unavailable() from None

    async def iterate(self, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        """`pieces`, each read in a thread. Raises as `run` does."""
        while (piece := await self.run(next, pieces, _END)) is not _END:
            assert isinstance(piece, bytes)
            yield piece

    def _let_go(self, _: Future[T]) -> None:
        with self._lock:
            self._hanging -= 1

    def _unavailable(self) -> UnavailableError:
        return UnavailableError(self.about, self.wait_s)


class Shared(Generic[T]):
    """The newest answer to what many ask: read by one at a time, `fresh_s` old at most. Lives in one event loop."""

    def __init__(
        self, read: Callable[[], Awaitable[T]], fresh_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read, self._fresh_s, self._clock = read, fresh_s, clock
        self._read_at: float | None = None
        self._reading: asyncio.Task[T] | None = None
        self.known: T | None = None  # however old

    async def get(self, max_age_s: float | None = None) -> T:
        """An answer of that age at most, `fresh_s` if not said. Raises what reading raised."""
        limit_s = self._fresh_s if max_age_s is None else max_age_s
        if self.known is not None and self._read_at is not None and self._clock() - self._read_at < limit_s:
            return self.known
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._refresh())
        return await asyncio.shield(self._reading)

    async def _refresh(self) -> T:
        began = self._clock()
        self.known = await self._read()
        self._read_at = began
        return self.known
