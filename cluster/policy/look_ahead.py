"""The look-ahead policy, and every policy by its name.

A stage behind others sees no work until its input is there, and by then it is late by its start-up. This policy looks
at the whole pipeline instead. For every stage it asks how many jobs a second should pass, and gives it as many replicas
as that takes:

    jobs on the way to it     (at the stage, or before it and near enough to arrive while a replica starts up)
        / goal_s              a backlog is to be gone within goal_s; every stage is sized for the same flow, so none
                              is built for work that the stage before cannot deliver; cheap stages get somewhat more
                              only those count whose path leads there (`share` of each stage)
    the rate of arrivals      with its trend, and a margin that grows with its square root, as a Poisson stream's noise

and takes the larger. A replica is let go once it has been superfluous for a share of the start-up that a new one would
cost, and longer where one was let go and wanted again of late. Where the GPUs do not suffice, they go one by one to the
stage with the most work for each replica that it has, so all stages are short by the same factor: idle replicas of one
become replicas of the bottleneck. A replica that computes is never taken away, and a GPU changes its stage only where
the other one is clearly shorter.

Bills are of whole nodes. Where `node_gpus` says how many GPUs one has, the last node that the targets take is filled:
what stands on it already stays, and the rest goes to the stage that is shortest.

A replica that no node has a place for says where the pool ends: no more are wished for then, the stages behind are
sized for what those that run let through, and the wish is not called off before it has been superfluous for long.

Pure: a frozen snapshot and a state in, targets and a state out. Standard library only, never raises on a snapshot, and
knows nothing of Ray, of clocks, or of what a job computes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.policy.published import Throughput, Tuner
from cluster.policy.serve_rule import Fixed, ServeDefault
from cluster.policy.types import Decision, Memory, Policy, PolicyError, Snapshot, StageNow, State

__all__ = ["POLICIES", "Fixed", "LookAhead", "ServeDefault", "Throughput", "Tuner", "make_policy"]

_ROUNDING = 1e-6  # of a replica that is not started for it
_LET_GO, _REGRET = 0.0, 1.0  # what a memory's history is of
_REGRETS, _MOST_REGRETS = 30, 3  # start-ups that one is remembered for; so many at most


@dataclass(frozen=True)
class LookAhead:
    """See the top of this module. All times in seconds."""

    goal_s: float | None = None  # None: as long as an idle pipeline takes for a job, or the longest start-up
    margin: float = 0.8  # replicas over the mean need, in square roots of it
    keep_idle: float = 0.5  # how long a superfluous replica stays, in start-ups
    min_keep_s: float = 10.0  # and at least so long
    unplaced_s: float = 60.0  # or so long while some start: Serve cannot end one at once that has no place
    reaction_s: float = 5.0  # how long before they are needed replicas should be ready
    haste: float = 0.5  # 0: replicas by work alone; 1: as many for a cheap stage as for the dearest
    stickiness: float = 2.0  # how much shorter a stage must be to take a GPU from one that has it
    node_gpus: float = 0.0  # of a node, which is billed whole; 0: unknown, or stages stand on nodes of several kinds

    def __post_init__(self) -> None:
        if self.goal_s is not None and not self.goal_s > 0:
            raise PolicyError(f"look_ahead needs goal_s above 0, got {self.goal_s:g}.")
        for name in ("margin", "keep_idle", "min_keep_s", "unplaced_s", "reaction_s", "node_gpus"):
            if not getattr(self, name) >= 0:
                raise PolicyError(f"look_ahead needs {name} of 0 or more, got {getattr(self, name):g}.")
        if not self.stickiness >= 1:
            raise PolicyError(f"look_ahead needs a stickiness of 1 or more, got {self.stickiness:g}.")
        if not 0 <= self.haste <= 1:
            raise PolicyError(f"look_ahead needs a haste between 0 and 1, got {self.haste:g}.")
        if endless := [name for name, own in vars(self).items() if own is not None and math.isinf(own)]:
            raise PolicyError(f"look_ahead needs a finite {endless[0]}, got inf.")

    def decide(self, now: Snapshot, state: State) -> Decision:
        """Targets within each stage's bounds, and within the budget unless what computes now already exceeds it."""
        in_time = _demand(self, now, all_of_it=False)
        wanted = [min(_most(s), math.ceil(need - _ROUNDING)) for s, need in zip(now.stages, in_time, strict=True)]
        state = {
            stage.name: self._remembered(stage, state.get(stage.name, Memory()), level, now.now_s)
            for stage, level in zip(now.stages, wanted, strict=True)
        }
        held = [max(level for _, level in state[stage.name].levels) for stage in now.stages]
        floors = [max(stage.min_replicas, min(stage.busy, stage.max_replicas)) for stage in now.stages]
        ceilings = [
            max(floor, min(level, _most(stage))) for floor, level, stage in zip(floors, held, now.stages, strict=True)
        ]
        in_the_end = _demand(self, now, all_of_it=True)
        targets = ceilings if now.budget_gpus is None else self._share(now, floors, wanted, ceilings, in_the_end)
        return Decision(_named(now, self._fill(now, targets, in_the_end)), state)

    def _fill(self, now: Snapshot, targets: list[int], needs: list[float]) -> list[int]:
        """More replicas on what the nodes of these targets have left over: those that are there, then by need."""
        if not self.node_gpus:
            return targets
        held = sum((own + stage.stopping) * stage.gpus for own, stage in zip(targets, now.stages, strict=True))
        room = math.ceil(held / self.node_gpus - _ROUNDING) * self.node_gpus - held
        if now.budget_gpus is not None:
            room = min(room, now.budget_gpus - held)
        if room <= _ROUNDING:
            return targets
        filled, most = list(targets), [_most(stage) for stage in now.stages]
        there = [min(stage.target, own) for stage, own in zip(now.stages, most, strict=True)]
        room = _deal(now.stages, filled, there, [max(need, 1e-3) for need in needs], room, 1.0)
        _deal(now.stages, filled, most, needs, room, 1.0)
        return filled

    def _share(
        self, now: Snapshot, floors: list[int], wanted: list[int], ceilings: list[int], needs: list[float]
    ) -> list[int]:
        """Replicas within the budget: first what computes, then by need, then what is held in case."""
        room = (now.budget_gpus or 0.0) - sum(stage.stopping * stage.gpus for stage in now.stages)
        given = [min(stage.busy, floor) for stage, floor in zip(now.stages, floors, strict=True)]
        room -= sum(count * stage.gpus for count, stage in zip(given, now.stages, strict=True))
        room = _deal(now.stages, given, floors, [1.0] * len(given), room, 1.0)
        # Where calls wait and nobody can take them, nothing would ever come of them, nor go to the stages behind.
        works = [stage.waiting + stage.running > 0 for stage in now.stages]
        if now.queued_jobs and now.stages:
            works[0] = works[0] or now.stages[0].share > 0
        first = [max(own, min(_most(s), int(work))) for own, work, s in zip(given, works, now.stages, strict=True)]
        room = _deal(now.stages, given, first, [float(index + 1) for index in range(len(given))], room, 1.0)
        # Everything that is on its way is dealt out, so that the first stages leave what the last ones will need soon.
        due = [min(_most(s), math.ceil(need - _ROUNDING)) for s, need in zip(now.stages, needs, strict=True)]
        fair = list(given)
        _deal(now.stages, fair, due, needs, room, self.stickiness)
        asked = [max(floor, min(share, level)) for floor, share, level in zip(given, fair, wanted, strict=True)]
        room -= sum((a - g) * stage.gpus for a, g, stage in zip(asked, given, now.stages, strict=True))
        reserved = sum(max(0, f - a) * stage.gpus for f, a, stage in zip(fair, asked, now.stages, strict=True))
        kept = [
            min(ceiling, max(count, stage.target))
            for ceiling, count, stage in zip(ceilings, asked, now.stages, strict=True)
        ]
        _deal(now.stages, asked, kept, [max(need, 1.0) for need in needs], room - reserved, 1.0)
        return asked

    def _remembered(self, stage: StageNow, before: Memory, level: int, now_s: float) -> Memory:
        """The levels of late. Each time a replica was let go and wanted again soon, those that follow stay longer."""
        start_up_s = max(self.min_keep_s, stage.start_up_s)
        history = tuple((at, what) for at, what in before.history if at > now_s - _REGRETS * start_up_s)
        keep_s = self._keep_s(stage) * 2 ** sum(what == _REGRET for _, what in history)
        levels = _remember(before.levels, now_s, level, keep_s)
        held, held_before = max(old for _, old in levels), max((old for _, old in before.levels), default=0)
        if held < held_before:
            history = (*history, (now_s, _LET_GO))
        elif held > held_before and any(what == _LET_GO for _, what in history):
            history = (*(entry for entry in history if entry[1] != _LET_GO), (now_s, _REGRET))
        return Memory(levels=levels, history=history[-_MOST_REGRETS:])

    def _keep_s(self, stage: StageNow) -> float:
        return max(self.min_keep_s, self.keep_idle * stage.start_up_s, self.unplaced_s if stage.starting else 0.0)


def _most(stage: StageNow) -> int:
    """Replicas that can be had: those of now where the pool gives no more."""
    return min(stage.max_replicas, stage.ready + stage.starting) if stage.pending else stage.max_replicas


def _lets_through(stage: StageNow) -> float:
    """Jobs per second, at most: of what runs or loads where the pool gives no more."""
    able = max(0, _most(stage) - stage.pending)
    return able / stage.job_s if stage.job_s > 0 else math.inf if able else 0.0


def _demand(policy: LookAhead, now: Snapshot, *, all_of_it: bool) -> list[float]:
    """Replicas that each stage needs, before rounding: for what arrives in time to need them, or for all there is."""
    stages = now.stages
    goal_s = policy.goal_s or max(
        sum(stage.call_s for stage in stages), max((stage.start_up_s for stage in stages), default=0.0), 1e-3
    )
    here = [_jobs(stage) for stage in stages]
    if stages:
        here[0] += now.queued_jobs * stages[0].share
    longest = max((stage.job_s for stage in stages), default=0.0)
    needs: list[float] = []
    deliverable = math.inf  # jobs per second that the stages before can let through at most
    for index, stage in enumerate(stages):
        horizon_s = math.inf if all_of_it else stage.start_up_s + policy.reaction_s
        before = sum(
            here[other] * _go_on(stages[other], stage)
            for other in range(index)
            if here[other] and _until_first_s(stages, other, index, bool(now.queued_jobs)) <= horizon_s
        )
        rate_here = now.arrivals_per_s * stage.share
        if index:  # jobs that enter here, or at any stage before this one but the first
            late = max(0.0, stage.share - stages[index - 1].share)
            deliverable = deliverable * _go_on(stages[index - 1], stage)
            deliverable += late * (now.arrivals_per_s + now.queued_jobs / goal_s)
            before += now.queued_jobs * max(0.0, stage.share - stages[0].share)
        flow = here[index] / goal_s + min(before / goal_s, deliverable)
        growth = now.trend_per_s2 * (stage.start_up_s + policy.reaction_s)
        rate = max(0.0, rate_here + stage.share * min(now.arrivals_per_s, growth))
        mean = min(rate, deliverable) * stage.job_s
        haste = 0.0 if all_of_it else policy.haste
        needs.append(max(flow * stage.job_s ** (1 - haste) * longest**haste, mean + policy.margin * math.sqrt(mean)))
        deliverable = min(deliverable, _lets_through(stage))
    return needs


def _jobs(stage: StageNow) -> float:
    """Jobs' worth of work at a stage; a call that is half done counts half."""
    left = min(float(stage.running), stage.remaining_s / stage.share_s) if stage.share_s > 0 else float(stage.running)
    return (stage.waiting + max(0.0, left)) / stage.calls


def _go_on(here: StageNow, later: StageNow) -> float:
    """Share of the jobs here that will reach a later stage."""
    return min(1.0, later.share / here.share) if here.share > 0 else 1.0


def _until_first_s(stages: tuple[StageNow, ...], start: int, end: int, queued: bool) -> float:
    """Seconds until the first of the jobs at one stage may be at a later one, if nothing is in its way."""
    first = stages[start]
    options = []
    if first.running:
        options.append(first.remaining_s / (max(1, first.busy) if first.batch > 1 else first.running))
    if first.waiting or (start == 0 and queued) or not options:
        options.append(first.call_s + (0.0 if first.ready else first.start_up_s))
    return min(options) + sum(stage.call_s for stage in stages[start + 1 : end])


def _remember(
    levels: tuple[tuple[float, int], ...], now_s: float, level: int, keep_s: float
) -> tuple[tuple[float, int], ...]:
    """Levels of the last `keep_s`, without those that a later and higher one hides."""
    recent = [(at, old) for at, old in levels if at > now_s - keep_s and old > level]
    return (*recent, (now_s, level))


def _deal(
    stages: tuple[StageNow, ...],
    given: list[int],
    goals: list[int],
    needs: list[float],
    room: float,
    stickiness: float,
) -> float:
    """Raise `given` towards `goals`, one replica at a time to the stage that is shortest; gives the GPUs left over.

    Shortest is the one with the highest need for each replica that it would then have. One that a stage has
    already, by its target, counts `stickiness` times as much as one that would have to start.
    """
    while True:
        best, best_at = 0.0, -1
        for index, stage in enumerate(stages):
            if given[index] >= goals[index] or stage.gpus > room + _ROUNDING:
                continue
            worth = needs[index] / (given[index] + 1) * (stickiness if given[index] < stage.target else 1.0)
            if worth > best:
                best, best_at = worth, index
        if best_at < 0:
            return room
        given[best_at] += 1
        room -= stages[best_at].gpus


def _named(now: Snapshot, targets: list[int]) -> dict[str, int]:
    return {stage.name: target for stage, target in zip(now.stages, targets, strict=True)}


POLICIES: Mapping[str, Callable[..., Policy]] = {
    "look_ahead": LookAhead,
    "serve_default": ServeDefault,
    "fixed": Fixed,
    "inferline": Tuner,
    "xenna": Throughput,
}


def make_policy(name: str, **options: Any) -> Policy:
    """A policy by its name, with its options.

    Raises:
        PolicyError: no such policy, no such option, or a value that it refuses.
    """
    if name not in POLICIES:
        raise PolicyError(f"There is no policy {name!r}; choose {', '.join(sorted(POLICIES))}.")
    known = list(getattr(POLICIES[name], "__dataclass_fields__", {}))
    if unknown := sorted(set(options) - set(known)):
        raise PolicyError(f"Policy {name!r} has no option {', '.join(unknown)}; it has {', '.join(known)}.")
    return POLICIES[name](**options)
