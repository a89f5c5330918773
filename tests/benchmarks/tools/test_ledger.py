"""What counts as lost, ended twice and computed again, and when work went on after a kill."""

from typing import Any

from benchmarks.tools.chaos import ALL, Kill
from benchmarks.tools.ledger import read, recovery_s
from deployments.jobs.plans import plan_of, planned_of
from deployments.jobs.values import Event, Job, JobRequest, State

Told = tuple[float, str, dict[str, Any]]
REQUEST = JobRequest(prompt="a fox", model="tiny", size="256x256", seconds="2", seed=7)


def job(job_id: str, state: State) -> Job:
    return Job(
        id=job_id,
        state=state,
        request=REQUEST,
        created_at=0.0,
        finished_at=None,
        error=None,
        result=None,
        cancel_requested=False,
        claims=1,
        stages=(),
        planned=planned_of(REQUEST, plan_of(REQUEST)),
    )


def events(*told: Told) -> list[Event]:
    return [Event(seq, "a", at, kind, data) for seq, (at, kind, data) in enumerate(told)]


def output(
    at: float, stage: str, index: int = 0, run_s: float = 1.0, pid: int = 1
) -> tuple[float, str, dict[str, Any]]:
    return at, "stage_output", {"stage": stage, "index": index, "run_s": run_s, "replica": f"host:{pid}"}


def test_a_job_is_lost_unless_it_succeeded_or_was_cancelled_on_purpose() -> None:
    states: dict[str, State] = {"done": "succeeded", "failed": "failed", "stuck": "running"}
    states |= {"wanted": "cancelled", "odd": "cancelled"}
    jobs = {name: job(name, state) for name, state in states.items()}
    ledger = read(["done", "failed", "stuck", "wanted", "odd", "absent"], {"wanted"}, jobs, {})
    assert ledger.lost == 4
    assert read(["done", "wanted"], {"wanted"}, jobs, {}).lost == 0


def test_ends_reruns_and_waste_are_counted_from_the_events() -> None:
    kept = (3.0, "stage_kept", {"stage": "v2v", "index": 0})
    own = events(
        output(1.0, "v2v", run_s=2.0),
        output(2.0, "v2v", run_s=1.5),  # the first was not safe: waste, and no more
        kept,
        output(4.0, "v2v", index=1, run_s=2.0),
        (5.0, "completed", {}),
    )
    ledger = read((), (), {}, {"a": own})
    assert (ledger.finished_twice, ledger.stages_rerun, ledger.first_s, ledger.again_s) == (0, 0, 4.0, 1.5)
    assert ledger.waste_ratio == 1.5 / 4.0
    worse = [*own, *events(output(6.0, "v2v", run_s=1.0), (7.0, "failed", {}))]
    ledger = read((), (), {}, {"a": worse})
    assert (ledger.finished_twice, ledger.stages_rerun, ledger.again_s) == (1, 1, 2.5)
    assert read((), (), {}, {}).waste_ratio == 0.0


def test_recovery_waits_for_what_was_killed() -> None:
    told = events(
        output(1.0, "t2i", pid=11),
        output(2.0, "v2v", pid=22),  # written late: the dead one made it
        output(2.5, "t2i", pid=11),
        (2.7, "stage_kept", {"stage": "v2v", "index": 0}),
        output(4.0, "v2v", pid=23),
    )
    assert recovery_s(Kill("v2v", 1.5, frozenset({22})), told) == 2.5
    assert recovery_s(Kill("ingress", 1.5, frozenset({9})), told) == 0.5
    assert recovery_s(Kill("keeper", 1.5, frozenset({9})), told) == 1.2000000000000002
    assert recovery_s(Kill(ALL, 1.5, frozenset({11, 22})), told) == 2.5
    assert recovery_s(Kill("i2v", 1.5, frozenset({9})), told) is None
