"""Studies, links and votes on SQLite and PostgreSQL: files stay as long as a study names them, votes count once."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, select

from client.schema_studies import Vote
from deployments.errors import NotAllowedError, UploadNotFoundError, VideoGoneError, VideoNotFoundError
from deployments.jobs.values import JobRequest, NewJob, Update
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from deployments.journal.outputs import held_bytes
from deployments.journal.sweeps import Sweeps
from deployments.journal.tables import study_links, study_votes
from deployments.studies.book import NewStudy, StudyBook
from deployments.studies.errors import StudyNotFoundError, StudyStateError
from deployments.studies.plan import ids_of, make_plan
from deployments.studies.votes import RaterBook
from tests.deployments.studies.plans import MEDIA, asked_for


def finished(journal: Journal, leases: Leases, seed: int, tenant: str = "studio") -> str:
    """A job that ended with a file of ten bytes."""
    request = JobRequest(prompt="a fox", model="tiny", size="256x256", seconds="2", seed=seed)
    journal.submit(NewJob(request, tenant=tenant))
    claimed = leases.claim("test", 60.0)
    assert claimed is not None
    [claim, job] = claimed
    record = {"key": f"videos/{job.id}/1.mp4", "size_bytes": 10, "sha256": f"{seed}", "media_type": "video/mp4"}
    leases.finish(Update(claim), "succeeded", result=record)
    return job.id


def made(journal: Journal, leases: Leases, **asked: Any) -> tuple[StudyBook, RaterBook, str]:
    """A study of four jobs, which has not been prepared."""
    ids = iter([finished(journal, leases, seed) for seed in range(4)])
    body = asked_for(2, identical=0, swapped=0, training=0, min_watch_s=0.0, **asked)
    body = body.model_copy(
        update={
            "systems": [
                system.model_copy(
                    update={"videos": [v.model_copy(update={"video_id": next(ids)}) for v in system.videos]}
                )
                for system in body.systems
            ]
        }
    )
    book = StudyBook(journal.database)
    plan = make_plan(body, book.look_up(ids_of(body), "studio"), 1)
    study_id = book.add(NewStudy("studio", "a title", "", plan, "hash", "key"))
    assert book.add(NewStudy("studio", "a title", "", plan, "hash", "key")) == study_id
    return book, RaterBook(journal.database), study_id


def test_a_studys_files_are_its_own_from_the_first_moment(journal: Journal, leases: Leases) -> None:
    book, _, study_id = made(journal, leases)
    jobs = [video.id for own in book.get(study_id).plan.sources for video in own]
    erased: list[str] = []
    for job_id in jobs:
        assert journal.delete(job_id, tenant="studio") == []  # the study still names it
    assert book.take(study_id)
    assert not book.take(study_id)  # somebody has it
    for number in range(4):
        assert book.keep(study_id, number, {"key": f"studies/{study_id}/{number}-0.mp4", "bytes": 7, "numbers": {}})
    book.settle(study_id, MEDIA, "said")
    with journal.database.read() as connection:
        assert held_bytes(connection, "studio") == 28
    assert Sweeps(journal.database).erase(erased.append) == 4
    assert {key.split("/")[0] for key in erased} == {"videos"}
    found = book.get(study_id)
    assert (found.state, found.prepared, found.note) == ("ready", 4, "said")
    with pytest.raises(StudyNotFoundError):
        book.delete(study_id, tenant="other")
    assert len(book.delete(study_id, tenant="studio")) == 4
    assert not book.keep(study_id, 0, {"key": f"studies/{study_id}/0-1.mp4", "bytes": 7})
    with journal.database.read() as connection:
        assert held_bytes(connection, "studio") == 0


def test_a_study_is_swept_with_its_votes_when_nobody_can_vote_any_more(journal: Journal, leases: Leases) -> None:
    book, raters, study_id = made(journal, leases, raters=2)
    book.settle(study_id, MEDIA, None)
    sweeps = Sweeps(journal.database)
    [first, second] = raters.make(study_id, None, 1.0, tenant="studio")
    seat = raters.seat(first.id, closed=False)
    raters.vote(first.id, Vote(trial=seat.name(0), choices={"overall": "left"}, watched_s=1.0), closed=False)
    assert sweeps.studies(-1.0) == 0  # a link works
    for link in (first, second):
        raters.revoke(study_id, link.id)
    assert sweeps.studies(3600.0) == 0  # it is new, and so is its vote
    assert sweeps.studies(-1.0) == 1
    with pytest.raises(StudyNotFoundError):
        book.get(study_id)
    with journal.database.read() as connection:
        for table in (study_links, study_votes):
            assert connection.execute(select(func.count()).select_from(table)).scalar() == 0
    assert sweeps.studies(-1.0) == 0


def test_what_is_not_there_is_said(journal: Journal, leases: Leases) -> None:
    book, old = StudyBook(journal.database), finished(journal, leases, 1)
    with pytest.raises(UploadNotFoundError):
        book.look_up(["file-0"], "studio")
    with pytest.raises(VideoNotFoundError):
        book.look_up([old], "other")
    Sweeps(journal.database).results(-1.0)
    with pytest.raises(VideoGoneError):
        book.look_up([old], "studio")


def test_many_send_one_vote_and_many_raters_vote_at_once(journal: Journal, leases: Leases) -> None:
    book, raters, study_id = made(journal, leases, raters=4)
    links = raters.make(study_id, None, 1.0, tenant="studio")
    with pytest.raises(StudyStateError, match="still being prepared"):
        raters.seat(links[0].id, closed=False)
    book.settle(study_id, MEDIA, None)
    with pytest.raises(NotAllowedError, match="was revoked"):
        raters.seat(links[0].id, closed=True)  # its tenant has no key

    def cast(link_id: str) -> int:
        seat = raters.seat(link_id, closed=False)
        vote = Vote(trial=seat.name(0), choices={"overall": "left"}, watched_s=1.0)
        return raters.vote(link_id, vote, closed=False).done

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(cast, [link.id for link in links] * 4)) == {1}

    def disagree(number: int) -> bool:
        seat = raters.seat(links[0].id, closed=False)
        vote = Vote(trial=seat.name(1), choices={"overall": ("left", "same", "right")[number % 3]}, watched_s=1.0)
        try:
            return raters.vote(links[0].id, vote, closed=False).done == 2
        except StudyStateError as error:
            return error.code != "vote_differs"

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(disagree, range(3))) == 1
    ballots = [ballot for ballot in raters.ballots(study_id) if ballot.number == 0]
    assert [(ballot.slot, ballot.number, ballot.choices) for ballot in ballots] == [
        (slot, 0, {"overall": "left"}) for slot in range(4)
    ]
    assert book.get(study_id).votes == 5
    book.delete(study_id, tenant="studio")
    with journal.database.read() as connection:
        for table in (study_links, study_votes):
            assert connection.execute(select(func.count()).select_from(table)).scalar() == 0
