"""A plan as tables and sentences, or as one JSON document: what it buys, what holds it, what else there is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from client._shell.terminal import make_console
from cluster.planner.monoliths import Monolith, judge
from cluster.planner.options import Choice
from cluster.planner.profiles import Profile
from cluster.planner.refine import Seen, kind_names
from cluster.planner.search import Plan, neighbours
from cluster.pools.file import PoolFile

_IN_TURNS = "on {host}'s GPUs, in turns"
_USUAL = "the preset's own"
_INSIDE = "in {host}'s replicas"


@dataclass(frozen=True)
class Answer:
    """All that is said."""

    plan: Plan
    file: PoolFile
    profile: Profile
    monoliths: Sequence[Monolith] = ()
    seen: Seen | None = None  # by the twin
    budget: float | None = None


def as_json(answer: Answer) -> dict[str, Any]:
    """All that the tables say."""
    plan, file, profile, seen = answer.plan, answer.file, answer.profile, answer.seen
    return {
        "goal": {
            "rate_per_s": plan.goal.rate,
            "p95_s": plan.goal.p95_s,
            "budget_per_hour": answer.budget,
            "kinds": [{"share": kind.share, "path": kind.path, "name": kind.name} for kind in plan.goal.kinds],
        },
        "profile": {"preset": profile.preset, "kind": profile.kind, "date": profile.date},
        "layout": plan.layout,
        "p95_s": plan.p95_s,
        "twin": None
        if seen is None
        else {
            "p95_s": _finite(seen.p95_s),
            "by_kind": {name: _finite(seconds) for name, seconds in seen.by_kind.items()},
            "formulas_cost_per_hour": seen.bought_by_formulas,
        },
        "cost_per_hour": plan.cost_per_hour,
        "cost_per_1000": plan.cost_per_1000,
        "currency": file.currency,
        "control_per_hour": plan.control_per_hour,
        "nodes": [vars(bill) for bill in plan.bills],
        "gpus": plan.gpus,
        "bottleneck": plan.bottleneck.stage,
        "stages": {choice.stage: _stage(choice, plan) for choice in plan.choices},
        "proof": {"branches": plan.looked_at, "combinations": plan.possible},
        "one_fewer": [
            {"stage": n.stage, "saving_per_hour": n.saving_per_hour, "p95_s": _finite(n.p95_s), "load": n.load}
            for n in neighbours(plan, file)
        ],
        "monoliths": [vars(monolith) for monolith in answer.monoliths],
        "verdict": judge(plan, answer.monoliths, file),
    }


def _finite(seconds: float) -> float | None:
    """JSON has no infinity."""
    return seconds if math.isfinite(seconds) else None


def _stage(choice: Choice, plan: Plan) -> dict[str, Any]:
    if choice.stage in plan.hosts:
        return {"shares_gpus_of" if plan.layout == "shared" else "lives_with": plan.hosts[choice.stage]}
    said: dict[str, Any] = {"pool": choice.pool, "replicas": choice.replicas, "load": choice.station.load}
    if choice.spilled:
        said["fallback"] = {"pool": choice.fallback, "replicas": choice.spilled}
    return said | ({"batch": choice.batch} if choice.batch > 1 else {})


def show(answer: Answer) -> None:
    """As tables and sentences."""
    plan, file, profile = answer.plan, answer.file, answer.profile
    console = make_console()
    kind = "an ESTIMATE, nothing was measured" if profile.kind == "estimate" else f"measured {profile.date}"
    goal = f"{plan.goal.rate:g} videos/s, p95 <= {plan.goal.p95_s:.4g} s"
    spent = "" if answer.budget is None else f", at most {money(answer.budget, file)}"
    print(f"{goal}{spent}; preset {profile.preset}, {kind}.")
    if not file.currency:
        print("The pools file names no `currency`; prices are in whatever they were written in.")
    console.print(_replicas(plan))
    console.print(_bill(plan, file))
    per = f"{plan.cost_per_1000:.2f} {file.currency}".rstrip()
    print(f"p95 {plan.p95_s:.1f} s by the formulas; {per} for 1,000 videos; busiest: {plan.bottleneck.stage}.")
    if answer.seen is not None:
        _show_seen(answer.seen, plan, file)
    _show_proof(answer)
    for monolith in answer.monoliths if plan.layout not in ("monolith", "offload") else ():
        name = f"{monolith.replicas} monoliths on {monolith.pool}{', offloading' if monolith.offload else ''}"
        print(f"{name}: {money(monolith.cost_per_hour, file)}, p95 {monolith.p95_s:.1f} s.")
    print(judge(plan, answer.monoliths, file))


def money(amount: float, file: PoolFile) -> str:
    """Of an hour, with its currency."""
    return f"{amount:.2f} {file.currency} an hour" if file.currency else f"{amount:.2f} an hour"


def next_step(wrote: Path | None, pools: Path) -> str:
    """What to do with a plan."""
    render = f"python -m cluster render --pools {pools} --config {wrote or 'serve_config.yaml'} --out deploy"
    if wrote is None:
        return f"Next: the same with --write serve_config.yaml, then `{render}`."
    return f"Next: `{render}`; once it serves, `python -m cluster calibrate --journal URL --pools {pools}`."


def _replicas(plan: Plan) -> Table:
    table = Table()
    for column in ("stage", "pool", "replicas", "GPUs", "s a video", "load"):
        table.add_column(column, justify="left" if column in ("stage", "pool") else "right")
    for choice in plan.choices:
        station = choice.station
        if (host := plan.hosts.get(choice.stage)) is not None:
            table.add_row(choice.stage, (_IN_TURNS if plan.layout == "shared" else _INSIDE).format(host=host))
            continue
        where = " + ".join(f"{count} {name}" for name, count in choice.places) if choice.spilled else choice.pool
        where += ", offloading" if plan.layout == "offload" else ""
        cells = (f"{choice.gpus:g}", f"{station.service_s:.1f}", f"{station.load:.0%}")
        table.add_row(choice.stage, where, str(choice.replicas), *cells)
    return table


def _bill(plan: Plan, file: PoolFile) -> Table:
    bill = Table()
    unit = f"{file.currency} an hour" if file.currency else "an hour"
    for column in ("pool", "whole nodes", "GPUs", "of them used", unit):
        bill.add_column(column, justify="left" if column == "pool" else "right")
    for own in plan.bills:
        spot = " (spot)" if file.named(own.pool).spot else ""
        bill.add_row(own.pool + spot, str(own.nodes), str(own.gpus), str(own.used), f"{own.per_hour:.2f}")
    if file.control is not None:
        bill.add_row("control", str(file.control.nodes), "0", "0", f"{plan.control_per_hour:.2f}")
    bill.add_row("", "", "", "", f"{plan.cost_per_hour:.2f}")
    return bill


def _show_seen(seen: Seen, plan: Plan, file: PoolFile) -> None:
    runs = f"{seen.runs} runs of {seen.jobs:,} videos" if seen.runs > 1 else f"{seen.jobs:,} videos"
    print(f"p95 {seen.p95_s:.1f} s in the twin ({runs}).")
    if len(seen.by_kind) > 1:
        named = zip(kind_names(plan.goal), plan.goal.kinds, strict=True)
        parts = [f"{kind.name or _USUAL} {seen.by_kind[key]:.1f} s" for key, kind in named if key in seen.by_kind]
        print(f"By kind: {', '.join(parts)}.")
    if seen.p95_s > plan.goal.p95_s:
        print(
            f"That is above {plan.goal.p95_s:.4g} s: the formulas promise too much here, and no plan that was tried "
            f"holds it; ask for --p95 {seen.p95_s * 1.01:.0f}, or for less --rate."
        )
    elif seen.bought_by_formulas > plan.cost_per_hour + 1e-9:
        print(
            f"The formulas alone would buy {money(seen.bought_by_formulas, file)}; the twin holds the goal with "
            f"{money(plan.cost_per_hour, file)}."
        )


def _show_proof(answer: Answer) -> None:
    plan, file = answer.plan, answer.file
    cheaper = answer.seen is not None and answer.seen.bought_by_formulas > plan.cost_per_hour + 1e-9
    if not cheaper:
        proof = f"{plan.looked_at:,} branches of {plan.possible:,} combinations looked at"
        print(f"Optimal by the formulas: {proof}; every other costs as much or misses the goal.")
    for neighbour in neighbours(plan, file)[:1]:
        broken = f"p95 would be {neighbour.p95_s:.1f} s" if neighbour.load < 1 else f"{neighbour.stage} is overloaded"
        if neighbour.load < 1 and neighbour.p95_s <= plan.goal.p95_s:
            continue
        saved = f"saves {money(neighbour.saving_per_hour, file)}" if neighbour.saving_per_hour else "saves no node"
        print(f"By the formulas one replica of {neighbour.stage} fewer {saved}, and {broken}.")
