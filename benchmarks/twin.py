"""How well the simulator predicts a live run: `python -m benchmarks.twin [--quick]`.

Six experiments (replicas, load, windows) run on a real server with replayed stages and a Poisson stream of requests,
sent openly: at its times, whether or not the server keeps up, and latency counts from the intended time. The same runs
go through `cluster.twin.simulator`. It is told what an operator could measure beforehand: the seconds of each stage's
call, and the overhead of a lone request on the idle server of this very run. The overhead (latency less the critical
path) is divided among the four calls that follow each other, as the router's delay of each; nothing is fitted to an
experiment. Payloads are a tenth of the paper's: the simulator does not know that calls slow each other down, and with
105 MB a job on a small machine their copies do.

    throughput_error_max   over the experiments, |simulated / live - 1| of videos a second, from the first intended
                           send until the last end
    p95_error_max          the same of the 95th percentile of latency
    calibrated_p95_error_max  the same of a twin that is learnt from the server's journal of the run: arrivals, seconds
                           and overheads of its events
    ..._error_1 to _6      of each experiment

About thirteen minutes; `--quick` two, with two experiments and few requests.
"""

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.tools.bound import Load, alone_s
from benchmarks.tools.result import parser_of, result
from client import Client
from cluster.calibration.journal import learn, read_journal
from cluster.experiments.live import Bench
from cluster.experiments.runs import plan_runs
from cluster.experiments.spec import LiveSpec, LoadSpec, Spec, StageSpec
from cluster.traffic.measures import Metrics, RequestRow
from cluster.twin.simulator import simulate
from stages.model.sampling.windows import plan_windows
from stages.presets import TINY, plan
from stages.replay import PAPER_PAYLOADS
from stages.types import STAGE_NAMES, StageName

RUN_S: Mapping[StageName, float] = {"t2i": 0.25, "i2v": 0.8, "v2v": 1.6, "vfi": 0.1}  # VFI's is that of one window
PAYLOAD_SHARE = 0.1
MAX_JOBS = 64
LONE, LONE_EVERY_S = 5, 6.0  # requests by which the overhead is measured
CALLS = len(STAGE_NAMES)  # of a lone request that follow each other: VFI's last one ends it


@dataclass(frozen=True)
class Configuration:
    """One experiment. `load` is the share of the slowest pool's time that the requests ask for."""

    i2v: int
    v2v: int
    load: float
    seconds: str  # of video: 2 are two windows, 4 are five

    @property
    def replicas(self) -> dict[StageName, int]:
        return {"t2i": 1, "i2v": self.i2v, "v2v": self.v2v, "vfi": 1}

    @property
    def windows(self) -> int:
        return len(plan_windows(plan(TINY, "x", seconds=self.seconds).i2v.frames, TINY.v2v_windows))

    @property
    def job_s(self) -> dict[StageName, float]:
        return {**RUN_S, "vfi": RUN_S["vfi"] * self.windows}

    @property
    def rate_per_s(self) -> float:
        return self.load * min(self.replicas[name] / self.job_s[name] for name in STAGE_NAMES)

    def spec(self, *loads: LoadSpec) -> Spec:
        """The experiment."""
        stages = {
            name: StageSpec(
                mean_s=self.job_s[name],
                windows=self.windows if name in ("v2v", "vfi") else 1,
                bytes_out=int(PAYLOAD_SHARE * PAPER_PAYLOADS[name].bytes_out),
                replicas=self.replicas[name],
            )
            for name in STAGE_NAMES
        }
        return Spec(title=str(self), stages=stages, loads=loads, max_jobs=MAX_JOBS, live=LiveSpec(seconds=self.seconds))

    def __str__(self) -> str:
        return f"replicas 1/{self.i2v}/{self.v2v}/1, load {self.load:.0%}, {self.windows} windows"


CONFIGURATIONS = (
    Configuration(i2v=1, v2v=2, load=0.5, seconds="2"),
    Configuration(i2v=1, v2v=2, load=0.8, seconds="2"),
    Configuration(i2v=2, v2v=2, load=0.7, seconds="2"),
    Configuration(i2v=2, v2v=3, load=0.5, seconds="2"),
    Configuration(i2v=2, v2v=2, load=0.6, seconds="4"),
    Configuration(i2v=2, v2v=3, load=0.5, seconds="4"),
)
QUICK = CONFIGURATIONS[2:5:2]


LONELY = LoadSpec(kind="burst", name="alone", count=LONE, burst_s=LONE * LONE_EVERY_S, span_s=LONE * LONE_EVERY_S)


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of("twin", __doc__, quick="two experiments, about eight requests each")
    quick = parser.parse_args(arguments).quick
    with tempfile.TemporaryDirectory(prefix="magicvideo-bench-") as folder:
        errors = compare(Path(folder), *((QUICK, 8) if quick else (CONFIGURATIONS, 70)))
    result(
        "twin",
        {
            "throughput_error_max": max(error[0] for error in errors.values()),
            "p95_error_max": max(error[1] for error in errors.values()),
            "calibrated_p95_error_max": max(error[2] for error in errors.values()),
            **{f"throughput_error_{number}": error[0] for number, error in errors.items()},
            **{f"p95_error_{number}": error[1] for number, error in errors.items()},
            **{f"calibrated_p95_error_{number}": error[2] for number, error in errors.items()},
        },
    )


def compare(folder: Path, chosen: Sequence[Configuration], requests: int) -> dict[int, tuple[float, float, float]]:
    """Errors of throughput, p95 and the calibrated twin's p95 by the configuration's number; prints a line for each."""
    overhead_s: float | None = None
    found = {}
    for seconds in dict.fromkeys(about.seconds for about in chosen):  # a server for each length
        alike = [about for about in chosen if about.seconds == seconds]
        with Bench(alike[0].spec(LONELY), folder / seconds) as run:
            if overhead_s is None:
                (lone,) = plan_runs(alike[0].spec(LONELY), folder)
                overhead_s = overhead_of(alike[0], run(lone, _quiet).rows)
            for about in alike:
                number = 1 + CONFIGURATIONS.index(about)
                (one,) = plan_runs(about.spec(stream(about, requests, number)), folder)
                twin = simulate(replace(one.scenario, router_s=overhead_s / CALLS), one.trace)
                began_s = time.time()
                live = run(one, _quiet).metrics
                with Client(run.url) as client:
                    learnt = learn(read_journal(client, began_s, time.time()))
                calibrated = simulate(
                    learnt.scenario({str(name): count for name, count in about.replicas.items()}), learnt.trace
                ).metrics
                found[number] = (*told(number, about, live, twin.metrics), abs(calibrated.p95_s / live.p95_s - 1))
                print(
                    f"   learnt from the journal: p95 {calibrated.p95_s:.2f} s, error {found[number][2]:.1%}",
                    flush=True,
                )
    return found


def stream(about: Configuration, requests: int, seed: int) -> LoadSpec:
    """Poisson, of about so many requests."""
    return LoadSpec(kind="poisson", rate_per_s=about.rate_per_s, span_s=requests / about.rate_per_s, seed=seed)


def overhead_of(about: Configuration, rows: Sequence[RequestRow]) -> float:
    """Median latency of lone requests, less the seconds that their stages took one after the other."""
    loads = {name: Load(about.job_s[name], about.replicas[name]) for name in STAGE_NAMES}
    overhead_s = statistics.median(row.latency_s for row in rows) - alone_s(loads, about.windows)
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
