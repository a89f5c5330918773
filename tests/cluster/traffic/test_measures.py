"""Figures from rows and samples; files that can be read again."""

import json
import math
from pathlib import Path

import pytest

from cluster.traffic.measures import (
    RequestRow,
    Sample,
    StageSample,
    StageSpan,
    held_gpu_s,
    measure,
    read_requests,
    write_run,
)

ROWS = (
    RequestRow(0, 0.0, 0.5, 10.0, "succeeded", {"a": StageSpan(1.0, 9.0, ("a-1", "a-2"))}),
    RequestRow(1, 2.0, 2.0, 22.0, "succeeded", {"a": StageSpan(9.0, 21.0, ("a-1",))}, kind="long", retries=1),
    RequestRow(2, 3.0, 3.0, 4.0, "cancelled", {}),
)
SAMPLES = (
    Sample(0.0, 1, 1, {"a": StageSample(1, 1, 1, 1, 0, 2)}),
    Sample(10.0, 0, 1, {"a": StageSample(0, 1, 2, 0, 1, 2)}),
    Sample(22.0, 0, 0, {"a": StageSample(0, 0, 2, 0, 0, 2)}),
)


def test_latency_counts_from_the_intended_send_and_of_what_succeeded() -> None:
    metrics = measure(ROWS, {"a": 100.0}, busy_gpu_s={"a": 40.0}, prices_per_hour={"a": 36.0})
    assert (metrics.succeeded, metrics.failed, metrics.cancelled) == (2, 0, 1)
    assert metrics.latency_mean_s == 15.0
    assert metrics.p95_s == pytest.approx(10 + 0.95 * 10)
    assert metrics.throughput_per_s == pytest.approx(2 / 22)
    assert metrics.busy_share == {"a": 0.4}
    assert metrics.cost == pytest.approx(1.0)


def test_gpu_seconds_of_samples_count_starting_and_stopping_replicas() -> None:
    assert held_gpu_s(SAMPLES, {"a": 0.5}) == {"a": 0.5 * (2 * 10 + 3 * 12)}


def test_a_run_without_a_success_has_no_latency_and_still_a_file(tmp_path: Path) -> None:
    metrics = measure(ROWS[2:], {"a": 1.0})
    assert math.isnan(metrics.p95_s)
    write_run(tmp_path, ROWS[2:], (), metrics, ["a"])
    assert json.loads((tmp_path / "metrics.json").read_text())["latency_s"]["p95"] is None


def test_the_files_give_the_rows_back(tmp_path: Path) -> None:
    write_run(tmp_path / "new", ROWS, SAMPLES, measure(ROWS, {"a": 1.0}), ["a"])
    assert tuple(read_requests(tmp_path / "new" / "requests.csv")) == ROWS
    header, first, *_ = (tmp_path / "new" / "samples.csv").read_text().splitlines()
    assert header.split(",")[:5] == ["at_s", "queued_jobs", "running_jobs", "a_waiting", "a_running"]
    assert first.split(",") == ["0.000000", "1", "1", "1", "1", "1", "1", "0", "2"]
