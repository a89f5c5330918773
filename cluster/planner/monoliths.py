"""What a plan of stages is compared with: replicas that each run all four models, with and without offloading.

Takes a goal, pools and a profile, as the planner does; gives the cheapest monoliths, and a sentence on who wins. Pools
that take all four stages are looked at; only with `monolith: true` is one a layout that the plan may choose. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.planner.options import Goal, options_of
from cluster.planner.profiles import Profile
from cluster.planner.queueing import percentile
from cluster.planner.search import Plan, bills_of
from cluster.pools.file import PoolFile
from stages.types import STAGE_NAMES

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
    may = [pool.model_copy(update={"monolith": set(STAGE_NAMES) <= set(pool.stages)}) for pool in file.pools]
    open_file = file.model_copy(update={"pools": tuple(may)})
    found = []
    for choice in options_of(goal, open_file, profile, layout="offload" if offload else "monolith")["i2v"]:
        bills = bills_of([choice], file)
        if any(bill.nodes > file.named(bill.pool).nodes.max for bill in bills):
            continue
        p95_s = percentile([choice.station])
        if p95_s <= goal.p95_s:
            cost = file.control_per_hour + sum(bill.per_hour for bill in bills)
            found.append(Monolith(choice.pool, choice.replicas, offload, cost, p95_s))
    return min(found, key=lambda monolith: monolith.cost_per_hour, default=None)


def judge(plan: Plan, monoliths: Sequence[Monolith], file: PoolFile) -> str:
    """In one sentence: whether stages are worth their own pools here, and what to do where they are not."""
    if plan.layout in ("monolith", "offload"):
        return "No pools of stages are cheaper than these monoliths."
    if not monoliths:
        return "No monolith holds this goal on these pools: the stages need their own."
    best = min(monoliths, key=lambda monolith: monolith.cost_per_hour)
    ratio = plan.cost_per_hour / best.cost_per_hour if best.cost_per_hour else 1.0
    unit = f"{file.currency} an hour" if file.currency else "an hour"
    costs = f"{best.cost_per_hour:.2f} {unit} against {plan.cost_per_hour:.2f} for pools of stages"
    name = f"{'n offloading' if best.offload else ''} monolith on pool {best.pool}"
    may = "" if file.named(best.pool).monolith else f" `monolith: true` in pool {best.pool} lets the plan be that."
    if abs(ratio - 1) <= _EQUAL:
        return f"A{name} is as good: {costs}.{may}"
    if ratio > 1:
        why = "with one kind of GPU and room for all weights it often is"
        return f"A{name} is cheaper: {costs}; {why}.{may}"
    return f"The cheapest that does all four stages, a{name}, costs {1 / ratio:.2f} times as much: {costs}."
