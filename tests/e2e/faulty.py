"""Stand-in stages that misbehave as the seed says, to be hosted by real replicas."""

from typing import Any

from stages.base import InputError, Report
from stages.presets import V2VParams
from stages.replay import ReplayStage
from stages.types import Value

RAISES, HANGS, STUMBLES, POISONS = 1, 2, 3, 4


class Faulty(ReplayStage):
    """What the seed says: wrong input at the second window; one step for ever; an error of the device at the second
    window, once in a replica's life, or each time. Any other seed: as replayed.
    """

    stumbled = False

    def __call__(self, *inputs: Any, params: Any, seed: int, report: Report, **stops: Any) -> Value:
        while seed == HANGS:
            self._wait(0.0, 0.0, 1, report)
        if seed == RAISES and isinstance(params, V2VParams) and params.part == 1:
            raise InputError("The keyframes are\nwrong.")
        if (
            isinstance(params, V2VParams)
            and params.part == 1
            and (seed == POISONS or (seed == STUMBLES and not self.stumbled))
        ):
            self.stumbled = seed == STUMBLES
            raise RuntimeError("The device has hiccups.")
        return super().__call__(*inputs, params=params, seed=seed, report=report, **stops)
