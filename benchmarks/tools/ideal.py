"""When every job of a trace would end if moving data and deciding took no time: a tandem of first-come queues.

Takes arrivals in seconds and the loads of the four stages; gives each job's end. A stage's replicas take calls in the
order of their arrival as soon as one is free; V2V is called once a window, VFI a window at a time as soon as it and the
one before it are there. The yardstick of `benchmarks.peers`; exact, nothing is drawn. Knows nothing of Ray.
"""

import heapq
from collections.abc import Mapping, Sequence

from benchmarks.tools.bound import Load
from stages.types import StageName


def ends_s(arrivals_s: Sequence[float], loads: Mapping[StageName, Load], windows: int) -> list[float]:
    """When each job ends, in the order of `arrivals_s`."""
    jobs = range(len(arrivals_s))
    image = _served([(arrivals_s[job], job) for job in jobs], loads["t2i"].run_s, loads["t2i"].replicas)
    keyframes = _served([(image[job], job) for job in jobs], loads["i2v"].run_s, loads["i2v"].replicas)
    calls = [(job, part) for job in jobs for part in range(windows)]
    pieces = _served(
        [(keyframes[job], index) for index, (job, _) in enumerate(calls)],
        loads["v2v"].run_s / windows,
        loads["v2v"].replicas,
    )
    ready = [max(pieces[index - min(1, part) : index + 1]) for index, (_, part) in enumerate(calls)]
    chunks = _served(
        [(at_s, index) for index, at_s in enumerate(ready)], loads["vfi"].run_s / windows, loads["vfi"].replicas
    )
    return [max(chunks[job * windows : (job + 1) * windows]) for job in jobs]


def _served(arrivals: list[tuple[float, int]], run_s: float, replicas: int) -> list[float]:
    """When each call ends, by its number; they are served in the order of arrival, then of their numbers."""
    free = [0.0] * replicas
    ended = [0.0] * len(arrivals)
    for at_s, number in sorted(arrivals):
        ended[number] = max(at_s, heapq.heappop(free)) + run_s
        heapq.heappush(free, ended[number])
    return ended
