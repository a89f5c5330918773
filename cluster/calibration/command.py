"""`python -m cluster calibrate --journal URL`: a twin of the served pipeline, learnt from what it did; and what if.

    --journal URL      the server's address; its API key, where it wants one, is in MAGICVIDEO_API_KEY
    --what-if v2v=+2   the same requests on another split: so many more, fewer (=-1), or so many (=4); POOL behind an @
    --pools FILE       the nodes that pools have, and what they cost
    --out FILE         keeps what was learnt; where the file is there, its twin is first held to what happened since
    --fit FILE         a profile with the seconds that were seen, to plan again with
    --plot FILE        latencies that were seen, and the twin's

The twin gets the arrivals, paths and seconds of the journal. It says its own error against the latencies that were
seen, and then what would be otherwise. Replicas are those of now: they are taken to have been so all the time.
"""

import argparse
import json
import math
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.progress import Progress
from rich.table import Table

from client import Client, MagicVideoError
from client._shell.outputs import OutputError, is_stdout, judge_output, written
from client._shell.terminal import make_console, tell
from client._shell.texts import read_text
from cluster.calibration.fitting import fitted_to, rates_of
from cluster.calibration.journal import Learnt, LearntStage, Seen, learn, read_journal
from cluster.calibration.what_if import Predicted, Split, bill_of, changed, parse_change, predict, split_of
from cluster.experiments.live_load import LiveError
from cluster.experiments.pictures import latencies
from cluster.experiments.spec import ExperimentError
from cluster.planner.profiles import default_profile, load_profile, save_profile
from cluster.pools.file import PoolFile, load_pools
from cluster.traffic.traces import Arrival, Trace


def add_command(commands: Any) -> None:
    """Put it on `python -m cluster`."""
    command = commands.add_parser("calibrate", help="a twin learnt from a server's journal, its error, and what if")
    command.set_defaults(run=run)
    command.add_argument("--journal", required=True, metavar="URL", help="the server's address")
    command.add_argument("--hours", type=float, default=1.0, help="how far back (%(default)s)")
    command.add_argument("--what-if", action="append", default=[], metavar="STAGE=[+-]N[@POOL]", help="another split")
    command.add_argument("--pools", type=Path, help="a pools file, for nodes and bills")
    command.add_argument("--out", type=Path, metavar="JSON", help="keep it; compare with what is there")
    command.add_argument("--fit", type=Path, metavar="JSON", help="write a profile with these seconds, for `plan`")
    command.add_argument("--plot", type=Path, metavar="PNG", help="draw the latencies, seen and predicted")


def run(options: argparse.Namespace) -> int:
    """The command."""
    if not 0 < options.hours < math.inf:
        raise ExperimentError(f"--hours is {options.hours:g}; it must be above 0 and finite, like 1 or 24.")
    for path, kinds in ((options.out, ()), (options.fit, ()), (options.plot, [".png"])):
        if path is not None:
            judge_output(path, kinds)
            if is_stdout(path):
                raise OutputError("A file is stdout, where the report goes; name another.", path=path)
    changes = [parse_change(text) for text in options.what_if]
    file = load_pools(options.pools) if options.pools is not None else None
    before = load_learnt(options.out) if options.out is not None and options.out.is_file() else None
    try:
        with Client(options.journal) as client:
            preset, pools = client.health().model, client.pools()
            if before is not None and before.preset not in ("", preset):
                raise ExperimentError(
                    f"{options.out} was learnt of preset {before.preset}, and {options.journal} serves {preset}; "
                    "choose another --out."
                )
            base = load_profile(default_profile(preset), preset) if options.fit is not None else None
            jobs = _read(client, options.hours, preset)
    except MagicVideoError as error:
        raise LiveError(f"{options.journal}: {error}") from error
    learnt = learn(jobs, preset)
    split = split_of(pools, learnt.hosts)
    other = changed(split, changes, file, learnt.hosts)
    if file is not None:
        bill_of(split, file)  # whether it has every pool that is served
    show(learnt, split)
    found = predict(learnt, split, file=file)
    lines = {"seen": [job.ended_s - job.arrived_s for job in jobs if job.outcome == "completed"]}
    if lines["seen"]:
        if before is not None:
            then = replace(before, hosts=learnt.hosts)
            told_error("The twin of before", predict(then, split, learnt.trace, file), learnt)
        told_error("The twin", found, learnt)
    else:
        tell("No video was completed in that time: there is no latency to hold the twin to.")
    lines["the twin"] = list(found.latencies_s)
    if changes:
        otherwise = predict(learnt, other, file=file)
        told_other(found, otherwise, split, other, file)
        lines[f"with {' '.join(options.what_if)}"] = list(otherwise.latencies_s)
    if base is not None:
        save_profile(fitted_to(learnt, base, split, file), options.fit)
        print(f"Wrote {options.fit}: the profile of preset {preset} with the seconds that were seen.")
    if options.plot is not None:
        latencies(options.plot, f"Latencies seen and simulated, preset {preset}", lines)
        print(f"Drew {options.plot}.")
    if options.out is not None:
        keep(learnt, options.out)
        tell(f"Wrote {options.out}; the same command says later how right this twin was.")
    print(next_step(options, learnt))
    return 0


def next_step(options: argparse.Namespace, learnt: Learnt) -> str:
    """What to do with it."""
    pools = options.pools or "pools.yaml"
    if options.fit is not None:
        rates = " ".join(f"--rate {rate}" for rate in rates_of(learnt))
        goal_s = math.ceil(learnt.latency_s["p95"]) if learnt.outcomes.get("completed") else 300
        plan = f"python -m cluster plan {rates} --p95 {goal_s} --preset {learnt.preset} --profile {options.fit}"
        return f"Next: `{plan} --pools {pools}`."
    if not options.what_if:
        return f"Next: --what-if v2v=+2 --pools {pools} for another split, or --fit profile.json to plan again."
    return f"Next: change the replicas in the Serve config, or --fit profile.json to plan again with {pools}."


def _read(client: Client, hours: float, preset: str) -> list[Seen]:
    now_s = time.time()
    with Progress(console=make_console(stderr=True), transient=True) as progress:
        task = progress.add_task("events")
        return read_journal(
            client,
            now_s - 3600 * hours,
            now_s,
            lambda done, total: progress.update(task, completed=done, total=total),
            preset=preset,
        )


def told_error(who: str, found: Predicted, learnt: Learnt) -> None:
    """Against what happened."""
    if not found.latencies_s:
        print(f"{who} knows none of the kinds of jobs that came: nothing to compare.")
        return
    if found.requests < len(learnt.trace.arrivals):
        print(f"{who} knows {found.requests} of the {len(learnt.trace.arrivals)} requests' kinds; the others are new.")
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
    unit = f"{file.currency} an hour".strip()
    print(f"The bill, in whole nodes: {bills[1]:.2f} {unit} in the place of {bills[0]:.2f} {unit}.")


def show(learnt: Learnt, split: Split) -> None:
    """What was learnt."""
    table = Table()
    for column in ("stage", "replicas", "s a video", "calls", "spread", "of the jobs"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for name, own in learnt.stages.items():
        host = learnt.hosts.get(name)
        count = str(sum(split.get(name, {"": 1}).values())) if host is None else f"in {host}"
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
