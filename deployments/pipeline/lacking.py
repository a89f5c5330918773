"""Tells a job what it waits for while its call lies in Serve's queue because the stage has no replica at all.

Serve says nothing of such a call: it is neither refused nor begun. `look` compares the calls that have not begun with
the replicas that the routers of this process know of. A stage whose replicas are all busy lacks nothing: that is a
queue that works. Bookkeeping in the event loop; knows nothing of Ray.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from deployments.pipeline.progress import JobProgress
from stages.types import StageName

_PATIENCE_S = 1.0  # in which a router that is new hears of its replicas


@dataclass(eq=False)
class Waiting:
    """A call that was sent and has not begun."""

    stage: StageName
    progress: JobProgress
    sent_s: float
    said: bool = False


class Lacking:
    """One for each pipeline replica."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._calls: set[Waiting] = set()

    @contextmanager
    def call(self, stage: StageName, progress: JobProgress) -> Iterator[Waiting]:
        """A call that is sent now, and has begun or ended afterwards."""
        made = Waiting(stage, progress, self._clock())
        self._calls.add(made)
        try:
            yield made
        finally:
            self.began(made)

    def began(self, call: Waiting) -> None:
        """A replica has it."""
        self._calls.discard(call)

    def look(self, replicas: Mapping[StageName, int]) -> None:
        """So many run now; of a stage that is left out nobody knows."""
        for call in self._calls:
            lacks = replicas.get(call.stage) == 0
            if lacks and self._clock() - call.sent_s >= _PATIENCE_S:
                call.said = True
                call.progress.waits(call.stage, f"Stage {call.stage} has no replica that runs; the job waits for one.")
            elif call.said and not lacks:
                call.said = False
                call.progress.goes_on(call.stage)
