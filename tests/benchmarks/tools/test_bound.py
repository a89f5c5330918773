"""The bound against a simulation of the same pipeline, and where it is known by hand."""

import heapq
from collections.abc import Mapping

import pytest

from benchmarks.tools.bound import Load, alone_s, burst_s
from stages.types import StageName

Loads = Mapping[StageName, Load]

EQUAL: Loads = {"t2i": Load(1.0), "i2v": Load(1.0), "v2v": Load(1.0), "vfi": Load(1.0)}
WIDE: Loads = {"t2i": Load(0.2), "i2v": Load(0.4, 2), "v2v": Load(0.6, 2), "vfi": Load(0.15)}
LATE: Loads = {"t2i": Load(0.1), "i2v": Load(0.1), "v2v": Load(0.3), "vfi": Load(1.2, 2)}


def first_come_s(loads: Loads, windows: int, jobs: int) -> float:
    """Makespan when every stage takes calls in the order of their arrival."""

    def served(arrivals: list[float], run_s: float, replicas: int) -> list[float]:
        free = [0.0] * replicas
        starts = []
        for arrival in arrivals:
            start = max(arrival, heapq.heappop(free))
            starts.append(start)
            heapq.heappush(free, start + run_s)
        return starts

    ready = [0.0] * jobs
    for name in ("t2i", "i2v"):
        load = loads["t2i" if name == "t2i" else "i2v"]
        ready = sorted(start + load.run_s for start in served(ready, load.run_s, load.replicas))
    for name in ("v2v", "vfi"):
        load = loads["v2v" if name == "v2v" else "vfi"]
        call_s = load.run_s / windows
        arrivals = [time for time in ready for _ in range(windows)] if name == "v2v" else ready
        ready = sorted(start + call_s for start in served(arrivals, call_s, load.replicas))
    return max(ready)


@pytest.mark.parametrize("loads", [EQUAL, WIDE, LATE], ids=["equal", "wide", "late"])
@pytest.mark.parametrize("jobs", [1, 2, 7, 60])
@pytest.mark.parametrize("windows", [1, 3])
def test_no_schedule_beats_the_bound_and_first_come_comes_near(loads: Loads, jobs: int, windows: int) -> None:
    bound_s, real_s = burst_s(loads, windows, jobs), first_come_s(loads, windows, jobs)
    assert bound_s <= real_s + 1e-9
    assert real_s <= bound_s + max(load.run_s for load in loads.values())


def test_one_job_alone_waits_for_the_last_window_only() -> None:
    assert alone_s(EQUAL, 1) == pytest.approx(4.0)
    assert alone_s(EQUAL, 4) == pytest.approx(3.25)
    assert alone_s(WIDE, 3) == pytest.approx(0.2 + 0.4 + 2 * 0.2 + 0.05)  # two windows at once, then the third
    assert burst_s(EQUAL, 4, 1) == pytest.approx(3.25)


def test_in_the_long_run_the_slowest_pool_counts_alone() -> None:
    per_job_s = (burst_s(WIDE, 3, 1060) - burst_s(WIDE, 3, 60)) / 1000
    assert per_job_s == pytest.approx(0.6 / 2)
