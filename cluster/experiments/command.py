"""`python -m cluster experiment SPEC`: every run of an experiment, simulated or on a real server, then its plots.

    SPEC      a file, or a ready one: bottleneck, burst, fanout, monolith, nodes (`cluster/experiments`)
    --live    each run on a server of this machine: real Ray, journal, HTTP and encoder; stages that take the given time
    --quick   a shorter version, for a look at whether it works

Everything is judged before the first run starts: what is wrong is one sentence and exit code 2. The same command goes
on where it was stopped, and draws the plots anew. Ctrl-C keeps the runs that are done, draws them, and ends with 130.

Knows nothing of Ray: `experiment_live` starts the server as a process of its own.
"""

import argparse
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import yaml
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from client._shell.ending import INTERRUPTED
from client._shell.outputs import judge_folder, written
from client._shell.terminal import make_console, tell
from client._shell.texts import read_text
from cluster.experiments.live import Bench, check_live
from cluster.experiments.results import RUNS, Done, keep, read_done, write_results
from cluster.experiments.runs import RunPlan, plan_runs
from cluster.experiments.spec import FOLDER, ExperimentError, Spec, load_spec
from cluster.twin.simulator import Run, simulate


class Runner(Protocol):
    """Makes one run; `told(done, total)` hears of its requests."""

    def __call__(self, plan: RunPlan, told: Any) -> Run: ...


def add_command(commands: Any) -> None:
    """Put it on `python -m cluster`."""
    ready = ", ".join(sorted(path.stem for path in FOLDER.glob("*.yaml")))
    command = commands.add_parser("experiment", help="sweeps of replicas, load and policies, with plots")
    command.set_defaults(run=run)
    command.add_argument("spec", metavar="SPEC", help=f"a YAML file, or one of {ready}")
    command.add_argument("--live", action="store_true", help="on a real server of this machine, not simulated")
    command.add_argument("--quick", action="store_true", help="with what the file says under `quick`")
    command.add_argument("--speed", type=_above_zero, help="divide all times by it (1; live: what the file says)")
    command.add_argument(
        "--processes", type=_count, default=1, help="simulated runs beside each other, each in a process (%(default)s)"
    )
    command.add_argument("--out", type=Path, help="folder of the results (out/NAME, out/NAME-live)")


def run(options: argparse.Namespace) -> int:
    """The command."""
    out = options.out or Path("out") / (Path(options.spec).stem + ("-live" if options.live else ""))
    judge_folder(out)
    spec, folder = load_spec(options.spec, quick=options.quick)
    speed = options.speed or (spec.live.speed if options.live else 1.0)
    spec = spec.sped(speed)
    if options.live:
        check_live(spec)
        if options.processes > 1:
            raise ExperimentError(f"--processes is {options.processes}, but live runs share one machine; leave it out.")
    plans = plan_runs(spec, folder)
    open_folder(out, spec, "live" if options.live else "simulated", speed)
    missing = [plan for plan in plans if not (out / RUNS / plan.name).is_dir()]
    with Bench(spec, out) if options.live else _simulator(missing, options.processes) as runner:
        return run_all(plans, runner, out, mode="live" if options.live else "simulated", speed=speed)


@contextmanager
def _simulator(plans: Sequence[RunPlan], processes: int) -> Iterator[Runner]:
    """Runs simulated when they are asked for, or already under way in processes of their own."""
    if min(processes, len(plans)) < 2:
        yield _simulated
        return
    pool = ProcessPoolExecutor(min(processes, len(plans)), mp_context=get_context("spawn"), initializer=_leave_ctrl_c)
    try:
        made = {plan.name: pool.submit(_simulated, plan, None) for plan in plans}

        def runner(plan: RunPlan, told: Any) -> Run:
            run = made.pop(plan.name).result()
            told(len(run.rows), len(run.rows))
            return run

        yield runner
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _leave_ctrl_c() -> None:
    """To the command itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _simulated(plan: RunPlan, told: Any) -> Run:
    made = simulate(plan.scenario, plan.trace, plan.make_policy(), seed=plan.seed, told=told)
    if told is not None:
        told(len(made.rows), len(made.rows))
    return made


def open_folder(out: Path, spec: Spec, mode: str, speed: float) -> None:
    """Make the folder, or go on in it.

    Raises:
        ExperimentError: it holds another experiment.
        OutputError: it cannot be written.
    """
    text = yaml.safe_dump(
        {"mode": mode, "speed": speed, **spec.model_dump(mode="json")}, sort_keys=False, allow_unicode=True
    )
    kept = out / "spec.yaml"
    if kept.exists() and read_text(kept, ExperimentError) != text:
        raise ExperimentError(
            f"{out} holds another experiment, or this one before it was changed; remove it or choose another --out."
        )
    judge_folder(out / RUNS).mkdir(parents=True, exist_ok=True)
    with written(kept) as draft:
        draft.write_text(text, encoding="utf-8")


def run_all(plans: Sequence[RunPlan], runner: Runner, out: Path, *, mode: str, speed: float) -> int:
    """Every run that is not there yet; then, also after Ctrl-C, the table and the plots. Gives the exit code."""
    done: list[Done] = []
    code = 0
    with _progress(len(plans)) as (progress, runs, requests):
        try:
            for number, plan in enumerate(plans, start=1):
                there = out / RUNS / plan.name
                if there.is_dir():
                    one, note = read_done(there), ", from before"
                else:
                    progress.reset(requests, total=len(plan.trace.arrivals), description="requests")
                    made = runner(plan, lambda ended, total: progress.update(requests, completed=ended, total=total))
                    one, note = keep(out, plan, made, mode=mode, speed=speed), ""
                done.append(one)
                progress.advance(runs)
                tell(f"{number}/{len(plans)} {said(one)}{note}")
        except KeyboardInterrupt:
            code = INTERRUPTED
    write_results(out, done)
    from cluster.experiments.plots import draw_all  # here, as no other command of `cluster` needs matplotlib

    drawn = draw_all(done, out)
    if code:
        tell(f"Stopped: {len(done)} of {len(plans)} runs are kept in {out}; the same command goes on.", err=True)
    tell(f"{out}: results.csv of {len(done)} runs; {', '.join(path.name for path in drawn) or 'no plots'}")
    return code


def said(run: Done) -> str:
    """One run in a line."""
    counts = " ".join(f"{name}={count}" for name, count in run.plan["replicas"].items())
    bad, yields = run.metrics["requests"] - run.metrics["succeeded"], run.metrics.get("yields", 0)
    more = (f", {yields} calls yielded" if yields else "") + (f", {bad} without a video" if bad else "")
    return (
        f"{run.group}, {counts}, {run.plan['load']}: {run.throughput_per_s * 60:.3g} videos/min, "
        f"p95 {run.p95_s:.3g} s, {run.gpu_seconds:.4g} GPU-s{more}"
    )


@contextmanager
def _progress(total: int) -> Iterator[tuple[Progress, TaskID, TaskID]]:
    """A bar over runs and one over a run's requests, on stderr and only on a terminal."""
    console = make_console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress, progress.add_task("runs", total=total), progress.add_task("requests", total=1)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes, 1 or more")
    return int(text)


def _above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value
