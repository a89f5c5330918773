"""The cheapest replicas that carry a rate of jobs within a 95th percentile, and the proof that none is cheaper.

Each stage gets a pool and a number of replicas; where a pool lets V2V live in I2V's replicas, that is tried as well.
What a choice does to a job's time comes from `cluster.planner.queueing`; what it costs from the pools' prices. The
search is exact over these choices: branch and bound, stage after stage, which leaves a branch when what is chosen so
far and the least that the rest can cost is no cheaper than the best plan known, or when the rest at its fastest is
still too slow. How much was looked at is part of the answer.

Pure: takes profile, pools and a goal, gives a `Plan` or says what stands in the way.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from cluster.planner.profiles import Profile, StageProfile
from cluster.planner.queueing import Station, percentile, wait
from cluster.pools.file import PoolFile
from stages.types import STAGE_NAMES, StageName

_MORE = 64  # replicas beyond the least: further ones make no job faster


class GoalError(ValueError):
    """No plan can hold the goal; one sentence with the nearest that one can."""


@dataclass(frozen=True)
class Goal:
    """What is asked for."""

    rate: float  # jobs a second
    p95_s: float

    def __post_init__(self) -> None:
        if not (self.rate > 0 and math.isfinite(self.rate)):
            raise GoalError(f"The rate is {self.rate:g} jobs a second; it must be above 0.")
        if not (self.p95_s > 0 and math.isfinite(self.p95_s)):
            raise GoalError(f"The p95 is {self.p95_s:g} s; it must be above 0.")


@dataclass(frozen=True)
class Choice:
    """One stage's place and size."""

    stage: StageName
    pool: str
    replicas: int
    gpus: float  # of all its replicas
    cost_per_hour: float
    station: Station
    batch: int = 1  # calls that a replica must compute at once for that


@dataclass(frozen=True)
class Plan:
    """A choice for every stage."""

    goal: Goal
    choices: tuple[Choice, ...]
    looked_at: int = 0  # branches
    possible: int = 0  # combinations
    together: bool = False  # V2V lives in I2V's replicas: I2V's choice is for both, V2V's own is empty

    @property
    def cost_per_hour(self) -> float:
        return sum(choice.cost_per_hour for choice in self.choices)

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
    shared = options_of(goal, file, profile, together=True)
    together = _Search(goal, file, shared).run() if all(shared.values()) else None
    if together is not None and (apart is None or together.cost_per_hour < apart.cost_per_hour - 1e-9):
        return replace(together, together=True)
    if apart is not None:
        return apart
    if hopeless:
        raise GoalError(min((_no_room(stage, goal, file, profile) for stage in hopeless), key=lambda said: said[0])[1])
    raise GoalError(_too_slow(goal, file, profile, options))


def options_of(
    goal: Goal, file: PoolFile, profile: Profile, *, together: bool = False
) -> dict[StageName, tuple[Choice, ...]]:
    """Everything that may be chosen, for who wants to search otherwise; with V2V in I2V's replicas or apart."""
    options = {stage: tuple(_options(stage, goal.rate, file, profile)) for stage in STAGE_NAMES}
    if together:
        both = options["i2v"] = tuple(_shared(goal.rate, file, profile))
        options["v2v"] = (Choice("v2v", both[0].pool, 0, 0.0, 0.0, Station(goal.rate, 0.0, 1)),) if both else ()
    return options


def neighbours(plan: Plan) -> list[Neighbour]:
    """The plans with one replica less, the least violation first."""
    found = []
    for place, choice in enumerate(plan.choices):
        if choice.replicas < 2:
            continue
        fewer = _resized(choice, choice.replicas - 1)
        stations = [fewer.station if i == place else other.station for i, other in enumerate(plan.choices)]
        saving = choice.cost_per_hour - fewer.cost_per_hour
        found.append(Neighbour(choice.stage, saving, percentile(stations), fewer.station.load))
    return sorted(found, key=lambda neighbour: neighbour.p95_s)


def _options(stage: StageName, rate: float, file: PoolFile, profile: Profile) -> Iterator[Choice]:
    for pool in file.pools:
        if stage not in pool.stages:
            continue
        own = profile.on(pool.accelerator).stages[stage]
        gpus = pool.gpus_of(stage)
        if own.gib > pool.gib * gpus:
            continue
        service_s = _service_s(own, gpus)
        least = max(1, math.floor(rate * service_s) + 1)
        most = min(least + _MORE, int(pool.gpus_max / gpus + 1e-9))
        for replicas in range(least, most + 1):
            stay_s = None if own.batch_s is None else own.stay_s / min(1.0, gpus)
            station = Station(rate, service_s, replicas, own.cv / math.sqrt(own.calls), own.calls, stay_s)
            cost = replicas * gpus * pool.price_per_hour
            yield Choice(stage, pool.name, replicas, replicas * gpus, cost, station, own.batch)
            if wait(station)[0] < 1e-4 * service_s and replicas >= least + own.calls:
                break


def _shared(rate: float, file: PoolFile, profile: Profile) -> Iterator[Choice]:
    """Replicas that host I2V and V2V. A job visits them for the seconds of both.

    Its windows are taken as not spread and the common layers as held twice: no plan is better on paper than it is.
    """
    for pool in file.pools:
        if pool.lives_with.get("v2v") != "i2v":
            continue
        stages = profile.on(pool.accelerator).stages
        first, second = stages["i2v"], stages["v2v"]
        gpus = max(pool.gpus_of("i2v"), pool.gpus_of("v2v"))
        if first.gib + second.gib > pool.gib * gpus:
            continue
        service_s = _service_s(first, gpus) + _service_s(second, gpus)
        spread = sum((own.cv * own.job_s) ** 2 / own.calls for own in (first, second))
        cv = math.sqrt(spread) / (first.job_s + second.job_s)
        least = max(1, math.floor(rate * service_s) + 1)
        for replicas in range(least, min(least + _MORE, int(pool.gpus_max / gpus + 1e-9)) + 1):
            station = Station(rate, service_s, replicas, cv)
            cost = replicas * gpus * pool.price_per_hour
            yield Choice("i2v", pool.name, replicas, replicas * gpus, cost, station)
            if wait(station)[0] < 1e-4 * service_s:
                break


def _service_s(own: StageProfile, gpus: float) -> float:
    """A share of a GPU is slower by as much; a gang is there for memory, its speed-up is not known and not counted."""
    return own.job_s / min(1.0, gpus)


def _resized(choice: Choice, replicas: int) -> Choice:
    share = replicas / choice.replicas
    old = choice.station
    station = replace(old, servers=replicas)
    gpus, cost = choice.gpus * share, choice.cost_per_hour * share
    return replace(choice, replicas=replicas, gpus=gpus, cost_per_hour=cost, station=station)


class _Search:
    """Branch and bound over one option a stage."""

    def __init__(self, goal: Goal, file: PoolFile, options: Mapping[StageName, Sequence[Choice]]) -> None:
        self._goal = goal
        self._room = {pool.name: float(pool.gpus_max) for pool in file.pools}
        # the stage with most to choose last: there the cheapest is found by halving
        self._order = sorted(STAGE_NAMES, key=lambda stage: len(options[stage]))
        self._options = [sorted(options[stage], key=lambda choice: choice.cost_per_hour) for stage in self._order]
        self._least = [own[0].cost_per_hour for own in self._options]
        self._fastest = [max(own, key=_speed).station for own in self._options]
        self._last = _by_pool(self._options[-1])
        self._best: tuple[Choice, ...] | None = None
        self._cost = math.inf
        self._looked_at = 0

    def run(self) -> Plan | None:
        self._descend((), 0.0)
        if self._best is None:
            return None
        by_stage = {choice.stage: choice for choice in self._best}
        possible = math.prod(len(own) for own in self._options)
        return Plan(self._goal, tuple(by_stage[stage] for stage in STAGE_NAMES), self._looked_at, possible)

    def _descend(self, chosen: tuple[Choice, ...], cost: float) -> None:
        depth = len(chosen)
        if depth == len(self._order) - 1:
            self._finish(chosen, cost)
            return
        rest = sum(self._least[depth + 1 :])
        for choice in self._options[depth]:
            if cost + choice.cost_per_hour + rest >= self._cost - 1e-9:
                break  # those behind are dearer still
            self._looked_at += 1
            with_it = (*chosen, choice)
            if not self._has_room(with_it):
                continue
            stations = [own.station for own in with_it] + self._fastest[depth + 1 :]
            if percentile(stations) <= self._goal.p95_s:
                self._descend(with_it, cost + choice.cost_per_hour)

    def _finish(self, chosen: tuple[Choice, ...], cost: float) -> None:
        stations = [own.station for own in chosen]

        def holds(choice: Choice) -> bool:
            self._looked_at += 1
            return percentile([*stations, choice.station]) <= self._goal.p95_s

        for own in self._last.values():
            choice = _first(own, holds)
            if (
                choice is None
                or cost + choice.cost_per_hour >= self._cost - 1e-9
                or not self._has_room((*chosen, choice))
            ):
                continue
            self._best, self._cost = (*chosen, choice), cost + choice.cost_per_hour

    def _has_room(self, chosen: Sequence[Choice]) -> bool:
        used: dict[str, float] = {}
        for choice in chosen:
            used[choice.pool] = used.get(choice.pool, 0.0) + choice.gpus
        return all(gpus <= self._room[pool] + 1e-9 for pool, gpus in used.items())


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
        found.setdefault(choice.pool, []).append(choice)
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
        if own.gib > pool.gib * gpus:
            parts.append(f"pool {pool.name} has {pool.gib * gpus:g} GiB a replica and it needs {own.gib:g}")
            continue
        most = int(pool.gpus_max / gpus + 1e-9)
        best = max(best, most / _service_s(own, gpus))
        parts.append(f"pool {pool.name} has room for {most} replicas of {_service_s(own, gpus):.1f} s a job")
    nearest = f"; the nearest rate is {best * 0.99:.3g} jobs a second" if best else "; give it a pool with more memory"
    return best, f"Stage {stage} cannot carry {goal.rate:g} jobs a second: {', '.join(parts)}{nearest}."


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
        at = Goal(middle, goal.p95_s)
        own = options_of(at, file, profile)
        holds = all(own.values()) and _Search(at, file, own).run() is not None
        low, high = (middle, high) if holds else (low, middle)
    return (
        f"The pools have no room for {goal.rate:g} jobs a second within {goal.p95_s:g} s: together the stages need "
        f"more GPUs than there are, most of all {slowest.stage}; the nearest rate at this p95 is {low:.3g}."
    )
