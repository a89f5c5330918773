"""How well the simulator predicts a live run: `python -m benchmarks.twin [--quick]`.

Six experiments (replicas, load, windows; urgent requests for which calls yield, a replica that is drained, a node that
goes) run on a real server with replayed stages and a Poisson stream of requests, sent openly: at its times, whether or
not the server keeps up, and latency counts from the intended time. The same runs go through `cluster.twin.simulator`,
with the order that the server has. It is told what an operator could measure beforehand: the seconds of each stage's
call, and the overhead of a lone request on the idle server of this very run. The overhead (latency less the critical
path) is divided among the four calls that follow each other, as the router's delay of each; nothing is fitted to an
experiment. Payloads are a tenth of the paper's: the simulator does not know that calls slow each other down, and with
105 MB a job on a small machine their copies do.

    throughput_error_max   over the experiments, |simulated / live - 1| of videos a second, from the first intended
                           send until the last end
    p95_error_max          the same of the 95th percentile of latency
    calibrated_p95_error_max  the same of a twin that is learnt from the server's journal of the run: arrivals, seconds
                           and overheads of its events; of the runs in which replicas stay and nobody is urgent, for
                           neither is in what is learnt
    live_yields            calls that stopped for an urgent one
    ..._error_1 to _6      of each experiment

About fourteen minutes; `--quick` two, with two experiments and few requests.
"""

import math
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from benchmarks.tools.bound import Load, alone_s
from benchmarks.tools.result import parser_of, result
from benchmarks.twin.nodes import RayNodes, ray_nodes
from benchmarks.twin.setups import CONFIGURATIONS, NOTICE_S, QUICK, URGENT, Configuration
from client import Client, CreateOptions
from cluster.calibration.journal import learn, read_journal
from cluster.experiments.live import Bench, Site
from cluster.experiments.runs import RunPlan, plan_runs
from cluster.experiments.spec import LoadSpec
from cluster.traffic.measures import Metrics, RequestRow
from cluster.twin.simulator import simulate
from stages.types import STAGE_NAMES

LONE, LONE_EVERY_S = 5, 6.0  # requests by which the overhead is measured
CALLS = len(STAGE_NAMES)  # of a lone request that follow each other: VFI's last one ends it
LONELY = LoadSpec(kind="burst", name="alone", count=LONE, burst_s=LONE * LONE_EVERY_S, span_s=LONE * LONE_EVERY_S)


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of("twin", __doc__, quick="two experiments, about eight requests each")
    parser.add_argument("numbers", nargs="*", type=int, help="of experiments; all when left out")
    told = parser.parse_args(arguments)
    chosen = [CONFIGURATIONS[number - 1] for number in told.numbers] or CONFIGURATIONS
    with tempfile.TemporaryDirectory(prefix="magicvideo-bench-") as folder:
        found = compare(Path(folder), *((QUICK, 8) if told.quick else (chosen, 70)))
    names = ("throughput_error", "p95_error", "calibrated_p95_error")
    known = {name: {n: own[name] for n, own in found.items() if not math.isnan(own[name])} for name in names}
    result(
        "twin",
        {
            **{f"{name}_max": max(errors.values()) for name, errors in known.items() if errors},
            **{f"{name}_{number}": error for name, errors in known.items() for number, error in errors.items()},
            "live_yields": sum(own["yields"] for own in found.values()),
        },
    )


def compare(folder: Path, chosen: Sequence[Configuration], requests: int) -> dict[int, dict[str, float]]:
    """What is printed of each configuration, by its number."""
    overhead_s: float | None = None
    found = dict[int, dict[str, float]]()
    for _, group in groupby(chosen, lambda about: (about.seconds, about.nodes)):  # a server for each
        alike = list(group)
        with _nodes_of(alike[0]) as nodes:
            urgent = next((about for about in alike if about.urgent), None)
            kinds: dict[str, CreateOptions] = {URGENT: {"deadline_s": urgent.due_s}} if urgent is not None else {}
            site = Site(alike[0].change, kinds, None if nodes is None else nodes.ray)
            with Bench(alike[0].spec(LONELY), folder / str(len(found)), site) as run:
                if overhead_s is None:
                    (lone,) = plan_runs(alike[0].spec(LONELY), folder)
                    overhead_s = overhead_of(alike[0], run(lone, _quiet).rows)
                for about in alike:
                    number = 1 + CONFIGURATIONS.index(about)
                    (one,) = plan_runs(about.spec(about.stream(requests, number)), folder)
                    found[number] = _compared(number, about, about.plan(one), run, nodes, overhead_s)
    return found


def _compared(
    number: int, about: Configuration, one: RunPlan, run: Bench, nodes: RayNodes | None, overhead_s: float
) -> dict[str, float]:
    """Errors of throughput, p95 and the calibrated twin's p95; prints a line for each."""
    twin = simulate(about.scenario(one, overhead_s / CALLS), one.trace, about.policy(one))
    began_s, later = time.time(), []
    if about.drained:
        later.append((one.trace.span_s / 2, lambda: run.scale("v2v", about.v2v - 1)))
    if nodes is not None:
        later.append((one.trace.span_s / 2, lambda: nodes.drain("v2v", NOTICE_S)))
    live = run(one, _quiet, later=later).metrics
    with Client(run.url) as client:
        jobs = read_journal(client, began_s, time.time())
    throughput, p95 = told(number, about, live, twin.metrics)
    errors = {"throughput_error": throughput, "p95_error": p95, "calibrated_p95_error": math.nan}
    if about.plain:
        learnt = learn(jobs)
        calibrated = simulate(learnt.scenario({str(n): own for n, own in about.replicas.items()}), learnt.trace).metrics
        errors["calibrated_p95_error"] = error = abs(calibrated.p95_s / live.p95_s - 1)
        print(f"   learnt from the journal: p95 {calibrated.p95_s:.2f} s, error {error:.1%}", flush=True)
    yields = sum(job.yields for job in jobs)
    if about.urgent:
        print(f"   {yields} calls yielded live, {sum(twin.yields)} simulated", flush=True)
    return {**errors, "yields": yields}


@contextmanager
def _nodes_of(about: Configuration) -> Iterator[RayNodes | None]:
    if not about.nodes:
        yield None
        return
    with ray_nodes("v2v", about.nodes) as nodes:
        yield nodes


def overhead_of(about: Configuration, rows: Sequence[RequestRow]) -> float:
    """Median latency of lone requests, less the seconds that their stages took one after the other."""
    loads = {name: Load(about.job_s[name], about.replicas[name]) for name in STAGE_NAMES}
    overhead_s = statistics.median(row.latency_s for row in rows) - alone_s(loads, len(about.spans))
    print(f"lone requests: overhead {1000 * overhead_s:.0f} ms", flush=True)
    return overhead_s


def _quiet(done: int, total: int) -> None:
    """Nobody watches."""


def told(number: int, about: Configuration, real: Metrics, twin: Metrics) -> tuple[float, float]:
    """Print one configuration; gives both errors."""
    throughput = abs(twin.throughput_per_s / real.throughput_per_s - 1)
    p95 = abs(twin.p95_s / real.p95_s - 1)
    print(
        f"{number}. {about}: {real.throughput_per_s:.3f} videos/s live, {twin.throughput_per_s:.3f} simulated, "
        f"error {throughput:.1%}; p50 {real.latency_s['p50']:.2f} and {twin.latency_s['p50']:.2f} s; "
        f"p95 {real.p95_s:.2f} and {twin.p95_s:.2f} s, error {p95:.1%}",
        flush=True,
    )
    return throughput, p95


if __name__ == "__main__":
    main()
