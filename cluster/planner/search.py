"""The cheapest replicas that carry a rate of jobs within a 95th percentile, and the proof that none is cheaper.

Each stage gets a pool and a number of replicas, of which some may stand in that pool's fallback once it is full; where
a pool lets stages share replicas or GPUs, that is tried too. What a choice does to a job's time comes from
`cluster.planner.queueing`; what all cost together is the bill of whole nodes (`cluster.pools.bill`), with those that
always stand and the control group. The search is exact over these choices: branch and bound, stage after stage, which
leaves a branch when what is chosen so far and the least that the rest can cost is no cheaper than the best plan known,
or when the rest at its fastest is still too slow. Of plans with one bill the first found is taken. How much was looked
at is part of the answer.

Pure: takes profile, pools and a goal, gives a `Plan` or says what stands in the way.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from cluster.planner.kinds import station
from cluster.planner.options import HOSTS, JOINT, Choice, Goal, GoalError, Layout, fits, options_of, slowed
from cluster.planner.profiles import Profile
from cluster.planner.queueing import kinds_of, percentile, percentile_of, sojourn
from cluster.pools.bill import gpus_for, nodes_for
from cluster.pools.file import GpuPool, PoolFile
from stages.types import STAGE_NAMES, StageName

Moments = tuple[tuple[float, float], ...]  # mean and variance of a job's seconds, of each kind


@dataclass(frozen=True)
class Plan:
    """A choice for every stage."""

    goal: Goal
    choices: tuple[Choice, ...]
    looked_at: int = 0  # branches
    possible: int = 0  # combinations
    layout: Layout = "apart"  # else a host's choice is that of its guests, too
    bills: tuple["Bill", ...] = ()
    control_per_hour: float = 0.0

    @property
    def hosts(self) -> dict[StageName, StageName]:
        """The stages that have no GPUs of their own, and where they are."""
        return dict(HOSTS[self.layout])

    @property
    def cost_per_hour(self) -> float:
        """Of whole nodes."""
        return math.fsum(bill.per_hour for bill in self.bills) + self.control_per_hour

    @property
    def cost_per_1000(self) -> float:
        return self.cost_per_hour / (self.goal.rate * 3.6)

    @property
    def p95_s(self) -> float:
        return percentile([choice.station for choice in self.choices])

    @property
    def gpus(self) -> float:
        return sum(choice.gpus for choice in self.choices)

    @property
    def bottleneck(self) -> Choice:
        """The stage that is busiest."""
        return max(self.choices, key=lambda choice: choice.station.load)


@dataclass(frozen=True)
class Bill:
    """The nodes of one pool."""

    pool: str
    nodes: int
    gpus: int  # that they have
    used: int  # that replicas are on
    per_hour: float


@dataclass(frozen=True)
class Neighbour:
    """The plan with one replica fewer at one stage, and what it would break."""

    stage: StageName
    saving_per_hour: float
    p95_s: float
    load: float


def make_plan(goal: Goal, file: PoolFile, profile: Profile) -> Plan:
    """The cheapest plan.

    Raises:
        GoalError: there is none.
        ProfileError: a pool's accelerator has not been profiled.
    """
    options = options_of(goal, file, profile)
    hopeless = [stage for stage in STAGE_NAMES if not options[stage]]
    apart = None if hopeless else _Search(goal, file, options).run()
    best = apart
    for layout in JOINT:
        joint = options_of(goal, file, profile, layout=layout)
        found = _Search(goal, file, joint).run() if all(joint.values()) else None
        if found is not None and (best is None or found.cost_per_hour < best.cost_per_hour - 1e-9):
            best = replace(found, layout=layout)
    if best is not None:
        return best
    if hopeless:
        raise GoalError(min((_no_room(stage, goal, file, profile) for stage in hopeless), key=lambda said: said[0])[1])
    raise GoalError(_too_slow(goal, file, profile, options))


def neighbours(plan: Plan, file: PoolFile) -> list[Neighbour]:
    """The plans with one replica less, the least violation first."""
    found = []
    for place, choice in enumerate(plan.choices):
        if choice.replicas < 2:
            continue
        others = list(plan.choices)
        fewer = others[place] = resized(choice, choice.replicas - 1)
        saving = math.fsum(bill.per_hour for bill in plan.bills) - math.fsum(b.per_hour for b in bills_of(others, file))
        found.append(Neighbour(choice.stage, saving, percentile([own.station for own in others]), fewer.station.load))
    return sorted(found, key=lambda neighbour: neighbour.p95_s)


def bills_of(choices: Sequence[Choice], file: PoolFile) -> tuple[Bill, ...]:
    """Of every pool that has a node."""
    found = []
    for pool in file.pools:
        there = [(choice.share, count) for choice in choices for name, count in choice.places if name == pool.name]
        if nodes := nodes_for(pool, there):
            gpus = nodes * pool.gpus_per_node
            found.append(Bill(pool.name, nodes, gpus, gpus_for(there), nodes * pool.node_price_per_hour))
    return tuple(found)


def resized(choice: Choice, replicas: int) -> Choice:
    share = replicas / choice.replicas
    old = choice.station
    station = replace(old, servers=replicas)
    gpus, cost = choice.gpus * share, choice.cost_per_hour * share
    spilled = max(0, choice.spilled - (choice.replicas - replicas))
    return replace(choice, replicas=replicas, gpus=gpus, cost_per_hour=cost, station=station, spilled=spilled)


class _Search:
    """Branch and bound over one option a stage."""

    def __init__(self, goal: Goal, file: PoolFile, options: Mapping[StageName, Sequence[Choice]]) -> None:
        self._goal, self._file = goal, file
        self._pools = {pool.name: pool for pool in file.pools}
        # the stage with most to choose last: there the cheapest is found by halving
        self._order = sorted(STAGE_NAMES, key=lambda stage: len(options[stage]))
        self._options = [sorted(options[stage], key=lambda choice: choice.cost_per_hour) for stage in self._order]
        self._least = [own[0].cost_per_hour for own in self._options]
        self._kinds = kinds_of([choice.station for own in self._options for choice in own])
        self._nothing: Moments = ((0.0, 0.0),) * len(self._kinds)
        self._moments: dict[int, Moments] = {
            id(choice): tuple(sojourn([choice.station], kind) for kind in self._kinds)
            for own in self._options
            for choice in own
        }
        fastest = [  # each kind by itself: no choice is faster for any
            tuple(
                min((self._moments[id(choice)][kind] for choice in own), key=lambda one: percentile_of(*one))
                for kind in self._kinds
            )
            for own in self._options
        ]
        self._fastest = [_added([self._nothing, *fastest[depth:]]) for depth in range(len(fastest) + 1)]
        self._open = [  # pools that stages at this depth or later may still use
            {name for own in self._options[depth:] for choice in own for name, _ in choice.places}
            for depth in range(len(fastest) + 1)
        ]
        self._prices = {pool.name: pool.price_per_hour for pool in file.pools}
        self._last = _by_pool(self._options[-1])
        self._best: tuple[Choice, ...] | None = None
        self._cost = math.inf
        self._looked_at = 0

    def run(self) -> Plan | None:
        self._descend((), self._nothing, 0.0)
        if self._best is None:
            return None
        by_stage = {choice.stage: choice for choice in self._best}
        choices = tuple(by_stage[stage] for stage in STAGE_NAMES)
        possible = math.prod(len(own) for own in self._options)
        bills, control = bills_of(choices, self._file), self._file.control_per_hour
        return Plan(self._goal, choices, self._looked_at, possible, bills=bills, control_per_hour=control)

    def _descend(self, chosen: tuple[Choice, ...], moments: Moments, gpu_cost: float) -> None:
        depth = len(chosen)
        if depth == len(self._order) - 1:
            self._finish(chosen, moments)
            return
        rest = sum(self._least[depth + 1 :])
        for choice in self._options[depth]:
            if gpu_cost + choice.cost_per_hour + rest >= self._cost - 1e-9:
                break  # those behind are dearer still
            self._looked_at += 1
            with_it = (*chosen, choice)
            if self._least_bill(with_it, rest) >= self._cost - 1e-9:
                continue
            summed = _added([moments, self._moments[id(choice)]])
            if _seconds(_added([summed, self._fastest[depth + 1]])) <= self._goal.p95_s:
                self._descend(with_it, summed, gpu_cost + choice.cost_per_hour)

    def _finish(self, chosen: tuple[Choice, ...], moments: Moments) -> None:
        def holds(choice: Choice) -> bool:
            self._looked_at += 1
            return _seconds(_added([moments, self._moments[id(choice)]])) <= self._goal.p95_s

        for own in self._last.values():
            if self._least_bill((*chosen, own[0]), 0.0) >= self._cost - 1e-9:
                continue
            choice = _first(own, holds)
            if choice is None:
                continue
            bill = self._least_bill((*chosen, choice), 0.0)
            if bill < self._cost - 1e-9 and self._fills_first((*chosen, choice)):
                self._best, self._cost = (*chosen, choice), bill

    def _least_bill(self, chosen: Sequence[Choice], rest: float) -> float:
        """What the nodes of these cost at least, once stages of GPUs for `rest` have joined; infinite: no room.

        In a pool that nobody else can use that is the bill itself; elsewhere others may fill the nodes.
        """
        there: dict[str, list[tuple[float, int]]] = {}
        alone: dict[str, float] = {}
        for choice in chosen:
            for name, count in choice.places:
                there.setdefault(name, []).append((choice.share, count))
                alone[name] = alone.get(name, 0.0) + count * choice.share * self._prices[name]
        whole = part = 0.0
        still = self._open[len(chosen)]
        for name, pool in self._pools.items():
            nodes = nodes_for(pool, there[name]) if name in there else pool.nodes.min
            if nodes > pool.nodes.max:
                return math.inf
            bill = nodes * pool.node_price_per_hour
            whole += bill
            part += alone.get(name, 0.0) if name in still else bill
        return max(whole, part + rest)

    def _fills_first(self, chosen: Sequence[Choice]) -> bool:
        """Whether only full pools have replicas in their fallback: the server has it no other way."""
        return all(fills_first(choice, chosen, self._pools[choice.pool]) for choice in chosen if choice.spilled)


def fills_first(choice: Choice, chosen: Sequence[Choice], pool: GpuPool) -> bool:
    """Whether the pool has no room for one more of the replicas that stand in its fallback."""
    there = [(own.share, count) for own in chosen for name, count in own.places if name == pool.name]
    return nodes_for(pool, [*there, (choice.share, 1)]) > pool.nodes.max


def _added(moments: Sequence[Moments]) -> Moments:
    """Means and variances of stages that follow each other."""
    return tuple((sum(own[0] for own in kind), sum(own[1] for own in kind)) for kind in zip(*moments, strict=True))


def _seconds(moments: Moments) -> float:
    return max(percentile_of(*own) for own in moments)


def _first(own: Sequence[Choice], holds: Callable[[Choice], bool]) -> Choice | None:
    """The fewest replicas that hold, by halving: more are never slower."""
    low, high = 0, len(own)
    while low < high:
        middle = (low + high) // 2
        if holds(own[middle]):
            high = middle
        else:
            low = middle + 1
    return own[low] if low < len(own) else None


def _by_pool(options: Sequence[Choice]) -> dict[str, list[Choice]]:
    found: dict[str, list[Choice]] = {}
    for choice in sorted(options, key=lambda choice: choice.replicas):
        first = f"{choice.pool} {choice.replicas - choice.spilled}" if choice.spilled else choice.pool
        found.setdefault(first, []).append(choice)
    return found


def _speed(choice: Choice) -> float:
    return -percentile([choice.station])


# What stands in the way


def _no_room(stage: StageName, goal: Goal, file: PoolFile, profile: Profile) -> tuple[float, str]:
    """The most that a stage can carry, and a sentence about it."""
    parts, best = [], 0.0
    for pool in file.pools:
        if stage not in pool.stages:
            continue
        own, gpus = profile.on(pool.accelerator).stages[stage], pool.gpus_of(stage)
        if not fits(stage, pool, profile):
            parts.append(f"pool {pool.name} has {pool.gib * gpus:g} GiB a replica and it needs {own.gib:g}")
            continue
        most = int(pool.gpus_max / gpus + 1e-9)
        alone = station(goal.rate, goal.kinds, [(stage, own, slowed(pool, own) / gpus)], spread=True)
        comes = alone.rate / goal.rate  # of all jobs
        best = max(best, most / (alone.service_s * comes) if alone.service_s * comes else 0.0)
        parts.append(f"pool {pool.name} has room for {most} replicas of {alone.service_s:.1f} s a job")
    nearest = f"; the nearest rate is {best * 0.99:.3g} jobs a second" if best else "; give it a pool with more memory"
    return best, f"Stage {stage} cannot carry {goal.rate:g} jobs a second: {', '.join(parts)}{nearest}."


def _take_turns(file: PoolFile) -> str:
    """What is left where there are fewer GPUs than stages."""
    gpus = sum(pool.gpus_max for pool in file.pools)
    return (
        f"{len(STAGE_NAMES)} stages have {gpus} GPUs: let them take turns by `time_shared: true` in a pool of all "
        "stages whose GPU holds all models."
    )


def _too_slow(goal: Goal, file: PoolFile, profile: Profile, options: Mapping[StageName, Sequence[Choice]]) -> str:
    fastest = {stage: max(own, key=_speed) for stage, own in options.items()}
    alone_s = percentile([choice.station for choice in fastest.values()])
    slowest = max(fastest.values(), key=lambda choice: -_speed(choice))
    if alone_s > goal.p95_s:
        return (
            f"A p95 of {goal.p95_s:g} s cannot be held: with as many replicas as help, it is {alone_s:.1f} s, of "
            f"which stage {slowest.stage} takes {-_speed(slowest):.1f} s on pool {slowest.pool}; the nearest p95 is "
            f"{alone_s * 1.01:.1f} s, or fewer steps or a faster GPU for {slowest.stage}."
        )
    low, high = 0.0, goal.rate
    for _ in range(12):  # to a four-thousandth of the rate
        middle = (low + high) / 2
        at = replace(goal, rate=middle)
        own = options_of(at, file, profile)
        holds = all(own.values()) and _Search(at, file, own).run() is not None
        low, high = (middle, high) if holds else (low, middle)
    return (
        f"The pools have no room for {goal.rate:g} jobs a second within {goal.p95_s:g} s: together the stages need "
        f"more GPUs than there are, most of all {slowest.stage}; "
        + (f"the nearest rate at this p95 is {low:.3g}." if low else _take_turns(file))
    )
