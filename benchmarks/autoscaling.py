"""Look-ahead against Serve's own autoscaling on a live server: `python -m benchmarks.autoscaling [--quick]`.

The pipeline of `benchmarks.sim_policies` (4, 40, 90 and 12 s a video, start-ups of 80, 120, 120 and 60 s) at a
twelfth of its time, with replayed stages on a Ray that counts 16 GPUs, one a replica. Two applications stand beside
each other, the same but for who scales them: `cluster.policy.autoscaler` through Serve's application-level policy, and
Serve's own rule for each deployment. Every stage may go to zero and does between bursts. A burst of requests goes to
the one, and once all of its replicas are gone the same burst goes to the other; sides take turns at beginning.

Serve's side is tuned in the simulator on these very bursts: target_ongoing_requests, downscale_delay_s and a
max_replicas that leaves every stage all GPUs or splits them by work, the setting of lowest p95 that holds at most 5 %
more GPU-seconds than look-ahead; upscale_delay_s is 0 and its metrics are a second old at most, which is far quicker
than its defaults. The look-ahead runs with its defaults, its seconds at the same pace. Payloads are a tenth of the
paper's, so that the machine's few cores are not the bound; starting processes takes its seconds of them on both sides.

    p95_ratio              median over the bursts of look-ahead's p95 latency / Serve's
    gpu_seconds_ratio      the same of GPU-seconds: ready, starting and stopping replicas, from the first request until
                           the last replica is gone
    sim_kept_p95_ratio_median, sim_kept_gpu_seconds_ratio_median    `benchmarks.sim_policies` on its ten traces

About twelve minutes; `--quick` about two, with one small burst and one trace.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ray import serve

from benchmarks import sim_policies
from benchmarks.tools import live
from benchmarks.tools.result import parser_of, result
from cluster.policy.look_ahead import LookAhead, ServeDefault
from cluster.server_process import free_port
from cluster.traffic.measures import measure
from cluster.traffic.traces import Arrival, Trace, kept_traces
from cluster.twin.simulator import Pool, Scenario
from deployments.app import build
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.server import LocalRay, Server, declare, start_ray, stop
from deployments.settings.application import AppArgs, AutoscalingArgs, ScalingArgs
from deployments.settings.reading import load_config
from deployments.settings.variants import laptop, rehearsal
from stages.replay import PAPER_PAYLOADS, ReplayProfile
from stages.types import STAGE_NAMES, StageName

GPUS = 16
WINDOWS = 2  # of the tiny preset's usual clip
RAY_CPUS, STORE_BYTES = 32, 1_500_000_000
PAYLOAD_SHARE = 0.1
START_UP = sim_policies.HEADLINE
PROCESS_S = 2.0  # what a replica's process takes to start on an idle machine; the rest of a start-up is told to wait
LOOK_BACK_S, REPORT_S = 1.0, 0.25
OVERHEAD_S = 0.04  # of a call, for the tuning alone
SIDES = ("look-ahead", "serve")
TARGETS = (0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)
NOBODY: Mapping[StageName, int] = dict.fromkeys(STAGE_NAMES, 0)


@dataclass(frozen=True)
class Size:
    """How long a run is."""

    pace: float  # of the seconds of `sim_policies`
    burst: int
    burst_s: float
    repetitions: int
    traces: int  # of sim_policies


FULL = Size(pace=1 / 12, burst=8, burst_s=2.0, repetitions=5, traces=10)
QUICK = Size(pace=1 / 60, burst=3, burst_s=1.0, repetitions=1, traces=1)


@dataclass(frozen=True)
class Outcome:
    """One burst on one side."""

    p95_s: float
    gpu_seconds: float


def bursts(size: Size) -> list[Trace]:
    """One trace a repetition."""
    found = []
    for seed in range(size.repetitions):
        times = np.sort(np.random.default_rng(seed).uniform(0.0, size.burst_s, size.burst))
        found.append(Trace(f"burst {seed + 1}", tuple(Arrival(float(time)) for time in times), size.burst_s))
    return found


def scenario(size: Size) -> Scenario:
    """What is served here, for the simulator."""
    stages = {
        name: replace(
            times,
            mean_s=times.mean_s * size.pace,
            cv=0.0,
            start_up_s=max(PROCESS_S, times.start_up_s * START_UP * size.pace),
            windows=WINDOWS if times.windows > 1 else 1,
        )
        for name, times in sim_policies.STAGES.items()
    }
    return Scenario(
        stages,
        {name: Pool(0, min_replicas=0, max_replicas=GPUS) for name in stages},
        budget_gpus=GPUS,
        router_s=OVERHEAD_S,
        control_s=0.5,
        rate_window_s=300.0 * size.pace,
    )


def look_ahead_options(size: Size) -> dict[str, float]:
    """The policy's defaults, where they are seconds at this pace."""
    defaults = LookAhead()
    return {name: getattr(defaults, name) * size.pace for name in ("min_keep_s", "reaction_s")}


def tuned(size: Size, traces: Sequence[Trace]) -> ServeDefault:
    """The best setting of Serve's rule on these bursts; prints it and what the simulator expects."""
    about = scenario(size)
    ours = sim_policies.scores(LookAhead(**look_ahead_options(size)), about, traces)
    delays_s = [seconds * size.pace for seconds in (0.0, 20.0, 40.0, 60.0, 100.0, 150.0)]
    settings = sim_policies.serve_settings(GPUS, delays_s, LOOK_BACK_S, TARGETS)
    scored = {name: sim_policies.scores(policy, about, traces) for name, policy in settings.items()}
    chosen = sim_policies.tuned(ours, scored)
    pairs = list(zip(ours, scored[chosen], strict=True))
    p95 = statistics.median(a.p95_s / b.p95_s for a, b in pairs)
    held = statistics.median(a.gpu_seconds / b.gpu_seconds for a, b in pairs)
    print(f"Serve is tuned to: {chosen}. The simulator expects p95 x {p95:.2f}, GPU-seconds x {held:.2f}", flush=True)
    return settings[chosen]


def app_args(folder: Path, size: Size) -> AppArgs:
    """The laptop's variant with replayed stages that take their time to load, one GPU each; nobody scales it yet."""
    about = scenario(size)
    profiles: dict[StageName, ReplayProfile] = {
        name: ReplayProfile(
            run_s=about.stages[name].call_s if name == "vfi" else about.stages[name].mean_s,
            bytes_out=int(PAYLOAD_SHARE * PAPER_PAYLOADS[name].bytes_out),
            load_s=about.stages[name].start_up_s - PROCESS_S,
        )
        for name in STAGE_NAMES
    }
    args = rehearsal(laptop(load_config(), data_dir=folder), profiles)
    stages = {name: stage.model_copy(update={"num_gpus": 1.0}) for name, stage in args.stages.items()}
    return args.model_copy(update={"stages": stages})


def scaled_by_look_ahead(args: AppArgs, size: Size) -> AppArgs:
    about = scenario(size)
    bounds = AutoscalingArgs(min_replicas=0, max_replicas=GPUS)
    scaling = ScalingArgs(
        budget_gpus=GPUS,
        call_s={name: about.stages[name].call_s for name in STAGE_NAMES},
        start_up_s={name: about.stages[name].start_up_s for name in STAGE_NAMES},
        arrivals_window_s=about.rate_window_s,
        report_s=REPORT_S,
        policy=look_ahead_options(size),
    )
    stages = {name: stage.model_copy(update={"autoscaling": bounds}) for name, stage in args.stages.items()}
    return args.model_copy(update={"stages": stages, "scaling": scaling})


def scaled_by_serve(args: AppArgs, policy: ServeDefault) -> AppArgs:
    stages = {
        name: stage.model_copy(
            update={
                "autoscaling": AutoscalingArgs(
                    min_replicas=0,
                    max_replicas=policy.max_replicas.get(name, GPUS),
                    target_ongoing_requests=policy.target_ongoing_requests,
                    upscale_delay_s=policy.upscale_delay_s,
                    downscale_delay_s=policy.downscale_delay_s,
                    look_back_period_s=policy.look_back_s,
                    metrics_interval_s=REPORT_S,
                )
            }
        )
        for name, stage in args.stages.items()
    }
    return args.model_copy(update={"stages": stages})


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of("autoscaling", __doc__, quick="one small burst, one simulated trace")
    size = QUICK if parser.parse_args(arguments).quick else FULL
    traces = bursts(size)
    policy = tuned(size, traces)
    with tempfile.TemporaryDirectory(prefix="magicvideo-bench-") as folder:
        outcomes = measure_both(Path(folder), size, policy, traces)
    ours, theirs = (outcomes[side] for side in SIDES)
    simulated = sim_policies.figures((), kept_traces()[-size.traces :])
    result(
        "autoscaling",
        {
            "p95_ratio": statistics.median(a.p95_s / b.p95_s for a, b in zip(ours, theirs, strict=True)),
            "gpu_seconds_ratio": statistics.median(
                a.gpu_seconds / b.gpu_seconds for a, b in zip(ours, theirs, strict=True)
            ),
            **{name: simulated[name] for name in ("sim_kept_p95_ratio_median", "sim_kept_gpu_seconds_ratio_median")},
        },
    )


def measure_both(folder: Path, size: Size, policy: ServeDefault, traces: Sequence[Trace]) -> dict[str, list[Outcome]]:
    """Every burst on both sides."""
    port = free_port()
    both = {
        SIDES[0]: scaled_by_look_ahead(app_args(folder / SIDES[0], size), size),
        SIDES[1]: scaled_by_serve(app_args(folder / SIDES[1], size), policy),
    }
    outcomes: dict[str, list[Outcome]] = {side: [] for side in SIDES}
    with running(both, port):
        journals = {side: Journal(Database(args.storage.database())) for side, args in both.items()}
        for number, trace in enumerate(traces):
            for side in SIDES if number % 2 == 0 else SIDES[::-1]:
                url = f"{Server('127.0.0.1', port, None).url}/{side}"
                outcomes[side].append(one_burst(side, url, journals[side], trace))
        for journal in journals.values():
            journal.database.close()
    return outcomes


@contextmanager
def running(both: Mapping[str, AppArgs], port: int) -> Iterator[None]:
    """Both applications on one Ray, with no replica of any stage."""
    temp_dir = start_ray(LocalRay(RAY_CPUS, STORE_BYTES, num_gpus=GPUS))
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config={"enable_access_log": False})
        for side, args in both.items():
            if args.scaling is None:
                serve.run(build(args), name=side, route_prefix=f"/{side}")
            else:
                declare(args, host="127.0.0.1", port=port, name=side, route_prefix=f"/{side}")
        for side in both:
            live.wait_for_replicas(side, NOBODY)
        yield
    finally:
        stop(temp_dir)


def one_burst(side: str, url: str, journal: Journal, trace: Trace) -> Outcome:
    """A burst until its last replica is gone; prints a line."""
    with live.Replicas(side, GPUS) as watched:
        began = time.monotonic()
        sent = live.send_openly(url, [one.time_s for one in trace.arrivals])
        rows = live.rows_of(sent, live.ended(journal, sent))
        live.wait_for_replicas(side, NOBODY)
        took_s = time.monotonic() - began
    metrics = measure(rows, watched.gpu_s)
    most = max(sum(s.ready + s.starting + s.stopping for s in sample.stages.values()) for sample in watched.samples)
    print(
        f"{trace.name} {side:<10} p50 {metrics.latency_s['p50']:5.1f} s, p95 {metrics.p95_s:5.1f} s, "
        f"{metrics.gpu_seconds:5.0f} GPU-seconds, at most {most} GPUs, {took_s:.0f} s until all are gone",
        flush=True,
    )
    return Outcome(metrics.p95_s, metrics.gpu_seconds)


if __name__ == "__main__":
    main()
