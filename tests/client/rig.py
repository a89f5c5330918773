"""What the client's tests hold in their hands: a clock that moves by pauses alone, and an async client that blocks."""

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

from client import AsyncClient, Health, Pools
from tests.client.wire import Wire

MakeClient = Callable[..., Any]
DEADLINE_S = 120.0


def until(wire: Wire, pattern: str, times: int) -> None:
    """Until the server has been asked so often."""
    deadline = time.monotonic() + DEADLINE_S
    while wire.count(pattern) < times:
        assert time.monotonic() < deadline, f"{wire.count(pattern)} of {times} requests like {pattern!r} came"
        time.sleep(0.01)  # between two looks


class Timeline:
    """Time that passes only where the client pauses, in seconds."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def clock(self) -> float:
        return sum(self.pauses)


class Blocking:
    """An `AsyncClient` that is called like a `Client`."""

    def __init__(self, client: AsyncClient, runner: asyncio.Runner) -> None:
        self._client, self._runner = client, runner
        self.base_url = client.base_url
        self.videos = BlockingVideos(client, runner)

    def health(self) -> Health:
        return self._runner.run(self._client.health())

    def pools(self) -> Pools:
        return self._runner.run(self._client.pools())


class BlockingVideos:
    """Runs every verb to its end; an iteration is collected."""

    def __init__(self, client: AsyncClient, runner: asyncio.Runner) -> None:
        self._client, self._runner = client, runner

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        def blocking(*args: Any, **kwargs: Any) -> Any:
            result = getattr(self._client.videos, verb)(*args, **kwargs)
            if inspect.isasyncgen(result):

                async def collected() -> list[Any]:
                    return [item async for item in result]

                return self._runner.run(collected())
            return self._runner.run(result)

        return blocking
