"""Stand-in stages that misbehave as the seed says, to be hosted by real replicas."""

from typing import Any

from cluster.replay import ReplayStage
from stages.base import InputError, Report
from stages.presets import V2VParams
from stages.types import Value

RAISES, HANGS = 1, 2


class Faulty(ReplayStage):
    """Seed 1: raises at its second window. Seed 2: reports one step for ever. Any other: as replayed."""

    def __call__(self, *inputs: Any, params: Any, seed: int, report: Report) -> Value:
        while seed == HANGS:
            self._wait(0.0, 0.0, report)
        if seed == RAISES and isinstance(params, V2VParams) and params.part == 1:
            raise InputError("The keyframes are\nwrong.")
        return super().__call__(*inputs, params=params, seed=seed, report=report)
