"""What must hold whatever happens to executors and to the database, on SQLite and on PostgreSQL.

Real processes (`tests.deployments.journal.executor`) work on one journal while they are killed, stopped and cut off;
afterwards `violations` reads what they did. The same check must notice each of three mutants.
"""

import itertools
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client.schema import JobError
from deployments.errors import LeaseLostError
from deployments.jobs.values import FINAL, NewJob, Update
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.journal.leases import MAX_CLAIMS, PAUSE_FROM, Leases
from tests.deployments.journal.executor import ENDS, Mutant, violations
from tests.deployments.journal.fleet import LEASE_S, REQUEST, Fleet, unreachable, until

STEADY_S = 3.0  # a lease that one who was not struck keeps on a busy machine, too


@pytest.fixture
def fleet(url: str, tmp_path: Path, journal: Journal) -> Iterator[Fleet]:
    made = Fleet(url, tmp_path, journal)
    yield made
    made.end()


# 1, 2, 3, 4, 7, 18: kill -9


@pytest.mark.slow
def test_jobs_whose_executors_are_killed_end_once_and_run_no_stage_twice(fleet: Fleet) -> None:
    for owner in "abc":
        fleet.start(owner, stage_s=0.4, lease_s=STEADY_S)
    fleet.ready()
    ids = fleet.submit(18)
    for owner in "ab":
        until(f"{owner} to have kept something", lambda owner=owner: _kept_by(fleet, owner))  # type: ignore[misc]
        fleet.strike(owner, signal.SIGKILL)
        assert fleet.held_by(owner), "the fault struck nothing"
    fleet.all_ended()
    assert violations(fleet.url, fleet.struck) == []
    assert {fleet.journal.get(job_id).state for job_id in ids} == {"succeeded"}
    taken_over = [job_id for job_id in ids if "restarted" in fleet.kinds(job_id)]
    assert taken_over
    assert {fleet.owners(job_id)[-1] for job_id in taken_over} <= {"b", "c"}
    assert any("stage_restored" in fleet.kinds(job_id) for job_id in taken_over)


def _kept_by(fleet: Fleet, owner: str) -> bool:
    return any(fleet.journal.get(job_id).outputs for job_id in fleet.held_by(owner))


# 5, 18: SIGSTOP past the lease, then SIGCONT


def stop_and_go_on(fleet: Fleet, **settings: Any) -> str:
    """An executor is stopped in a stage, its job is taken over, and it writes on while the other one works."""
    fleet.start("old", stage_s=0.5, stubborn=True, slots=1, **settings)
    fleet.ready()
    [job_id] = fleet.submit(1)
    until("the first output", lambda: bool(fleet.journal.get(job_id).outputs))
    fleet.strike("old", signal.SIGSTOP)
    fleet.start("new", stage_s=1.0, slots=1, **settings)
    until("the takeover", lambda: fleet.owners(job_id) == ["old", "new"])
    fleet.strike("old", signal.SIGCONT)
    fleet.struck.discard("new")
    until("the old one to speak", lambda: fleet.said("old", "stale output") or job_id not in fleet.held_by("new"))
    fleet.all_ended()
    return job_id


@pytest.mark.slow
def test_what_a_stopped_executor_writes_after_the_takeover_changes_nothing(fleet: Fleet) -> None:
    job_id = stop_and_go_on(fleet)
    assert fleet.said("old", "stale output"), "it wrote nothing"
    until("its last word", lambda: fleet.said("old", "stale end"))
    assert violations(fleet.url, {"old"}) == []
    job = fleet.journal.get(job_id)
    assert (job.state, (job.result or {})["owner"]) == ("succeeded", "new")
    fences = {record["key"].split("/")[2].split("-")[0] for own in job.outputs.values() for record in own.values()}
    assert fences == {"1", "2"}
    assert fleet.kinds(job_id)[-1] == "completed"


@pytest.mark.slow
def test_an_executor_that_was_stopped_lets_its_job_go(fleet: Fleet) -> None:
    fleet.start("old", stage_s=0.5)
    fleet.ready()
    [job_id] = fleet.submit(1)
    until("a claim", lambda: fleet.held_by("old"))
    fleet.strike("old", signal.SIGSTOP)
    fleet.start("new", stage_s=0.1)
    until("the takeover", lambda: fleet.owners(job_id) == ["old", "new"])
    fleet.strike("old", signal.SIGCONT)
    until("the old one to learn of it", lambda: fleet.said("old", "lost"))
    fleet.all_ended()
    assert violations(fleet.url, {"old"}) == []
    assert fleet.said("old", "stale end") == []


# 6: a live owner keeps its job


def long_stage(fleet: Fleet, **settings: Any) -> str:
    """A job with a stage that lasts longer than a lease, and another executor that looks for work."""
    fleet.start("one", first_s=1.6 * STEADY_S, lease_s=STEADY_S, **settings)
    fleet.ready()
    [job_id] = fleet.submit(1)
    until("a claim", lambda: fleet.held_by("one"))
    fleet.start("other", first_s=1.6 * STEADY_S, lease_s=STEADY_S, **settings)
    until("the end, or another owner", lambda: fleet.journal.get(job_id).state in FINAL or fleet.owners(job_id)[1:])
    return job_id


@pytest.mark.slow
def test_an_owner_whose_stage_outlasts_its_lease_keeps_its_job(fleet: Fleet) -> None:
    job_id = long_stage(fleet)
    assert fleet.said("other", "ready"), "nobody else was there"
    assert violations(fleet.url) == []
    assert fleet.owners(job_id) == ["one"]


# 15: the database cannot be reached for longer than the lease


@pytest.mark.slow
def test_an_executor_without_its_database_stops_itself_and_the_job_is_done_later(fleet: Fleet) -> None:
    fleet.start("cut off", stage_s=0.3 * LEASE_S, slots=1)
    fleet.ready()
    [job_id] = fleet.submit(1)
    until("the first output", lambda: bool(fleet.journal.get(job_id).outputs))
    with unreachable(fleet.url):
        until("the executor to stop itself", lambda: fleet.said("cut off", "lost"))
    fleet.struck.add("cut off")  # after the outage it may take its own job over, under a new fence
    fleet.all_ended()
    assert violations(fleet.url, fleet.struck) == []
    assert fleet.journal.get(job_id).state == "succeeded"
    assert len(fleet.owners(job_id)) > 1, "the outage was shorter than the lease"


# 11: a cancel against the end


def test_a_cancel_against_the_end_gives_one_outcome(journal: Journal, leases: Leases, url: str) -> None:
    other = Journal(Database(url))
    outcomes = set()
    for round_ in range(12):
        job_id = journal.submit(NewJob(REQUEST))[0].id
        claimed = leases.claim("a", 60.0)
        assert claimed is not None
        start = threading.Barrier(2)

        def cancel(job_id: str = job_id, start: threading.Barrier = start) -> None:
            start.wait()
            other.request_cancel(job_id)

        thread = threading.Thread(target=cancel)
        thread.start()
        start.wait()
        wanted = leases.beat([claimed[0]], 60.0).cancelled if round_ % 2 else frozenset()
        error = JobError(code="cancelled", message="enough")
        if wanted:
            leases.finish(Update(claimed[0]), "cancelled", error=error)
        else:
            leases.finish(Update(claimed[0]), "succeeded", result={"owner": "a"})
        thread.join()
        state = journal.get(job_id).state
        outcomes.add(state)
        assert state == ("cancelled" if wanted else "succeeded")
        with pytest.raises(LeaseLostError):
            leases.finish(Update(claimed[0]), "cancelled", error=error)
    assert violations(url) == []
    assert outcomes <= {"succeeded", "cancelled"}
    other.database.close()


# 12: what fails is counted, and what dies without getting anywhere is given up; but only that


def test_only_deaths_without_a_new_output_count_against_a_job(journal: Journal, leases: Leases) -> None:
    [job_id] = [journal.submit(NewJob(REQUEST))[0].id]
    record = {"key": "checkpoints/a/1.bin", "bytes": 1, "sha256": "00"}
    for number, _ in enumerate(range(2 * MAX_CLAIMS)):
        claimed = leases.claim("a", -1.0)
        assert claimed is not None, f"given up after {number} deaths, each with a new output"
        assert leases.keep(claimed[0], "v2v", number, dict(record))
    for _ in range(PAUSE_FROM - 1):
        assert leases.claim("a", -1.0) is not None
    assert leases.claim("a", -1.0) is None
    assert journal.get(job_id).state == "queued"
    assert journal.events(job_id)[-1].data == {"pause_s": 2.0}


# 14: a reader misses no event


def test_a_reader_of_events_misses_none_while_several_write(url: str) -> None:
    databases = [Database(url) for _ in range(3)]
    reader, writers = Journal(databases[0]), [Leases(database) for database in databases[1:]]
    ids = [reader.submit(NewJob(REQUEST))[0].id for _ in range(2)]
    claims = dict(zip(ids, [writers[0].claim("a", 60.0) for _ in ids], strict=True))
    rounds = 40

    def write(own: Leases) -> None:
        for number in range(rounds):
            events = (("stage_progress", {"number": number, "by": id(own)}),)
            own.record([Update(claimed[0], events=events) for claimed in claims.values() if claimed is not None])

    threads = [threading.Thread(target=write, args=(own,)) for own in writers]
    seen: dict[str, list[Any]] = {job_id: [] for job_id in ids}
    for thread in threads:
        thread.start()
    while True:
        alive = any(thread.is_alive() for thread in threads)
        for job_id in ids:
            after = seen[job_id][-1].seq if seen[job_id] else 0
            seen[job_id] += reader.events(job_id, after=after)
        if not alive:
            break
    for job_id in ids:
        assert seen[job_id] == reader.events(job_id)
        assert len(seen[job_id]) == 2 + rounds * len(writers)
        assert all(one.seq < next_.seq for one, next_ in itertools.pairwise(seen[job_id]))
    for database in databases:
        database.close()


# 17: the check notices what it is there for


CROWD_LEASE_S = 60.0  # this is about claims: none of them may lapse on a machine that stalls


def crowd(fleet: Fleet, **settings: Any) -> None:
    """Many executors that look for the same few jobs at once."""
    ids = fleet.submit(8)
    for owner in "abcd":
        fleet.start(owner, stage_s=0.02, slots=4, look_s=0.03, lease_s=CROWD_LEASE_S, **settings)
    until("the end, or a mistake", lambda: set(fleet.journal.counts()) <= FINAL or claim_errors(fleet))
    if settings:
        until("every job to be claimed", lambda: all(fleet.owners(job_id) for job_id in ids) or claim_errors(fleet))


def claim_errors(fleet: Fleet) -> list[str]:
    """Claims that a database refused half-way: on SQLite that is what two claimers without a lock do to each other."""
    return [f"7: {line['owner']} got {line['stage']}" for owner in "abcd" for line in fleet.said(owner, "claim failed")]


@pytest.mark.slow
def test_many_executors_share_a_queue_without_a_mistake(fleet: Fleet) -> None:
    crowd(fleet)
    fleet.ready()
    assert violations(fleet.url) + claim_errors(fleet) == []


@pytest.mark.slow
@pytest.mark.parametrize("mutant", ["no_fence", "no_row_lock", "no_heartbeat"])
def test_the_check_notices_when_a_guard_is_gone(fleet: Fleet, mutant: Mutant) -> None:
    if mutant == "no_fence":
        stop_and_go_on(fleet, mutant=mutant)
        broken = violations(fleet.url, {"old"})
        assert any(text.startswith("5:") for text in broken), broken
    elif mutant == "no_row_lock":
        crowd(fleet, mutant=mutant)
        broken = violations(fleet.url) + claim_errors(fleet)
        assert any(text.startswith("7:") for text in broken), broken
    else:
        long_stage(fleet, mutant=mutant)
        broken = violations(fleet.url)
        assert any(text.startswith("6:") for text in broken), broken


def test_the_check_finds_nothing_wrong_with_a_job_that_ended_well_and_names_one_that_did_not(
    journal: Journal, leases: Leases
) -> None:
    done, left = journal.submit(NewJob(REQUEST))[0].id, journal.submit(NewJob(REQUEST))[0].id
    claimed = leases.claim("a", 60.0)
    assert claimed is not None
    leases.finish(Update(claimed[0]), "succeeded", result={"owner": "a"})
    assert [event.kind for event in journal.events(done)][-1] in ENDS
    url = journal.database.engine.url.render_as_string(hide_password=False)
    assert violations(url) == [f"1: {left} is queued", f"2: {left} went on after its end with queued"]
