"""The two policies to compare with: Ray Serve's own rule, rewritten as a pure function, and a fixed number.

`ServeDefault` decides for every stage by itself what Ray 2.60 would: it averages the calls that wait and run at a
stage over `look_back_s`, divides by `target_ongoing_requests`, multiplies the step by a factor, and moves only when
the wish for more (or less) has lasted for a delay. From zero replicas it starts at once. `max_replicas` of the stage
bounds it; it knows nothing of a common budget, nor of what is on its way from the stage before.

What Ray does in wall-clock time happens here in the snapshot's. Averages count whole control periods.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.policy.types import Decision, Memory, PolicyError, Snapshot, StageNow, State

_EPSILON_S = 1e-6


@dataclass(frozen=True)
class ServeDefault:
    """Ray Serve's rule with the names of its own options and their defaults in 2.60.

    `max_replicas` may lower a stage's own bound: without a notion of a budget, that is how an operator shares GPUs.
    """

    target_ongoing_requests: float = 2.0
    upscale_delay_s: float = 30.0
    downscale_delay_s: float = 600.0
    downscale_to_zero_delay_s: float | None = None  # None: as downscale_delay_s
    upscaling_factor: float = 1.0
    downscaling_factor: float = 1.0
    look_back_s: float = 30.0  # look_back_period_s
    targets: Mapping[str, float] = field(default_factory=dict)  # target_ongoing_requests of single stages
    max_replicas: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("target_ongoing_requests", "upscaling_factor", "downscaling_factor"):
            if not getattr(self, name) > 0:
                raise PolicyError(f"serve_default needs {name} above 0, got {getattr(self, name)}.")
        for name in ("upscale_delay_s", "downscale_delay_s", "look_back_s"):
            if not getattr(self, name) >= 0:
                raise PolicyError(f"serve_default needs {name} of 0 or more, got {getattr(self, name)}.")

    def decide(self, now: Snapshot, state: State) -> Decision:
        targets: dict[str, int] = {}
        kept: dict[str, Memory] = {}
        for stage in now.stages:
            history = _recent(state.get(stage.name, Memory()).history, now.now_s, self.look_back_s)
            history = (*history, (now.now_s, float(stage.waiting + stage.running)))
            memory = state.get(stage.name, Memory())
            wanted, since_s, up = self._wanted(stage, _mean(history), memory, now.now_s)
            ceiling = min(stage.max_replicas, self.max_replicas.get(stage.name, stage.max_replicas))
            targets[stage.name] = max(stage.min_replicas, min(ceiling, wanted))
            kept[stage.name] = Memory(history=history, since_s=since_s, up=up)
        return Decision(targets, kept)

    def _wanted(self, stage: StageNow, requests: float, memory: Memory, now_s: float) -> tuple[int, float | None, bool]:
        """Replicas, and since when there has been a wish for more or less that was not yet followed."""
        if stage.ready == 0 and requests > 0:
            return max(math.ceil(self.upscaling_factor), stage.target), memory.since_s, memory.up
        if stage.ready == 0:
            desired = stage.target
        else:
            ideal = requests / (self.targets.get(stage.name, self.target_ongoing_requests) * stage.batch)
            desired = max(0, self._step(ideal, stage.ready))
        if desired == stage.target:
            return stage.target, None, False
        up = desired > stage.target
        since_s = memory.since_s if memory.since_s is not None and memory.up == up else now_s
        if now_s - since_s + _EPSILON_S < self._delay_s(up, stage.target):
            return stage.target, since_s, up
        # A deployment goes to zero from one replica only.
        return (desired if up or stage.target == 1 else max(1, desired)), None, False

    def _step(self, ideal: float, current: int) -> int:
        factor = self.upscaling_factor if ideal > current else self.downscaling_factor
        scaled = math.ceil(current + factor * (ideal - current))
        return scaled - 1 if math.ceil(ideal) < current == scaled else scaled

    def _delay_s(self, up: bool, target: int) -> float:
        if up:
            return self.upscale_delay_s
        if target == 1 and self.downscale_to_zero_delay_s is not None:
            return self.downscale_to_zero_delay_s
        return self.downscale_delay_s


@dataclass(frozen=True)
class Fixed:
    """The same number for ever: `replicas` by stage, or what each stage has."""

    replicas: Mapping[str, int] = field(default_factory=dict)

    def decide(self, now: Snapshot, state: State) -> Decision:
        targets = {stage.name: self.replicas.get(stage.name, stage.target) for stage in now.stages}
        return Decision(targets, state)


def _recent(history: tuple[tuple[float, float], ...], now_s: float, window_s: float) -> tuple[tuple[float, float], ...]:
    return tuple(entry for entry in history if entry[0] > now_s - window_s)


def _mean(history: tuple[tuple[float, float], ...]) -> float:
    return sum(value for _, value in history) / len(history)
