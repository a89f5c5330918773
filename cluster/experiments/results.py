"""What an experiment leaves in its folder: `results.csv`, one line a run, beside a folder of each run.

    OUT/spec.yaml         what was run, with every default
    OUT/results.csv       a line a run: its factors and its figures
    OUT/runs/NAME/        requests.csv, samples.csv, metrics.json (`cluster.traffic.measures`), plan.json
    OUT/*.png             plots (`cluster.experiments.plots`)

A run's folder appears whole or not at all, so that an interrupted experiment keeps what is done and goes on later. The
form is the same simulated and live. Knows nothing of how runs are made.
"""

import csv
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client._shell.outputs import written
from cluster.experiments.runs import RunPlan
from cluster.traffic.measures import RequestRow, Sample, read_requests, read_samples
from cluster.twin.simulator import Run

RUNS, RESULTS = "runs", "results.csv"


@dataclass(frozen=True)
class Done:
    """One finished run: what it was, and what it gave."""

    folder: Path
    plan: Mapping[str, Any]  # plan.json
    metrics: Mapping[str, Any]  # metrics.json

    @property
    def group(self) -> str:
        """System and policy, as a legend names them; what an experiment does not compare is left out by the plots."""
        return f"{self.plan['system']}, {self.plan['policy']}"

    @property
    def stages(self) -> tuple[str, ...]:
        return tuple(self.plan["replicas"])

    @property
    def p95_s(self) -> float:
        """NaN where nothing was completed."""
        return self.percentile("p95")

    def percentile(self, name: str) -> float:
        value = self.metrics["latency_s"][name]
        return math.nan if value is None else float(value)

    @property
    def throughput_per_s(self) -> float:
        return float(self.metrics["throughput_per_s"])

    @property
    def gpu_seconds(self) -> float:
        return math.fsum(self.metrics["gpu_s"].values())

    @property
    def node_hours(self) -> float:
        return math.fsum(self.metrics.get("node_s", {}).values()) / 3600

    def cost_of(self, videos: int) -> float:
        """Of so many videos, in the currency of the prices; NaN where none was completed."""
        made = self.metrics["succeeded"]
        return videos * float(self.metrics["cost"]) / made if made else math.nan

    def requests(self) -> list[RequestRow]:
        return read_requests(self.folder / "requests.csv")

    def samples(self) -> list[Sample]:
        return read_samples(self.folder / "samples.csv")


def keep(out: Path, plan: RunPlan, run: Run, *, mode: str, speed: float) -> Done:
    """Write a run; its folder appears once everything is in it."""
    folder = out / RUNS / plan.name
    half = folder.with_name(f".{plan.name}")
    shutil.rmtree(half, ignore_errors=True)
    run.write(half)
    about = {
        "name": plan.name,
        "mode": mode,
        "speed": speed,
        "system": plan.system,
        "policy": plan.policy.shown,
        "varied": plan.varied,
        "replicas": dict(plan.replicas),
        "load": plan.trace.name,
        "rate_per_s": plan.trace.rate_per_s,
        "seed": plan.seed,
        "node_prices": {name: kind.price_per_hour for name, kind in plan.scenario.nodes.items()},
    }
    (half / "plan.json").write_text(json.dumps(about, indent=1) + "\n")
    half.rename(folder)
    return read_done(folder)


def read_done(folder: Path) -> Done:
    """What `keep` wrote."""
    return Done(
        folder, json.loads((folder / "plan.json").read_text()), json.loads((folder / "metrics.json").read_text())
    )


def write_results(out: Path, runs: Sequence[Done]) -> None:
    """`results.csv`; seconds are those of the run's own clock."""
    names = sorted({name for run in runs for name in run.stages}, key=lambda name: (name == "monolith", name))
    with written(out / RESULTS) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(
            ["run", "mode", "speed", "system", "policy", "varied", "load", "rate_per_s", "seed"]
            + [f"{name}_replicas" for name in names]
            + ["requests", "succeeded", "failed", "cancelled", "duration_s", "throughput_per_s", "latency_mean_s"]
            + ["p50_s", "p90_s", "p95_s", "p99_s", "gpu_seconds", "cost", "cost_per_1000", "node_hours"]
            + ["start_ups", "yields"]
        )
        for run in runs:
            plan, metrics = run.plan, run.metrics
            table.writerow(
                [plan[key] for key in ("name", "mode", "speed", "system", "policy", "varied", "load")]
                + [_short(plan["rate_per_s"]), plan["seed"]]
                + [plan["replicas"].get(name, "") for name in names]
                + [metrics[key] for key in ("requests", "succeeded", "failed", "cancelled")]
                + [_short(metrics[key]) for key in ("duration_s", "throughput_per_s", "latency_mean_s")]
                + [_short(run.percentile(name)) for name in ("p50", "p90", "p95", "p99")]
                + [_short(run.gpu_seconds), _short(metrics["cost"]), _short(run.cost_of(1000))]
                + [_short(run.node_hours), metrics.get("start_ups", ""), metrics.get("yields", "")]
            )


def _short(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.6g}"
