"""How well the simulator predicts a live run: `python -m benchmarks.twin [--quick]`.

Six configurations (replicas, load, windows) of the real application with replayed stages get a Poisson stream of
requests, sent openly: at its times, whether or not the server keeps up, and latency counts from the intended time. The
same arrivals go through `cluster.simulator`. It is told what an operator could measure beforehand: the seconds of each
stage's call and the overhead, both from lone requests on the idle server in this very run. The overhead (latency less
the critical path) is divided among the four calls that follow each other, as the router's delay of each; nothing is
fitted to a configuration. Payloads are a tenth of the paper's: the simulator does not know that calls slow each other
down, and with 105 MB a job on a small machine their copies do.

    throughput_error_max   over the configurations, |simulated / live - 1| of videos a second, from the first intended
                           send until the last end
    p95_error_max          the same of the 95th percentile of latency
    ..._error_1 to _6      of each configuration

About eleven minutes; `--quick` under one, with two configurations and few requests.
"""

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ray import serve

from benchmarks import live
from benchmarks.processes import free_port
from benchmarks.result import result
from cluster.measures import Metrics, measure
from cluster.replay import PAPER_PAYLOADS, ReplayProfile
from cluster.simulator import Pool, Scenario, StageTimes, simulate
from cluster.traces import Arrival, Trace
from deployments.app import APP_NAME, build
from deployments.config import AppArgs, laptop, load_config, rehearsal
from deployments.database import Database
from deployments.jobs import Journal
from deployments.server import LocalRay, Server, deploy, start_ray, stop
from stages.model.windows import plan_windows
from stages.presets import TINY, plan
from stages.types import STAGE_NAMES, StageName

RUN_S: Mapping[StageName, float] = {"t2i": 0.25, "i2v": 0.8, "v2v": 1.6, "vfi": 0.1}  # VFI's is that of one window
PAYLOAD_SHARE = 0.1
RAY_CPUS, STORE_BYTES = 16, 2_000_000_000
MAX_JOBS = 64
LONE = 5  # requests by which overhead and seconds are measured
CALLS = len(STAGE_NAMES)  # of a lone request that follow each other: VFI's last one ends it


@dataclass(frozen=True)
class Configuration:
    """One comparison. `load` is the share of the slowest pool's time that the requests ask for."""

    i2v: int
    v2v: int
    load: float
    seconds: str  # of video: 2 are two windows, 4 are five

    @property
    def replicas(self) -> dict[StageName, int]:
        return {"t2i": 1, "i2v": self.i2v, "v2v": self.v2v, "vfi": 1}

    @property
    def windows(self) -> int:
        return len(plan_windows(plan(TINY, live.PROMPT, seconds=self.seconds).i2v.frames, TINY.v2v_windows))

    @property
    def rate_per_s(self) -> float:
        job_s = {**RUN_S, "vfi": RUN_S["vfi"] * self.windows}
        return self.load * min(self.replicas[name] / job_s[name] for name in STAGE_NAMES)

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


@dataclass(frozen=True)
class Known:
    """What lone requests told, and the simulator is told."""

    call_s: Mapping[StageName, float]  # of V2V: of the whole clip
    overhead_s: float

    def scenario(self, about: Configuration) -> Scenario:
        windows: dict[StageName, int] = {"t2i": 1, "i2v": 1, "v2v": about.windows, "vfi": about.windows}
        job_s = {**self.call_s, "vfi": self.call_s["vfi"] * about.windows}
        return Scenario(
            {name: StageTimes(job_s[name], windows=windows[name]) for name in STAGE_NAMES},
            {name: Pool(about.replicas[name]) for name in STAGE_NAMES},
            max_jobs=MAX_JOBS,
            router_s=self.overhead_s / CALLS,
        )


def app_args(folder: Path) -> AppArgs:
    """The laptop's variant of serve_config.yaml with replayed stages."""
    profiles = {
        name: ReplayProfile(RUN_S[name], int(PAYLOAD_SHARE * PAPER_PAYLOADS[name].bytes_out)) for name in STAGE_NAMES
    }
    args = rehearsal(laptop(load_config(), data_dir=folder), profiles)
    return args.model_copy(update={"pipeline": args.pipeline.model_copy(update={"max_jobs": MAX_JOBS})})


def trace_of(about: Configuration, requests: int, seed: int) -> Trace:
    """A Poisson stream that begins with an arrival."""
    gaps = np.random.default_rng(seed).exponential(1 / about.rate_per_s, requests - 1)
    times = [0.0, *np.cumsum(gaps).tolist()]
    return Trace(str(about), tuple(Arrival(time) for time in times), times[-1])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.twin", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two configurations, eight requests each")
    quick = parser.parse_args(arguments).quick
    chosen, requests = (QUICK, 8) if quick else (CONFIGURATIONS, 70)
    with tempfile.TemporaryDirectory(prefix="magicvideo-bench-") as folder:
        temp_dir = start_ray(LocalRay(RAY_CPUS, STORE_BYTES))
        try:
            errors = compare(Path(folder), chosen, requests)
        finally:
            stop(temp_dir)
    result(
        "twin",
        {
            "throughput_error_max": max(error[0] for error in errors.values()),
            "p95_error_max": max(error[1] for error in errors.values()),
            **{f"throughput_error_{number}": error[0] for number, error in errors.items()},
            **{f"p95_error_{number}": error[1] for number, error in errors.items()},
        },
    )


def compare(folder: Path, chosen: Sequence[Configuration], requests: int) -> dict[int, tuple[float, float]]:
    """Errors of throughput and p95 by the configuration's number; prints a line for each."""
    args, port = app_args(folder), free_port()
    url = Server("127.0.0.1", port, None).url
    deploy(args, host="127.0.0.1", port=port)
    journal = Journal(Database(args.storage.database_url))
    known: Known | None = None
    found = {}
    for about in chosen:
        number = 1 + CONFIGURATIONS.index(about)
        serve.run(build(live.with_replicas(args, about.replicas)), name=APP_NAME, route_prefix="/")
        live.wait_for_replicas(APP_NAME, about.replicas)
        for _ in range(2):
            live.alone(url, journal, seconds=about.seconds)  # every replica has computed once
        known = known or lone_requests(url, journal, about)
        trace = trace_of(about, requests, seed=number)
        sent = live.send_openly(url, [one.time_s for one in trace.arrivals], seconds=about.seconds)
        real = measure(live.rows_of(sent, live.ended(journal, sent)), {})
        twin = simulate(known.scenario(about), trace).metrics
        found[number] = told(number, about, real, twin)
    journal.database.close()
    return found


def lone_requests(url: str, journal: Journal, about: Configuration) -> Known:
    """Seconds of each stage and the overhead, medians over single requests on an idle server."""
    spent: dict[StageName, list[float]] = {name: [] for name in STAGE_NAMES}
    overheads_s = []
    for seed in range(LONE):
        job, latency_s = live.alone(url, journal, seconds=about.seconds, seed=seed)
        for name, value in live.run_s(job).items():
            spent[name].append(value / (about.windows if name == "vfi" else 1))
        overheads_s.append(latency_s - live.critical_path_s(job, about.replicas, about.windows))
    known = Known({name: statistics.median(values) for name, values in spent.items()}, statistics.median(overheads_s))
    told_s = ", ".join(f"{name} {value:.3f} s" for name, value in known.call_s.items())
    print(f"lone requests: {told_s}, overhead {1000 * known.overhead_s:.0f} ms", flush=True)
    return known


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
