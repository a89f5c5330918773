"""What may be chosen for a stage: a pool, a number of replicas, and what that does to a job's time and to the bill.

A spot node is away for a while after each interruption, and what it computed is lost where that takes longer than the
notice: its replicas count as slower by as much. Pure.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from cluster.planner.profiles import Profile, StageProfile
from cluster.planner.queueing import Station, wait
from cluster.pools.bill import ways
from cluster.pools.file import GpuPool, PoolFile
from stages.types import STAGE_NAMES, StageName

Layout = Literal["apart", "together", "shared"]
TIME_SHARE = 1 / len(STAGE_NAMES)  # of a GPU, that each stage is given where all share it
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
    cost_per_hour: float  # of these GPUs, as if they were billed one by one
    station: Station
    batch: int = 1  # calls that a replica must compute at once for that
    share: float = 1.0  # GPUs of one replica


def options_of(
    goal: Goal, file: PoolFile, profile: Profile, *, layout: Layout = "apart"
) -> dict[StageName, tuple[Choice, ...]]:
    """Everything that may be chosen, for who wants to search otherwise.

    "together": V2V in I2V's replicas. "shared": a replica of each stage on every GPU, which take turns; V2V's choice is
    for all of them.
    """
    options = {stage: tuple(_options(stage, goal.rate, file, profile)) for stage in STAGE_NAMES}
    if layout == "shared":
        shared = tuple(_time_shared(goal.rate, file, profile))
        options = {
            stage: (Choice(stage, shared[0].pool, 0, 0.0, 0.0, Station(goal.rate, 0.0, 1)),) if shared else ()
            for stage in STAGE_NAMES
        }
        options["v2v"] = shared
    elif layout == "together":
        both = options["i2v"] = tuple(_shared(goal.rate, file, profile))
        options["v2v"] = (Choice("v2v", both[0].pool, 0, 0.0, 0.0, Station(goal.rate, 0.0, 1)),) if both else ()
    return options


def _options(stage: StageName, rate: float, file: PoolFile, profile: Profile) -> Iterator[Choice]:
    for pool in file.pools:
        if stage not in pool.stages:
            continue
        own = profile.on(pool.accelerator).stages[stage]
        gpus = pool.gpus_of(stage)
        if not fits(stage, pool, profile):
            continue
        service_s = service_s_of(own, gpus) * _slowed(pool, own)
        if math.isinf(service_s):
            continue
        least = max(1, math.floor(rate * service_s) + 1)
        most = min(least + _MORE, int(pool.gpus_max / gpus + 1e-9))
        for replicas in range(least, most + 1):
            stay_s = None if own.batch_s is None else own.stay_s / gpus
            station = Station(rate, service_s, replicas, own.cv / math.sqrt(own.calls), own.calls, stay_s)
            cost = replicas * gpus * pool.price_per_hour
            yield Choice(stage, pool.name, replicas, replicas * gpus, cost, station, own.batch, gpus)
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
        service_s = service_s_of(first, gpus) * _slowed(pool, first) + service_s_of(second, gpus) * _slowed(
            pool, second
        )
        if math.isinf(service_s):
            continue
        spread = sum((own.cv * own.job_s) ** 2 / own.calls for own in (first, second))
        cv = math.sqrt(spread) / (first.job_s + second.job_s)
        least = max(1, math.floor(rate * service_s) + 1)
        for replicas in range(least, min(least + _MORE, int(pool.gpus_max / gpus + 1e-9)) + 1):
            station = Station(rate, service_s, replicas, cv)
            cost = replicas * gpus * pool.price_per_hour
            yield Choice("i2v", pool.name, replicas, replicas * gpus, cost, station, share=gpus)
            if wait(station)[0] < 1e-4 * service_s:
                break


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


def _time_shared(rate: float, file: PoolFile, profile: Profile) -> Iterator[Choice]:
    """GPUs that each have a replica of every stage. Alone a job has the whole GPU; under load it is as if one server
    did all four stages. One GPU must hold all models, several any four of them: Ray does not sort replicas.
    """
    for pool in file.pools:
        if not pool.time_shared:
            continue
        stages = profile.on(pool.accelerator).stages
        own = [stages[name] for name in STAGE_NAMES]
        service_s = sum(stage.job_s * _slowed(pool, stage) for stage in own)
        if math.isinf(service_s) or sum(stage.gib for stage in own) > pool.gib:
            continue
        cv = math.sqrt(sum((stage.cv * stage.job_s) ** 2 / stage.calls for stage in own)) / service_s
        several = len(own) * max(stage.gib for stage in own) <= pool.gib
        least = max(1, math.floor(rate * service_s) + 1)
        for gpus in range(least, min(least + _MORE, pool.gpus_max if several else 1) + 1):
            station = Station(rate, service_s, gpus, cv)
            yield Choice("v2v", pool.name, gpus, float(gpus), gpus * pool.price_per_hour, station)
            if wait(station)[0] < 1e-4 * service_s:
                break


def service_s_of(own: StageProfile, gpus: float) -> float:
    """A share of a GPU is slower by as much."""
    return own.job_s / gpus


def _slowed(pool: GpuPool, own: StageProfile) -> float:
    """How much longer a job takes by the interruptions of spot nodes; infinite where they are away all the time."""
    if pool.spot is None:
        return 1.0
    lost_s = pool.nodes.boot_s + own.load_s + (own.call_s() / 2 if own.call_s() > pool.spot.notice_s else 0.0)
    away = pool.spot.interruptions_per_hour / 3600 * lost_s
    return 1 / (1 - away) if away < 1 else math.inf
