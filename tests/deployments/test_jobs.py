"""The journal on SQLite and on PostgreSQL: what is accepted is claimed once, fenced, and ends once."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.schema import JobError, StageState
from deployments.checkpoint_rows import body_hash
from deployments.errors import (
    IdempotencyError,
    InvalidRequestError,
    LeaseLostError,
    NotPausedError,
    OutputsGoneError,
    QueueFullError,
    VideoNotFoundError,
)
from deployments.job_types import Claim, Job, JobRequest, Source, Update
from deployments.jobs import MAX_CLAIMS, MAX_PAUSE_S, PAUSE_FROM, Journal
from deployments.tables import jobs
from stages.types import STAGE_NAMES, StageName
from tests.postgres import new_database

REQUEST = JobRequest(prompt="a fox", model="tiny", size="256x256", seconds="2", seed=7)
LONG_S, LAPSED_S = 60.0, -1.0


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/jobs.sqlite" if request.param == "sqlite" else new_database()


@pytest.fixture
def journal(url: str) -> Iterator[Journal]:
    opened = Journal(url)
    yield opened
    opened.close()


def submit(journal: Journal) -> str:
    return journal.submit(REQUEST)[0].id


def claim(journal: Journal, lease_s: float = LONG_S, owner: str = "a") -> tuple[Claim, Job]:
    claimed = journal.claim(owner, lease_s)
    assert claimed is not None
    return claimed


def test_a_job_goes_from_queued_through_running_to_its_result(journal: Journal) -> None:
    job_id = submit(journal)
    assert [stage.status for stage in journal.get(job_id).stages] == ["waiting"] * 4
    held, job = claim(journal)
    assert (job.id, job.state, job.request) == (job_id, "running", REQUEST)
    assert journal.claim("b", LONG_S) is None
    half = StageState(name="i2v", status="running", progress=50, queued_s=0.1)
    journal.record([Update(held, (half,), (("stage_started", {"stage": "i2v"}),))])
    assert journal.get(job_id).stages[1] == half
    journal.finish(Update(held), "succeeded", result={"key": "k"})
    done = journal.get(job_id)
    assert (done.state, done.result, done.error) == ("succeeded", {"key": "k"}, None)
    assert done.finished_at is not None
    events = journal.events(job_id)
    assert [event.kind for event in events] == ["queued", "started", "stage_started", "completed"]
    assert [event.seq for event in events] == sorted({event.seq for event in events})
    assert journal.events(job_id, after=events[2].seq) == events[3:]


def test_jobs_are_claimed_by_priority_and_then_by_age(journal: Journal) -> None:
    first, second = submit(journal), submit(journal)
    urgent = journal.submit(REQUEST, priority=1)[0].id
    assert [claim(journal)[1].id for _ in range(3)] == [urgent, first, second]


def test_a_lapsed_lease_is_taken_over_and_the_old_owner_is_fenced(journal: Journal) -> None:
    job_id = submit(journal)
    old, _ = claim(journal, LAPSED_S)
    journal.record([Update(old, (StageState(name="t2i", status="completed", progress=100),))])
    new, job = claim(journal, owner="b")
    assert (new.fence, job.claims) == (old.fence + 1, 2)
    assert job.stages[0].status == "waiting"
    late = Update(old, (StageState(name="t2i", status="failed"),))
    assert journal.record([late]).lost == {job_id}
    assert journal.beat([old, new], LONG_S).lost == {job_id}
    with pytest.raises(LeaseLostError, match="taken over"):
        journal.finish(late, "failed", error=JobError(code="x", message="late"))
    assert journal.get(job_id).state == "running"
    journal.finish(Update(new), "succeeded", result={})
    assert [event.kind for event in journal.events(job_id)] == ["queued", "started", "restarted", "completed"]


def test_a_heartbeat_keeps_a_lease(journal: Journal) -> None:
    submit(journal)
    held, _ = claim(journal, LAPSED_S)
    journal.beat([held], LONG_S)
    assert journal.claim("b", LONG_S) is None


def test_released_jobs_are_queued_again_as_if_never_claimed(journal: Journal) -> None:
    job_id = submit(journal)
    held, _ = claim(journal)
    journal.release([held])
    job = journal.get(job_id)
    assert (job.state, job.claims) == ("queued", 0)
    assert claim(journal)[0].fence > held.fence


def test_a_job_under_which_the_server_keeps_dying_ends_as_failed(journal: Journal) -> None:
    job_id = submit(journal)
    pauses = []
    for claims in range(1, MAX_CLAIMS + 1):
        claim(journal, LAPSED_S)
        if PAUSE_FROM <= claims < MAX_CLAIMS:
            assert journal.claim("z", LONG_S) is None
            assert journal.get(job_id).state == "queued"
            pauses.append(journal.events(job_id)[-1].data["pause_s"])
            with journal.database.write() as connection:
                connection.execute(jobs.update().values(not_before=0.0))
    assert pauses == [2.0, 4.0, 8.0, 16.0, 32.0, *[MAX_PAUSE_S] * (len(pauses) - 5)]
    assert journal.claim("z", LONG_S) is None
    job = journal.get(job_id)
    assert job.state == "failed"
    assert job.error is not None
    assert job.error.code == "too_many_recoveries"
    assert str(MAX_CLAIMS) in job.error.message


def test_cancel_ends_a_queued_job_and_flags_a_running_one(journal: Journal) -> None:
    queued, running = submit(journal), submit(journal)
    assert journal.request_cancel(queued) == "cancelled"
    held, job = claim(journal)
    assert job.id == running
    assert journal.request_cancel(running) == "running"
    assert journal.beat([held], LONG_S).cancelled == {running}
    assert journal.record([Update(held)]).cancelled == {running}
    journal.finish(Update(held), "cancelled", error=JobError(code="cancelled", message="enough"))
    assert journal.get(running).state == "cancelled"
    assert journal.request_cancel(running) == "cancelled"


def test_a_cancelled_job_whose_owner_died_is_not_started_again(journal: Journal) -> None:
    job_id = submit(journal)
    claim(journal, LAPSED_S)
    journal.request_cancel(job_id)
    assert journal.claim("b", LONG_S) is None
    assert journal.get(job_id).state == "cancelled"


def test_stages_under_way_share_the_end_of_a_failed_job(journal: Journal) -> None:
    job_id = submit(journal)
    held, _ = claim(journal)
    states = (StageState(name="t2i", status="completed", progress=100), StageState(name="i2v", status="running"))
    journal.finish(Update(held, states), "failed", error=JobError(code="stage_failed", message="no"))
    assert [stage.status for stage in journal.get(job_id).stages] == ["completed", "failed", "waiting", "waiting"]


def test_one_key_makes_one_job_also_when_many_ask_at_once(url: str) -> None:
    made: list[tuple[str, bool]] = []

    def ask() -> None:
        journal = Journal(url)
        job, new = journal.submit(REQUEST, idem_key="k", body_hash=body_hash("body"))
        made.append((job.id, new))
        journal.close()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len({job_id for job_id, _ in made}) == 1
    assert sum(new for _, new in made) == 1


def test_a_key_with_another_body_is_refused_and_another_tenant_is_separate(journal: Journal) -> None:
    job, _ = journal.submit(REQUEST, idem_key="k", body_hash=body_hash("one"))
    with pytest.raises(IdempotencyError, match="'k' was used with another body"):
        journal.submit(REQUEST, idem_key="k", body_hash=body_hash("two"))
    other, new = journal.submit(REQUEST, tenant="b", idem_key="k", body_hash=body_hash("two"))
    assert new
    assert other.id != job.id


def test_many_claimers_never_get_the_same_job(url: str) -> None:
    journal = Journal(url)
    wanted = {submit(journal) for _ in range(12)}
    got: list[str] = []

    def work(owner: str) -> None:
        own = Journal(url)
        while (claimed := own.claim(owner, LONG_S)) is not None:
            got.append(claimed[0].job_id)
        own.close()

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 12
    assert set(got) == wanted
    journal.close()


def test_the_queue_has_a_bound_that_running_jobs_do_not_count_against(journal: Journal) -> None:
    for _ in range(2):
        journal.submit(REQUEST, max_queued=2)
    with pytest.raises(QueueFullError, match="2 videos are waiting and the limit is 2") as full:
        journal.submit(REQUEST, max_queued=2, retry_after_s=9)
    assert full.value.headers == {"Retry-After": "9"}
    claim(journal)
    journal.submit(REQUEST, max_queued=2)


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_walk_through_every_job_once(journal: Journal, order: str) -> None:
    ids = [submit(journal) for _ in range(5)]
    seen: list[str] = []
    after, more = None, True
    while more:
        jobs, more = journal.page(after=after, limit=2, order="asc" if order == "asc" else "desc")
        seen += [job.id for job in jobs]
        after = seen[-1]
    assert seen == (ids if order == "asc" else ids[::-1])
    with pytest.raises(VideoNotFoundError, match="'nobody'"):
        journal.page(after="nobody")


def test_only_a_finished_job_can_be_forgotten(journal: Journal) -> None:
    job_id = submit(journal)
    assert journal.delete(job_id) is None
    journal.request_cancel(job_id)
    assert journal.delete(job_id) == []
    for act in (journal.get, journal.delete, journal.request_cancel):
        with pytest.raises(VideoNotFoundError, match=job_id):
            act(job_id)
    assert journal.events(job_id) == []
    assert journal.counts() == {}


def test_one_key_makes_one_job_however_many_send_it_at_once(url: str) -> None:
    opened = [Journal(url) for _ in range(6)]
    ids: list[str] = []
    start = threading.Barrier(len(opened))

    def send(own: Journal) -> None:
        start.wait()
        ids.append(own.submit(REQUEST, idem_key="k", body_hash="b")[0].id)

    threads = [threading.Thread(target=send, args=(own,)) for own in opened]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(ids), len(set(ids))) == (6, 1)
    assert opened[0].counts() == {"queued": 1}
    for own in opened:
        own.close()


def test_a_heartbeat_and_a_takeover_of_many_jobs_do_not_lock_each_other_out(url: str) -> None:
    first, second = Journal(url), Journal(url)
    for _ in range(20):
        submit(first)
    held = [claim(first)[0] for _ in range(20)]

    def beat(own: Journal, claims: list[Claim]) -> None:
        for _ in range(15):
            assert own.beat(claims, LONG_S).lost == frozenset()

    threads = [threading.Thread(target=beat, args=args) for args in ((first, held), (second, held[::-1]))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first.close()
    second.close()


RECORD: dict[str, str | int] = {"key": "checkpoints/a/1.bin", "bytes": 3, "sha256": "00"}


def test_checkpoints_are_kept_with_the_job_under_its_fence(journal: Journal) -> None:
    job_id = submit(journal)
    old, job = claim(journal, LAPSED_S)
    assert job.outputs == {}
    assert journal.keep(old, "i2v", 0, RECORD)
    assert journal.keep(old, "v2v", 1, RECORD)
    assert journal.keep(old, "v2v", 0, {**RECORD, "bytes": 4})
    new, resumed = claim(journal, owner="b")
    assert resumed.outputs == {"i2v": {0: RECORD}, "v2v": {0: {**RECORD, "bytes": 4}, 1: RECORD}}
    assert not journal.keep(old, "vfi", 0, RECORD)
    journal.finish(Update(new), "succeeded", result={})
    assert journal.keep(new, "vfi", 0, RECORD)  # written while the job ended
    assert set(journal.get(job_id).outputs) == {"i2v", "v2v", "vfi"}


def test_checkpoints_of_jobs_that_ended_long_ago_are_forgotten(journal: Journal) -> None:
    ended, running = submit(journal), submit(journal)
    first, second = claim(journal)[0], claim(journal)[0]
    own = {**RECORD, "key": "checkpoints/b/2.bin"}
    for held in (first, second):
        journal.keep(held, "t2i", 0, RECORD)  # one file for both
    journal.keep(first, "i2v", 0, own)
    journal.finish(Update(first), "failed", error=JobError(code="x", message="y"))
    finished_at = journal.get(ended).finished_at
    assert finished_at is not None
    assert journal.expire_outputs(finished_at - 1) == []
    assert journal.expire_outputs(finished_at + 1) == [own["key"]]
    assert journal.expire_outputs(finished_at + 1) == []
    assert (journal.get(ended).outputs, journal.get(running).outputs) == ({}, {"t2i": {0: RECORD}})


def kept(name: str, digest: str = "") -> dict[str, str | int]:
    return {**RECORD, "key": f"checkpoints/{name}.bin", "digest": digest}


def finished(journal: Journal, request: JobRequest = REQUEST, tenant: str = "", **outputs: dict[str, str | int]) -> str:
    """A job that has ended with these outputs of stages and a video."""
    journal.submit(request, tenant=tenant)
    held, job = claim(journal)
    for stage, record in outputs.items():
        assert journal.keep(held, stage_name(stage), 0, dict(record))
    journal.finish(Update(held), "succeeded", result={**RECORD, "key": f"videos/{job.id}/1.mp4"})
    return job.id


def stage_name(text: str) -> StageName:
    return next(name for name in STAGE_NAMES if name == text)


def test_a_remix_takes_the_outputs_over_and_keeps_them_alive(journal: Journal) -> None:
    parent = finished(journal, t2i=kept("t"), i2v=kept("i"))
    needs: dict[StageName, list[int]] = {"t2i": [0], "i2v": [0]}
    child = journal.submit(REQUEST.model_copy(update={"enter": "v2v"}), parent_id=parent, needs=needs)[0]
    assert (child.parent_id, child.outputs) == (parent, {"t2i": {0: kept("t")}, "i2v": {0: kept("i")}})
    assert journal.delete(parent) == [f"videos/{parent}/1.mp4"]
    journal.request_cancel(child.id)
    assert journal.delete(child.id) == ["checkpoints/i.bin", "checkpoints/t.bin"]


def test_a_remix_whose_parent_lacks_an_output_makes_no_job(journal: Journal) -> None:
    parent = finished(journal, t2i=kept("t"))
    with pytest.raises(OutputsGoneError, match=f"{parent} has 0 of the 1 outputs of i2v"):
        journal.submit(REQUEST, parent_id=parent, needs={"t2i": [0], "i2v": [0]})
    with pytest.raises(VideoNotFoundError):
        journal.submit(REQUEST, tenant="other", parent_id=parent, needs={"t2i": [0]})
    assert journal.counts() == {"succeeded": 1}


def test_a_chosen_candidate_becomes_the_only_picture_of_a_remix(journal: Journal) -> None:
    parent = submit(journal)
    held, _ = claim(journal)
    for number in range(3):
        journal.keep(held, "t2i", number, dict(kept(f"t{number}")))
    child = journal.submit(REQUEST, parent_id=parent, needs={"t2i": [2]})[0]
    assert child.outputs == {"t2i": {0: kept("t2")}}


def test_a_paused_job_waits_without_an_owner_until_it_is_told_to_go_on(journal: Journal) -> None:
    job_id = journal.submit(REQUEST.model_copy(update={"pause_after": "t2i", "candidates": 2}))[0].id
    held, _ = claim(journal)
    journal.pause(Update(held, (StageState(name="t2i", status="completed", progress=100),)), "t2i")
    job = journal.get(job_id)
    assert (job.state, job.claims, job.stages[0].status) == ("paused", 0, "completed")
    assert journal.claim("b", LONG_S) is None
    with pytest.raises(LeaseLostError):
        journal.finish(Update(held), "succeeded", result=RECORD)
    with pytest.raises(InvalidRequestError, match=r"candidate is 2; .* candidates 0 to 1"):
        journal.go_on(job_id, 2)
    assert journal.go_on(job_id, 1).state == "queued"
    with pytest.raises(NotPausedError, match="is queued, not paused"):
        journal.go_on(job_id, 0)
    again, job = claim(journal)
    assert (again.fence > held.fence, job.request.candidate, job.request.pause_after) == (True, 1, None)
    assert [event.kind for event in journal.events(job_id)] == ["queued", "started", "paused", "continued", "started"]


def test_a_paused_job_is_cancelled_at_once_and_a_cancel_beats_a_pause(journal: Journal) -> None:
    first, second = submit(journal), submit(journal)
    held, other = claim(journal)[0], claim(journal)[0]
    journal.pause(Update(held), "t2i")
    assert journal.request_cancel(first) == "cancelled"
    assert journal.request_cancel(second) == "running"
    journal.pause(Update(other), "t2i")
    assert journal.get(second).state == "cancelled"


def test_an_identical_job_waits_for_the_first_and_then_finds_its_outputs(journal: Journal) -> None:
    shared = REQUEST.model_copy(update={"reuse": True})
    first, second, third = (journal.submit(shared)[0].id for _ in range(3))
    apart = journal.submit(shared, tenant="other")[0].id
    held, job = claim(journal)
    assert job.id == first
    assert claim(journal)[1].id == apart
    assert journal.claim("b", LONG_S) is None
    journal.keep(held, "t2i", 0, dict(kept("t", "d1")))
    journal.finish(Update(held), "succeeded", result=RECORD)
    follower, job = claim(journal)
    assert job.id == second
    assert journal.claim("b", LONG_S) is None  # the third waits for the second
    assert journal.adopt(follower, "t2i", 0, "d1") == kept("t", "d1")
    assert journal.adopt(follower, "i2v", 0, "d2") is None
    journal.finish(Update(follower), "failed", error=JobError(code="x", message="y"))
    assert claim(journal)[1].id == third


def test_outputs_are_not_shared_between_tenants(journal: Journal) -> None:
    finished(journal, tenant="a", t2i=kept("t", "d1"))
    journal.submit(REQUEST, tenant="b")
    held, _ = claim(journal)
    assert journal.adopt(held, "t2i", 0, "d1") is None
    stale = Claim(held.job_id, held.owner, held.fence - 1)
    finished(journal, tenant="b", t2i=kept("u", "d1"))
    assert journal.adopt(stale, "t2i", 0, "d1") is None
    assert journal.adopt(held, "t2i", 0, "d1") == kept("u", "d1")


def test_failures_of_calls_are_counted_over_every_claim(journal: Journal) -> None:
    submit(journal)
    held, job = claim(journal, LAPSED_S)
    assert job.failures == {}
    journal.record([Update(held, failures={"v2v": 1})])
    held, job = claim(journal)
    assert job.failures == {"v2v": 1}
    journal.record([Update(held, failures={"v2v": 1, "t2i": 1})])
    assert journal.get(held.job_id).failures == {"t2i": 1, "v2v": 2}


def test_stages_that_a_job_does_not_need_are_skipped(journal: Journal) -> None:
    job_id = journal.submit(REQUEST.model_copy(update={"until": "i2v"}))[0].id
    claim(journal, LAPSED_S)
    claim(journal)
    assert [stage.status for stage in journal.get(job_id).stages] == ["waiting", "waiting", "skipped", "skipped"]


def test_files_of_a_request_go_with_its_last_job(journal: Journal) -> None:
    source = Source(key="uploads/a/source.png", sha256="00", kind="picture", enters="i2v", width=8, height=8)
    request = REQUEST.model_copy(update={"source": source, "enter": "i2v"})
    first, second = finished(journal, request), finished(journal, request)
    assert journal.delete(first) == [f"videos/{first}/1.mp4"]
    assert journal.delete(second) == [source.key, f"videos/{second}/1.mp4"]
