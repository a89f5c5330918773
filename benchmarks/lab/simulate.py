"""How long the simulator takes for a large pipeline.

A hundred thousand Poisson requests over a thousand replicas of four stages, eight calls each, V2V and VFI in three
windows. The look-ahead decides once a second of simulated time, within a budget of a thousand GPUs.

    seconds_100k         wall seconds of one run with the look-ahead
    seconds_100k_fixed   with replicas that stay as they are
    ratio_parallel       four runs of a twentieth, of as many seeds, each in a process, over one after the other
"""

import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from cluster.policy.look_ahead import LookAhead
from cluster.traffic.traces import TraceSpec, make_trace
from cluster.twin.simulator import Pool, Scenario, StageTimes, simulate

REQUESTS = 100_000
REPLICAS = {"t2i": 30, "i2v": 275, "v2v": 610, "vfi": 85}
STAGES = {
    "t2i": StageTimes(4.0, cv=0.1, start_up_s=40.0),
    "i2v": StageTimes(40.0, cv=0.1, start_up_s=60.0),
    "v2v": StageTimes(90.0, cv=0.1, start_up_s=60.0, windows=3),
    "vfi": StageTimes(12.0, cv=0.2, start_up_s=30.0, windows=3),
}
RATE_PER_S = 6.2  # 92 % of what V2V carries


def seconds_of(requests: int, *, looks_ahead: bool, seed: int = 5) -> float:
    """Wall seconds of one run."""
    pools = {name: Pool(count, min_replicas=1, max_replicas=1000) for name, count in REPLICAS.items()}
    trace = make_trace(TraceSpec("large", "poisson", requests / RATE_PER_S, seed, RATE_PER_S))
    began_s = time.perf_counter()
    run = simulate(
        Scenario(STAGES, pools, budget_gpus=1000.0, router_s=0.01), trace, LookAhead() if looks_ahead else None
    )
    took_s = time.perf_counter() - began_s
    policy = "look-ahead" if looks_ahead else "fixed replicas"
    print(f"{len(run.rows):,} requests, {policy}: {took_s:.1f} s, p95 {run.metrics.p95_s:.1f} s", flush=True)
    return took_s


def one_seed(requests: int, seed: int) -> None:
    """A run whose time nobody wants."""
    seconds_of(requests, looks_ahead=True, seed=seed)


def ratio_parallel(requests: int) -> float:
    """Four seeds in processes, over the same one after the other."""
    seeds, began_s = range(4), time.perf_counter()
    for seed in seeds:
        one_seed(requests, seed)
    alone_s, began_s = time.perf_counter() - began_s, time.perf_counter()
    with ProcessPoolExecutor(min(4, os.cpu_count() or 1), mp_context=get_context("spawn")) as pool:
        list(pool.map(one_seed, [requests] * len(seeds), seeds))
    return (time.perf_counter() - began_s) / alone_s


def simulated(requests: int) -> dict[str, float]:
    """The figures."""
    return {
        "seconds_100k": seconds_of(requests, looks_ahead=True),
        "seconds_100k_fixed": seconds_of(requests, looks_ahead=False),
        "ratio_parallel": ratio_parallel(max(500, requests // 20)),
    }
