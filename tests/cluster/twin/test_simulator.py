"""The simulator against queueing theory, and against what the served pipeline promises of every request."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cluster.policy.look_ahead import LookAhead, ServeDefault
from cluster.policy.types import Decision, Snapshot, State
from cluster.traffic.measures import read_requests
from cluster.traffic.traces import Arrival, Trace, TraceSpec, make_trace
from cluster.twin.simulator import Faults, Pool, Run, Scenario, StageTimes, TwinError, simulate


def one_stage(replicas: int, *, mean_s: float = 1.0, cv: float = 1.0) -> Scenario:
    return Scenario({"a": StageTimes(mean_s, cv)}, {"a": Pool(replicas, max_ongoing=1)}, control_s=1000.0, sample_s=1e6)


def poisson(rate: float, jobs: int, seed: int = 5) -> Trace:
    return make_trace(TraceSpec("p", "poisson", jobs / rate, seed=seed, rate_per_s=rate))


def burst(*times: float, cancel: dict[int, float] | None = None) -> Trace:
    arrivals = [Arrival(time, "", (cancel or {}).get(index)) for index, time in enumerate(times)]
    return Trace("burst", tuple(arrivals), times[-1])


PAPER = Scenario(
    {
        "t2i": StageTimes(3.0),
        "i2v": StageTimes(30.0),
        "v2v": StageTimes(90.0, windows=3),
        "vfi": StageTimes(12.0, windows=3),
    },
    {name: Pool(3) for name in ("t2i", "i2v", "v2v", "vfi")},
)


def waits(run: Run) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([row.spans["a"].start_s - row.arrived_s for row in run.rows])


def erlang_c(servers: int, load: float) -> float:
    """Chance that an arrival of M/M/c waits, `load` in servers."""
    terms = [load**n / math.factorial(n) for n in range(servers)]
    last = load**servers / math.factorial(servers) / (1 - load / servers)
    return last / (sum(terms) + last)


@pytest.mark.parametrize(("servers", "load"), [(1, 0.5), (1, 0.7), (3, 2.1), (10, 8.0)])
def test_mean_waits_are_those_of_m_m_c(servers: int, load: float) -> None:
    run = simulate(one_stage(servers), poisson(load, 20_000), seed=2)
    expected = erlang_c(servers, load) / (servers - load)
    assert waits(run).mean() == pytest.approx(expected, rel=0.1)
    assert run.metrics.busy_share["a"] == pytest.approx(load / servers, rel=0.03)


def test_the_mean_wait_of_constant_service_is_half_of_exponential_service() -> None:
    run = simulate(one_stage(1, cv=0.0), poisson(0.7, 20_000))
    assert waits(run).mean() == pytest.approx(0.5 * 0.7 / 0.3, rel=0.1)  # Pollaczek-Khinchine


def test_measured_variance_is_the_asked_one() -> None:
    run = simulate(one_stage(1000, mean_s=4.0, cv=0.3), poisson(1.0, 10_000))
    taken = np.array([row.latency_s for row in run.rows])
    assert taken.mean() == pytest.approx(4.0, rel=0.02)
    assert taken.std() / taken.mean() == pytest.approx(0.3, rel=0.05)


def test_a_tandem_gives_what_its_slowest_pool_can() -> None:
    stages = {"a": StageTimes(0.5), "b": StageTimes(3.0), "c": StageTimes(1.0)}
    run = simulate(Scenario(stages, {"a": Pool(1), "b": Pool(3), "c": Pool(2)}), burst(*[0.0] * 300))
    assert run.metrics.throughput_per_s == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize("spread", ["calls", "idle"])
@pytest.mark.parametrize(("replicas", "expected"), [(1, 4 + 90), (2, 4 + 60), (3, 4 + 30)])
def test_a_single_request_spreads_its_windows_over_idle_replicas(spread: str, replicas: int, expected: float) -> None:
    pools = {**PAPER.pools, "v2v": Pool(replicas)}
    (row,) = simulate(replace(PAPER, pools=pools, spread=spread), burst(0.0)).rows  # type: ignore[arg-type]
    assert row.latency_s == pytest.approx(33 + expected)  # VFI's last window lies behind V2V, no more
    assert len(row.spans["v2v"].replicas) == replicas


def test_under_load_a_request_that_spreads_over_idle_replicas_keeps_to_one() -> None:
    run = simulate(replace(PAPER, spread="idle", pools={**PAPER.pools, "i2v": Pool(40)}), burst(*[0.0] * 40))
    late = [row for row in run.rows if row.spans["v2v"].start_s > 200]
    assert late
    assert {len(row.spans["v2v"].replicas) for row in late} == {1}
    alone = simulate(replace(PAPER, spread="one"), burst(0.0)).rows[0]
    assert alone.latency_s == pytest.approx(33 + 90 + 4)
    assert len(alone.spans["v2v"].replicas) == 1


def test_vfi_begins_before_v2v_ends_and_never_before_both_its_windows() -> None:
    (row,) = simulate(replace(PAPER, pools={**PAPER.pools, "v2v": Pool(1)}), burst(0.0)).rows
    assert row.spans["vfi"].start_s == pytest.approx(33 + 30)
    assert row.spans["v2v"].end_s == pytest.approx(33 + 90)


def test_every_overhead_is_paid_once_where_it_occurs() -> None:
    stages = {"a": StageTimes(1.0, bytes_out=100), "b": StageTimes(2.0)}
    scenario = Scenario(
        stages, {"a": Pool(1), "b": Pool(1)}, submit_s=0.25, router_s=0.5, finish_s=4.0, bytes_per_s=200.0
    )
    (row,) = simulate(scenario, burst(0.0)).rows
    assert row.latency_s == pytest.approx(0.25 + 0.5 + 1.0 + 0.5 + 100 / 200 + 2.0 + 4.0)


def test_a_call_behind_a_running_one_has_paid_its_way_when_its_turn_comes() -> None:
    for max_ongoing, per_job in ((1, 1.5), (2, 1.0)):
        scenario = Scenario({"a": StageTimes(1.0)}, {"a": Pool(1, max_ongoing=max_ongoing)}, router_s=0.5)
        run = simulate(scenario, burst(*[0.0] * 10))
        assert run.metrics.duration_s <= 0.5 + 10 * per_job


def test_no_more_jobs_are_in_flight_than_allowed() -> None:
    run = simulate(replace(PAPER, max_jobs=4, sample_s=1.0), burst(*[0.0] * 30))
    assert max(sample.running_jobs for sample in run.samples) == 4
    assert run.metrics.succeeded == 30


def test_batches_form_of_what_waits_and_cost_what_they_are_said_to() -> None:
    stages = {"a": StageTimes(4.0, batch=4, batch_share=0.25)}
    run = simulate(Scenario(stages, {"a": Pool(1)}), burst(*[0.0] * 9))
    ends = sorted({row.ended_s for row in run.rows})
    assert ends == pytest.approx([4.0, 4 + 7, 4 + 7 + 7])  # one alone, then four, then the last four


def test_a_batch_runs_on_until_its_last_member_is_cancelled() -> None:
    stages = {"a": StageTimes(10.0, batch=2, batch_share=0.0)}
    for second_s, end_s in ((None, 30.0), (13.0, 13.0 + 2.0 + 10.0)):
        arrivals = (Arrival(0.0), Arrival(1.0, cancel_s=12.0), Arrival(1.0, cancel_s=second_s), Arrival(2.0))
        run = simulate(Scenario(stages, {"a": Pool(1)}, stop_s=2.0), Trace("t", arrivals, 2.0))
        assert [row.outcome for row in run.rows[:2]] == ["succeeded", "cancelled"]
        assert run.rows[3].ended_s == pytest.approx(end_s)


def test_the_policy_sees_batches_and_starts_fewer_replicas_for_them() -> None:
    most = {}
    for batch in (1, 4):
        times = StageTimes(4.0, start_up_s=2.0, batch=batch, batch_share=0.1)
        scenario = Scenario({"a": times}, {"a": Pool(1, min_replicas=1, max_replicas=50)}, control_s=0.5, sample_s=0.5)
        run = simulate(scenario, burst(*[0.0] * 60), LookAhead())
        assert run.metrics.succeeded == 60
        most[batch] = max(sample.stages["a"].target for sample in run.samples)
    assert most[4] < most[1] / 2


def test_a_kind_takes_longer_where_it_is_said_to() -> None:
    trace = Trace("t", (Arrival(0.0, "long"),), 0.0)
    (row,) = simulate(replace(PAPER, kinds={"long": {"v2v": 2.0}}), trace).rows
    assert row.latency_s == pytest.approx(33 + 60 + 4)
    with pytest.raises(TwinError, match="names the kind 'long', the scenario knows none"):
        simulate(PAPER, trace)


class Jumpy:
    """A policy that never leaves a pool alone."""

    def decide(self, now: Snapshot, state: State) -> Decision:
        return Decision({stage.name: 1 + int(now.now_s * (3 + index)) % 5 for index, stage in enumerate(now.stages)})


STORMY = replace(
    PAPER,
    stages={name: replace(times, cv=0.5, start_up_s=7.0) for name, times in PAPER.stages.items()},
    max_jobs=12,
    budget_gpus=14.0,
    control_s=5.0,
    faults=Faults(replica_life_s=400.0, call_failure=0.03, attempts=3),
)


@pytest.mark.parametrize("spread", ["calls", "idle", "one"])
@pytest.mark.parametrize("batch", [1, 3])
def test_every_request_ends_exactly_once_whatever_happens(spread: str, batch: int) -> None:
    spec = TraceSpec("s", "bursts", 4000.0, 7, 0.03, burst_size=10, pause_s=400, cancel_share=0.3, patience_s=80)
    trace = make_trace(spec)
    stages = {**STORMY.stages, "t2i": replace(STORMY.stages["t2i"], batch=batch)}
    run = simulate(replace(STORMY, spread=spread, stages=stages), trace, Jumpy())  # type: ignore[arg-type]
    metrics = run.metrics
    assert [row.id for row in run.rows] == list(range(len(trace.arrivals)))
    assert metrics.succeeded + metrics.failed + metrics.cancelled == len(trace.arrivals)
    assert min(metrics.succeeded, metrics.failed, metrics.cancelled, sum(row.retries for row in run.rows)) > 0
    for row in run.rows:
        if row.outcome == "succeeded":
            assert [row.spans[name].start_s for name in run.stages] == sorted(
                row.spans[name].start_s for name in run.stages
            )
            assert max(span.end_s for span in row.spans.values()) <= row.ended_s
    last = run.samples[-1]
    assert last.queued_jobs == last.running_jobs == 0
    assert all(stage.waiting == 0 for stage in last.stages.values())


def test_the_budget_holds_at_every_moment_and_replicas_that_compute_end_their_call() -> None:
    run = simulate(replace(STORMY, faults=Faults(), sample_s=5.0), poisson(0.05, 150), Jumpy())
    for sample in run.samples:
        held = [stage.ready + stage.stopping for stage in sample.stages.values()]
        assert sum(held) <= 14
    assert {row.outcome for row in run.rows} == {"succeeded"}
    assert all(row.retries == 0 for row in run.rows)


def test_a_seed_gives_the_same_run_and_policies_see_the_same_work(tmp_path: Path) -> None:
    first, second = (simulate(STORMY, poisson(0.05, 100), LookAhead(), seed=1) for _ in range(2))
    assert first == second
    assert simulate(STORMY, poisson(0.05, 100), LookAhead(), seed=2).rows != first.rows
    calm = replace(STORMY, faults=Faults())
    busy = [
        simulate(calm, poisson(0.05, 100), policy).metrics for policy in (LookAhead(), ServeDefault(upscale_delay_s=0))
    ]
    worked = [sum(m.busy_share[name] * m.gpu_s[name] for name in m.gpu_s) for m in busy]
    assert worked[0] == pytest.approx(worked[1])
    first.write(tmp_path)
    assert len(read_requests(tmp_path / "requests.csv")) == len(first.rows)


def test_a_cancelled_request_frees_its_replica_after_the_stop_and_its_place_at_once() -> None:
    scenario = Scenario({"a": StageTimes(100.0)}, {"a": Pool(1)}, stop_s=2.0, max_jobs=2)
    run = simulate(scenario, burst(0.0, 1.0, 2.0, cancel={0: 10.0, 2: 20.0}))
    assert [row.outcome for row in run.rows] == ["cancelled", "succeeded", "cancelled"]
    assert run.rows[1].ended_s == pytest.approx(10 + 2 + 100)
    assert run.rows[2].ended_s == 20.0


def test_a_dead_replica_costs_its_windows_and_a_start_up() -> None:
    faults = Faults(replica_life_s=500.0, attempts=50)
    scenario = replace(PAPER, faults=faults, stages={**PAPER.stages, "v2v": StageTimes(90.0, 0, 20.0, windows=3)})
    run = simulate(scenario, poisson(0.01, 200), seed=3)
    assert {row.outcome for row in run.rows} == {"succeeded"}
    assert sum(row.retries for row in run.rows) > 10


def test_a_cold_start_is_waited_for() -> None:
    scenario = Scenario({"a": StageTimes(5.0, start_up_s=30.0)}, {"a": Pool(0, max_replicas=4)}, control_s=1.0)
    (row,) = simulate(scenario, burst(0.5), LookAhead()).rows
    assert row.ended_s == pytest.approx(1 + 30 + 5)


def test_from_zero_a_request_waits_for_one_start_up_and_not_for_four() -> None:
    stages = {name: replace(times, start_up_s=60.0) for name, times in PAPER.stages.items()}
    scenario = Scenario(stages, {name: Pool(0, max_replicas=8) for name in stages})
    (row,) = simulate(scenario, burst(0.5), LookAhead()).rows
    (late,) = simulate(scenario, burst(0.5), ServeDefault(upscale_delay_s=0, look_back_s=1)).rows
    assert row.latency_s <= 60 + 3 + 30 + 90 + 4 + 2
    assert late.latency_s >= 4 * 60 + 3 + 30 + 30 + 4


@pytest.mark.slow
def test_work_that_nobody_will_do_is_an_error_and_no_endless_loop() -> None:
    scenario = Scenario({"a": StageTimes(5.0)}, {"a": Pool(0)}, control_s=1000.0)
    with pytest.raises(TwinError, match="stage a has work and no replica"):
        simulate(scenario, burst(0.0))


def test_senseless_scenarios_are_refused() -> None:
    stage = StageTimes(1.0)
    for make, words in (
        (lambda: StageTimes(-1.0), "mean_s of 0 or more, got -1"),
        (lambda: StageTimes(1.0, windows=2, batch=2), "windows or batched"),
        (lambda: Pool(min_replicas=3, max_replicas=2), "min_replicas 3 above"),
        (lambda: Scenario({}, {}), "at least one stage"),
        (lambda: Scenario({"a": stage}, {"b": Pool()}), "pools are given for b"),
        (lambda: Scenario({"a": stage}, {"a": Pool(5)}, budget_gpus=4), "need 5 GPUs, the budget is 4"),
        (lambda: Faults(call_failure=2), "between 0 and 1"),
        (
            lambda: Scenario(
                {"a": StageTimes(1.0, windows=3), "b": StageTimes(1.0, windows=2)}, {"a": Pool(), "b": Pool()}
            ),
            "2 windows behind 3",
        ),
    ):
        with pytest.raises(TwinError, match=words):
            make()
