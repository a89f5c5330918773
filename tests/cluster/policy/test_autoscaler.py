"""The adapter between Serve's contexts and the look-ahead policy, on contexts made here; tests/e2e has live ones."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from cluster.policy.autoscaler import PIPELINE, Scaler
from cluster.policy.reports import Report, StageReport, from_floats, joined, to_floats

NOW = 1000.0


@dataclass(frozen=True)
class Id:
    name: str


@dataclass(frozen=True)
class Value:
    timestamp: float
    value: float


@dataclass
class Context:
    current_num_replicas: int = 1
    target_num_replicas: int = 1
    current_time: float = NOW
    capacity_adjusted_min_replicas: int = 1
    capacity_adjusted_max_replicas: int = 8
    raw_metrics: dict[str, dict[str, list[Value]]] = field(default_factory=dict)


def report(**changes: Any) -> Report:
    stages = {
        "t2i": StageReport(call_s=1.0, start_up_s=5.0),
        "v2v": StageReport(call_s=10.0, calls=3, start_up_s=5.0),
    }
    return Report(**{"stages": stages, "max_jobs": 4.0, **changes})


def contexts(*reports: Report, at: float = NOW, said: float | None = None, **own: Context) -> dict[Id, Any]:
    raw: dict[str, dict[str, list[Value]]] = {}
    for number, one in enumerate(reports):
        for name, value in to_floats(one).items():
            raw.setdefault(name, {})[f"replica-{number}"] = [Value(0.0, -1.0), Value(said or at, value)]
    made = {"t2i": Context(), "v2v": Context(), PIPELINE: Context(raw_metrics=raw), **own}
    for context in made.values():
        context.current_time = at
    return {Id(name): context for name, context in made.items()}


def targets(scaler: Scaler, given: dict[Id, Any]) -> dict[str, int]:
    wanted, state = scaler(given)
    assert state == {}
    return {key.name: count for key, count in wanted.items()}


def test_a_report_survives_being_flattened() -> None:
    full = report(queued_jobs=3.0, budget_gpus=7.0, options={"margin": 0.5, "keep_idle": 0.0}, trend_per_s2=-1.0)
    assert from_floats(to_floats(full)) == full
    assert from_floats({"running": 1.0}) is None
    strange = {**to_floats(full), "stage/t2i/colour": 1.0, "stage/": 2.0, "else": 3.0}
    assert from_floats(strange) == full


def test_jobs_add_up_over_replicas_and_what_all_know_does_not() -> None:
    one = report(stages={"v2v": StageReport(waiting=2, running=1, remaining_s=4, call_s=10.0, calls=3)}, queued_jobs=5)
    two = report(stages={"v2v": StageReport(waiting=1, running=1, remaining_s=1, call_s=0.0, calls=1)}, queued_jobs=5)
    both = joined([one, two])
    assert both is not None
    assert both.queued_jobs == 5
    v2v = both.stages["v2v"]
    assert (v2v.waiting, v2v.running, v2v.remaining_s, v2v.calls) == (3, 2, 5, 2)
    assert v2v.call_s == 10.0  # the other has not called it yet
    assert joined([]) is None


def test_work_in_the_first_stage_is_demand_in_the_last_one() -> None:
    stages = {
        "t2i": StageReport(waiting=6, running=1, remaining_s=0.5, call_s=1.0, start_up_s=5.0),
        "v2v": StageReport(call_s=10.0, calls=3, start_up_s=5.0),
    }
    found = targets(Scaler(), contexts(report(stages=stages)))
    assert found["v2v"] > 3  # although nothing waits there


def test_without_a_report_nothing_changes() -> None:
    scaler = Scaler()
    assert targets(scaler, contexts(v2v=Context(3, 3)))["v2v"] == 3
    busy = report(queued_jobs=20.0)
    assert targets(scaler, contexts(busy, at=NOW + 100, said=NOW, v2v=Context(3, 3)))["v2v"] == 3  # it is too old


def test_the_budget_and_the_bounds_hold() -> None:
    busy = report(queued_jobs=50.0, budget_gpus=5.0)
    found = targets(Scaler(), contexts(busy, t2i=Context(capacity_adjusted_max_replicas=2)))
    assert found["t2i"] <= 2
    assert found["t2i"] + found["v2v"] == 5


def test_it_decides_once_a_period_and_repeats_itself_between() -> None:
    scaler = Scaler(period_s=1.0)
    before = targets(scaler, contexts(report()))
    assert targets(scaler, contexts(report(queued_jobs=50.0), at=NOW + 0.5)) == before
    assert targets(scaler, contexts(report(queued_jobs=50.0), at=NOW + 1.0)) != before


@pytest.mark.parametrize("pended_s", [0.0, 600.0, 1800.0, 3600.0])
def test_a_start_that_pended_for_a_gpu_is_no_start_up(pended_s: float) -> None:
    scaler, few = Scaler(), StageReport(call_s=10.0, start_up_s=5.0)

    def v2v(ready: int, target: int) -> Context:
        return Context(ready, target, capacity_adjusted_max_replicas=16)

    for at, ready, target in ((0.0, 0, 0), (1.0, 0, 1), (1.0 + pended_s, 0, 1), (6.0 + pended_s, 1, 1)):
        targets(scaler, contexts(report(stages={"v2v": few}), at=NOW + at, v2v=v2v(ready, target)))
    many = report(stages={"v2v": StageReport(waiting=60, call_s=10.0, start_up_s=5.0)})
    assert targets(scaler, contexts(many, at=NOW + 10 + pended_s, v2v=v2v(1, 1)))["v2v"] == 16


def test_a_replica_that_should_have_loaded_long_ago_has_no_place_and_no_more_are_wished_for() -> None:
    scaler, waiting = Scaler(), {"v2v": StageReport(waiting=20, call_s=10.0, start_up_s=5.0)}
    first = targets(scaler, contexts(report(stages=waiting), v2v=Context(1, 1)))["v2v"]
    assert first == 8
    waiting = {"v2v": StageReport(waiting=200, call_s=10.0, start_up_s=5.0)}
    for at, ready, expected in ((1.0, 1, 12), (200.0, 4, 6), (201.0, 6, 12)):
        v2v = Context(ready, 1 if at == 0 else 6, capacity_adjusted_max_replicas=12)
        assert targets(scaler, contexts(report(stages=waiting), at=NOW + at, v2v=v2v))["v2v"] == expected


def test_the_pipeline_grows_with_jobs_and_shrinks_only_without_any() -> None:
    scaler = Scaler(period_s=0.0)
    drivers = {"capacity_adjusted_max_replicas": 3}

    def wanted(now: float, target: int, **jobs: float) -> int:
        given = contexts(report(**jobs), at=now)
        pipeline = given[Id(PIPELINE)]
        pipeline.capacity_adjusted_max_replicas = drivers["capacity_adjusted_max_replicas"]
        pipeline.target_num_replicas = target
        return targets(scaler, given)[PIPELINE]

    assert wanted(NOW, 1, running_jobs=4.0) == 1
    assert wanted(NOW + 1, 1, running_jobs=4.0, queued_jobs=1.0) == 2
    assert wanted(NOW + 2, 2, running_jobs=4.0, queued_jobs=40.0) == 3
    assert wanted(NOW + 3, 3, running_jobs=1.0) == 3  # one that goes would take its job's calls with it
    assert wanted(NOW + 4, 3) == 1


def test_options_that_the_policy_refuses_give_its_defaults_and_never_an_error(caplog: pytest.LogCaptureFixture) -> None:
    sound = targets(Scaler(), contexts(report(queued_jobs=9.0)))
    with caplog.at_level("ERROR", logger="ray.serve"):
        assert targets(Scaler(), contexts(report(queued_jobs=9.0, options={"haste": 1.0, "speed": 2.0}))) == sound
    assert "speed" in caplog.text


def test_a_context_that_it_does_not_understand_changes_nothing() -> None:
    given = contexts(report(queued_jobs=9.0), v2v=Context(2, 2))
    given[Id("v2v")].capacity_adjusted_max_replicas = None
    assert targets(Scaler(), given)["v2v"] == 2


def test_calls_of_a_batch_keep_one_replica_busy_and_not_as_many_as_they_are() -> None:
    batched = StageReport(waiting=0, running=4, busy=1.0, remaining_s=2.0, call_s=2.0, batch=4, batch_s=4.0)
    scaler, three = Scaler(), Context(current_num_replicas=3, target_num_replicas=3)
    scaler(contexts(report(), t2i=three))  # it knows the deployments now
    found = scaler._stage("t2i", batched, three, NOW)
    assert (found.running, found.busy, found.stopping, found.batch, found.batch_s) == (4, 1, 0, 4, 4.0)
    older = scaler._stage("t2i", StageReport(running=2, call_s=2.0), three, NOW)
    assert (older.busy, older.batch) == (2, 1)


def test_reports_of_two_moments_are_no_replica_that_stops() -> None:
    scaler, two = Scaler(), Context(2, 2)
    stages = {
        "t2i": StageReport(waiting=3, running=1, remaining_s=0.5, call_s=1.0),
        "v2v": StageReport(waiting=9, running=2, remaining_s=9.0, call_s=10.0, calls=3),
    }
    halves = [report(stages=stages, budget_gpus=3.0), report(stages=stages, budget_gpus=3.0)]  # four calls run on two
    for second in range(5):
        given = contexts(*halves, at=NOW + second, v2v=two, t2i=Context(capacity_adjusted_max_replicas=1))
        assert targets(scaler, given)["v2v"] == 2


def test_a_replica_that_was_let_go_holds_its_gpu_until_its_call_has_ended() -> None:
    scaler, busy = Scaler(), StageReport(running=3, call_s=10.0)
    for at, context in ((0, Context(3, 3)), (1, Context(2, 2))):
        scaler(contexts(report(), at=NOW + at, v2v=context))
    assert scaler._stage("v2v", busy, Context(2, 2), NOW + 5).stopping == 1
    assert scaler._stage("v2v", busy, Context(2, 2), NOW + 20).stopping == 0
