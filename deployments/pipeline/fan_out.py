"""With `pipeline.share_windows`: how many windows of one job are computed at once, all of a lone job, one under load.

    V2V windows, VFI chunks ─► FanOut.turn ─► sent, in the order of the jobs, then of the windows

`level` is the rule, pure: the replicas are shared out among the jobs that want the stage, as evenly as whole windows
allow, and none idles while a window waits. Windows that have no turn yet wait here and not in the stage's queue, so
that the first job is done first. What is computed does not depend on it: a window is a pure function.

Each pipeline replica shares out among its own jobs. Where nobody says how many replicas there are, all are sent at
once. Belongs to one event loop; knows nothing of Ray.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from stages.types import StageName

SPREAD: tuple[StageName, ...] = ("v2v", "vfi")  # called once a window


def level(replicas: int, wanted: Sequence[int]) -> int:
    """The most windows that one job may have at once, of `wanted` by each job, done ones not counted.

    The least number with which all replicas have work; a lone job may have all of them, to lie behind each other.
    """
    if len(wanted) < 2:
        return max(1, *wanted, 1)
    most = 1
    while most < max(wanted) and sum(min(own, most) for own in wanted) < replicas:
        most += 1
    return most


@dataclass
class _Job:
    running: int = 0
    waiting: list[asyncio.Future[None]] = field(default_factory=list)

    @property
    def wanted(self) -> int:
        return self.running + sum(not turn.done() for turn in self.waiting)


class FanOut:
    """One for each pipeline replica."""

    def __init__(self, slots: Mapping[StageName, int]) -> None:
        """`slots`: calls that one replica of a stage may hold, on its device and behind it."""
        self._slots = slots
        self._replicas: Mapping[str, int] = {}
        self._jobs: dict[StageName, dict[Any, _Job]] = {name: {} for name in SPREAD}

    def take(self, slots: Mapping[StageName, int], *, shares: bool) -> None:
        """Other slots; without `shares` nothing is shared out from now on."""
        self._slots = slots
        if not shares:
            self.know({})

    def know(self, replicas: Mapping[str, int]) -> None:
        """So many run now; a stage that is left out is not shared out."""
        self._replicas = dict(replicas)
        for stage in SPREAD:
            self._let(stage)

    @asynccontextmanager
    async def turn(self, stage: StageName, job: Any) -> AsyncIterator[None]:
        """In here the job has one more window at the stage."""
        if stage not in SPREAD:
            yield
            return
        jobs = self._jobs[stage]
        own = jobs.setdefault(job, _Job())
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        own.waiting.append(turn)
        try:
            self._let(stage)
            await turn
            yield
        finally:
            if turn in own.waiting:  # cancelled before its turn
                own.waiting.remove(turn)
            else:
                own.running -= 1
            if not own.running and not own.waiting:
                jobs.pop(job, None)
            self._let(stage)

    def _let(self, stage: StageName) -> None:
        """Give turns to as many windows as may have one, the oldest job's first."""
        jobs, replicas = self._jobs[stage], self._replicas.get(stage, 0)
        free = replicas * self._slots.get(stage, 1) - sum(own.running for own in jobs.values())
        most = level(replicas, [own.wanted for own in jobs.values()])
        for own in jobs.values():
            while own.waiting and (not replicas or (free > 0 and own.running < most)):
                turn = own.waiting.pop(0)
                own.running += 1
                free -= 1
                if not turn.done():
                    turn.set_result(None)
