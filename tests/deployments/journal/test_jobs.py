"""The journal for who asks, on SQLite and on PostgreSQL: what is accepted is there once, until it is forgotten."""

import threading

import pytest
from sqlalchemy import select

from client.schema import JobError, Order, StageState
from deployments.errors import (
    IdempotencyError,
    InvalidRequestError,
    LeaseLostError,
    NotPausedError,
    OutputsGoneError,
    QueueFullError,
    VideoNotFoundError,
)
from deployments.jobs.values import Job, NewJob, Source, Update
from deployments.journal import journal as journal_module
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from deployments.journal.outputs import fold
from deployments.journal.tables import tallies
from stages.types import StageName
from tests.deployments.journal.job_acts import LAPSED_S, LONG_S, RECORD, REQUEST, claim, finished, kept, submit


def test_a_key_with_another_body_is_refused_and_another_tenant_is_separate(journal: Journal) -> None:
    job, _ = journal.submit(NewJob(REQUEST, idem_key="k", body="one"))
    with pytest.raises(IdempotencyError, match="'k' was used with another body"):
        journal.submit(NewJob(REQUEST, idem_key="k", body="two"))
    other, new = journal.submit(NewJob(REQUEST, tenant="b", idem_key="k", body="two"))
    assert new
    assert other.id != job.id


def test_one_key_makes_one_job_however_many_send_it_at_once(url: str) -> None:
    opened = [Journal(Database(url)) for _ in range(6)]
    made: list[tuple[str, bool]] = []
    start = threading.Barrier(len(opened))

    def send(own: Journal) -> None:
        start.wait()
        job, is_new = own.submit(NewJob(REQUEST, idem_key="k", body="b"))
        made.append((job.id, is_new))

    threads = [threading.Thread(target=send, args=(own,)) for own in opened]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({job_id for job_id, _ in made}) == 1
    assert sorted(is_new for _, is_new in made) == [False] * 5 + [True]
    assert opened[0].counts() == {"queued": 1}
    for own in opened:
        own.database.close()


def test_the_queue_has_a_bound_that_running_jobs_do_not_count_against(journal: Journal, leases: Leases) -> None:
    for _ in range(2):
        journal.submit(NewJob(REQUEST), max_queued=2)
    with pytest.raises(QueueFullError, match="2 videos are waiting and the limit is 2") as full:
        journal.submit(NewJob(REQUEST), max_queued=2, retry_after_s=9)
    assert full.value.headers == {"Retry-After": "9"}
    claim(leases)
    journal.submit(NewJob(REQUEST), max_queued=2)


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


def prompts(jobs: list[Job]) -> list[str]:
    return [job.request.prompt for job in jobs]


def test_a_search_finds_words_of_the_prompt_in_any_case(journal: Journal) -> None:
    for prompt in ("a fox in the snow", "Ein Fuchs im Schnee, ÄÖÜ", "100% of a_fox", 'a "fox" \\ snow', "an owl"):
        journal.submit(NewJob(REQUEST.model_copy(update={"prompt": prompt}), tenant="a"))
    journal.submit(NewJob(REQUEST.model_copy(update={"prompt": "another's fox in the snow"}), tenant="b"))
    for words, count in (
        (["FOX"], 3),
        (["snow", "fox"], 2),
        (["äöü"], 1),
        (["%"], 1),
        (["_"], 1),
        (['"fox"'], 1),
        (["\\"], 1),
        (["fox' OR 1=1"], 0),
        ([], 5),
    ):
        found, behind = journal.search(words, tenant="a")
        assert (len(found), behind) == (count, None), words
        assert all(word.casefold() in prompt.casefold() for prompt in prompts(found) for word in words)
    assert prompts(journal.search(["fox"], tenant="a", order="asc")[0])[0] == "a fox in the snow"


def test_a_search_by_state(journal: Journal) -> None:
    done, _ = finished(journal), submit(journal)
    assert [job.id for job in journal.search(states=("succeeded", "failed"))[0]] == [done]
    assert prompts(journal.search(["fox"], ("queued",))[0]) == [REQUEST.prompt]
    assert journal.search(["owl"], ("queued",)) == ([], None)


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_search_in_pages_finds_each_once_and_looks_through_so_many_at_once(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, order: Order
) -> None:
    monkeypatch.setattr(journal_module, "SEARCHED", 4)
    ids = [submit(journal, prompt="a fox" if number % 3 == 0 else "an owl") for number in range(12)]
    fits = [job_id for number, job_id in enumerate(ids) if number % 3 == 0]
    for limit in (1, 2, 9):
        seen: list[str] = []
        after, looks = None, 0
        while looks == 0 or after is not None:
            found, after = journal.search(["fox"], after=after, limit=limit, order=order)
            assert len(found) <= limit
            seen, looks = [*seen, *(job.id for job in found)], looks + 1
        assert seen == (fits if order == "asc" else fits[::-1])
        assert looks >= 3  # 12 of them, 4 at once
    assert journal.search(["whale"], order=order)[1] is not None  # none so far, and there are more


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_list_goes_on_behind_jobs_that_were_deleted(journal: Journal, order: str) -> None:
    ids = [finished(journal, tenant="a") for _ in range(5)]
    seen: list[str] = []
    after, more = None, True
    while more:
        jobs, more = journal.page(tenant="a", after=after, limit=2, order="asc" if order == "asc" else "desc")
        seen += [job.id for job in jobs]
        for job in jobs:
            journal.delete(job.id)
        after = seen[-1]
    assert seen == (ids if order == "asc" else ids[::-1])
    with pytest.raises(VideoNotFoundError):
        journal.page(tenant="b", after=after)


def test_jobs_are_counted_as_they_end_and_are_forgotten(journal: Journal, leases: Leases) -> None:
    first = finished(journal)
    finished(journal)
    cancelled, queued = submit(journal), submit(journal)
    journal.request_cancel(cancelled)
    claim(leases)
    submit(journal)
    expected = {"succeeded": 2, "cancelled": 1, "running": 1, "queued": 1}
    assert journal.counts() == expected
    journal.delete(first)
    with journal.database.write() as connection:
        fold(connection, tallies)
        assert len(connection.execute(select(tallies)).all()) == 2
    assert journal.counts() == expected | {"succeeded": 1}
    assert queued


def test_cancel_ends_a_queued_job_and_flags_a_running_one(journal: Journal, leases: Leases) -> None:
    queued, running = submit(journal), submit(journal)
    assert journal.request_cancel(queued) == "cancelled"
    held, job = claim(leases)
    assert job.id == running
    assert journal.request_cancel(running) == "running"
    assert leases.beat([held], LONG_S).cancelled == {running}
    assert leases.record([Update(held)]).cancelled == {running}
    leases.finish(Update(held), "cancelled", error=JobError(code="cancelled", message="enough"))
    assert journal.get(running).state == "cancelled"
    assert journal.request_cancel(running) == "cancelled"


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


def test_stages_that_a_job_does_not_need_are_skipped(journal: Journal, leases: Leases) -> None:
    job_id = journal.submit(NewJob(REQUEST.model_copy(update={"until": "i2v"})))[0].id
    claim(leases, LAPSED_S)
    claim(leases)
    assert [stage.status for stage in journal.get(job_id).stages] == ["waiting", "waiting", "skipped", "skipped"]


def test_a_remix_takes_the_outputs_over_and_keeps_them_alive(journal: Journal) -> None:
    parent = finished(journal, t2i=kept("t"), i2v=kept("i"))
    needs: dict[StageName, list[int]] = {"t2i": [0], "i2v": [0]}
    child = journal.submit(NewJob(REQUEST.model_copy(update={"enter": "v2v"}), parent_id=parent, needs=needs))[0]
    assert (child.parent_id, child.outputs) == (parent, {"t2i": {0: kept("t")}, "i2v": {0: kept("i")}})
    assert journal.delete(parent) == [f"videos/{parent}/1.mp4"]
    journal.request_cancel(child.id)
    assert journal.delete(child.id) == ["checkpoints/i.bin", "checkpoints/t.bin"]


def test_a_remix_whose_parent_lacks_an_output_makes_no_job(journal: Journal) -> None:
    parent = finished(journal, t2i=kept("t"))
    with pytest.raises(OutputsGoneError, match=f"{parent} has 0 of the 1 outputs of i2v"):
        journal.submit(NewJob(REQUEST, parent_id=parent, needs={"t2i": [0], "i2v": [0]}))
    with pytest.raises(VideoNotFoundError):
        journal.submit(NewJob(REQUEST, tenant="other", parent_id=parent, needs={"t2i": [0]}))
    assert journal.counts() == {"succeeded": 1}


def test_a_chosen_candidate_becomes_the_only_picture_of_a_remix(journal: Journal, leases: Leases) -> None:
    parent = submit(journal)
    held, _ = claim(leases)
    for number in range(3):
        leases.keep(held, "t2i", number, dict(kept(f"t{number}")))
    child = journal.submit(NewJob(REQUEST, parent_id=parent, needs={"t2i": [2]}))[0]
    assert child.outputs == {"t2i": {0: kept("t2")}}


def test_a_paused_job_waits_without_an_owner_until_it_is_told_to_go_on(journal: Journal, leases: Leases) -> None:
    job_id = journal.submit(NewJob(REQUEST.model_copy(update={"pause_after": "t2i", "candidates": 2})))[0].id
    held, _ = claim(leases)
    leases.pause(Update(held, (StageState(name="t2i", status="completed", progress=100),)), "t2i")
    job = journal.get(job_id)
    assert (job.state, job.claims, job.stages[0].status) == ("paused", 0, "completed")
    assert leases.claim("b", LONG_S) is None
    with pytest.raises(LeaseLostError):
        leases.finish(Update(held), "succeeded", result=RECORD)
    with pytest.raises(InvalidRequestError, match=r"candidate is 2; .* candidates 0 to 1"):
        journal.go_on(job_id, 2)
    assert journal.go_on(job_id, 1).state == "queued"
    with pytest.raises(NotPausedError, match="is queued, not paused"):
        journal.go_on(job_id, 0)
    again, job = claim(leases)
    assert (again.fence > held.fence, job.request.candidate, job.request.pause_after) == (True, 1, None)
    assert [event.kind for event in journal.events(job_id)] == ["queued", "started", "paused", "continued", "started"]


def test_a_paused_job_is_cancelled_at_once_and_a_cancel_beats_a_pause(journal: Journal, leases: Leases) -> None:
    first, second = submit(journal), submit(journal)
    held, other = claim(leases)[0], claim(leases)[0]
    leases.pause(Update(held), "t2i")
    assert journal.request_cancel(first) == "cancelled"
    assert journal.request_cancel(second) == "running"
    leases.pause(Update(other), "t2i")
    assert journal.get(second).state == "cancelled"


def test_files_of_a_request_go_with_its_last_job(journal: Journal) -> None:
    source = Source(key="uploads/a/source.png", sha256="00", kind="picture", enters="i2v", width=8, height=8)
    request = REQUEST.model_copy(update={"source": source, "enter": "i2v"})
    first, second = finished(journal, request), finished(journal, request)
    assert journal.delete(first) == [f"videos/{first}/1.mp4"]
    assert journal.delete(second) == [source.key, f"videos/{second}/1.mp4"]
