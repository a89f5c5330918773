"""What may be chosen for a stage: a pool, a number of replicas, and what that does to a job's time and to the bill.

Stages have replicas of their own ("apart"), or share them: V2V lives in I2V's ("together"), a GPU has a replica of each
stage, which take turns ("shared"), or one replica does all four, whose weights stay ("monolith") or take turns too
("offload"). A stage may fill its pool and go on in that pool's `fallback`.

A spot node is away for a while after each interruption, and what it computed is lost where that takes longer than the
notice: its replicas count as slower by as much. Pure.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cluster.planner.kinds import GoalError, Kind, station
from cluster.planner.profiles import Profile, StageProfile
from cluster.planner.queueing import Station, wait
from cluster.pools.bill import ways
from cluster.pools.file import GpuPool, PoolFile
from stages.types import STAGE_NAMES, StageName

__all__ = ["HOSTS", "JOINT", "Choice", "Goal", "GoalError", "Layout", "fits", "options_of"]

Layout = Literal["apart", "together", "shared", "monolith", "offload"]
TIME_SHARE = 1 / len(STAGE_NAMES)  # of a GPU, that each stage is given where all share it
JOINT: tuple[Layout, ...] = ("together", "shared", "monolith", "offload")
_ALL_IN: Mapping[StageName, StageName] = {"t2i": "i2v", "v2v": "i2v", "vfi": "i2v"}
HOSTS: Mapping[Layout, Mapping[StageName, StageName]] = {  # stages without GPUs of their own, and where they are
    "apart": {},
    "together": {"v2v": "i2v"},
    "shared": {"t2i": "v2v", "i2v": "v2v", "vfi": "v2v"},
    "monolith": _ALL_IN,
    "offload": _ALL_IN,
}
PCIE_GIB_S = 20.0  # of a GPU's link while weights come and go: PCIe 4.0 x16 has 32 GB/s at most, 20 to 25 in practice
_MORE = 64  # replicas beyond the least: further ones make no job faster


@dataclass(frozen=True)
class Goal:
    """What is asked for."""

    rate: float  # jobs a second
    p95_s: float
    kinds: tuple[Kind, ...] = (Kind(),)

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
    cost_per_hour: float  # of these GPUs, as if they were billed one by one
    station: Station
    batch: int = 1  # calls that a replica must compute at once for that
    share: float = 1.0  # GPUs of one replica
    spilled: int = 0  # of the replicas, those that stand in the pool's fallback, for it is full
    fallback: str = ""

    @property
    def places(self) -> tuple[tuple[str, int], ...]:
        """Pools and replicas."""
        if not self.spilled:
            return ((self.pool, self.replicas),)
        return (self.pool, self.replicas - self.spilled), (self.fallback, self.spilled)


def options_of(
    goal: Goal, file: PoolFile, profile: Profile, *, layout: Layout = "apart"
) -> dict[StageName, tuple[Choice, ...]]:
    """Everything that may be chosen, for who wants to search otherwise.

    In another layout than "apart" the host's choice is that of its guests, too, which have one without replicas.
    """
    hosts = HOSTS[layout]
    if not hosts:
        return {stage: tuple(_options(stage, goal, file, profile)) for stage in STAGE_NAMES}
    host = next(iter(hosts.values()))
    inside = tuple(stage for stage in STAGE_NAMES if stage == host or stage in hosts)
    joint = tuple(_joint(layout, host, inside, goal, file, profile))
    guests = {
        stage: (Choice(stage, joint[0].pool, 0, 0.0, 0.0, Station(goal.rate, 0.0, 1)),) if joint else ()
        for stage in hosts
    }
    apart = {stage: tuple(_options(stage, goal, file, profile)) for stage in STAGE_NAMES if stage not in inside}
    found: dict[StageName, tuple[Choice, ...]] = {**guests, **apart, host: joint}
    return {stage: found[stage] for stage in STAGE_NAMES}


def _options(stage: StageName, goal: Goal, file: PoolFile, profile: Profile) -> Iterator[Choice]:
    for pool in file.pools:
        alone = _alone(stage, pool, goal, profile)
        if alone is None:
            continue
        gpus, batch = pool.gpus_of(stage), profile.on(pool.accelerator).stages[stage].batch
        least = least_of(alone)
        room = _room(pool, gpus)
        for replicas in range(least, min(least + _MORE, room) + 1):
            cost = replicas * gpus * pool.price_per_hour
            own = replace(alone, servers=replicas)
            yield Choice(stage, pool.name, replicas, replicas * gpus, cost, own, batch, gpus)
            if wait(own)[0] < 1e-4 * own.service_s and replicas >= least + own.parts:
                break
        if pool.fallback is not None:
            other = file.named(pool.fallback)
            beside = _alone(stage, other, goal, profile)
            if beside is not None and other.gpus_of(stage) == gpus:
                yield from _spilled(stage, (pool, other), (alone, beside), batch)


def _spilled(
    stage: StageName, pools: tuple[GpuPool, GpuPool], alone: tuple[Station, Station], batch: int
) -> Iterator[Choice]:
    """Replicas in a pool and in its fallback. A job meets either; its own seconds are taken as the slower one's."""
    gpus = pools[0].gpus_of(stage)
    slower = max(alone, key=lambda own: own.service_s)
    for first in range(1, min(_room(pools[0], gpus), least_of(slower) + _MORE) + 1):
        served = first / alone[0].service_s if alone[0].service_s else math.inf
        rest = max(0.0, alone[0].rate - served) * alone[1].service_s
        least = max(1, math.floor(rest + 1e-9) + (rest > 0))
        for second in range(least, min(least + _MORE // 4, _room(pools[1], gpus)) + 1):
            count = first + second
            rate = served + second / alone[1].service_s if alone[1].service_s else math.inf
            stay_s = slower.service_s if slower.stay_s is None else slower.stay_s
            own = replace(slower, service_s=count / rate, servers=count, stay_s=stay_s)
            if own.load >= 1:
                continue
            cost = gpus * (first * pools[0].price_per_hour + second * pools[1].price_per_hour)
            yield Choice(
                *(stage, pools[0].name, count, count * gpus, cost, own, batch, gpus),
                spilled=second,
                fallback=pools[1].name,
            )
            if wait(own)[0] < 1e-4 * own.service_s and second >= least + own.parts:
                break


def _alone(stage: StageName, pool: GpuPool, goal: Goal, profile: Profile) -> Station | None:
    """One replica there; None where it cannot be."""
    if stage not in pool.stages or not fits(stage, pool, profile):
        return None
    own = profile.on(pool.accelerator).stages[stage]
    slower, there = slowed(pool, own), own.on_share(pool.gpus_of(stage))
    return None if math.isinf(slower) else station(goal.rate, goal.kinds, [(stage, there, slower)], spread=True)


def _joint(
    layout: Layout, host: StageName, inside: Sequence[StageName], goal: Goal, file: PoolFile, profile: Profile
) -> Iterator[Choice]:
    """Replicas (or, where they take turns, GPUs) that do these stages. A job keeps one for the seconds of all.

    Its windows are taken as not spread and common layers as held twice: no plan is better on paper than it is.
    """
    for pool in file.pools:
        stages = profile.on(pool.accelerator).stages
        share, most = _place(layout, pool, inside, [stages[name].gib for name in inside])
        if not most:
            continue
        parts = [(name, stages[name].on_share(share), slowed(pool, stages[name])) for name in inside]
        if any(math.isinf(factor) for _, _, factor in parts):
            continue
        alone = station(goal.rate, goal.kinds, parts, spread=False)
        if layout == "offload":
            alone = _exchanging(alone, sum(stages[name].gib for name in inside) / PCIE_GIB_S)
        least = least_of(alone)
        for replicas in range(least, min(least + _MORE, most) + 1):
            cost = replicas * share * pool.price_per_hour
            own = replace(alone, servers=replicas)
            yield Choice(host, pool.name, replicas, replicas * share, cost, own, share=share)
            if wait(own)[0] < 1e-4 * own.service_s:
                break


def _place(layout: Layout, pool: GpuPool, inside: Sequence[StageName], gib: Sequence[float]) -> tuple[float, int]:
    """GPUs of one replica, and how many of them the pool may have; none where it takes no such.

    Where stages take turns, one GPU must hold all models, several any four of them: Ray does not sort replicas.
    """
    if layout == "together":
        share = max(pool.gpus_of(stage) for stage in inside)
        may = pool.lives_with.get("v2v") == "i2v" and sum(gib) <= pool.gib * share
        return share, _room(pool, share) if may else 0
    if layout == "shared":
        several = len(gib) * max(gib) <= pool.gib
        return 1.0, (pool.gpus_max if several else 1) if pool.time_shared and sum(gib) <= pool.gib else 0
    needed = sum(gib) if layout == "monolith" else max(gib)
    return 1.0, pool.gpus_max if pool.monolith and needed <= pool.gib else 0


def _exchanging(alone: Station, seconds: float) -> Station:
    """The same, with weights that come and go for each job."""
    visits = tuple(own and replace(own, stay_s=own.stay_s + seconds) for own in alone.visits)
    stay_s = None if alone.stay_s is None else alone.stay_s + seconds
    cv = alone.cv * alone.service_s / (alone.service_s + seconds)
    return replace(alone, service_s=alone.service_s + seconds, stay_s=stay_s, cv=cv, visits=visits)


def least_of(alone: Station) -> int:
    """The fewest replicas that are not overloaded."""
    return max(1, math.floor(alone.rate * alone.service_s) + 1)


def _room(pool: GpuPool, share: float) -> int:
    return int(pool.gpus_max / share + 1e-9) if share >= 1 else pool.gpus_max * int(1 / share + 1e-9)


def fits(stage: StageName, pool: GpuPool, profile: Profile) -> bool:
    """Whether a replica has its memory: that of its share, or whatever else stands on its GPU leaves it so much."""
    stages = profile.on(pool.accelerator).stages
    if stages[stage].gib <= pool.gib * pool.gpus_of(stage):
        return True
    parts = [name for name in pool.stages if pool.gpus_of(name) < 1]
    if stage not in parts:
        return False
    filled = (
        sum(count * stages[name].gib for name, count in zip(parts, way, strict=True))
        for way in ways([pool.gpus_of(name) for name in parts], 1.0)
    )
    return max(filled) <= pool.gib


def slowed(pool: GpuPool, own: StageProfile) -> float:
    """How much longer a job takes by the interruptions of spot nodes; infinite where they are away all the time."""
    if pool.spot is None:
        return 1.0
    lost_s = pool.nodes.boot_s + own.load_s + (own.call_s() / 2 if own.call_s() > pool.spot.notice_s else 0.0)
    away = pool.spot.interruptions_per_hour / 3600 * lost_s
    return 1 / (1 - away) if away < 1 else math.inf
