"""A plan held to the twin: what the pools that it buys would do, and cheaper ones where the formulas buy too much.

The formulas take stages as independent and windows as hardly spread; the twin knows better, but cannot search. So it
judges: plans that are best by the formulas for looser goals, and then the best of them with a replica less here and
there. Of those that hold the goal in the twin the cheapest is kept. The same plan gives the same runs.
"""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cluster.planner.kinds import Kind, stay
from cluster.planner.options import PCIE_GIB_S, Choice, Goal, GoalError
from cluster.planner.profiles import Profile, StageProfile
from cluster.planner.search import Plan, bills_of, fills_first, make_plan, resized
from cluster.pools.file import GpuPool, PoolFile
from cluster.traffic.traces import TraceSpec, make_trace
from cluster.twin.scenario import NodePool, Pool, Scenario, StageTimes
from cluster.twin.simulator import simulate
from stages.types import STAGE_NAMES, StageName

JOBS = (1_500, 10_000, 40_000)  # of a run: at least, usually at most, and where jobs stay long at most
LONGEST_S = 30 * 86_400.0  # that is simulated; where fewer come in that time, more do: no plan is better then
RUNS = 3
_LOOSER = (1.2, 1.5, 1.9, 2.4, 3.0, 4.0)
_TIGHTER = (0.85, 0.7, 0.55, 0.4, 0.3, 0.2)
_STEADY_S = 3600.0  # between two looks of a policy that does nothing

Told = Callable[[str], object]


@dataclass(frozen=True)
class Seen:
    """What the twin saw of a plan."""

    plan: Plan
    p95_s: float  # of the slowest kind
    by_kind: Mapping[str, float]
    bought_by_formulas: float  # an hour
    runs: int
    jobs: int  # of one run


def node_pools(file: PoolFile) -> dict[str, NodePool]:
    """Its nodes, for the twin."""
    return {pool.name: node_pool(pool) for pool in file.pools}


def node_pool(pool: GpuPool) -> NodePool:
    """One kind of nodes."""
    nodes, spot = pool.nodes, pool.spot
    kind = NodePool(
        gpus=pool.gpus_per_node,
        max_nodes=nodes.max,
        min_nodes=nodes.min,
        boot_s=nodes.boot_s,
        idle_s=nodes.idle_s,
        least_bill_s=nodes.least_bill_s,
        price_per_hour=pool.node_price_per_hour,
    )
    if spot is None:
        return kind
    return replace(kind, life_s=3600 / spot.interruptions_per_hour, notice_s=spot.notice_s)


def scenario_of(plan: Plan, file: PoolFile, profile: Profile) -> Scenario:
    """The plan's pools as the twin has them; stages that share replicas are one."""
    times, pools, parts = dict[str, StageTimes](), dict[str, Pool](), dict[str, tuple[StageName, ...]]()
    for choice in plan.choices:
        if choice.stage in plan.hosts:
            continue
        own = tuple(name for name in STAGE_NAMES if plan.hosts.get(name, name) == choice.stage)
        name = "+".join(own)
        parts[name] = own
        times[name] = _times(plan, choice, own, file, profile)
        pools[name] = _pool(choice, own, file, profile)
    names = sorted(parts, key=lambda name: STAGE_NAMES.index(parts[name][0]))
    times = _even({name: times[name] for name in names})
    used = {kind for pool in pools.values() for kind in pool.on}
    several = len(plan.goal.kinds) > 1 or plan.goal.kinds[0] != Kind()
    kinds, paths = dict[str, dict[str, float]](), dict[str, tuple[str, ...]]()
    for kind, key in zip(plan.goal.kinds, kind_names(plan.goal), strict=True):
        if several:
            extra_s = 0.0 if plan.layout != "offload" else _moved_s(plan.choices[1], file, profile)
            kinds[key] = {name: _longer(kind, plan, parts[name], file, profile, extra_s) for name in names}
            paths[key] = tuple(name for name in names if set(parts[name]) & set(kind.path))
    return Scenario(
        times,
        {name: pools[name] for name in names},
        nodes={name: kind for name, kind in node_pools(file).items() if name in used},
        packing="pack",
        kinds=kinds,
        paths=paths,
    )


def kind_names(goal: Goal) -> list[str]:
    """As the twin's trace calls them."""
    if len(goal.kinds) == 1 and goal.kinds[0] == Kind():
        return [""]
    return [f"{number} {kind.name}".strip() for number, kind in enumerate(goal.kinds, start=1)]


def _stages(choice: Choice, file: PoolFile, profile: Profile, pool: str = "") -> Mapping[StageName, StageProfile]:
    there = profile.on(file.named(pool or choice.pool).accelerator).stages
    return {name: own.on_share(choice.share) for name, own in there.items()}


def _times(plan: Plan, choice: Choice, own: Sequence[StageName], file: PoolFile, profile: Profile) -> StageTimes:
    stages = _stages(choice, file, profile)
    load_s = sum(stages[name].load_s for name in own)
    if len(own) == 1:
        alone = stages[own[0]]
        call_s = alone.calls * alone.call_s()
        shared = 1.0
        if choice.batch > 1 and alone.batch_s is not None:
            shared = max(0.0, (alone.batch_s / alone.call_s() - 1) / (choice.batch - 1))
        return StageTimes(call_s, alone.cv, load_s, alone.calls, batch=choice.batch, batch_share=shared)
    stays = [stay(Kind(), name, stages[name]) for name in own]
    seconds = sum(one.job_s for one in stays)
    spread = math.sqrt(sum((one.cv * one.job_s) ** 2 for one in stays))
    if plan.layout == "offload":
        seconds += _moved_s(choice, file, profile)
    return StageTimes(seconds, spread / seconds, load_s)


def _moved_s(choice: Choice, file: PoolFile, profile: Profile) -> float:
    return sum(own.gib for own in _stages(choice, file, profile).values()) / PCIE_GIB_S


def _longer(
    kind: Kind, plan: Plan, own: Sequence[StageName], file: PoolFile, profile: Profile, extra_s: float
) -> float:
    """How much longer than the reference a job of a kind keeps a replica of these stages."""
    host = next(choice for choice in plan.choices if choice.stage in own and choice.stage not in plan.hosts)
    stages = _stages(host, file, profile)
    usual_s = sum(stay(Kind(), name, stages[name]).job_s for name in own) + extra_s
    own_s = sum(stay(kind, name, stages[name]).job_s for name in own if name in kind.path) + extra_s
    return own_s / usual_s if usual_s else 1.0


def _pool(choice: Choice, own: Sequence[StageName], file: PoolFile, profile: Profile) -> Pool:
    first = file.named(choice.pool)
    on, slower = [first.name], dict[str, float]()
    if first.fallback is not None:
        on.append(first.fallback)
        base, other = (
            sum(stay(Kind(), name, _stages(choice, file, profile, pool)[name]).job_s for name in own) for pool in on
        )
        if base and other != base:
            slower[first.fallback] = other / base
    return Pool(choice.replicas, choice.replicas, choice.replicas, choice.share, on=tuple(on), slower=slower)


def _even(times: Mapping[str, StageTimes]) -> dict[str, StageTimes]:
    """Windows that follow each other one by one; where two stages have different ones, all are one."""
    if len({own.windows for own in times.values()} - {1}) < 2:
        return dict(times)
    return {name: replace(own, windows=1) for name, own in times.items()}


def look(plan: Plan, file: PoolFile, profile: Profile) -> tuple[float, dict[str, float], int]:
    """The twin's p95 of the slowest kind, that of each, and the jobs of a run."""
    goal, scenario = plan.goal, scenario_of(plan, file, profile)
    at_once = goal.rate * goal.p95_s
    jobs = int(max(min(max(JOBS[0], 20 * at_once), JOBS[1]), min(4 * at_once, JOBS[2])))
    span_s = min(jobs / goal.rate, LONGEST_S)
    pause_s = max(_STEADY_S, span_s / 100)
    scenario = replace(scenario, control_s=pause_s, sample_s=pause_s)
    names = kind_names(goal)
    shares = {} if names == [""] else dict(zip(names, (kind.share for kind in goal.kinds), strict=True))
    found: dict[str, list[float]] = {name: [] for name in names}
    for seed in range(_runs(jobs)):
        spec = TraceSpec("plan", "poisson", span_s, seed, jobs / span_s, kinds=shares)
        run = simulate(scenario, make_trace(spec), seed=seed)
        begun_s = spec.span_s / 10  # until then it fills
        for name in names:
            rows = [row for row in run.rows if row.kind == name and row.intended_s >= begun_s]
            seconds = [row.latency_s if row.outcome == "succeeded" else math.inf for row in rows]
            if len(seconds) >= 20:
                found[name].append(float(np.percentile(seconds, 95, method="higher")))
    by_kind = {name: statistics.fmean(values) for name, values in found.items() if values}
    return max(by_kind.values(), default=math.inf), by_kind, jobs


def _runs(jobs: int) -> int:
    return RUNS if jobs < 2 * JOBS[0] else 1


def see(plan: Plan, file: PoolFile, profile: Profile, told: Told = lambda _said: None) -> Seen:
    """The plan as it is."""
    told(f"{plan.cost_per_hour:.2f} an hour")
    p95_s, by_kind, jobs = look(plan, file, profile)
    return Seen(plan, p95_s, by_kind, plan.cost_per_hour, _runs(jobs), jobs)


def refine(plan: Plan, file: PoolFile, profile: Profile, told: Told = lambda _said: None) -> Seen:
    """The cheapest plan found that holds the goal in the twin; the given one where none does."""
    looked: dict[tuple[object, ...], tuple[float, dict[str, float], int]] = {}

    def seen(one: Plan) -> tuple[float, dict[str, float], int]:
        key = (one.layout, *((choice.stage, *choice.places) for choice in one.choices))
        if key not in looked:
            told(f"{one.cost_per_hour:.2f} an hour")
            looked[key] = look(one, file, profile)
        return looked[key]

    best = plan if seen(plan)[0] <= plan.goal.p95_s else None
    for candidate in _candidates(plan, file, profile, looser=best is not None):
        if best is not None and candidate.cost_per_hour >= best.cost_per_hour - 1e-9:
            continue
        if seen(candidate)[0] <= plan.goal.p95_s:
            best = candidate
        elif best is not None:
            break  # looser ones are slower still
        if best is not None and candidate.goal.p95_s < plan.goal.p95_s:
            break  # the loosest of the tighter ones
    while best is not None:
        fewer = [own for own in one_less(best, file) if own.cost_per_hour < best.cost_per_hour - 1e-9]
        best_of_them = next((own for own in fewer if seen(own)[0] <= plan.goal.p95_s), None)
        if best_of_them is None:
            break
        best = best_of_them
    kept = replace(best or plan, goal=plan.goal)
    p95_s, by_kind, jobs = seen(kept)
    return Seen(kept, p95_s, by_kind, plan.cost_per_hour, _runs(jobs), jobs)


def _candidates(plan: Plan, file: PoolFile, profile: Profile, *, looser: bool) -> Iterator[Plan]:
    for by in _LOOSER if looser else _TIGHTER:
        try:
            yield make_plan(replace(plan.goal, p95_s=plan.goal.p95_s * by), file, profile)
        except GoalError:
            return


def one_less(plan: Plan, file: PoolFile) -> list[Plan]:
    """Plans with one replica less, or as many less at one stage as fill a node; the cheapest first."""
    found = []
    for place, choice in enumerate(plan.choices):
        node = max(1, int(file.named(choice.pool).gpus_per_node / choice.share + 1e-9))
        for less in {1, node, -(-node // 2)}:
            if choice.replicas <= less:
                continue
            others = list(plan.choices)
            others[place] = resized(choice, choice.replicas - less)
            spills = [own for own in others if own.spilled]
            if others[place].station.load < 1 and all(fills_first(own, others, file.named(own.pool)) for own in spills):
                found.append(replace(plan, choices=tuple(others), bills=bills_of(others, file)))
    return sorted(found, key=lambda own: own.cost_per_hour)
