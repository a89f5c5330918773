"""Stand-in stages that misbehave as the seed says, to be hosted by real replicas."""

from collections.abc import Iterator
from typing import Any

from cluster.replay import ReplayStage
from stages.base import InputError, Report
from stages.types import Value

RAISES, HANGS = 1, 2


class Faulty(ReplayStage):
    """Seed 1: raises after its first window. Seed 2: reports one step for ever. Any other: as replayed."""

    def __call__(self, *inputs: Any, params: Any, seed: int, report: Report) -> Value | Iterator[Value]:
        while seed == HANGS:
            self._wait(0.0, 0, 1, report)
        made = super().__call__(*inputs, params=params, seed=seed, report=report)
        return self._breaking(made) if seed == RAISES and isinstance(made, Iterator) else made

    @staticmethod
    def _breaking(windows: Iterator[Value]) -> Iterator[Value]:
        yield next(windows)
        raise InputError("The keyframes are\nwrong.")
