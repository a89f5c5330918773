"""The simulator against what it gave on simpy's event loop (`recorded.json`), before its own heap took that place.

Run as a program it writes the file anew: after a change of the model, not of the engine.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from cluster.policy.calls import Rules, Tenant
from cluster.policy.look_ahead import ServeDefault
from cluster.policy.types import Decision, Policy, Snapshot, State
from cluster.traffic.traces import Trace, TraceSpec, make_trace
from cluster.twin.simulator import Faults, JobClass, Pool, Run, Scenario, StageTimes, simulate

RECORDED = Path(__file__).with_name("recorded.json")
STAGES = {
    "t2i": StageTimes(4.0, cv=0.1, start_up_s=20.0, bytes_out=3_000_000),
    "i2v": StageTimes(30.0, cv=0.2, start_up_s=30.0, bytes_out=35_000_000),
    "v2v": StageTimes(60.0, cv=0.3, start_up_s=30.0, windows=3, bytes_out=105_000_000),
    "vfi": StageTimes(9.0, cv=0.2, start_up_s=10.0, windows=3),
}
CALM = Scenario(STAGES, {"t2i": Pool(1), "i2v": Pool(3), "v2v": Pool(5), "vfi": Pool(1)}, sample_s=100.0)
SCALED = replace(
    CALM, pools={name: Pool(1, min_replicas=1, max_replicas=20) for name in STAGES}, budget_gpus=24.0, control_s=2.0
)
STORMY = replace(SCALED, max_jobs=12, budget_gpus=14.0, faults=Faults(replica_life_s=400.0, call_failure=0.03))
POISSON = make_trace(TraceSpec("p", "poisson", 1500.0, 3, 0.07))
STORM = make_trace(
    TraceSpec("s", "bursts", 2500.0, 7, 0.03, burst_size=10, pause_s=400, cancel_share=0.3, patience_s=80)
)
ORDERED = replace(
    STORMY,
    stages={**STAGES, "v2v": replace(STAGES["v2v"], steps=30)},
    router_s=0.1,
    kinds={"urgent": {"v2v": 0.3}, "slow": {"v2v": 3.0}},
    order=Rules(hand_off_s=2.0),
    classes={
        "urgent": JobClass(1, deadline_s=200.0, tenant="x"),
        "slow": JobClass(deadline_s=900.0, tenant="x"),
        "": JobClass(tenant="y"),
    },
    tenants={"y": Tenant(2.0)},
)
MIXED = make_trace(
    TraceSpec("m", "bursts", 1500.0, 9, 0.03, burst_size=8, pause_s=400, kinds={"urgent": 0.4, "slow": 0.3})
)


class Wave:
    """Replicas by what waits and by the hour, so that the policies of the project may change."""

    def decide(self, now: Snapshot, state: State) -> Decision:
        """Between one and nine."""
        swing = [1 + int(now.now_s / 60 + index) % 4 for index in range(len(now.stages))]
        return Decision({own.name: base + min(5, own.waiting) for own, base in zip(now.stages, swing, strict=True)})


CASES: Mapping[str, tuple[Scenario, Trace, Policy | None]] = {
    "calm": (CALM, POISSON, None),
    "overheads": (
        replace(CALM, submit_s=0.2, router_s=0.05, finish_s=1.5, bytes_per_s=1e8, spread="idle"),
        POISSON,
        None,
    ),
    "scaled": (SCALED, POISSON, Wave()),
    "serve's rule": (SCALED, POISSON, ServeDefault(1.5, 0.0, 60.0, look_back_s=4.0)),
    "storm": (STORMY, STORM, Wave()),
    "storm in batches": (
        replace(STORMY, spread="one", stages={**STAGES, "t2i": replace(STAGES["t2i"], batch=3, batch_share=0.4)}),
        STORM,
        Wave(),
    ),
    "ordered": (ORDERED, MIXED, Wave()),
    "ordered, refusing": (replace(ORDERED, refuses=True, faults=Faults()), MIXED, Wave()),
}


def told(run: Run) -> dict[str, Any]:
    """What is kept of a run."""
    metrics = asdict(run.metrics)
    kept = ("requests", "succeeded", "failed", "cancelled", "refused", "latency_s", "gpu_s", "busy_share")
    return {
        "ended_s": [round(row.ended_s, 5) for row in run.rows],
        "outcomes": " ".join(row.outcome[:2] for row in run.rows),
        "retries": sum(row.retries for row in run.rows),
        "yields": sum(run.yields),
        "first_s": [round(row.spans["v2v"].start_s, 5) if "v2v" in row.spans else -1 for row in run.rows],
        "targets": [[stage.target for stage in sample.stages.values()] for sample in run.samples],
        **{name: metrics[name] for name in kept},
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_heap_gives_what_simpy_gave(name: str) -> None:
    scenario, trace, policy = CASES[name]
    known, found = json.loads(RECORDED.read_text())[name], told(simulate(scenario, trace, policy, seed=4))
    for key, value in known.items():
        if key in ("outcomes", "targets"):
            assert found[key] == value, key
        else:
            assert found[key] == pytest.approx(value, rel=1e-6, abs=2e-5), key


def main() -> None:
    runs = {name: told(simulate(scenario, trace, policy, seed=4)) for name, (scenario, trace, policy) in CASES.items()}
    lines = (f"{json.dumps(name)}: {json.dumps(run, separators=(',', ':'))}" for name, run in runs.items())
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
