"""One clock: whatever this host takes the time to be, jobs, leases, webhooks and keys go by the database's.

SQLite has no clock but its host's, so there the two agree whatever happens; on PostgreSQL they are two hours apart.
"""

import ast
import time
from pathlib import Path

import pytest
from sqlalchemy import select

import deployments
from client.schema import JobError, StageState
from cluster.policy.reports import from_floats
from deployments.jobs.values import Job, NewJob, Update
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from deployments.journal.looks import oldest_queued_s
from deployments.journal.sweeps import Sweeps
from deployments.journal.tables import deliveries
from deployments.pipeline.demand import Demand
from deployments.settings.application import AppArgs
from deployments.tenants.keys import KeyBook
from tests.deployments.journal.job_acts import LONG_S, RECORD, REQUEST, claim, submit

HOUR_S = 3600.0
HOOKED = NewJob(REQUEST, webhook_url="https://example.com/hook")
NOW = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today")}


@pytest.fixture(autouse=True, params=[-2 * HOUR_S, 2 * HOUR_S], ids=["host-late", "host-early"])
def host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    true = time.time
    monkeypatch.setattr(time, "time", lambda: true() + request.param)


def ended(journal: Journal, leases: Leases, how: str) -> Job:
    job_id = journal.submit(HOOKED)[0].id
    if how == "cancelled while queued":
        journal.request_cancel(job_id)
        return journal.get(job_id)
    held, _ = claim(leases)
    running = Update(held, (StageState(name="t2i", status="running"),), (("stage_started", {"stage": "t2i"}),))
    leases.record([running])
    if how == "cancelled in its pause":
        journal.request_cancel(job_id)
        leases.pause(Update(held), "t2i")
    elif how == "succeeded":
        leases.finish(Update(held), "succeeded", result=dict(RECORD))
    else:
        leases.finish(Update(held), "failed", error=JobError(code="x", message="y"))
    return journal.get(job_id)


@pytest.mark.parametrize("how", ["succeeded", "failed", "cancelled in its pause", "cancelled while queued"])
def test_a_job_ends_after_it_began_and_its_webhook_is_due_at_once(journal: Journal, leases: Leases, how: str) -> None:
    before = journal.database.time()
    job = ended(journal, leases, how)
    with journal.database.read() as connection:
        due_at = connection.execute(select(deliveries.c.due_at)).scalar_one()
    after = journal.database.time()
    assert job.finished_at is not None
    times = [before, job.created_at, *(event.at for event in journal.events(job.id)), job.finished_at, after]
    assert times == sorted(times)
    assert job.finished_at <= due_at <= after


def test_events_of_a_job_that_waits_again_are_in_order(journal: Journal, leases: Leases) -> None:
    before = journal.database.time()
    submit(journal)
    held, _ = claim(leases)
    leases.release([held])
    held, _ = claim(leases)
    leases.pause(Update(held), "t2i")
    journal.go_on(held.job_id, 0)
    times = [before, *(event.at for event in journal.events(held.job_id)), journal.database.time()]
    assert times == sorted(times)


def test_checkpoints_stay_until_their_time_is_over(journal: Journal, leases: Leases) -> None:
    submit(journal)
    held, _ = claim(leases)
    leases.keep(held, "t2i", 0, dict(RECORD))
    leases.finish(Update(held), "succeeded", result={})
    sweeps = Sweeps(journal.database)
    assert sweeps.outputs(HOUR_S) == 0
    assert sweeps.outputs(-HOUR_S) == 1


def test_waiting_is_counted_from_the_acceptance(journal: Journal, leases: Leases) -> None:
    before = journal.database.time()
    submit(journal)
    oldest_s = oldest_queued_s(journal.database)
    held, _ = claim(leases, LONG_S)
    assert 0 <= oldest_s <= held.waited_s <= journal.database.time() - before


def test_keys_are_made_and_revoked_when_the_database_says(url: str) -> None:
    database = Database(url)
    before, book = database.time(), KeyBook(database)
    key, _ = book.create("studio")
    revoked_at = book.revoke(key.id).revoked_at
    assert revoked_at is not None
    assert before <= key.created_at <= revoked_at <= database.time()
    database.close()


async def test_only_jobs_that_arrive_now_count_as_arrivals(journal: Journal) -> None:
    submit(journal)
    demand = Demand(AppArgs(), journal.database)
    await demand.look()
    for _ in range(3):
        submit(journal)
    await demand.look()
    report = from_floats(demand.read(0))
    assert report is not None
    assert 0 < report.arrivals_per_s <= 3 / 15  # no less than a twentieth of the window counts


def test_only_the_database_is_asked_what_time_it_is() -> None:
    asking = {
        path.name
        for path in Path(deployments.__path__[0]).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and (node.value.id, node.attr) in NOW
    }
    assert asking == {"database.py"}
