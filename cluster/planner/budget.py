"""What a sum an hour buys: the least 95th percentile within it, or what stands in the way. Pure."""

import math
from dataclasses import replace

from cluster.planner.options import Goal, GoalError
from cluster.planner.profiles import Profile
from cluster.planner.search import Plan, make_plan
from cluster.pools.file import PoolFile

_EVER_S = 1e6  # a p95 that any plan holds whose stages are not overloaded
_CLOSE = 1.01


def within(budget: float, goal: Goal, file: PoolFile, profile: Profile) -> Plan:
    """The plan with the least p95 whose bill is within the budget; `goal.p95_s` is not looked at.

    Raises:
        GoalError: no plan for that rate is so cheap; it says the nearest budget and rate.
    """
    cheapest = make_plan(replace(goal, p95_s=_EVER_S), file, profile)
    if cheapest.cost_per_hour > budget + 1e-9:
        raise GoalError(_too_little(budget, cheapest, goal, file, profile))
    best, low, high = cheapest, 0.0, cheapest.p95_s
    for _ in range(24):
        middle = math.sqrt(low * high) if low else high / 2
        try:
            found = make_plan(replace(goal, p95_s=middle), file, profile)
        except GoalError:
            found = None
        if found is not None and found.cost_per_hour <= budget + 1e-9:
            best, high = found, min(middle, found.p95_s)
        else:
            low = middle
        if low and high / low < _CLOSE:
            break
    return replace(best, goal=replace(goal, p95_s=math.ceil(best.p95_s * 10) / 10))


def judge_budget(budget: float, plan: Plan, file: PoolFile, profile: Profile) -> None:
    """Of a plan for a p95.

    Raises:
        GoalError: it costs more; it says what the budget buys.
    """
    if plan.cost_per_hour <= budget + 1e-9:
        return
    nearest = within(budget, plan.goal, file, profile)
    raise GoalError(
        f"A p95 of {plan.goal.p95_s:g} s at {plan.goal.rate:g} videos a second costs {_sum(plan.cost_per_hour, file)}, "
        f"above --budget {budget:g}; within it the nearest p95 is {nearest.p95_s:.1f} s, or raise it to "
        f"{_up(plan.cost_per_hour):.2f}/h."
    )


def _too_little(budget: float, cheapest: Plan, goal: Goal, file: PoolFile, profile: Profile) -> str:
    stands = file.control_per_hour + sum(pool.nodes.min * pool.node_price_per_hour for pool in file.pools)
    why = f"the cheapest plan for {goal.rate:g} videos a second costs {_sum(cheapest.cost_per_hour, file)}"
    if budget < stands - 1e-9:
        return (
            f"--budget {budget:g} an hour is below {_sum(stands, file)}, which the nodes that always stand (nodes.min, "
            f"control) cost, and {why}; raise it to {_up(cheapest.cost_per_hour):.2f}/h, or lower nodes.min."
        )
    low, high = 0.0, goal.rate
    for _ in range(10):
        middle = (low + high) / 2
        try:
            cost = make_plan(replace(goal, rate=middle, p95_s=_EVER_S), file, profile).cost_per_hour
        except GoalError:
            cost = math.inf
        low, high = (middle, high) if cost <= budget else (low, middle)
    nearest = f"; within it the nearest rate is {low:.3g} videos a second" if low > goal.rate / 512 else ""
    more = f"raise it to {_up(cheapest.cost_per_hour):.2f}/h"
    return f"--budget {budget:g} an hour is too little: {why}{nearest}; {'or ' if nearest else ''}{more}."


def _up(amount: float) -> float:
    return math.ceil(amount * 100 - 1e-6) / 100


def _sum(amount: float, file: PoolFile) -> str:
    return f"{amount:.2f} {file.currency} an hour".replace("  ", " ")
