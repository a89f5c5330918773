"""Simulated time: a heap of what is to be called when. What is asked for first comes first at the same moment."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any


class _OverError(Exception):
    """Nothing more is of interest."""


class Clock:
    """Seconds from the start of a run."""

    __slots__ = ("_heap", "_order", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._order = count()

    def after(self, delay_s: float, then: Callable[..., Any], *values: Any) -> None:
        """Call it with these values once so much time has passed."""
        heappush(self._heap, (self.now + delay_s, next(self._order), then, values))

    def stop(self) -> None:
        """End `run` behind all that was asked for this very moment."""
        self.after(0.0, _over)

    def run(self, until_s: float = float("inf")) -> None:
        """All that comes before a moment, or until `stop`."""
        heap = self._heap
        try:
            while heap and heap[0][0] < until_s:
                self.now, _, then, values = heappop(heap)
                then(*values)
            self.now = until_s if until_s < float("inf") else self.now
        except _OverError:
            return


def _over() -> None:
    raise _OverError
