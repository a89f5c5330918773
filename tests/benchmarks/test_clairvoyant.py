"""Bounds that no policy passes: right where the answer is known, and never above what a real queue did."""

import heapq
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.papers.clairvoyant import Task, least_node_hours, least_percentile, most_in_time

ALIKE = [(0.0, 10.0)] * 10


def test_two_tasks_for_one_gpu_are_half_in_time() -> None:
    both = [Task(0.0, 10.0, 10.0), Task(0.0, 10.0, 10.0)]
    assert most_in_time(both, 1.0) == pytest.approx(0.5)
    assert most_in_time(both, 2.0) == pytest.approx(1.0)
    assert most_in_time([*both, Task(0.0, 9.0, 10.0)], 9.0) == pytest.approx(2 / 3)  # alone it takes longer
    assert most_in_time([Task(0.0, 5.0, 10.0, at_once=2.0)], 4.0) == pytest.approx(1.0)
    assert most_in_time([Task(0.0, 1.0, 10.0)], 4.0) == 0.0


def test_ten_tasks_at_once_on_two_gpus_take_fifty_seconds() -> None:
    assert least_percentile(ALIKE, 2.0, 100, 99.0) == pytest.approx(50.0, rel=0.1)
    assert least_percentile(ALIKE, 2.0, 50, 99.0) == pytest.approx(25.0, rel=0.1)
    assert least_percentile(ALIKE, 10.0, 100, 99.0) == 10.0


@settings(max_examples=25, deadline=None)
@given(
    gaps=st.lists(st.floats(0, 20), min_size=3, max_size=25),
    takes=st.floats(2, 30),
    gpus=st.integers(1, 3),
    percent=st.sampled_from([50, 95]),
)
def test_a_queue_is_never_below(gaps: list[float], takes: float, gpus: int, percent: int) -> None:
    arrivals = [(at_s, takes * (1 + number % 3)) for number, at_s in enumerate(np.cumsum(gaps).tolist())]
    free, latencies = [0.0] * gpus, []
    for at_s, work_s in arrivals:
        end_s = max(at_s, heapq.heappop(free)) + work_s
        heapq.heappush(free, end_s)
        latencies.append(end_s - at_s)
    seen_s = float(np.percentile(latencies, percent))
    assert least_percentile(arrivals, gpus, percent, max(latencies)) <= seen_s + 1e-6


def test_nodes_stand_for_the_work_boot_for_a_burst_and_are_fewer_where_there_is_time() -> None:
    quiet = least_node_hours([(100.0, 5.0)], 4, 180.0, 60.0, span_s=3600.0)
    assert quiet == pytest.approx(1.0, abs=0.01)
    burst = [(1800.0, 100.0)] * 80  # 8,000 GPU-seconds
    hours = [least_node_hours(burst, 4, 180.0, latency_s, span_s=3600.0) for latency_s in (240.0, 600.0, 2400.0)]
    assert all(more > less for more, less in pairwise(hours))
    assert hours[0] == pytest.approx(1.0 + (7200 / 4 / 240 - 1) * (180 + 240) / 3600, rel=0.15)  # four are spared
