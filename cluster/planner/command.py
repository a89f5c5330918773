"""`python -m cluster plan`: from a rate, a 95th percentile, pools and a profile to replicas, cost, and what else is."""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from client._shell.outputs import judge_output, written
from client._shell.terminal import make_console, tell
from client._shell.texts import read_text
from cluster.planner.monoliths import Monolith, judge, make_monolith
from cluster.planner.options import TIME_SHARE, Choice, Goal, GoalError
from cluster.planner.profiles import Profile, load_profile
from cluster.planner.search import Plan, make_plan, neighbours
from cluster.pools.file import GpuPool, PoolFile, PoolFileError, load_pools

POOLS = Path(__file__).parents[1] / "pools.yaml"
_PER = {"s": 1.0, "min": 60.0, "h": 3600.0}


def add_command(commands: Any) -> None:
    """Put it on `python -m cluster`."""
    command = commands.add_parser("plan", help="the cheapest replicas for a rate and a 95th percentile")
    command.set_defaults(run=run)
    command.add_argument("--rate", required=True, help="videos, like 0.5/s, 12/min or 300/h")
    command.add_argument("--p95", required=True, type=float, help="seconds within which 95 of 100 videos are done")
    command.add_argument("--pools", type=Path, default=POOLS, help="what there is (cluster/pools.yaml)")
    command.add_argument("--preset", default="paper", help="whose stages (%(default)s)")
    command.add_argument("--profile", default="paper-estimate", help="a file, or one of cluster/profiles (%(default)s)")
    command.add_argument("--write", type=Path, metavar="YAML", help="put replicas and pools into this serve config")
    command.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(options: argparse.Namespace) -> int:
    """The command."""
    if options.write is not None:
        judge_output(options.write)
    file, profile = load_pools(options.pools), load_profile(options.profile, options.preset)
    plan = make_plan(Goal(parse_rate(options.rate), options.p95), file, profile)
    monoliths = [
        found
        for offload in (False, True)
        if (found := make_monolith(plan.goal, file, profile, offload=offload)) is not None
    ]
    if options.write is not None:
        write_config(plan, file, options.write)
    if options.json:
        print(json.dumps(as_json(plan, monoliths, profile, file), indent=2))
    else:
        show(plan, monoliths, profile, file)
        if options.write is not None:
            tell(f"Wrote replicas, pools and GPUs of the four stages into {options.write}.")
    return 0


def parse_rate(text: str) -> float:
    """Videos a second.

    Raises:
        GoalError: another form.
    """
    number, _, per = text.partition("/")
    try:
        return float(number) / _PER[per or "s"]
    except (ValueError, KeyError):
        raise GoalError(f"--rate is {text!r}; write it like 0.5/s, 12/min or 300/h.") from None


def as_json(plan: Plan, monoliths: Sequence[Monolith], profile: Profile, file: PoolFile) -> dict[str, Any]:
    """All that the tables say."""
    return {
        "goal": {"rate_per_s": plan.goal.rate, "p95_s": plan.goal.p95_s},
        "profile": {"preset": profile.preset, "kind": profile.kind, "date": profile.date},
        "p95_s": plan.p95_s,
        "cost_per_hour": plan.cost_per_hour,
        "cost_per_1000": plan.cost_per_1000,
        "currency": file.currency,
        "control_per_hour": plan.control_per_hour,
        "nodes": [vars(bill) for bill in plan.bills],
        "gpus": plan.gpus,
        "bottleneck": plan.bottleneck.stage,
        "stages": {
            choice.stage: {"lives_with" if plan.layout == "together" else "shares_gpus_of": plan.hosts[choice.stage]}
            if choice.stage in plan.hosts
            else {"pool": choice.pool, "replicas": choice.replicas, "load": choice.station.load}
            | ({"batch": choice.batch} if choice.batch > 1 else {})
            for choice in plan.choices
        },
        "proof": {"branches": plan.looked_at, "combinations": plan.possible},
        "one_fewer": [
            {"stage": n.stage, "saving_per_hour": n.saving_per_hour, "p95_s": n.p95_s, "load": n.load}
            for n in neighbours(plan, file)
        ],
        "monoliths": [vars(monolith) for monolith in monoliths],
        "verdict": judge(plan, monoliths),
    }


def show(plan: Plan, monoliths: Sequence[Monolith], profile: Profile, file: PoolFile) -> None:
    """As tables and sentences."""
    console = make_console()
    kind = "an ESTIMATE, nothing was measured" if profile.kind == "estimate" else f"measured {profile.date}"
    print(f"{plan.goal.rate:g} videos/s, p95 <= {plan.goal.p95_s:g} s; preset {profile.preset}, {kind}.")
    table = Table()
    for column in ("stage", "pool", "replicas", "GPUs", "s a video", "load"):
        table.add_column(column, justify="left" if column in ("stage", "pool") else "right")
    for choice in plan.choices:
        station = choice.station
        if (host := plan.hosts.get(choice.stage)) is not None:
            table.add_row(choice.stage, f"in {host}'s replicas" if plan.layout == "together" else f"on {host}'s GPUs")
            continue
        cells = (f"{choice.gpus:g}", f"{station.service_s:.1f}", f"{station.load:.0%}")
        table.add_row(choice.stage, choice.pool, str(choice.replicas), *cells)
    console.print(table)
    unit = f"{file.currency} an hour" if file.currency else "an hour"
    bill = Table()
    for column in ("pool", "whole nodes", "GPUs", "of them used", unit):
        bill.add_column(column, justify="left" if column == "pool" else "right")
    for own in plan.bills:
        spot = " (spot)" if file.named(own.pool).spot else ""
        bill.add_row(own.pool + spot, str(own.nodes), str(own.gpus), str(own.used), f"{own.per_hour:.2f}")
    if file.control is not None:
        bill.add_row("control", str(file.control.nodes), "0", "0", f"{plan.control_per_hour:.2f}")
    bill.add_row("", "", "", "", f"{plan.cost_per_hour:.2f}")
    console.print(bill)
    console.print(
        f"p95 {plan.p95_s:.1f} s; {plan.cost_per_1000:.2f} for 1,000 videos; busiest: {plan.bottleneck.stage}."
    )
    proof = f"{plan.looked_at:,} branches of {plan.possible:,} combinations looked at"
    console.print(f"Optimal: {proof}; every other costs as much or misses the goal.")
    for neighbour in neighbours(plan, file)[:1]:
        broken = f"p95 would be {neighbour.p95_s:.1f} s" if neighbour.load < 1 else f"{neighbour.stage} is overloaded"
        if neighbour.load < 1 and neighbour.p95_s <= plan.goal.p95_s:
            continue
        saving = f"saves {neighbour.saving_per_hour:.2f} an hour" if neighbour.saving_per_hour else "saves no node"
        console.print(f"One replica of {neighbour.stage} fewer {saving}, and {broken}.")
    for monolith in monoliths:
        name = f"{monolith.replicas} monoliths on {monolith.pool}{', offloading' if monolith.offload else ''}"
        console.print(f"{name}: {monolith.cost_per_hour:.2f} an hour, p95 {monolith.p95_s:.1f} s.")
    console.print(judge(plan, monoliths))


def write_config(plan: Plan, file: PoolFile, path: Path) -> None:
    """Replicas, pool, GPUs and batch of each stage into a Serve config; comments and what scales stay.

    A stage that scales gets bounds around the plan: its own lower one where that is below, and up to twice the plan as
    far as the pool goes. A budget below the plan is raised to it. Where V2V lives in I2V's replicas, or all stages
    share GPUs, their numbers are fixed; `scaling` and its policy go, for they count stages that scale by themselves.

    Raises:
        PoolFileError: it is no Serve config of ours.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 160
    yaml.indent(mapping=2, sequence=4, offset=2)
    try:
        document = yaml.load(read_text(path, PoolFileError))
        application = document["applications"][0]
        stages = application["args"].setdefault("stages", {})
    except (YAMLError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise PoolFileError(f"{path} is no Serve config with an application that has args ({error!r}).") from error
    for choice in plan.choices:
        stage = stages.setdefault(choice.stage, {})
        host = next(own for own in plan.choices if own.stage == plan.hosts.get(choice.stage, choice.stage))
        pool = file.named(host.pool)
        stage["pool"] = pool.node_labels.get("pool", pool.name)
        gpus = TIME_SHARE if plan.layout == "shared" else pool.gpus_of(choice.stage)
        stage["num_gpus"] = int(gpus) if gpus.is_integer() else gpus
        for key in ("replicas", "batch", "lives_with"):
            stage.pop(key, None)
        if plan.layout != "apart":
            stage.pop("autoscaling", None)
        if plan.layout == "together" and choice.stage == "v2v":
            stage["lives_with"] = "i2v"
        elif (bounds := stage.get("autoscaling")) is not None:
            bounds.update(_around(choice, pool, bounds.get("min_replicas")))
        else:
            stage["replicas"] = host.replicas
        if choice.batch > 1:
            stage["batch"] = {"size": choice.batch}
    if plan.layout != "apart":
        application.pop("autoscaling_policy", None)
        application["args"].pop("scaling", None)
    elif (scaling := application["args"].get("scaling")) and "budget_gpus" in scaling:
        scaling["budget_gpus"] = max(scaling["budget_gpus"], math.ceil(plan.gpus))
    with written(path) as draft, draft.open("w", encoding="utf-8") as out:
        yaml.dump(document, out)


def _around(choice: Choice, pool: GpuPool, least: int | None) -> dict[str, int]:
    """Bounds of a stage that scales."""
    planned, room = choice.replicas, int(pool.gpus_max / pool.gpus_of(choice.stage) + 1e-9)
    lowest = min(planned, least) if least is not None else -(-planned // 2)
    return {"min_replicas": lowest, "max_replicas": max(planned, min(2 * planned, room))}
