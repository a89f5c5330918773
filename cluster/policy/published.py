"""Two published rules to compare with, as pure functions: InferLine's tuner and the allocation of Cosmos-Xenna.

`Tuner` (InferLine, SoCC '20) goes by arrivals alone. It knows the most that may come in windows of a pipeline's own
time, twice that, and so on: where the plan's envelope is passed, every stage at once gets what the highest of these
rates takes, at the utilisation of the plan. It goes down only when nothing has changed for a while, to the highest rate
of late. The planner that stands before it in the paper is `utilisation` here.

`Throughput` (as Cosmos-Xenna 0.3 does for data in batches) gives each GPU of the budget to the stage that is the
slowest of all with what it has, anew every `period_s`, by the seconds that calls take; never less, so nothing goes to
zero.

Like the others they hold a stage's bounds and the budget. Standard library only.
"""

import math
from dataclasses import dataclass

from cluster.policy.types import Decision, Memory, PolicyError, Snapshot, StageNow, State

_ROUNDING = 1e-6
_WINDOWS = 3  # of a pipeline's time, twice and four times that
_DOWN_WINDOWS = 6


@dataclass(frozen=True)
class Tuner:
    """InferLine's, with its own seconds; what is shorter than the pipeline's time is as long as that."""

    utilisation: float = 0.7  # of each stage's replicas at the highest rate that was planned for
    settle_s: float = 15.0  # nothing goes so long after a change
    window_s: float = 5.0  # rates are taken over, to go down by the highest of the last six

    def __post_init__(self) -> None:
        if not 0 < self.utilisation <= 1:
            raise PolicyError(f"inferline needs a utilisation above 0, at most 1, got {self.utilisation:g}.")
        if not min(self.settle_s, self.window_s) >= 0:
            raise PolicyError(
                f"inferline needs settle_s and window_s of 0 or more, got {self.settle_s:g} and {self.window_s:g}."
            )

    def decide(self, now: Snapshot, state: State) -> Decision:
        """The first stage's memory holds how many jobs had arrived when, and since when nothing has changed."""
        if not now.stages:
            return Decision({}, state)
        first = now.stages[0].name
        before = state.get(first, Memory())
        alone_s = max(1e-3, sum(stage.call_s for stage in now.stages))
        windows_s = [alone_s * 2**power for power in range(_WINDOWS)]
        window_s = max(self.window_s, alone_s)
        oldest_s = now.now_s - max(windows_s[-1], _DOWN_WINDOWS * window_s)
        past = [entry for entry in before.history if entry[0] <= oldest_s][-1:]
        kept = (*past, *(entry for entry in before.history if entry[0] > oldest_s), (now.now_s, float(now.arrived)))
        highest = max(_rate(kept, now.now_s, own_s) for own_s in windows_s)
        up = self._replicas(now, highest)
        calm = before.since_s is None or now.now_s - before.since_s >= max(self.settle_s, window_s)
        lately = max(_rate(kept, now.now_s - number * window_s, window_s) for number in range(_DOWN_WINDOWS))
        down = self._replicas(now, lately) if calm else [stage.target for stage in now.stages]
        wanted = [max(more, min(stage.target, less)) for stage, more, less in zip(now.stages, up, down, strict=True)]
        targets = _within(now, wanted)
        changed = any(targets[stage.name] != stage.target for stage in now.stages)
        since_s = now.now_s if changed else before.since_s
        return Decision(targets, {**state, first: Memory(history=kept, since_s=since_s)})

    def _replicas(self, now: Snapshot, per_s: float) -> list[int]:
        return [math.ceil(per_s * stage.share * stage.job_s / self.utilisation - _ROUNDING) for stage in now.stages]


@dataclass(frozen=True)
class Throughput:
    """Cosmos-Xenna's."""

    period_s: float = 180.0

    def __post_init__(self) -> None:
        if not self.period_s >= 0:
            raise PolicyError(f"xenna needs a period_s of 0 or more, got {self.period_s:g}.")

    def decide(self, now: Snapshot, state: State) -> Decision:
        """The first stage's memory holds when it was decided last."""
        if not now.stages:
            return Decision({}, state)
        first = now.stages[0].name
        since_s = state.get(first, Memory()).since_s
        if since_s is not None and now.now_s - since_s < self.period_s:
            return Decision({stage.name: stage.target for stage in now.stages}, state)
        targets = _within(now, [stage.max_replicas for stage in now.stages])
        return Decision(targets, {**state, first: Memory(since_s=now.now_s)})


def _rate(history: tuple[tuple[float, float], ...], until_s: float, window_s: float) -> float:
    """Arrivals a second in a window; those before the first look are none."""
    return max(0.0, _count(history, until_s) - _count(history, until_s - window_s)) / window_s


def _count(history: tuple[tuple[float, float], ...], at_s: float) -> float:
    return next((count for seen_s, count in reversed(history) if seen_s <= at_s), 0.0)


def _within(now: Snapshot, wanted: list[int]) -> dict[str, int]:
    """Within bounds and budget: what must be, then one by one to the stage that is the slowest with what it has."""
    stages = now.stages
    goals = [max(stage.min_replicas, min(stage.max_replicas, own)) for stage, own in zip(stages, wanted, strict=True)]
    if now.budget_gpus is None:
        return {stage.name: own for stage, own in zip(stages, goals, strict=True)}
    given = [min(goal, max(stage.min_replicas, stage.busy)) for stage, goal in zip(stages, goals, strict=True)]
    room = now.budget_gpus - sum((own + stage.stopping) * stage.gpus for own, stage in zip(given, stages, strict=True))
    while short := [
        index for index, stage in enumerate(stages) if given[index] < goals[index] and stage.gpus <= room + _ROUNDING
    ]:
        slowest = min(short, key=lambda index: _jobs_per_s(stages[index], given[index]))
        given[slowest] += 1
        room -= stages[slowest].gpus
    return {stage.name: own for stage, own in zip(stages, given, strict=True)}


def _jobs_per_s(stage: StageNow, replicas: int) -> float:
    """Of all jobs that arrive, as many as it can pass."""
    load_s = stage.job_s * stage.share
    return replicas / load_s if load_s > 0 else math.inf
