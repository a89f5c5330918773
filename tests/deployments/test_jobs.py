"""The journal on SQLite and on PostgreSQL: what is accepted is claimed once, fenced, and ends once."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.schema import JobError, StageState
from deployments.errors import IdempotencyError, LeaseLostError, QueueFullError, VideoNotFoundError
from deployments.job_types import Claim, Job, JobRequest, Update
from deployments.jobs import MAX_CLAIMS, Journal, body_hash
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
    for _ in range(MAX_CLAIMS):
        claim(journal, LAPSED_S)
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


RECORD = {"key": "checkpoints/a/1.bin", "bytes": 3, "sha256": "00"}


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
