"""Alibaba's GenTD26 (`gentd26.json` has its quantiles and their source), its busiest day through the simulator.

The trace is fetched at run time, or given by `--trace`; it has no licence and is not kept here. A request is a picture
that one GPU computes in `exec_time_seconds`, drawn from a gamma distribution of the trace's mean and spread; a replica
starts for the medians of base model and pipeline, 31.2 s, on nodes of 4 GPUs that boot for 3 minutes, one picture at a
time. Six policies.

    sim_gentd26_p95_<policy>, sim_gentd26_node_hours_<policy>, sim_gentd26_start_ups_<policy>
        of fixed (as many replicas as the busiest quarter of an hour needs), serve (Ray's defaults), serve_quick (a call
        a replica, no delay up, a minute down), look_ahead, inferline and xenna
    sim_gentd26_node_hours_bound   with which nobody has a p95 as low as the look-ahead's (`papers.clairvoyant`)
"""

import csv
import datetime
import json
import random
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.papers.clairvoyant import least_node_hours
from cluster.policy.look_ahead import LookAhead, ServeDefault, Throughput, Tuner
from cluster.policy.types import Policy
from cluster.traffic.traces import Arrival, Trace
from cluster.twin.simulator import NodePool, Pool, Scenario, StageTimes, simulate

FACTS: Mapping[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text())
COMMIT = "7a6c496e4f4b6ce6150be8f881cb051bf2abff42"
URL = f"https://raw.githubusercontent.com/alibaba/clusterdata/{COMMIT}/cluster-trace-v2026-GenAI/lora_request_trace.csv"
CACHE = Path.home() / ".cache" / "magicvideo" / "gentd26.csv"
START_UP_S = FACTS["base_model_update_s"]["p50"] + FACTS["pipeline_update_s"]["p50"]
MOST, NODE_GPUS, BOOT_S = 64, 4, 180.0  # GPUs


def fetched(path: Path | None) -> Path | None:
    """The trace; None and a sentence where it cannot be had."""
    if path is not None or CACHE.exists():
        return path or CACHE
    try:
        with urllib.request.urlopen(URL, timeout=60) as answer:
            content = answer.read()
    except OSError as error:
        print(f"gentd26: the trace cannot be fetched from {URL} ({error}); give the file by --trace.", flush=True)
        return None
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    CACHE.write_bytes(content)
    return CACHE


def day(path: Path, date: str) -> Trace:
    """The requests of one day."""
    midnight = datetime.datetime.fromisoformat(date)
    with path.open(newline="") as file:
        moments = (datetime.datetime.fromisoformat(row["gmt_create"]) for row in csv.DictReader(file))
        own = sorted((moment - midnight).total_seconds() for moment in moments if moment.date() == midnight.date())
    return Trace(date, tuple(Arrival(at_s) for at_s in own), 86_400.0)


def likely_day(requests: int, seed: int = 1) -> Trace:
    """Of so many requests over the trace's hours, where the trace itself is not wanted."""
    chance, hours = random.Random(seed), FACTS["requests_by_hour"]
    picked = chance.choices(range(24), hours, k=requests)
    return Trace("likely", tuple(Arrival(at) for at in sorted(3600 * (h + chance.random()) for h in picked)), 86_400.0)


def scenario(replicas: int, least: int) -> Scenario:
    """One stage on nodes of 4 GPUs."""
    facts = FACTS["exec_s"]
    return Scenario(
        {"t2i": StageTimes(facts["mean"], cv=facts["cv"], start_up_s=START_UP_S)},
        {"t2i": Pool(replicas, min_replicas=least, max_replicas=MOST, max_ongoing=1, on=("gpus",))},
        budget_gpus=MOST,
        nodes={"gpus": NodePool(NODE_GPUS, MOST // NODE_GPUS, boot_s=BOOT_S, price_per_hour=4.0)},
        packing="pack",
        control_s=2.0,
        sample_s=300.0,
    )


def peak(trace: Trace) -> int:
    """Replicas that the busiest quarter of an hour keeps busy."""
    counts: dict[int, int] = {}
    for arrival in trace.arrivals:
        counts[int(arrival.time_s // 900)] = counts.get(int(arrival.time_s // 900), 0) + 1
    return max(1, min(MOST, -int(-max(counts.values()) * FACTS["exec_s"]["mean"] // 900)))


def gentd26(trace: Trace) -> dict[str, float]:
    """The rows, printed; gives the figures."""
    most = peak(trace)
    policies: dict[str, tuple[int, int, Policy | None]] = {
        "fixed": (most, most, None),
        "serve": (1, 1, ServeDefault()),
        "serve_quick": (1, 1, ServeDefault(1.0, 0.0, 60.0, look_back_s=2.0)),
        "look_ahead": (1, 1, LookAhead(node_gpus=NODE_GPUS)),
        "inferline": (1, 1, Tuner()),
        "xenna": (1, 1, Throughput()),
    }
    head = "p50 and p95 in s, node-hours, start-ups; node-hours below which nobody has that p95"
    print(f"gentd26, {trace.name}: {len(trace.arrivals)} requests; {head}")
    figures: dict[str, float] = {}
    for name, (replicas, least, policy) in policies.items():
        run = simulate(scenario(replicas, least), trace, policy)
        metrics = run.metrics
        p50_s, starts, hours = metrics.latency_s["p50"], metrics.start_ups, metrics.node_hours
        work = [(row.arrived_s, row.spans["t2i"].end_s - row.spans["t2i"].start_s) for row in run.rows]
        bound = least_node_hours(work, NODE_GPUS, BOOT_S, metrics.p95_s, span_s=trace.span_s)
        print(f"  {name:<12}{p50_s:>8.0f}{metrics.p95_s:>8.0f}{hours:>9.1f}{starts:>8}{bound:>9.1f}", flush=True)
        own = {"p95": metrics.p95_s, "node_hours": hours, "start_ups": float(starts)}
        figures |= {f"sim_gentd26_{what}_{name}": value for what, value in own.items()}
        if name == "look_ahead":
            figures["sim_gentd26_node_hours_bound"] = bound
    return figures
