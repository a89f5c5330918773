"""DisagFusion's load that changes (arXiv 2605.25550): stages of 5.7, 74.5 and 9.7 s on 8 A10 at most.

Its phases: 390 s at .1 requests a second of 4 steps, 300 s at .133 half of which are of 1 step, 300 s at .2 of 1 step
alone; a step of denoising is a quarter of its 74.5 s. Start-ups are the median of GenTD26's pipelines, 8.45 s: the
paper gives none. The capacity of 1:6:1 is that of its denoisers, 6 / 74.5; the paper reaches .077, and .022 with a
monolith over all 8 GPUs.

    sim_dynamic_p95_<policy>   seconds, mean of the seeds: fixed_161, fixed_152, look_ahead, serve, inferline, xenna,
                               monoliths
    sim_dynamic_p95_bound      below which nobody comes on 8 GPUs (`papers.clairvoyant`)
    sim_capacity_161           requests a second of 1:6:1 that are done of a long queue
"""

import random
import statistics
from collections.abc import Mapping, Sequence

from benchmarks.papers.clairvoyant import least_percentile
from cluster.policy.look_ahead import LookAhead, ServeDefault, Throughput, Tuner
from cluster.policy.types import Policy
from cluster.traffic.traces import Arrival, Trace
from cluster.twin.simulator import Pool, Scenario, StageTimes, simulate

GPUS, START_UP_S = 8, 8.45
SECONDS = {"encode": 5.7, "denoise": 74.5, "decode": 9.7}
PHASES = ((390.0, 0.1, 0.0), (300.0, 0.133, 0.5), (300.0, 0.2, 1.0))  # seconds, requests a second, share of 1 step
SEEDS = (0, 1, 2)


def load(seed: int) -> Trace:
    """Poisson in each phase."""
    chance, arrivals, start_s = random.Random(seed), list[Arrival](), 0.0
    for span_s, rate, quick in PHASES:
        time_s = start_s
        while (time_s := time_s + chance.expovariate(rate)) < start_s + span_s:
            arrivals.append(Arrival(time_s, "1 step" if chance.random() < quick else "4 steps"))
        start_s += span_s
    return Trace(f"dynamic-{seed}", tuple(arrivals), start_s)


def pools_of(replicas: Sequence[int], *, fixed: bool) -> Scenario:
    """The three stages, with a common budget where they may change."""
    pools = {
        name: Pool(count, min_replicas=count if fixed else 1, max_replicas=count if fixed else GPUS)
        for name, count in zip(SECONDS, replicas, strict=True)
    }
    return Scenario(
        {name: StageTimes(own_s, start_up_s=START_UP_S) for name, own_s in SECONDS.items()},
        pools,
        budget_gpus=GPUS,
        sample_s=1e4,
        kinds={"4 steps": {}, "1 step": {"denoise": 0.25}},
    )


def monoliths() -> Scenario:
    """All three stages on each GPU."""
    whole_s = sum(SECONDS.values())
    short = (whole_s - 0.75 * SECONDS["denoise"]) / whole_s
    return Scenario(
        {"all": StageTimes(whole_s)}, {"all": Pool(GPUS)}, sample_s=1e4, kinds={"4 steps": {}, "1 step": {"all": short}}
    )


def rows() -> Mapping[str, tuple[Scenario, Policy | None]]:
    """What is compared. Serve's rule gets 1:6:1 and decides at once; its `max_replicas` hold the budget."""
    split = {"encode": 1, "denoise": 6, "decode": 1}
    return {
        "fixed_161": (pools_of((1, 6, 1), fixed=True), None),
        "fixed_152": (pools_of((1, 5, 2), fixed=True), None),
        "look_ahead": (pools_of((1, 6, 1), fixed=False), LookAhead()),
        "serve": (
            pools_of((1, 6, 1), fixed=False),
            ServeDefault(1.0, 0.0, 60.0, look_back_s=2.0, max_replicas=split),
        ),
        "inferline": (pools_of((1, 6, 1), fixed=False), Tuner()),
        "xenna": (pools_of((1, 6, 1), fixed=False), Throughput()),
        "monoliths": (monoliths(), None),
    }


def capacity(requests: int = 200) -> float:
    """Of 1:6:1, from a queue that never empties."""
    trace = Trace("queue", (Arrival(0.0, "4 steps"),) * requests, 0.0)
    ends = sorted(row.ended_s for row in simulate(pools_of((1, 6, 1), fixed=True), trace).rows)
    first, last = requests // 4, 3 * requests // 4
    return (last - first) / (ends[last] - ends[first])


def dynamic(seeds: Sequence[int] = SEEDS) -> dict[str, float]:
    """The rows, printed; gives the figures."""
    held = capacity()
    print(f"disagfusion, capacity of 1:6:1: {held:.4f} a second simulated, {6 / 74.5:.4f} by arithmetic, paper .077")
    print(f"disagfusion, dynamic: {GPUS} GPUs at most, mean of {len(seeds)} seeds; p50 and p95 of all requests, s")
    figures = {"sim_capacity_161": held}
    traces, likely_s = [load(seed) for seed in seeds], list[float]()
    for name, (scenario, policy) in rows().items():
        runs = [simulate(scenario, trace, policy).metrics for trace in traces]
        middle = statistics.fmean(run.latency_s["p50"] for run in runs)
        figures[f"sim_dynamic_p95_{name}"] = p95 = statistics.fmean(run.p95_s for run in runs)
        likely_s.append(max(run.p95_s for run in runs))
        print(f"  {name:<12}{middle:>8.0f}{p95:>8.0f}", flush=True)
    bound_s = statistics.fmean(bound(trace, max(likely_s)) for trace in traces)
    print(f"  nobody can be below{bound_s:>9.0f}", flush=True)
    return {**figures, "sim_dynamic_p95_bound": bound_s}


def bound(trace: Trace, likely_s: float) -> float:
    """The least p95, of a fluid on all 8 GPUs."""
    whole_s = sum(SECONDS.values())
    work_s = {"4 steps": whole_s, "1 step": whole_s - 0.75 * SECONDS["denoise"]}
    return least_percentile([(own.time_s, work_s[own.kind]) for own in trace.arrivals], GPUS, 95, likely_s)
