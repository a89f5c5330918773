"""`python -m cluster plan`: from rates, a 95th percentile or a budget, pools and a profile to replicas and their bill.

    --rate 4/min --rate 1/min,seconds=8,until=v2v    several kinds of jobs (`cluster.planner.kinds`)
    --p95 300    --budget 50/h                       one of them, or both
    --gpu B200=2250,8000,180                         an accelerator that no profile has

The plan is the cheapest by the formulas, then held to the twin, and made cheaper where that may be.
"""

import argparse
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from client._shell.outputs import OutputError, is_stdout, judge_output
from client._shell.terminal import make_console, tell
from cluster.planner.accelerators import judge_used, parse_gpu, with_gpu
from cluster.planner.budget import judge_budget, within
from cluster.planner.kinds import parse_kinds, parse_money
from cluster.planner.monoliths import make_monolith
from cluster.planner.options import Goal, GoalError
from cluster.planner.picture import draw
from cluster.planner.profiles import default_profile, load_profile
from cluster.planner.refine import Told, refine, see
from cluster.planner.search import Plan, make_plan
from cluster.planner.showing import Answer, as_json, next_step, show
from cluster.planner.writing import write_config
from cluster.pools.file import load_pools

POOLS = Path(__file__).parents[1] / "pools.yaml"
_AROUND = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.15, 1.3, 1.6, 2.0, 3.0)  # of the plan's p95, for the picture


def add_command(commands: Any) -> None:
    """Put it on `python -m cluster`."""
    command = commands.add_parser("plan", help="the cheapest replicas for rates and a 95th percentile, or a budget")
    command.set_defaults(run=run)
    command.add_argument(
        "--rate",
        required=True,
        action="append",
        metavar="N/min[,seconds=8][,size=WxH][,from=STAGE][,until=STAGE]",
        help="videos, like 0.5/s, 12/min or 300/h; several times for several kinds",
    )
    command.add_argument("--p95", type=float, help="seconds within which 95 of 100 videos of each kind are done")
    command.add_argument("--budget", help="money, like 50/h: the least p95 within it; with --p95, what may be spent")
    command.add_argument("--pools", type=Path, default=POOLS, help="what there is (cluster/pools.yaml)")
    command.add_argument("--preset", default="paper", help="whose stages (%(default)s)")
    command.add_argument("--profile", help="a file, or one of cluster/profiles (the preset's)")
    command.add_argument(
        "--gpu",
        action="append",
        default=[],
        metavar="NAME=TFLOPS,GB_S,GIB",
        help="an accelerator of the pools file that the profile lacks, by its data sheet",
    )
    command.add_argument("--formulas", action="store_true", help="at once: the twin is not asked")
    command.add_argument("--plot", type=Path, metavar="PNG", help="what a p95 costs at these rates")
    command.add_argument("--write", type=Path, metavar="YAML", help="put replicas and pools into this serve config")
    command.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(options: argparse.Namespace) -> int:
    """The command."""
    for path, endings in ((options.write, ()), (options.plot, [".png"])):
        if path is not None:
            judge_output(path, endings)
            if is_stdout(path):
                raise OutputError("A file is stdout, where the plan goes; name another.", path=path)
    budget = None if options.budget is None else parse_money(options.budget)
    if options.p95 is None and budget is None:
        raise GoalError("Neither --p95 nor --budget is given; say one, like --p95 300 or --budget 50/h, or both.")
    rate, kinds = parse_kinds(options.rate, options.preset)
    goal = Goal(rate, 1.0 if options.p95 is None else options.p95, kinds)
    file = load_pools(options.pools)
    profile = load_profile(options.profile or default_profile(options.preset), options.preset)
    for text in options.gpu:
        profile = with_gpu(profile, *parse_gpu(text))
        judge_used(parse_gpu(text)[0], [pool.accelerator for pool in file.pools], options.pools)
    with _telling() as told:
        search = options.p95 is not None or budget is None
        plan = make_plan(goal, file, profile) if search else within(budget or 0.0, goal, file, profile)
        seen = None if options.formulas else (refine if search else see)(plan, file, profile, told)
        plan = plan if seen is None else seen.plan
        if not search and seen is not None and plan.goal.p95_s < seen.p95_s < math.inf:
            plan = replace(plan, goal=replace(plan.goal, p95_s=math.ceil(seen.p95_s)))  # what the budget really buys
        if budget is not None and options.p95 is not None:
            judge_budget(budget, plan, file, profile)
        monoliths = [
            found
            for offload in (False, True)
            if (found := make_monolith(plan.goal, file, profile, offload=offload)) is not None
        ]
        answer = Answer(plan, file, profile, monoliths, seen, budget)
        if options.write is not None:
            write_config(plan, file, options.write)
        if options.plot is not None:
            _picture(answer, options.plot)
    if options.json:
        print(json.dumps(as_json(answer), indent=2))
        return 0
    show(answer)
    if options.write is not None:
        tell(f"Wrote replicas, pools and GPUs of the four stages into {options.write}.")
    if options.plot is not None:
        tell(f"Drew {options.plot}.")
    print(next_step(options.write, options.pools))
    return 0


def _picture(answer: Answer, path: Path) -> None:
    plan, seen, file = answer.plan, answer.seen, answer.file
    bought = [(own.p95_s, own.cost_per_hour) for own in _plans(answer)]
    draw(
        path,
        f"What a p95 costs: {plan.goal.rate * 60:.3g} videos a minute, preset {answer.profile.preset}",
        f"{file.currency} an hour".strip(),
        bought,
        (plan.p95_s, plan.cost_per_hour),
        twin=None if seen is None or math.isinf(seen.p95_s) else (seen.p95_s, plan.cost_per_hour),
        goal_s=plan.goal.p95_s,
        budget=answer.budget,
    )


def _plans(answer: Answer) -> Iterator[Plan]:
    for by in _AROUND:
        goal = replace(answer.plan.goal, p95_s=answer.plan.p95_s * by)
        try:
            yield make_plan(goal, answer.file, answer.profile)
        except GoalError:
            continue


@contextmanager
def _telling() -> Iterator[Told]:
    """A line on stderr of what is looked at, on a terminal only."""
    console = make_console(stderr=True)
    with console.status("Searching.") as status:
        yield lambda said: status.update(f"The twin looks at a plan for {said}.")
