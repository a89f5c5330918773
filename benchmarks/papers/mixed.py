"""llm-d-router's cost-aware routing of pictures (its pull request 2053): 512 to 1536 pixels, 20 to 35 steps.

The mix is vLLM-Omni's dataset C; a picture costs steps x pixels. The request gives a capacity of .64 pictures a second
and p99s, 19.1 s of Kubernetes' Service and 14.7 s of the cost-aware router at .25 a second, 26.8 and 17.0 s at .45. It
says neither how many replicas there are nor what a picture takes: two replicas are assumed, and seconds in proportion
to the cost that make that capacity. Simulated are a replica drawn at random, the one with least outstanding cost (both
bind a picture as it comes), first come first served bound
late, and our order, which binds late too and by soft deadlines.

    sim_p99_<random,cost,late,order>_<25,45>   seconds, over 8,000 pictures
    sim_p99_bound_<25,45>                 below which nobody comes (`papers.clairvoyant`)
    sim_p99_cut_<25,45>                   1 - ours / random; theirs is .23 and .37
"""

import random
from collections.abc import Sequence

import numpy as np

from benchmarks.papers.clairvoyant import least_percentile
from cluster.policy.calls import Rules
from cluster.traffic.traces import Arrival, Trace
from cluster.twin.simulator import JobClass, Pool, Scenario, StageTimes, simulate

REPLICAS, CAPACITY = 2, 0.64
MIX = {
    "512": (512**2 * 20, 0.15),
    "768": (768**2 * 20, 0.25),
    "1024": (1024**2 * 25, 0.45),
    "1536": (1536**2 * 35, 0.15),
}
RATES = (0.25, 0.45)
PAPER = {0.25: (19.1, 14.7), 0.45: (26.8, 17.0)}  # Kubernetes' Service, cost-aware
PICTURES = 8_000


def seconds() -> dict[str, float]:
    """Of a picture of each size."""
    mean = sum(cost * share for cost, share in MIX.values())
    return {size: cost / mean * REPLICAS / CAPACITY for size, (cost, _) in MIX.items()}


def stream(rate: float, pictures: int) -> list[Arrival]:
    """Poisson."""
    chance, arrivals, time_s = random.Random(1), list[Arrival](), 0.0
    for _ in range(pictures):
        time_s += chance.expovariate(rate)
        arrivals.append(Arrival(time_s, chance.choices(list(MIX), [share for _, share in MIX.values()])[0]))
    return arrivals


def bound_at_once(arrivals: Sequence[Arrival], *, by_cost: bool) -> list[float]:
    """Latencies where each picture is bound to a replica as it comes: at random, or to the least outstanding cost."""
    chance, takes = random.Random(2), seconds()
    free_s = [0.0] * REPLICAS
    latencies = []
    for arrival in arrivals:
        left = [max(0.0, free - arrival.time_s) for free in free_s]
        at = left.index(min(left)) if by_cost else chance.randrange(REPLICAS)
        free_s[at] = max(free_s[at], arrival.time_s) + takes[arrival.kind]
        latencies.append(free_s[at] - arrival.time_s)
    return latencies


def bound_late(arrivals: Sequence[Arrival], order: Rules | None) -> list[float]:
    """The same where a picture is bound when a replica is free; with an order, by thrice what each takes."""
    takes = seconds()
    scenario = Scenario(
        {"picture": StageTimes(1.0)},
        {"picture": Pool(REPLICAS, max_ongoing=1)},
        control_s=1e4,
        sample_s=1e7,
        kinds={size: {"picture": own} for size, own in takes.items()},
        order=order,
        classes={size: JobClass() for size in takes} if order is not None else {},
    )
    return [row.latency_s for row in simulate(scenario, Trace("mix", tuple(arrivals), arrivals[-1].time_s)).rows]


def bound(arrivals: Sequence[Arrival], likely_s: float) -> float:
    """The least p99 of all pictures, of a fluid on the replicas."""
    takes = seconds()
    return least_percentile([(own.time_s, takes[own.kind]) for own in arrivals], REPLICAS, 99, likely_s)


def mixed_sizes(rates: Sequence[float] = RATES, pictures: int = PICTURES) -> dict[str, float]:
    """The rows, printed; gives the figures."""
    print("llm-d-router: p99 in s; theirs (Service, cost-aware), ours (random, by cost, late, our order, nobody below)")
    figures: dict[str, float] = {}
    for rate in rates:
        arrivals, own = stream(rate, pictures), f"{100 * rate:.0f}"
        found = {
            "random": bound_at_once(arrivals, by_cost=False),
            "cost": bound_at_once(arrivals, by_cost=True),
            "late": bound_late(arrivals, None),
            "order": bound_late(arrivals, Rules(max_yields=0)),
        }
        p99 = {name: float(np.percentile(latencies, 99)) for name, latencies in found.items()}
        p99["bound"] = bound(arrivals, p99["order"])
        figures |= {f"sim_p99_{name}_{own}": value for name, value in p99.items()}
        figures[f"sim_p99_cut_{own}"] = 1 - p99["order"] / p99["random"]
        cells = "".join(f"{value:>8.1f}" for value in (*PAPER[rate], *p99.values()))
        print(f"  {rate:g} a second{cells}", flush=True)
    return figures
