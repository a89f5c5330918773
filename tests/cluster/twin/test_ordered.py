"""Simulated stages whose calls are ordered: what yields costs and gives, and that nothing gets lost."""

import math
from dataclasses import replace

import pytest

from cluster.policy.calls import Rules, Tenant
from cluster.policy.look_ahead import LookAhead
from cluster.traffic.traces import Arrival, Trace, TraceSpec, make_trace
from cluster.twin.simulator import Faults, JobClass, Pool, Scenario, StageTimes, TwinError, simulate

CLASSES = {"short": JobClass(deadline_s=30.0, steps={"a": 20}), "long": JobClass(deadline_s=1000.0, steps={"a": 100})}
MIXED = Scenario(
    {"a": StageTimes(1.0)},
    {"a": Pool(1)},
    kinds={"short": {"a": 20.0}, "long": {"a": 200.0}},
    order=Rules(hand_off_s=1.0),
    classes=CLASSES,
    control_s=100.0,
)


def trace_of(*arrivals: tuple[float, str]) -> Trace:
    return Trace("t", tuple(Arrival(time_s, kind) for time_s, kind in arrivals), arrivals[-1][0])


def test_a_long_call_yields_at_its_step_and_goes_on_where_it_was() -> None:
    run = simulate(MIXED, trace_of((0.0, "long"), (5.0, "short")))
    long, short = run.rows
    assert short.ended_s == pytest.approx(6.0 + 0.5 + 20.0)  # steps of 2 s: the next boundary, half a hand-off
    assert long.ended_s == pytest.approx(200.0 + 20.0 + 1.0)  # not a step is made twice
    assert (long.spans["a"].start_s, run.yields) == (0.0, (1, 0))
    stays = simulate(replace(MIXED, order=Rules(max_yields=0)), trace_of((0.0, "long"), (5.0, "short")))
    assert [row.ended_s for row in stays.rows] == [200.0, 220.0]


def test_the_next_call_is_on_its_way_before_the_replica_is_free() -> None:
    for ahead_s, end_s in ((1.0, 400.4), (0.1, 400.7), (0.0, 400.8)):
        scenario = replace(MIXED, router_s=0.4, order=Rules(ahead_s=ahead_s))
        first, second = simulate(scenario, trace_of((0.0, "long"), (1.0, "long"))).rows
        assert (first.ended_s, second.ended_s) == pytest.approx((200.4, end_s))


def test_without_classes_the_order_is_that_of_a_central_queue() -> None:
    stages = {"a": StageTimes(3.0, cv=0.5), "b": StageTimes(8.0, cv=0.5, windows=2), "c": StageTimes(2.0)}
    pools = {"a": Pool(1, max_ongoing=1), "b": Pool(3, max_ongoing=1), "c": Pool(1, max_ongoing=1)}
    trace = make_trace(TraceSpec("p", "poisson", 900.0, 5, 0.3))
    plain = simulate(Scenario(stages, pools), trace)
    ordered = simulate(Scenario(stages, pools, order=Rules()), trace)
    assert ordered.metrics.latency_mean_s == pytest.approx(plain.metrics.latency_mean_s, rel=0.02)
    assert sum(ordered.yields) == 0


STORMY = Scenario(
    {
        "a": StageTimes(4.0, cv=0.5, start_up_s=7.0),
        "b": StageTimes(60.0, cv=0.5, start_up_s=7.0, windows=3, steps=30),
        "c": StageTimes(9.0, cv=0.5, start_up_s=7.0, windows=3),
    },
    {name: Pool(2, min_replicas=1, max_replicas=6) for name in ("a", "b", "c")},
    budget_gpus=12.0,
    max_jobs=20,
    control_s=5.0,
    router_s=0.1,
    kinds={"urgent": {"b": 0.3}, "slow": {"b": 3.0}},
    order=Rules(hand_off_s=2.0),
    classes={
        "urgent": JobClass(1, deadline_s=60.0, tenant="x"),
        "slow": JobClass(deadline_s=900.0, tenant="x"),
        "": JobClass(tenant="y"),
    },
    tenants={"y": Tenant(2.0)},
    faults=Faults(replica_life_s=300.0, call_failure=0.02),
)
STORM = make_trace(
    TraceSpec(
        *("s", "bursts", 2500.0, 7, 0.03),
        burst_size=10,
        pause_s=400,
        cancel_share=0.2,
        patience_s=80,
        kinds={"urgent": 0.4, "slow": 0.3},
    )
)


@pytest.mark.slow
def test_every_request_ends_exactly_once_whatever_happens() -> None:
    run = simulate(STORMY, STORM, LookAhead())
    assert [row.id for row in run.rows] == list(range(len(STORM.arrivals)))
    assert min(run.metrics.succeeded, run.metrics.cancelled, sum(run.yields)) > 0
    last = run.samples[-1]
    assert last.queued_jobs == last.running_jobs == 0
    assert all(stage.waiting == stage.running == 0 for stage in last.stages.values())
    again = run == simulate(STORMY, STORM, LookAhead())
    assert again
    calm = replace(STORMY, faults=Faults())
    assert {row.outcome for row in simulate(calm, replace_cancels(STORM), LookAhead()).rows} == {"succeeded"}


def replace_cancels(trace: Trace) -> Trace:
    return replace(trace, arrivals=tuple(replace(arrival, cancel_s=None) for arrival in trace.arrivals))


def test_yields_cost_their_hand_offs_and_no_step() -> None:
    arrivals = sorted([(50.0 * n, "long") for n in range(8)] + [(31.0 * n, "short") for n in range(1, 20)])
    scenario = replace(MIXED, pools={"a": Pool(2)})
    run = simulate(scenario, trace_of(*arrivals))
    assert sum(run.yields) > 3
    worked = run.metrics.busy_share["a"] * run.metrics.gpu_s["a"]
    assert worked == pytest.approx(8 * 200 + 19 * 20 + 1.0 * sum(run.yields))


def test_what_a_leaving_replica_computes_goes_on_elsewhere() -> None:
    class Fewer:
        def decide(self, now: object, state: object) -> object:
            from cluster.policy.types import Decision

            return Decision({"a": 1 if now.now_s >= 50 else 2})  # type: ignore[attr-defined]

    scenario = replace(MIXED, pools={"a": Pool(2)}, control_s=50.0, sample_s=1.0)
    run = simulate(scenario, trace_of((0.0, "long"), (0.5, "long")), Fewer())  # type: ignore[arg-type]
    assert sum(run.yields) == 1
    assert sorted(row.ended_s for row in run.rows) == pytest.approx([200.0, 200.0 + 150.0 + 0.5], abs=0.5)


def test_a_deadline_that_cannot_be_kept_is_refused_and_what_is_accepted_is_kept() -> None:
    trace = trace_of(*[(0.0, "short")] * 3)
    run = simulate(replace(MIXED, refuses=True), trace)
    assert [row.outcome for row in run.rows] == ["succeeded", "refused", "refused"]
    assert (run.metrics.refused, run.rows[0].ended_s) == (2, 20.0)
    assert math.isclose(run.rows[1].ended_s, 0.0)


def test_senseless_orders_are_refused() -> None:
    stage, pool = {"a": StageTimes(1.0)}, {"a": Pool()}
    for make, words in (
        (lambda: Scenario(stage, pool, order=Rules(), spread="one"), 'must be "calls", not "one"'),
        (lambda: Scenario({"a": StageTimes(1.0, batch=2)}, pool, order=Rules()), "batches of 2"),
        (lambda: Scenario(stage, pool, refuses=True), "need an order"),
        (lambda: JobClass(deadline_s=-1.0), "deadline_s of 0 or more, got -1"),
        (lambda: JobClass(steps={"a": 0}), "steps of stage a of 1 or more, got 0"),
    ):
        with pytest.raises(TwinError, match=words):
            make()
