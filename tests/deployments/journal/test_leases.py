"""The journal for who executes, on SQLite and on PostgreSQL: what is due is claimed once, fenced, and ends once."""

import threading

import pytest

from client.schema import JobError, StageState
from deployments.errors import (
    LeaseLostError,
)
from deployments.jobs.outlook import unfinished_of
from deployments.jobs.values import SOFT_S, Claim, NewJob, Update
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.journal.leases import MAX_CLAIMS, MAX_PAUSE_S, PAUSE_FROM, Leases
from deployments.journal.sweeps import Sweeps
from deployments.journal.tables import jobs
from tests.deployments.journal.job_acts import LAPSED_S, LONG_S, RECORD, REQUEST, claim, finished, kept, submit


def test_a_job_goes_from_queued_through_running_to_its_result(journal: Journal, leases: Leases) -> None:
    job_id = submit(journal)
    assert [stage.status for stage in journal.get(job_id).stages] == ["waiting"] * 4
    held, job = claim(leases)
    assert (job.id, job.state, job.request) == (job_id, "running", REQUEST)
    assert leases.claim("b", LONG_S) is None
    half = StageState(name="i2v", status="running", progress=50, queued_s=0.1)
    leases.record([Update(held, (half,), (("stage_started", {"stage": "i2v"}),))])
    assert journal.get(job_id).stages[1] == half
    leases.finish(Update(held), "succeeded", result={"key": "k"})
    done = journal.get(job_id)
    assert (done.state, done.result, done.error) == ("succeeded", {"key": "k"}, None)
    assert done.finished_at is not None
    events = journal.events(job_id)
    assert [event.kind for event in events] == ["queued", "started", "stage_started", "completed"]
    assert [event.seq for event in events] == sorted({event.seq for event in events})
    assert journal.events(job_id, after=events[2].seq) == events[3:]


def test_jobs_are_claimed_by_priority_then_by_deadline_and_then_by_age(journal: Journal, leases: Leases) -> None:
    first, second = submit(journal), submit(journal)
    late, early = [journal.submit(NewJob(REQUEST, deadline_s=deadline_s))[0].id for deadline_s in (3 * SOFT_S, 60.0)]
    urgent = journal.submit(NewJob(REQUEST, priority=1, deadline_s=5 * SOFT_S))[0].id
    order = [urgent, early, first, second, late]
    assert [job.id for job, _ in journal.ahead(9)] == order
    jobs = sorted((journal.get(job_id) for job_id in order), key=lambda job: unfinished_of(job).rank)
    assert [job.id for job in jobs] == order
    assert [claim(leases)[1].id for _ in range(2)] == order[:2]
    assert [job.id for job, _ in journal.ahead(3)] == order[:3]
    assert [claim(leases)[1].id for _ in range(3)] == order[2:]


def test_where_there_is_room_for_a_higher_class_alone_no_other_is_claimed(journal: Journal, leases: Leases) -> None:
    submit(journal)
    claim(leases, LAPSED_S)
    assert leases.claim("b", LONG_S, least=1) is None
    urgent = journal.submit(NewJob(REQUEST, priority=1))[0].id
    found = leases.claim("b", LONG_S, least=1)
    assert found is not None
    assert found[1].id == urgent


def test_a_lapsed_lease_is_taken_over_and_the_old_owner_is_fenced(journal: Journal, leases: Leases) -> None:
    job_id = submit(journal)
    old, _ = claim(leases, LAPSED_S)
    leases.record([Update(old, (StageState(name="t2i", status="completed", progress=100),))])
    new, job = claim(leases, owner="b")
    assert (new.fence, job.claims) == (old.fence + 1, 2)
    assert job.stages[0].status == "waiting"
    late = Update(old, (StageState(name="t2i", status="failed"),))
    assert leases.record([late]).lost == {job_id}
    assert leases.beat([old, new], LONG_S).lost == {job_id}
    with pytest.raises(LeaseLostError, match="taken over"):
        leases.finish(late, "failed", error=JobError(code="x", message="late"))
    assert journal.get(job_id).state == "running"
    leases.finish(Update(new), "succeeded", result={})
    assert [event.kind for event in journal.events(job_id)] == ["queued", "started", "restarted", "completed"]


def test_a_heartbeat_keeps_a_lease(journal: Journal, leases: Leases) -> None:
    submit(journal)
    held, _ = claim(leases, LAPSED_S)
    leases.beat([held], LONG_S)
    assert leases.claim("b", LONG_S) is None


def test_released_jobs_are_queued_again_as_if_never_claimed(journal: Journal, leases: Leases) -> None:
    job_id = submit(journal)
    held, _ = claim(leases)
    leases.release([held])
    job = journal.get(job_id)
    assert (job.state, job.claims) == ("queued", 0)
    assert claim(leases)[0].fence > held.fence


def test_a_job_under_which_the_server_keeps_dying_ends_as_failed(journal: Journal, leases: Leases) -> None:
    job_id = submit(journal)
    pauses = []
    for claims in range(1, MAX_CLAIMS + 1):
        claim(leases, LAPSED_S)
        if PAUSE_FROM <= claims < MAX_CLAIMS:
            assert leases.claim("z", LONG_S) is None
            assert journal.get(job_id).state == "queued"
            pauses.append(journal.events(job_id)[-1].data["pause_s"])
            with journal.database.write() as connection:
                connection.execute(jobs.update().values(not_before=0.0))
    assert pauses == [2.0, 4.0, 8.0, 16.0, 32.0, *[MAX_PAUSE_S] * (len(pauses) - 5)]
    assert leases.claim("z", LONG_S) is None
    job = journal.get(job_id)
    assert job.state == "failed"
    assert job.error is not None
    assert job.error.code == "too_many_recoveries"
    assert str(MAX_CLAIMS) in job.error.message


def test_a_cancelled_job_whose_owner_died_is_not_started_again(journal: Journal, leases: Leases) -> None:
    job_id = submit(journal)
    claim(leases, LAPSED_S)
    journal.request_cancel(job_id)
    assert leases.claim("b", LONG_S) is None
    assert journal.get(job_id).state == "cancelled"


def test_stages_under_way_share_the_end_of_a_failed_job(journal: Journal, leases: Leases) -> None:
    job_id = submit(journal)
    held, _ = claim(leases)
    states = (StageState(name="t2i", status="completed", progress=100), StageState(name="i2v", status="running"))
    leases.finish(Update(held, states), "failed", error=JobError(code="stage_failed", message="no"))
    assert [stage.status for stage in journal.get(job_id).stages] == ["completed", "failed", "waiting", "waiting"]


def test_many_claimers_never_get_the_same_job(url: str, journal: Journal) -> None:
    wanted = {submit(journal) for _ in range(12)}
    got: list[str] = []

    def work(owner: str) -> None:
        database = Database(url)
        own = Leases(database)
        while (claimed := own.claim(owner, LONG_S)) is not None:
            got.append(claimed[0].job_id)
        database.close()

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 12
    assert set(got) == wanted


def test_a_heartbeat_and_a_takeover_of_many_jobs_do_not_lock_each_other_out(
    url: str, journal: Journal, leases: Leases
) -> None:
    database = Database(url)
    for _ in range(20):
        submit(journal)
    held = [claim(leases)[0] for _ in range(20)]

    def beat(own: Leases, claims: list[Claim]) -> None:
        for _ in range(15):
            assert own.beat(claims, LONG_S).lost == frozenset()

    threads = [threading.Thread(target=beat, args=args) for args in ((leases, held), (Leases(database), held[::-1]))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    database.close()


def test_checkpoints_are_kept_with_the_job_under_its_fence(journal: Journal, leases: Leases) -> None:
    job_id = submit(journal)
    old, job = claim(leases, LAPSED_S)
    assert job.outputs == {}
    assert leases.keep(old, "i2v", 0, RECORD)
    assert leases.keep(old, "v2v", 1, RECORD)
    assert leases.keep(old, "v2v", 0, {**RECORD, "bytes": 4})
    new, resumed = claim(leases, owner="b")
    assert resumed.outputs == {"i2v": {0: RECORD}, "v2v": {0: {**RECORD, "bytes": 4}, 1: RECORD}}
    assert not leases.keep(old, "vfi", 0, RECORD)
    leases.finish(Update(new), "succeeded", result={})
    assert leases.keep(new, "vfi", 0, RECORD)  # written while the job ended
    assert set(journal.get(job_id).outputs) == {"i2v", "v2v", "vfi"}


def test_checkpoints_of_jobs_that_ended_long_ago_are_forgotten(journal: Journal, leases: Leases) -> None:
    ended, running = submit(journal), submit(journal)
    first, second = claim(leases)[0], claim(leases)[0]
    own = {**RECORD, "key": "checkpoints/b/2.bin"}
    for held in (first, second):
        leases.keep(held, "t2i", 0, RECORD)  # one file for both
    leases.keep(first, "i2v", 0, own)
    leases.finish(Update(first), "failed", error=JobError(code="x", message="y"))
    sweeps = Sweeps(journal.database)
    assert sweeps.outputs(3600.0) == 0
    assert (sweeps.outputs(-1.0), sweeps.outputs(-1.0)) == (1, 0)
    erased: list[str] = []
    assert (sweeps.erase(erased.append), sweeps.erase(erased.append)) == (1, 0)
    assert erased == [own["key"]]
    assert (journal.get(ended).outputs, journal.get(running).outputs) == ({}, {"t2i": {0: RECORD}})


def test_an_identical_job_waits_for_the_first_and_then_finds_its_outputs(journal: Journal, leases: Leases) -> None:
    shared = REQUEST.model_copy(update={"reuse": True})
    first, second, third = (journal.submit(NewJob(shared))[0].id for _ in range(3))
    apart = journal.submit(NewJob(shared, tenant="other"))[0].id
    held, job = claim(leases)
    assert job.id == first
    assert claim(leases)[1].id == apart
    assert leases.claim("b", LONG_S) is None
    leases.keep(held, "t2i", 0, dict(kept("t", "d1")))
    leases.finish(Update(held), "succeeded", result=RECORD)
    follower, job = claim(leases)
    assert job.id == second
    assert leases.claim("b", LONG_S) is None  # the third waits for the second
    assert leases.adopt(follower, "t2i", 0, "d1") == kept("t", "d1")
    assert leases.adopt(follower, "i2v", 0, "d2") is None
    leases.finish(Update(follower), "failed", error=JobError(code="x", message="y"))
    assert claim(leases)[1].id == third


def test_outputs_are_not_shared_between_tenants(journal: Journal, leases: Leases) -> None:
    finished(journal, tenant="a", t2i=kept("t", "d1"))
    journal.submit(NewJob(REQUEST, tenant="b"))
    held, _ = claim(leases)
    assert leases.adopt(held, "t2i", 0, "d1") is None
    stale = Claim(held.job_id, held.owner, held.fence - 1)
    finished(journal, tenant="b", t2i=kept("u", "d1"))
    assert leases.adopt(stale, "t2i", 0, "d1") is None
    assert leases.adopt(held, "t2i", 0, "d1") == kept("u", "d1")


def test_failures_of_calls_are_counted_over_every_claim(journal: Journal, leases: Leases) -> None:
    submit(journal)
    held, job = claim(leases, LAPSED_S)
    assert job.failures == {}
    leases.record([Update(held, failures={"v2v": 1})])
    held, job = claim(leases)
    assert job.failures == {"v2v": 1}
    leases.record([Update(held, failures={"v2v": 1, "t2i": 1})])
    assert journal.get(held.job_id).failures == {"t2i": 1, "v2v": 2}
