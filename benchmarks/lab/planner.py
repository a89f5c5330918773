"""Whether the planner's bill is the least there is, and how long it takes.

Fifty small instances made from seeds: one or two kinds of nodes of 1, 2 or 4 GPUs, some of which always stand, stages
on halves of a GPU or on two pools, V2V in I2V's replicas, all four taking turns on a GPU or in one replica, jobs of
one or two kinds. Brute force goes through every combination of pools and replicas, packs by itself, and adds up whole
nodes.

    bill_error_max    the largest |planner's bill / brute force's - 1|; an instance that one of them holds to be
                      impossible and the other does not counts as 1
    seconds_1000      four stages on six kinds of nodes, a thousand GPUs: wall seconds of the dearest of five goals
"""

import itertools
import math
import random
import time
from collections.abc import Sequence

from cluster.planner.kinds import Kind
from cluster.planner.options import JOINT, Goal, GoalError, Layout, options_of
from cluster.planner.profiles import AcceleratorProfile, Profile, StageProfile
from cluster.planner.queueing import percentile
from cluster.planner.search import make_plan
from cluster.pools.file import GpuPool, PoolFile
from stages.types import STAGE_NAMES, StageName

INSTANCES = 50
RATES = (0.5, 2.0, 5.0, 8.0, 10.0)  # videos a second
Devices = dict[str, dict[StageName, StageProfile]]


def planner(instances: int, rates: Sequence[float]) -> dict[str, float]:
    """The figures; prints what it does."""
    errors = [error_of(*instance(seed)) for seed in range(instances)]
    print(f"{len(errors)} instances against brute force, the largest error {max(errors):.2g}", flush=True)
    return {"bill_error_max": max(errors), "seconds_1000": max(seconds_of(rate) for rate in rates)}


def stage(seconds: float, gib: float = 10.0, calls: int = 1, cv: float = 0.1) -> StageProfile:
    """One that takes so long."""
    return StageProfile(
        fixed_s=0.0, step_s=seconds, steps=1, frames=1, pixels=1, calls=calls, cv=cv, gib=gib, bytes_out=1, load_s=10.0
    )


def profile_of(devices: Devices) -> Profile:
    found = {name: AcceleratorProfile(gib=80, stages=own) for name, own in devices.items()}
    return Profile(preset="paper", kind="measured", date="2026-01-01", accelerators=found)


def instance(seed: int) -> tuple[Goal, PoolFile, Profile]:
    """Small enough for brute force."""
    draw = random.Random(seed)
    devices: Devices = {
        name: {
            own: stage(draw.uniform(1, 8), calls=draw.choice([1, 1, 2]), cv=draw.uniform(0, 0.6)) for own in STAGE_NAMES
        }
        for name in ["a", "b"][: draw.randint(1, 2)]
    }
    pools = []
    for name in devices:
        spills = len(devices) > 1 and seed % 4 == 0 and seed % 3 > 0  # few GPUs then, for brute force's sake
        most = min(draw.randint(2, 8), 3 if spills else 8)
        pools.append(
            GpuPool.model_validate(
                {
                    "name": name,
                    "accelerator": name,
                    "gib": 80.0,
                    "stages": STAGE_NAMES,
                    "gpus_per_node": (gpus := draw.choice([1, 2, 4])),
                    "nodes": {"min": draw.choice([0, 0, 1]), "max": max(1, most // gpus)},
                    "price_per_hour": draw.uniform(0.5, 3),
                    "fraction": {"t2i": 0.5, "vfi": 0.5} if seed % 3 == 0 else {},
                    "lives_with": {"v2v": "i2v"} if seed % 2 else {},
                    "time_shared": seed % 5 == 0,
                    "monolith": seed % 7 == 0,
                    "fallback": "b" if name == "a" and spills else None,
                }
            )
        )
    rate, p95_s = draw.uniform(0.05, 0.5), draw.uniform(12, 60)
    still = (Kind(0.6), Kind(0.4, ("t2i",)))
    kinds = still if seed % 6 == 0 else (Kind(),)
    return Goal(rate, p95_s, kinds), PoolFile(pools=tuple(pools)), profile_of(devices)


def cheapest_by_force(goal: Goal, file: PoolFile, profile: Profile) -> float | None:
    """Every combination, in each layout; None where none holds the goal."""
    best: float | None = None
    layouts: tuple[Layout, ...] = ("apart", *JOINT)
    all_of_them = [itertools.product(*options_of(goal, file, profile, layout=own).values()) for own in layouts]
    for chosen in itertools.chain(*all_of_them):
        used = {own.name: 0.0 for own in file.pools}
        for choice in chosen:
            for name, count in choice.places:
                used[name] += count * choice.share
        nodes = {own.name: max(own.nodes.min, math.ceil(used[own.name] / own.gpus_per_node)) for own in file.pools}
        fits = all(nodes[own.name] <= own.nodes.max for own in file.pools)
        for spills in (choice for choice in chosen if choice.spilled):  # what stands elsewhere has no room here
            own = file.named(spills.pool)
            fits = fits and used[own.name] + spills.share > own.gpus_max + 1e-9
        cost = sum(nodes[own.name] * own.gpus_per_node * own.price_per_hour for own in file.pools)
        if (best is None or cost < best) and fits and percentile([c.station for c in chosen]) <= goal.p95_s:
            best = cost
    return best


def error_of(goal: Goal, file: PoolFile, profile: Profile) -> float:
    """Of the planner's bill."""
    wanted = cheapest_by_force(goal, file, profile)
    try:
        found = make_plan(goal, file, profile)
    except GoalError:
        return 0.0 if wanted is None else 1.0
    if wanted is None or found.p95_s > goal.p95_s:
        return 1.0
    return abs(found.cost_per_hour / wanted - 1)


def seconds_of(rate: float) -> float:
    """Wall seconds of a plan over a thousand GPUs."""
    draw = random.Random(7)
    devices: Devices = {
        f"g{n}": {own: stage(draw.uniform(5, 60), calls=2 if own == "v2v" else 1) for own in STAGE_NAMES}
        for n in range(6)
    }
    pools = [
        GpuPool.model_validate(
            {
                "name": name,
                "accelerator": name,
                "gib": 80.0,
                "stages": STAGE_NAMES,
                "gpus_per_node": gpus,
                "nodes": {"max": 168 // gpus},
                "price_per_hour": draw.uniform(0.5, 4),
            }
        )
        for name, gpus in zip(devices, (8, 4, 8, 4, 8, 2), strict=True)
    ]
    file, profile = PoolFile(pools=tuple(pools)), profile_of(devices)
    began_s = time.perf_counter()
    plan = make_plan(Goal(rate, 200.0), file, profile)
    took_s = time.perf_counter() - began_s
    nodes = ", ".join(f"{bill.nodes} {bill.pool}" for bill in plan.bills)
    print(f"{rate:g} videos/s: {nodes}; {plan.looked_at:,} branches of {plan.possible:,} in {took_s:.2f} s", flush=True)
    return took_s
