"""DisagFusion's setting: stages of 5.7, 74.5 and 9.7 s on 1, 6 and 1 replicas, and a Poisson stream of 265 requests.

Each is due after 137 s; three seeds. The bar is a central queue, first come first served, that gives a replica a call
when it is free.

    attain_<rate>        ours, simulated: share in time, at .045, .065, .077 and .085 requests a second
    sim_central_<rate>   the central queue
    sim_bound_<rate>     calls bound behind a running one as they come, two for each replica
    sim_kept_<rate>      with refusals: the share of accepted requests that were in time
    sim_accepted_<rate>  the share that was accepted
    sim_most_<rate>      what nobody can pass on six denoisers (`papers.clairvoyant`)
"""

import random
import statistics
from collections.abc import Sequence

from benchmarks.papers.clairvoyant import Task, most_in_time
from cluster.policy.calls import Rules
from cluster.traffic.traces import Arrival, Trace
from cluster.twin.simulator import JobClass, Pool, Run, Scenario, StageTimes, simulate

STAGES = {"encode": (5.7, 1), "denoise": (74.5, 6), "decode": (9.7, 1)}  # seconds, replicas
DUE_S, REQUESTS = 137.0, 265
RATES = (0.045, 0.065, 0.077, 0.085)
SEEDS = (0, 1, 2)
DENOISE_STEPS = 50


def stream(rate: float, seed: int) -> Trace:
    """Poisson."""
    chance, times = random.Random(seed), [0.0]
    while len(times) <= REQUESTS:
        times.append(times[-1] + chance.expovariate(rate))
    return Trace(f"{rate:g}", tuple(Arrival(time_s, "video") for time_s in times[1:]), times[-1])


def chain(order: Rules | None, *, max_ongoing: int = 1, refuses: bool = False) -> Scenario:
    """DisagFusion's three stages."""
    return Scenario(
        {
            name: StageTimes(own_s, steps=DENOISE_STEPS if name == "denoise" else 1)
            for name, (own_s, _) in STAGES.items()
        },
        {name: Pool(replicas, max_ongoing=max_ongoing) for name, (_, replicas) in STAGES.items()},
        control_s=1000.0,
        sample_s=1e6,
        kinds={"video": {}},
        order=order,
        classes={"video": JobClass(deadline_s=DUE_S)} if order is not None else {},
        refuses=refuses,
    )


def in_time(runs: Sequence[Run]) -> tuple[float, float]:
    """Shares of all requests: in time, and accepted."""
    rows = [row for run in runs for row in run.rows]
    kept = [row for row in rows if row.outcome == "succeeded" and row.latency_s <= DUE_S + 1e-6]
    return len(kept) / len(rows), sum(row.outcome != "refused" for row in rows) / len(rows)


def most(trace: Trace) -> float:
    """The share that can be in time at most, by the denoisers alone."""
    (before_s, _), (denoise_s, replicas), (after_s, _) = STAGES.values()
    at = [own.time_s for own in trace.arrivals]
    return most_in_time([Task(at_s + before_s, at_s + DUE_S - after_s, denoise_s) for at_s in at], replicas)


def disagfusion(rates: Sequence[float], seeds: Sequence[int]) -> dict[str, float]:
    """The rows, printed; gives the figures."""
    figures: dict[str, float] = {}
    print(f"disagfusion: share of {REQUESTS} requests in time, mean of {len(seeds)} seeds")
    print("  a second    bound  central     ours; refusing: accepted, and of those in time; at most")
    for rate in rates:
        traces, own = [stream(rate, seed) for seed in seeds], f"{1000 * rate:03.0f}"
        rows = {
            "bound": in_time([simulate(chain(None, max_ongoing=2), trace) for trace in traces])[0],
            "central": in_time([simulate(chain(None), trace) for trace in traces])[0],
            "attain": in_time([simulate(chain(Rules()), trace) for trace in traces])[0],
        }
        ended, accepted = in_time([simulate(chain(Rules(), refuses=True), trace) for trace in traces])
        rows |= {"accepted": accepted, "kept": ended / accepted, "most": statistics.fmean(map(most, traces))}
        figures |= {f"sim_{name}_{own}".replace("sim_attain", "attain"): share for name, share in rows.items()}
        print(f"  {rate:>8g}" + "".join(f"{share:>9.3f}" for share in rows.values()), flush=True)
    return figures
