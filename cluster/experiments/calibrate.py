"""`python -m cluster calibrate --journal URL`: a twin of the served pipeline, learnt from what it did; and what if.

    --journal URL      the server's address; its API key, where it wants one, is in MAGICVIDEO_API_KEY
    --what-if v2v=+2   the same requests on another split: so many more, fewer (=-1), or so many (=4); POOL behind an @
    --pools FILE       what nodes cost, for both bills
    --out FILE         keeps what was learnt; where the file is there, its twin is first held to what happened since

The twin gets the arrivals, paths and seconds of the journal. It says its own error against the latencies that were
seen, and then what would be otherwise. Replicas are those of now: they are taken to have been so all the time.
"""

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from rich.progress import Progress
from rich.table import Table

from client import Client, MagicVideoError, Pools
from client._shell.outputs import OutputError, is_stdout, judge_output, written
from client._shell.terminal import make_console, tell
from client._shell.texts import read_text
from cluster.experiments.journal import Learnt, LearntStage, learn, read_journal
from cluster.experiments.live_load import LiveError
from cluster.experiments.spec import ExperimentError
from cluster.pools.bill import nodes_for
from cluster.pools.file import PoolFile, load_pools
from cluster.traffic.traces import Arrival, Trace
from cluster.twin.simulator import simulate
from stages.types import STAGE_NAMES, StageName

Split = Mapping[str, Mapping[str, int]]  # stage -> pool -> replicas


@dataclass(frozen=True)
class Predicted:
    """One run of the twin."""

    p50_s: float
    p95_s: float
    per_s: float


def add_command(commands: Any) -> None:
    """Put it on `python -m cluster`."""
    command = commands.add_parser("calibrate", help="a twin learnt from a server's journal, its error, and what if")
    command.set_defaults(run=run)
    command.add_argument("--journal", required=True, metavar="URL", help="the server's address")
    command.add_argument("--hours", type=float, default=1.0, help="how far back (%(default)s)")
    command.add_argument("--what-if", action="append", default=[], metavar="STAGE=[+-]N[@POOL]", help="another split")
    command.add_argument("--pools", type=Path, help="a pools file, for the bills")
    command.add_argument("--out", type=Path, metavar="JSON", help="keep it; compare with what is there")


def run(options: argparse.Namespace) -> int:
    """The command."""
    if not options.hours > 0:
        raise ExperimentError(f"--hours is {options.hours:g}; it must be above 0, like 1 or 24.")
    if options.out is not None:
        judge_output(options.out)
        if is_stdout(options.out):
            raise OutputError("--out is stdout, where the report goes; name a file.", path=options.out)
    changes = [parse_change(text) for text in options.what_if]
    file = load_pools(options.pools) if options.pools is not None else None
    before = load_learnt(options.out) if options.out is not None and options.out.is_file() else None
    now_s = time.time()
    try:
        with Client(options.journal) as client:
            split = split_of(client.pools())
            other = changed(split, changes, file)
            with Progress(console=make_console(stderr=True), transient=True) as progress:
                task = progress.add_task("events")
                jobs = read_journal(
                    client,
                    now_s - 3600 * options.hours,
                    now_s,
                    lambda done, total: progress.update(task, completed=done, total=total),
                )
    except MagicVideoError as error:
        raise LiveError(f"{options.journal}: {error}") from error
    learnt = learn(jobs)
    show(learnt, split)
    found = predict(learnt, split)
    if learnt.outcomes.get("completed"):
        if before is not None:
            told_error("The twin of before", predict(before, split, learnt.trace), learnt)
        told_error("The twin", found, learnt)
    else:
        tell("No video was completed in that time: there is no latency to hold the twin to.")
    if changes:
        told_other(found, predict(learnt, other), split, other, file)
    if options.out is not None:
        keep(learnt, options.out)
        tell(f"Wrote {options.out}; the same command says later how right this twin was.")
    elif not changes:
        print("Next: --what-if v2v=+2 --pools pools.yaml, or --out learnt.json to hold it to what happens next.")
    return 0


def parse_change(text: str) -> tuple[str, str, int, str | None]:
    """Stage, sign or "", count, pool.

    Raises:
        ExperimentError: another form.
    """
    stage, _, rest = text.partition("=")
    count, _, pool = rest.partition("@")
    digits = count.lstrip("+-")
    if stage not in STAGE_NAMES or not digits.isdecimal() or len(count) - len(digits) > 1:
        known = ", ".join(STAGE_NAMES)
        raise ExperimentError(f"--what-if is {text!r}; write a stage ({known}) and a number, v2v=+2 or v2v=4@spot.")
    return stage, count.removesuffix(digits), int(digits), pool or None


def split_of(pools: Pools) -> dict[str, dict[str, int]]:
    """As it is served now."""
    return {state.stage: {state.pool or "": max(1, state.replicas)} for state in pools.stages}


def changed(split: Split, changes: list[tuple[str, str, int, str | None]], file: PoolFile | None) -> Split:
    """Another one.

    Raises:
        ExperimentError: a stage would have no replica, or a pool does not take it.
    """
    made = {stage: dict(pools) for stage, pools in split.items()}
    for stage, sign, count, pool in changes:
        name = pool if pool is not None else next(iter(made[stage]))
        there = made[stage].get(name, 0)
        made[stage][name] = {"+": there + count, "-": there - count, "": count}[sign]
        total = sum(made[stage].values())
        if min(made[stage].values()) < 0 or total < 1:
            raise ExperimentError(
                f"--what-if leaves stage {stage} with {total} replicas, of {sum(split[stage].values())} now; keep 1."
            )
        if pool is None or file is None:
            continue
        names = [own.name for own in file.pools if stage in own.stages]
        if pool not in names:
            raise ExperimentError(f"Pool {pool!r} does not take stage {stage}; choose one of {', '.join(names)}.")
    return made


def predict(learnt: Learnt, split: Split, trace: Trace | None = None) -> Predicted:
    """What the twin makes of the requests; of another hour's, kinds that it has not learnt are left out."""
    counts = {stage: sum(pools.values()) for stage, pools in split.items()}
    given = learnt.trace if trace is None else trace
    known = tuple(own for own in given.arrivals if own.kind in learnt.paths)
    metrics = simulate(learnt.scenario(counts), replace(given, arrivals=known)).metrics
    return Predicted(metrics.latency_s["p50"], metrics.p95_s, metrics.throughput_per_s)


def told_error(who: str, found: Predicted, learnt: Learnt) -> None:
    """Against what happened."""
    seen_s = learnt.latency_s["p95"]
    error = found.p95_s / seen_s - 1
    print(f"{who} says a p95 of {found.p95_s:.1f} s, {seen_s:.1f} s was seen: {error:+.1%}.")


def told_other(now: Predicted, then: Predicted, split: Split, other: Split, file: PoolFile | None) -> None:
    """What would be otherwise."""
    named = ", ".join(
        f"{stage} {sum(split[stage].values())} -> {' + '.join(f'{n} on {p}' if p else str(n) for p, n in own.items())}"
        for stage, own in other.items()
        if own != split[stage]
    )
    tell(f"With {named}: p95 {then.p95_s:.1f} s in the place of {now.p95_s:.1f} s.")
    if file is None:
        print("Give --pools for the bills.")
        return
    bills = bill_of(split, file), bill_of(other, file)
    print(f"The bill, in whole nodes: {bills[1]:.2f} {file.currency} an hour in the place of {bills[0]:.2f}.")


def bill_of(split: Split, file: PoolFile) -> float:
    """Of an hour.

    Raises:
        ExperimentError: the file has no such pool.
    """
    total = file.control_per_hour
    used: dict[str, list[tuple[float, int]]] = {}
    for stage, pools in split.items():
        for name, count in pools.items():
            found = next((own for own in file.pools if own.node_labels.get("pool") == name or own.name == name), None)
            if found is None:
                names = ", ".join(own.name for own in file.pools)
                raise ExperimentError(f"Stage {stage} is served in pool {name!r}, the pools file has {names}; add it.")
            used.setdefault(found.name, []).append((found.fraction.get(cast(StageName, stage), 1.0), count))
    return total + sum(nodes_for(own, used.get(own.name, [])) * own.node_price_per_hour for own in file.pools)


def show(learnt: Learnt, split: Split) -> None:
    """What was learnt."""
    table = Table()
    for column in ("stage", "replicas", "s a video", "calls", "spread", "of the jobs"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for name, own in learnt.stages.items():
        count = str(sum(split.get(name, {"": 1}).values()))
        table.add_row(name, count, f"{own.mean_s:.2f}", str(own.windows), f"{own.cv:.0%}", f"{own.share:.0%}")
    make_console().print(table)
    jobs, hours = len(learnt.trace.arrivals), learnt.trace.span_s / 3600
    counts = ", ".join(f"{count} {outcome}" for outcome, count in learnt.outcomes.items())
    print(f"{jobs} requests in {hours:.2f} h ({counts}; {learnt.retries} calls repeated), {len(learnt.paths)} kinds.")
    ends = f"{learnt.hop_s:.2f} s a hop, {learnt.finish_s:.2f} s at the end"
    print(f"Overheads: {learnt.submit_s:.2f} s to the first stage, {ends}.")


def keep(learnt: Learnt, path: Path) -> None:
    """As JSON."""
    document = {"version": 1, **asdict(learnt)}
    document["trace"] = {
        "span_s": learnt.trace.span_s,
        "arrivals": [[round(own.time_s, 3), own.kind] for own in learnt.trace.arrivals],
    }
    with written(path) as draft:
        draft.write_text(json.dumps(document, indent=1) + "\n")


def load_learnt(path: Path) -> Learnt:
    """What `keep` wrote.

    Raises:
        ExperimentError: it is none of that.
    """
    try:
        document: dict[str, Any] = json.loads(read_text(path, ExperimentError))
        if document.pop("version") != 1:
            raise ValueError("another version")
        arrivals = tuple(Arrival(at_s, kind) for at_s, kind in document["trace"]["arrivals"])
        trace = Trace("journal", arrivals, document.pop("trace")["span_s"])
        told = document.pop("stages").items()
        stages = {name: LearntStage(**{**own, "shares": tuple(own.get("shares", ()))}) for name, own in told}
        paths = {kind: tuple(path) for kind, path in document.pop("paths").items()}
        return Learnt(stages=stages, paths=paths, trace=trace, **document)
    except (ValueError, KeyError, TypeError) as error:
        raise ExperimentError(f"{path} was not written by `calibrate` ({error}); choose another --out.") from error
