"""States of calls that stopped between two steps, in the journal: the newest stays, until output or end is there."""

from typing import Any

from sqlalchemy import select

from client.schema import JobError
from deployments.jobs.values import NewJob, Update
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from deployments.journal.tables import erasures, jobs
from tests.deployments.journal.job_acts import LAPSED_S, REQUEST, claim, kept, submit


def state(name: str, step: int) -> dict[str, Any]:
    return {**kept(name), "step": step, "total": 30, "run_s": 1.0}


def erased(journal: Journal) -> set[str]:
    with journal.database.read() as connection:
        return set(connection.execute(select(erasures.c.key)).scalars())


def test_the_newest_state_is_what_the_next_executor_finds(journal: Journal, leases: Leases) -> None:
    job_id = submit(journal)
    held, job = claim(leases, LAPSED_S)
    assert job.states == {}
    assert leases.keep_state(held, "i2v", 0, state("first", 5))
    assert leases.keep_state(held, "i2v", 0, state("second", 9))
    assert not leases.keep_state(held, "i2v", 0, state("late", 7))
    assert leases.keep_state(held, "v2v", 2, state("other", 1))
    assert erased(journal) == {kept("first")["key"], kept("late")["key"]}
    new, job = claim(leases, owner="b")
    assert job.id == job_id
    assert {stage: {n: one["step"] for n, one in own.items()} for stage, own in job.states.items()} == {
        "i2v": {0: 9},
        "v2v": {2: 1},
    }
    assert job.outputs == {}
    assert not leases.keep_state(held, "i2v", 0, state("fenced", 20))
    assert leases.keep_state(new, "i2v", 0, state("third", 12))


def test_a_state_goes_when_the_output_is_kept(journal: Journal, leases: Leases) -> None:
    submit(journal)
    held, _ = claim(leases)
    leases.keep_state(held, "i2v", 0, state("a", 5))
    leases.keep_state(held, "v2v", 0, state("b", 5))
    assert leases.keep(held, "i2v", 0, kept("output"))
    assert not leases.keep_state(held, "i2v", 0, state("late", 9))
    job = journal.get(held.job_id)
    assert (set(job.outputs), set(job.states)) == ({"i2v"}, {"v2v"})
    assert erased(journal) == {kept("a")["key"], kept("late")["key"]}


def test_states_go_with_the_end_of_their_job(journal: Journal, leases: Leases) -> None:
    submit(journal)
    held, _ = claim(leases)
    leases.keep_state(held, "i2v", 0, state("a", 5))
    leases.finish(Update(held), "failed", error=JobError(code="x", message="over"))
    assert journal.get(held.job_id).states == {}
    assert erased(journal) == {kept("a")["key"]}


def test_a_deadline_outlives_the_claim_and_no_longer_fails_the_job(journal: Journal, leases: Leases) -> None:
    job_id = journal.submit(NewJob(REQUEST, deadline_s=30.0))[0].id
    held, job = claim(leases)
    assert job.deadline_s == 30.0
    leases.release([held])
    with journal.database.write() as connection:
        assert connection.execute(select(jobs.c.deadline).where(jobs.c.id == job_id)).scalar() is None
    assert claim(leases)[1].deadline_s == 30.0
