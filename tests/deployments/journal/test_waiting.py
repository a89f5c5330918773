"""Jobs that wait for something that is not their fault: put off, never counted, with a sentence; on both databases."""

import pytest

from deployments.errors import LeaseLostError
from deployments.jobs.values import NewJob, Update
from deployments.journal.journal import Journal
from deployments.journal.leases import MAX_PLATFORM_PAUSE_S, Leases
from deployments.journal.tables import jobs
from tests.deployments.journal.job_acts import LAPSED_S, LONG_S, RECORD, REQUEST, claim, submit

FULL = "The artifact store file:///x is full."


def let_pass(journal: Journal, **values: float) -> None:
    """As if the time had come."""
    with journal.database.write() as connection:
        connection.execute(jobs.update().values(**values))


def test_a_job_that_is_put_off_waits_says_why_and_is_not_charged(journal: Journal, leases: Leases) -> None:
    job_id, pauses = submit(journal), []
    for _ in range(20):
        held, _ = claim(leases)
        leases.put_off(Update(held), FULL)
        job = journal.get(job_id)
        assert (job.state, job.claims, job.waits_for, job.error) == ("queued", 0, FULL, None)
        assert journal.waits() == {FULL: 1}
        assert leases.claim("b", LONG_S) is None
        pauses.append(journal.events(job_id)[-1].data["pause_s"])
        assert journal.events(job_id)[-1].data["reason"] == FULL
        let_pass(journal, not_before=0.0)
    assert pauses == [2.0, 4.0, 8.0, 16.0, *[MAX_PLATFORM_PAUSE_S] * 16]
    held, _ = claim(leases)
    leases.record([Update(held)])
    assert (journal.get(job_id).waits_for, journal.waits()) == (None, {})
    leases.finish(Update(held), "succeeded", result=RECORD)
    assert journal.get(job_id).error is None


def test_a_job_that_is_put_off_begins_from_its_checkpoints(journal: Journal, leases: Leases) -> None:
    submit(journal)
    held, _ = claim(leases)
    leases.keep(held, "i2v", 0, RECORD)
    leases.put_off(Update(held), FULL)
    let_pass(journal, not_before=0.0)
    assert claim(leases)[1].outputs == {"i2v": {0: RECORD}}


def test_only_the_owner_puts_a_job_off_and_a_cancel_is_not_lost(journal: Journal, leases: Leases) -> None:
    job_id = submit(journal)
    old, _ = claim(leases, LAPSED_S)
    new, _ = claim(leases)
    with pytest.raises(LeaseLostError, match="taken over"):
        leases.put_off(Update(old), FULL)
    journal.request_cancel(job_id)
    leases.put_off(Update(new), FULL)
    job = journal.get(job_id)
    assert (job.state, job.error and job.error.code) == ("cancelled", "cancelled")


def test_a_running_job_says_what_it_waits_for_until_it_goes_on(journal: Journal, leases: Leases) -> None:
    job_id = submit(journal)
    held, _ = claim(leases)
    leases.record([Update(held, waits_for="No replica.")])
    assert (journal.get(job_id).waits_for, journal.get(job_id).error) == ("No replica.", None)
    leases.release([held])
    assert journal.get(job_id).waits_for is None


@pytest.mark.parametrize("end", ["release", "put_off", "lapse"])
def test_a_deadline_holds_until_a_job_starts(journal: Journal, leases: Leases, end: str) -> None:
    job_id = journal.submit(NewJob(REQUEST, deadline_s=60.0))[0].id
    held, _ = claim(leases, LAPSED_S)
    if end == "release":
        leases.release([held])
    elif end == "put_off":
        leases.put_off(Update(held), FULL)
    with journal.database.write() as connection:  # the deadline passes
        late = jobs.update().where(jobs.c.deadline.is_not(None))
        connection.execute(late.values(deadline=0.0))
    let_pass(journal, not_before=0.0)
    assert claim(leases)[1].id == job_id


def test_a_job_that_has_stopped_for_another_says_so_and_nothing_is_lacking(journal: Journal, leases: Leases) -> None:
    job_id = submit(journal)
    held, _ = claim(leases)
    leases.record([Update(held, paused_for="Paused for an urgent job.")])
    assert (journal.get(job_id).waits_for, journal.waits()) == ("Paused for an urgent job.", {})
    leases.record([Update(held, waits_for="No replica.", paused_for="Paused for an urgent job.")])
    assert journal.waits() == {"No replica.": 1}
    leases.record([Update(held)])
    assert journal.get(job_id).waits_for is None


def test_the_twin_that_an_urgent_job_waits_for_is_as_urgent(journal: Journal, leases: Leases) -> None:
    shared = REQUEST.model_copy(update={"reuse": True})
    leader, middle = (journal.submit(NewJob(shared, priority=-10))[0].id for _ in range(2))
    foreign = journal.submit(NewJob(shared, priority=-10, tenant="other"))[0].id
    others = [submit(journal) for _ in range(5)]
    urgent = journal.submit(NewJob(shared, priority=10))[0].id
    order = []
    for _ in range(9):
        held, job = claim(leases)
        order.append(job.id)
        leases.finish(Update(held), "succeeded", result=RECORD)
    assert order[:3] == [leader, middle, urgent]
    assert order[3:] == [*others, foreign]


def test_an_urgent_job_is_never_made_less_urgent_by_its_twin(journal: Journal) -> None:
    shared = REQUEST.model_copy(update={"reuse": True})
    leader = journal.submit(NewJob(shared, priority=5))[0].id
    journal.submit(NewJob(shared, priority=0))
    assert journal.get(leader).priority == 5
