"""What a plan of stages is compared with: replicas that each run all four models, with and without offloading.

Takes a goal, pools and a profile, as the planner does; gives the cheapest monoliths, and a sentence on who wins. Pure.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.planner.options import Goal
from cluster.planner.profiles import AcceleratorProfile, Profile
from cluster.planner.queueing import Station, percentile, wait
from cluster.planner.search import Plan
from cluster.pools.bill import nodes_for
from cluster.pools.file import GpuPool, PoolFile
from stages.types import STAGE_NAMES

_PCIE_GIB_S = (
    20.0  # of a GPU's link while weights are exchanged: PCIe 4.0 x16 gives 32 GB/s at most, 20 to 25 in practice
)
_EQUAL = 0.02  # plans that differ by less cost the same


@dataclass(frozen=True)
class Monolith:
    """Replicas that each run all four stages, one job after the other."""

    pool: str
    replicas: int
    offload: bool  # the weights of the stages take turns on the GPU
    cost_per_hour: float
    p95_s: float


def make_monolith(goal: Goal, file: PoolFile, profile: Profile, *, offload: bool) -> Monolith | None:
    """The cheapest monoliths that hold the goal; None where none can: it fits no GPU, or is too slow."""
    found = []
    for pool in file.pools:
        device = profile.on(pool.accelerator)
        seconds = _monolith_s(device, pool, offload=offload)
        if seconds is None:
            continue
        cv = _monolith_cv(device, seconds)
        for replicas in range(max(1, math.ceil(goal.rate * seconds + 1e-9)), pool.gpus_max + 1):
            station = Station(goal.rate, seconds, replicas, cv)
            p95_s = percentile([station]) if station.load < 1 else math.inf
            if p95_s <= goal.p95_s:
                found.append(Monolith(pool.name, replicas, offload, _per_hour(file, pool, replicas), p95_s))
                break
            if station.load < 1 and wait(station)[0] < 1e-6 * seconds:
                break  # more do not help
    return min(found, key=lambda monolith: monolith.cost_per_hour, default=None)


def _per_hour(file: PoolFile, used: GpuPool, replicas: int) -> float:
    """Of whole nodes, and of those of other pools that always stand."""
    nodes = {pool.name: nodes_for(pool, [(1.0, replicas)] if pool is used else []) for pool in file.pools}
    return file.control_per_hour + math.fsum(nodes[pool.name] * pool.node_price_per_hour for pool in file.pools)


def judge(plan: Plan, monoliths: Sequence[Monolith]) -> str:
    """In one sentence: whether stages are worth their own pools here."""
    if not monoliths:
        return "No monolith holds this goal on these pools: the stages need their own."
    best = min(monoliths, key=lambda monolith: monolith.cost_per_hour)
    ratio = plan.cost_per_hour / best.cost_per_hour
    costs = f"{best.cost_per_hour:.2f} an hour against {plan.cost_per_hour:.2f} for pools of stages"
    name = f"{'n offloading' if best.offload else ''} monolith on pool {best.pool}"
    if abs(ratio - 1) <= _EQUAL:
        return f"A{name} is as good: {costs}."
    if ratio > 1:
        why = "with one kind of GPU and room for all weights it often is"
        return f"A{name} is cheaper: {costs}; {why}."
    return f"The cheapest that does all four stages, a{name}, costs {1 / ratio:.2f} times as much: {costs}."


def _monolith_s(device: AcceleratorProfile, pool: GpuPool, *, offload: bool) -> float | None:
    """Seconds that one job keeps one GPU; None where it does not fit."""
    needs = [device.stages[stage].gib for stage in STAGE_NAMES]
    seconds = sum(device.stages[stage].job_s for stage in STAGE_NAMES)
    if not offload:
        return seconds if sum(needs) <= pool.gib else None
    return seconds + sum(needs) / _PCIE_GIB_S if max(needs) <= pool.gib else None


def _monolith_cv(device: AcceleratorProfile, seconds: float) -> float:
    variance = sum((own.cv * own.job_s) ** 2 / own.calls for own in device.stages.values())
    return math.sqrt(variance) / seconds
