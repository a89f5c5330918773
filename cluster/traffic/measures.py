"""What an experiment leaves behind, simulated or live: a row for each request, samples over time, and the figures.

Takes `RequestRow`s (when a request was meant to be sent, when it arrived, where and when each stage worked on it, how
it ended) and `Sample`s (queues and replicas at a moment); gives `Metrics` and two CSV files and a JSON of one form, so
that a plot does not care where they come from. Latency counts from the intended send time: a client that falls
behind its own schedule does not hide the wait. Seconds count from the start of the run.

Knows nothing of Ray or of the simulator.
"""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

Outcome = Literal["succeeded", "failed", "cancelled", "refused"]
PERCENTILES = (50, 90, 95, 99)
_NODES = "nodes_"


@dataclass(frozen=True, slots=True)
class StageSpan:
    """One stage's part in one request: from its first call's start to its last call's end."""

    start_s: float
    end_s: float
    replicas: tuple[str, ...]  # who computed, in the order of starts, each named once


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One request; a stage that it never reached is missing."""

    id: int
    intended_s: float
    arrived_s: float
    ended_s: float
    outcome: Outcome
    spans: Mapping[str, StageSpan]
    kind: str = ""
    retries: int = 0

    @property
    def latency_s(self) -> float:
        return self.ended_s - self.intended_s


@dataclass(frozen=True, slots=True)
class StageSample:
    """One stage at one moment, in calls and replicas."""

    waiting: int
    running: int
    ready: int
    starting: int
    stopping: int
    target: int


@dataclass(frozen=True, slots=True)
class Sample:
    """The pipeline at one moment."""

    at_s: float
    queued_jobs: int
    running_jobs: int
    stages: Mapping[str, StageSample]
    nodes: Mapping[str, int] = field(default_factory=dict)  # that are billed, by kind; simulated ones alone


@dataclass(frozen=True)
class Metrics:
    """The figures of one run. Latencies are of the requests that succeeded; NaN where none did."""

    requests: int
    succeeded: int
    failed: int
    cancelled: int
    duration_s: float  # from the first intended send to the last end
    throughput_per_s: float  # of videos
    latency_mean_s: float
    latency_s: Mapping[str, float]  # "p50", "p90", "p95", "p99"
    gpu_s: Mapping[str, float]  # by stage: GPUs that were held, idle or not
    busy_share: Mapping[str, float] = field(default_factory=dict)  # by stage: computing / held
    cost: float = 0.0  # in the currency of the prices
    refused: int = 0  # as they arrived
    node_s: Mapping[str, float] = field(default_factory=dict)  # by kind: nodes that were billed; simulated ones alone
    start_ups: int = 0  # of replicas, the first ones too
    yields: int = 0  # calls that stopped for a more urgent one; simulated ones alone

    @property
    def node_hours(self) -> float:
        return sum(self.node_s.values()) / 3600

    @property
    def p95_s(self) -> float:
        return self.latency_s["p95"]

    @property
    def gpu_seconds(self) -> float:
        return sum(self.gpu_s.values())


def percentiles(latencies_s: Sequence[float]) -> dict[str, float]:
    """By name, interpolated between neighbours; NaN of nothing."""
    if not latencies_s:
        return {f"p{rank}": math.nan for rank in PERCENTILES}
    values = np.percentile(np.asarray(latencies_s), PERCENTILES)
    return {f"p{rank}": float(value) for rank, value in zip(PERCENTILES, values, strict=True)}


def held_gpu_s(samples: Sequence[Sample], gpus: Mapping[str, float]) -> dict[str, float]:
    """GPU-seconds by stage, from samples: each counts until the next one. A simulation knows them exactly."""
    held = dict.fromkeys(gpus, 0.0)
    for now, after in pairwise(samples):
        for name, stage in now.stages.items():
            replicas = stage.ready + stage.starting + stage.stopping
            held[name] += replicas * gpus[name] * (after.at_s - now.at_s)
    return held


def measure(
    rows: Sequence[RequestRow],
    gpu_s: Mapping[str, float],
    *,
    busy_gpu_s: Mapping[str, float] | None = None,
    prices_per_hour: Mapping[str, float] | None = None,
    node_s: Mapping[str, float] | None = None,
    node_prices_per_hour: Mapping[str, float] | None = None,
    start_ups: int = 0,
    yields: int = 0,
) -> Metrics:
    """The figures. `prices_per_hour` is of one GPU, by stage, and counts as 0 where it is missing; where nodes are
    known, they are billed instead.
    """
    done = [row for row in rows if row.outcome == "succeeded"]
    latencies = [row.latency_s for row in done]
    begun = min((row.intended_s for row in rows), default=0.0)
    duration_s = max((row.ended_s for row in rows), default=0.0) - begun
    busy = busy_gpu_s or {}
    billed, prices = (gpu_s, prices_per_hour or {}) if node_s is None else (node_s, node_prices_per_hour or {})
    return Metrics(
        requests=len(rows),
        succeeded=len(done),
        failed=sum(row.outcome == "failed" for row in rows),
        cancelled=sum(row.outcome == "cancelled" for row in rows),
        duration_s=duration_s,
        throughput_per_s=len(done) / duration_s if duration_s > 0 else 0.0,
        latency_mean_s=float(np.mean(latencies)) if latencies else math.nan,
        latency_s=percentiles(latencies),
        gpu_s=dict(gpu_s),
        busy_share={name: busy[name] / held if (held := gpu_s[name]) > 0 else 0.0 for name in busy},
        cost=sum(seconds / 3600 * prices.get(name, 0.0) for name, seconds in billed.items()),
        refused=sum(row.outcome == "refused" for row in rows),
        node_s=dict(node_s or {}),
        start_ups=start_ups,
        yields=yields,
    )


def write_requests(path: Path, rows: Iterable[RequestRow], stages: Sequence[str]) -> None:
    """One line a request; a stage that it never reached has empty cells, several replicas are joined by '|'."""
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(
            ["id", "kind", "intended_s", "arrived_s", "ended_s", "outcome", "retries"]
            + [f"{stage}_{what}" for stage in stages for what in ("start_s", "end_s", "replicas")]
        )
        for row in rows:
            cells: list[object] = [row.id, row.kind, _s(row.intended_s), _s(row.arrived_s), _s(row.ended_s)]
            cells += [row.outcome, row.retries]
            for stage in stages:
                span = row.spans.get(stage)
                cells += [_s(span.start_s), _s(span.end_s), "|".join(span.replicas)] if span else ["", "", ""]
            out.writerow(cells)


def write_samples(path: Path, samples: Iterable[Sample], stages: Sequence[str]) -> None:
    """One line a sample."""
    fields = ("waiting", "running", "ready", "starting", "stopping", "target")
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        kept = list(samples)
        kinds = list(kept[-1].nodes) if kept else []
        named = [f"{s}_{name}" for s in stages for name in fields] + [f"{_NODES}{kind}" for kind in kinds]
        out.writerow(["at_s", "queued_jobs", "running_jobs", *named])
        for sample in kept:
            numbers = [getattr(sample.stages[stage], name) for stage in stages for name in fields]
            numbers += [sample.nodes.get(kind, 0) for kind in kinds]
            out.writerow([_s(sample.at_s), sample.queued_jobs, sample.running_jobs, *numbers])


def write_run(
    folder: Path, rows: Sequence[RequestRow], samples: Sequence[Sample], metrics: Metrics, stages: Sequence[str]
) -> None:
    """`requests.csv`, `samples.csv` and `metrics.json` in a folder, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    write_requests(folder / "requests.csv", rows, stages)
    write_samples(folder / "samples.csv", samples, stages)
    known = {name: None if isinstance(x, float) and math.isnan(x) else x for name, x in asdict(metrics).items()}
    known["latency_s"] = {name: None if math.isnan(x) else x for name, x in metrics.latency_s.items()}
    (folder / "metrics.json").write_text(json.dumps(known, indent=1) + "\n")


def read_requests(path: Path) -> list[RequestRow]:
    """What `write_requests` wrote, to the microsecond."""
    with path.open(newline="") as file:
        return [_row(cells) for cells in csv.DictReader(file)]


def read_samples(path: Path) -> list[Sample]:
    """What `write_samples` wrote."""
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    fields = tuple(StageSample.__dataclass_fields__)
    stages = [key.removesuffix("_waiting") for key in (lines[0] if lines else {}) if key.endswith("_waiting")]
    return [
        Sample(
            float(cells["at_s"]),
            int(cells["queued_jobs"]),
            int(cells["running_jobs"]),
            {stage: StageSample(**{name: int(cells[f"{stage}_{name}"]) for name in fields}) for stage in stages},
            {key.removeprefix(_NODES): int(value) for key, value in cells.items() if key.startswith(_NODES)},
        )
        for cells in lines
    ]


def _row(cells: Mapping[str, str]) -> RequestRow:
    spans = {
        (stage := key.removesuffix("_start_s")): StageSpan(
            float(value), float(cells[f"{stage}_end_s"]), tuple(cells[f"{stage}_replicas"].split("|"))
        )
        for key, value in cells.items()
        if key.endswith("_start_s") and value
    }
    outcome: Outcome = cells["outcome"]  # type: ignore[assignment]
    return RequestRow(
        id=int(cells["id"]),
        intended_s=float(cells["intended_s"]),
        arrived_s=float(cells["arrived_s"]),
        ended_s=float(cells["ended_s"]),
        outcome=outcome,
        spans=spans,
        kind=cells["kind"],
        retries=int(cells["retries"]),
    )


def _s(seconds: float) -> str:
    return f"{seconds:.6f}"
