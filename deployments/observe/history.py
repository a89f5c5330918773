"""The last hour of the pools: looked at every `EVERY_S` by one task, kept in memory, bounded.

Takes what reads the pools and what the agents of Ray's nodes say; gives moments, and the memory of each stage's
replicas. Each process that serves HTTP has one of its own, which begins when the process does. Knows nothing of HTTP.
"""

import asyncio
import itertools
import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from client.schema import PoolMoment, Pools

logger = logging.getLogger(__name__)

EVERY_S, SPAN_S = 20.0, 3600.0
_MEMORY_EVERY = 3  # looks
_REPLICA_MB = re.compile(r'^ray_component_rss_mb\{[^}]*Component="ray::ServeReplica:[^":]*:(\w+)[^}]*\} (\S+)', re.M)

NodeTexts = Callable[[], Awaitable[Sequence[str | None]]]
"""What the agent of each living node says; None where one does not answer."""


class PoolHistory:
    """See the top of this module. Outlives the application that a roll-out of settings replaces."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self.moments: deque[PoolMoment] = deque(maxlen=round(SPAN_S / EVERY_S))
        self.memory: Mapping[str, int] = {}  # bytes of the replicas of each deployment
        self._watching: asyncio.Task[None] | None = None

    def watch(
        self,
        read: Callable[[], Awaitable[Pools]],
        nodes: NodeTexts,
        now: Callable[[], Awaitable[float]],
        after_s: float = 0.0,
    ) -> None:
        """Look from then on, in the running event loop, and in the place of who looked before."""
        if self._watching is not None:
            self._watching.cancel()
        self._watching = asyncio.get_running_loop().create_task(self._watch(read, nodes, now, after_s))

    @property
    def is_watched(self) -> bool:
        return self._watching is not None and not self._watching.done()

    async def _watch(
        self,
        read: Callable[[], Awaitable[Pools]],
        nodes: NodeTexts,
        now: Callable[[], Awaitable[float]],
        after_s: float,
    ) -> None:
        await asyncio.sleep(after_s)
        for turn in itertools.count():
            try:
                if turn % _MEMORY_EVERY == 0:  # agents say a lot, and memory changes slowly
                    self.memory = memory_of(text for text in await nodes() if text is not None)
                self.moments.append(moment_of(await read(), await now()))
            except Exception as error:
                logger.debug("The pools could not be looked at: %s", error)  # who asks for them is told
            await asyncio.sleep(self._every_s)


def moment_of(pools: Pools, at: float) -> PoolMoment:
    return PoolMoment(
        at=round(at, 1),
        queued=[stage.queued for stage in pools.stages],
        running=[stage.running for stage in pools.stages],
        replicas=[stage.replicas for stage in pools.stages],
    )


def memory_of(texts: Iterable[str]) -> dict[str, int]:
    """Bytes that the replicas of each deployment hold, by what Ray's agents say."""
    found: dict[str, int] = {}
    for text in texts:
        for deployment, mb in _REPLICA_MB.findall(text):
            found[deployment] = found.get(deployment, 0) + round(float(mb) * 1e6)
    return found
