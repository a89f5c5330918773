"""Estimates: they agree with a line of machines worked out job by job, and they decide about deadlines."""

import math
from dataclasses import replace
from typing import Any

import pytest

from client.schema import JobError, StageState
from deployments.bulkheads import Bulkhead
from deployments.errors import InvalidRequestError, RateLimitError
from deployments.intake.admission import Admission
from deployments.jobs.outlook import (
    Outlook,
    Promised,
    Standing,
    Unfinished,
    check_deadline,
    judge_urgency,
    rank_of,
    unfinished_of,
)
from deployments.jobs.plans import plan_of, planned_of
from deployments.jobs.values import Job, JobRequest, Limits, NewJob, Outputs, State, Update
from deployments.jobs.work import loads_of, speed_of
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from deployments.journal.looks import read_measured, read_outlook
from stages.types import STAGE_NAMES, StageName

REQUEST = JobRequest(prompt="a fox", model="tiny", size="256x256", seconds="1", seed=7)  # one window
PAPER = JobRequest(prompt="a fox", model="paper", size="1048x1048", seconds="2", seed=7)
PLANNED = planned_of(REQUEST, plan_of(REQUEST))
SECONDS: dict[StageName, float] = {"t2i": 1.0, "i2v": 2.0, "v2v": 4.0, "vfi": 1.0}
WHOLE = dict.fromkeys(STAGE_NAMES, 1.0)
LOADS = loads_of(REQUEST)
SPEEDS = {name: speed_of(name, [(LOADS[name], SECONDS[name])]) for name in STAGE_NAMES}
AT_JOURNAL = Bulkhead("The journal's database", threads=8, wait_s=60.0)


def queue(count: int, priority: int = 0, tenant: str = "a") -> tuple[Unfinished, ...]:
    return tuple(
        Unfinished(rank_of(priority, float(number), f"j{number}"), LOADS, WHOLE, tenant) for number in range(count)
    )


def job(job_id: str, state: State = "queued", priority: int = 0, at: float = 0.0, **progress: int) -> Job:
    stages = tuple(StageState(name=name, progress=progress.get(name, 0)) for name in STAGE_NAMES)
    return Job(job_id, state, REQUEST, at, None, None, None, False, 0, stages, PLANNED, tenant="a", priority=priority)


def end_of_line(jobs: int) -> float:
    """When the last of some equal jobs leaves four machines, one after another, that all of them pass."""
    free = dict.fromkeys(STAGE_NAMES, 0.0)
    for _ in range(jobs):
        ready = 0.0
        for name in STAGE_NAMES:
            free[name] = ready = max(ready, free[name]) + SECONDS[name]
    return free["vfi"]


@pytest.mark.parametrize("ahead", [0, 1, 5, 40])
def test_the_estimate_is_when_a_line_of_machines_is_done(ahead: int) -> None:
    outlook = Outlook(waiting=queue(ahead), speeds=SPEEDS)
    assert outlook.new_eta_s(0, LOADS) == pytest.approx(end_of_line(ahead + 1))


def test_replicas_shorten_the_queue_and_only_calls_at_the_same_time_shorten_a_job() -> None:
    one = Outlook(waiting=queue(10), speeds=SPEEDS)
    four = replace(one, replicas=dict.fromkeys(STAGE_NAMES, 4))
    assert four.alone_s(LOADS) == one.alone_s(LOADS)
    assert four.new_eta_s(0, LOADS) == pytest.approx(8 + 10 * 4 / 4)
    two = {name: replace(load, calls=2) if name in ("v2v", "vfi") else load for name, load in LOADS.items()}
    assert four.alone_s(two) == pytest.approx(1 + 2 + 4 / 2 + 1 / 2)
    assert one.alone_s(two) == pytest.approx(1 + 2 + 4 + 1 / 2)  # VFI's first window beside V2V's second


def test_stages_that_share_a_device_wait_for_each_other() -> None:
    apart = Outlook(waiting=queue(3), speeds=SPEEDS)
    pair = replace(apart, devices={"i2v": "gpu", "v2v": "gpu"})
    one = replace(apart, devices=dict.fromkeys(STAGE_NAMES, "cpu"))
    assert apart.new_eta_s(0, LOADS) == pytest.approx(3 * 4 + 8)
    assert pair.new_eta_s(0, LOADS) == pytest.approx(3 * 6 + 8)
    assert one.new_eta_s(0, LOADS) == pytest.approx(3 * 8 + 8)
    assert one.new_eta_s(0, {"t2i": LOADS["t2i"]}) == pytest.approx(3 * 8 + 1)


def test_a_running_job_waits_for_those_before_it_where_it_still_has_to_go() -> None:
    older = Unfinished(rank_of(0, 0.0, "j0"), LOADS, {"t2i": 0.0, "i2v": 0.0, "v2v": 0.5, "vfi": 1.0})
    outlook = Outlook(running=(older,), speeds=SPEEDS)
    first = job("j0", "running", t2i=100, i2v=100, v2v=50)
    assert outlook.standing(first) == Standing(None, 2.0 + 1.0)
    assert outlook.standing(job("j1", "running", at=1.0, t2i=100)) == Standing(None, 2.0 + (2.0 + 4.0 + 1.0))
    last = job("j1", "running", at=1.0, t2i=100, i2v=100, v2v=100, vfi=50)
    assert outlook.standing(last) == Standing(None, 1.0 + 0.5)


def test_a_job_costs_what_it_asks_for_and_what_is_not_kept() -> None:
    alone = Outlook(speeds=SPEEDS)

    def eta_s(**asked: Any) -> float | None:
        return alone.standing(replace(job("j9", at=9.0), request=REQUEST.model_copy(update=asked))).eta_s

    assert eta_s(until="t2i") == eta_s(pause_after="t2i") == 1.0
    assert eta_s(until="t2i", candidates=4) == 4.0
    assert eta_s(enter="v2v") == 4.0 + 1.0
    assert eta_s(until="i2v", seconds="2") == 1.0 + 2 * 2.0
    assert 1.0 / 14 < (eta_s(until="t2i", steps=2) or 0.0) < 1.0 / 3
    kept: Outputs = {"t2i": {0: {"key": "a"}}, "i2v": {0: {"key": "b"}}}
    assert alone.standing(replace(job("j9", at=9.0), outputs=kept)).eta_s == 4.0 + 1.0
    running = Unfinished(rank_of(0, 0.0, "j0"), {"vfi": LOADS["vfi"]})
    upscale = replace(job("j9", at=9.0), request=REQUEST.model_copy(update={"enter": "v2v"}))
    assert replace(alone, running=(running,)).standing(upscale) == Standing(0, 1.0 + 4.0 + 1.0)
    two = (Unfinished(rank_of(0, float(n), f"j{n}"), {"t2i": LOADS["t2i"]}) for n in range(2))
    assert replace(alone, waiting=tuple(two)).standing(job("j9", at=9.0)) == Standing(2, 2 * 1.0 + 8.0)


def test_the_place_in_the_queue_is_by_priority_and_then_age() -> None:
    outlook = Outlook(waiting=(*queue(2, priority=5), *queue(3)), speeds=SPEEDS)
    assert [outlook.standing(job(f"j{n}", at=float(n))).queue_position for n in range(3)] == [2, 3, 4]
    assert outlook.standing(job("new", priority=9, at=9.0)) == Standing(0, 8.0)
    assert outlook.standing(job("new", priority=-9, at=9.0)).queue_position == 5
    more = outlook.plus(job("new", at=0.5))
    assert [more.standing(job(f"j{n}", at=float(n))).queue_position for n in range(3)] == [2, 4, 5]
    assert more.plus(job("new", at=0.5)) is more
    assert outlook.standing(job("done", "succeeded")) == Standing()


def test_nothing_measured_means_no_estimate_and_every_deadline_goes() -> None:
    for known in ((), STAGE_NAMES[:3]):
        outlook = Outlook(waiting=queue(3), speeds={name: SPEEDS[name] for name in known})
        assert outlook.standing(job("j1", at=1.0)) == Standing(1, None)
        assert outlook.standing(job("j1", "running")) == Standing()
        assert (outlook.alone_s({"t2i": LOADS["t2i"]}) is None) == (not known)
        behind = replace(outlook, waiting=(*queue(1, tenant="b", priority=1), *queue(1)))
        assert behind.tenant_wait_s("a") is None
        check_deadline(outlook, 0, 0.001, LOADS)


def test_the_first_waiting_job_of_a_tenant_starts_when_the_busiest_stage_is_through() -> None:
    outlook = Outlook(
        waiting=(*queue(3, tenant="b", priority=1), *queue(2)),
        running=(Unfinished(rank_of(0, 0.0, "r"), LOADS, WHOLE),),
        speeds=SPEEDS,
    )
    assert outlook.tenant_wait_s("b") == pytest.approx(4.0)
    assert outlook.tenant_wait_s("a") == pytest.approx(4.0 * 4)
    assert outlook.tenant_wait_s("c") is None


def test_a_deadline_out_of_reach_is_refused_with_the_estimate_and_when_it_could_be_kept() -> None:
    outlook = Outlook(waiting=queue(5), speeds=SPEEDS)
    check_deadline(outlook, 0, 28.1, LOADS)
    check_deadline(outlook, 0, None, LOADS)
    with pytest.raises(
        RateLimitError, match=r"deadline_s is 20\.5 .* about 28\.0 s, 8\.0 s .* higher priority"
    ) as late:
        check_deadline(outlook, 0, 20.5, LOADS)
    error = late.value
    assert (error.status, error.code, error.param) == (429, "deadline_infeasible", "deadline_s")
    assert error.headers["Retry-After"] == "8"
    check_deadline(outlook, 1, 20.5, LOADS)
    with pytest.raises(RateLimitError, match=r"about 8\.0 s, 8\.0 s of which are its own; ask for more;"):
        check_deadline(outlook, 1, 5.0, LOADS)
    check_deadline(outlook, 1, 1.5, loads_of(REQUEST.model_copy(update={"until": "t2i"})))


@pytest.mark.parametrize(
    ("priority", "deadline_s", "param", "words"),
    [
        (11, None, "priority", ("11", "-10", "10")),
        (-11, None, "priority", ("-11", "-10", "10")),
        (0, 0.0, "deadline_s", ("0.0", "above 0")),
        (0, -1.0, "deadline_s", ("-1.0", "above 0")),
        (0, math.nan, "deadline_s", ("nan", "above 0")),
        (0, math.inf, "deadline_s", ("inf", "above 0")),
    ],
)
def test_what_no_job_can_have_is_named(
    priority: int, deadline_s: float | None, param: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        judge_urgency(priority, deadline_s)
    assert refused.value.param == param
    assert all(word in refused.value.message for word in words)


def finished(journal: Journal, *run_s: float | None, request: JobRequest = REQUEST, origin: str | None = None) -> None:
    leases = Leases(journal.database)
    journal.submit(NewJob(request, priority=10))
    claimed = leases.claim("x", 60.0)
    assert claimed is not None
    states = tuple(
        StageState.model_validate({"name": name, "status": "completed", "progress": 100, "run_s": s, "origin": origin})
        for name, s in zip(STAGE_NAMES, run_s, strict=False)
    )
    leases.finish(Update(claimed[0], states), "succeeded", result={})


def measured(journal: Journal, preset: str = "tiny") -> dict[StageName, float]:
    with journal.database.read() as connection:
        return {name: speed.median_s for name, speed in read_measured(connection, preset).items()}


def test_speeds_are_those_of_what_jobs_of_this_preset_computed(journal: Journal) -> None:
    for scale in (1.0, 2.0, 9.0):
        finished(journal, *(seconds * scale for seconds in SECONDS.values()))
    finished(journal, 500.0, request=PAPER)
    finished(journal, 500.0, origin="restored")
    finished(journal, None, 4.0)
    assert measured(journal) == {"t2i": 2.0, "i2v": 4.0, "v2v": 8.0, "vfi": 2.0}
    assert measured(journal, "paper") == {"t2i": 500.0}


def test_failed_jobs_do_not_count(journal: Journal, leases: Leases) -> None:
    journal.submit(NewJob(REQUEST))
    claimed = leases.claim("x", 60.0)
    assert claimed is not None
    half = StageState(name="t2i", status="completed", progress=100, run_s=3.0)
    leases.finish(Update(claimed[0], (half,)), "failed", error=JobError(code="x", message="y"))
    assert measured(journal) == {}


def test_the_outlook_of_a_journal_is_what_waits_and_runs(journal: Journal, leases: Leases) -> None:
    finished(journal, *SECONDS.values())
    running, _ = journal.submit(NewJob(REQUEST, tenant="a"))
    claimed = leases.claim("x", 60.0)
    assert claimed is not None
    leases.record([Update(claimed[0], (StageState(name="t2i", status="running", progress=25),))])
    low = journal.submit(NewJob(REQUEST, tenant="b", priority=-1))[0]
    high = journal.submit(NewJob(REQUEST.model_copy(update={"until": "i2v"}), tenant="a", priority=2))[0]
    gone = journal.submit(NewJob(REQUEST))[0]
    journal.request_cancel(gone.id)
    with journal.database.read() as connection:
        outlook = read_outlook(connection)
        again = read_outlook(connection, outlook)
    assert [(waiting.rank[2], waiting.tenant) for waiting in outlook.waiting] == [(high.id, "a"), (low.id, "b")]
    assert [set(waiting.loads) for waiting in outlook.waiting] == [{"t2i", "i2v"}, set(STAGE_NAMES)]
    assert [(under.rank[2], under.left) for under in outlook.running] == [(running.id, {**WHOLE, "t2i": 0.75})]
    assert (again, [one.loads for one in again.waiting]) == (outlook, [one.loads for one in outlook.waiting])


def test_what_is_kept_of_a_queued_job_is_not_computed_again(journal: Journal, leases: Leases) -> None:
    asked = REQUEST.model_copy(update={"pause_after": "t2i", "candidates": 2, "seconds": "2"})
    made = journal.submit(NewJob(asked))[0]
    claimed = leases.claim("x", 60.0)
    assert claimed is not None
    with journal.database.read() as connection:
        paused = read_outlook(connection)
    assert set(paused.running[0].loads) == {"t2i"}
    for number in range(2):
        assert leases.keep(claimed[0], "t2i", number, {"key": f"k{number}"})
    leases.pause(Update(claimed[0]), "t2i")
    journal.go_on(made.id, 1)
    with journal.database.read() as connection:
        waiting = read_outlook(connection, paused).waiting[0]
    assert waiting.left == {"t2i": 0.0, "i2v": 1.0, "v2v": 1.0, "vfi": 1.0}
    assert unfinished_of(journal.get(made.id)).left == waiting.left
    again = leases.claim("x", 60.0)
    assert again is not None
    for stage in ("i2v", "v2v"):
        assert leases.keep(again[0], stage, 0, {"key": stage})
    leases.release([again[0]])
    with journal.database.read() as connection:
        assert read_outlook(connection, paused).waiting[0].left == {"t2i": 0.0, "i2v": 0.0, "v2v": 0.5, "vfi": 1.0}


async def test_the_first_finished_job_is_noticed_soon_and_later_ones_from_time_to_time(journal: Journal) -> None:
    now_s = [50.0]
    admission = Admission(
        journal.database,
        AT_JOURNAL,
        preset="tiny",
        limits=lambda _tenant: Limits(),
        retry_after_s=7,
        replicas=dict,
        clock=lambda: now_s[0],
    )

    async def alone_s() -> float | None:
        found = (await admission.outlook()).alone_s(LOADS)
        return None if found is None else round(found, 3)

    assert await alone_s() is None
    finished(journal, *SECONDS.values())
    now_s[0] += 1.5
    assert await alone_s() == 8.0
    finished(journal, *(3 * seconds for seconds in SECONDS.values()))
    now_s[0] += 1.5
    assert await alone_s() == 8.0
    now_s[0] += 10.0
    assert await alone_s() == 16.0


async def test_an_ingress_reads_once_in_a_while_and_counts_its_own_new_jobs_at_once(journal: Journal) -> None:
    finished(journal, *SECONDS.values())
    now_s = [50.0]
    replicas = dict.fromkeys(STAGE_NAMES, 1)
    admission = Admission(
        journal.database,
        AT_JOURNAL,
        preset="tiny",
        limits=lambda _tenant: Limits(),
        retry_after_s=7,
        replicas=lambda: replicas,
        clock=lambda: now_s[0],
    )
    assert (await admission.outlook()).alone_s(LOADS) == pytest.approx(sum(SECONDS.values()))
    first = journal.submit(NewJob(REQUEST))[0]
    assert (await admission.outlook()).waiting == ()
    admission.note(first)
    second = journal.submit(NewJob(REQUEST))[0]
    admission.note(second)
    assert [(await admission.standing(new)).queue_position for new in (first, second)] == [0, 1]
    assert (await admission.standing(second)).eta_s == end_of_line(2)
    journal.request_cancel(first.id)
    now_s[0] += 2.0
    assert (await admission.standing(second)) == Standing(0, end_of_line(1))
    admit = await admission.judge(REQUEST, "a", 0, end_of_line(2) + 0.1)
    journal.submit(NewJob(REQUEST), admit=admit)
    admit = await admission.judge(REQUEST, "a", 0, end_of_line(2) - 0.5)
    with pytest.raises(RateLimitError, match="deadline_s is"):
        journal.submit(NewJob(REQUEST), admit=admit)


def test_a_queued_job_whose_deadline_passed_fails_at_the_next_claim(journal: Journal, leases: Leases) -> None:
    late = journal.submit(NewJob(REQUEST, priority=-5, deadline_s=-1.0))[0]
    fine = journal.submit(NewJob(REQUEST, deadline_s=60.0))[0]
    claimed = leases.claim("x", 60.0)
    assert claimed is not None
    assert claimed[1].id == fine.id
    ended = journal.get(late.id)
    assert (ended.state, ended.error and ended.error.code) == ("failed", "deadline_exceeded")
    assert "its deadline_s was -1" in (ended.error.message if ended.error else "")
    assert [event.kind for event in journal.events(late.id)] == ["queued", "failed"]
    assert leases.claim("x", 60.0) is None


def test_a_deadline_does_not_stop_what_runs(journal: Journal, leases: Leases) -> None:
    job_id = journal.submit(NewJob(REQUEST, deadline_s=60.0))[0].id
    held = leases.claim("x", -1.0)
    again = leases.claim("y", 60.0)
    assert held is not None
    assert again is not None
    assert again[1].id == job_id


def test_what_the_order_promises_counts_before_the_estimate() -> None:
    check_deadline(Outlook(), 0, 10.0, LOADS, Promised(9.5))
    with pytest.raises(RateLimitError, match=r"deadline_s is 10 .* about 12\.0 s"):
        check_deadline(Outlook(), 0, 10.0, LOADS, Promised(12.0))
    with pytest.raises(RateLimitError, match="a promise to another video"):
        check_deadline(Outlook(), 0, 10.0, LOADS, Promised(9.5, late=1))
