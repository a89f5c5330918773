"""Every pair of transitions of a job at the same time, on PostgreSQL, in the widest window there is.

The first one is stopped before its transaction ends; the second one runs until it is through or waits for a lock of the
first; then the first one goes on. What must hold afterwards does not depend on who came first.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from sqlalchemy import event, func, select, text

from client.schema import JobError
from deployments.errors import ApiError, LeaseLostError
from deployments.jobs.values import FINAL, Claim, NewJob, Update
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from deployments.journal.tables import checkpoints, erasures, holdings, jobs
from tests.deployments.journal.job_acts import LAPSED_S, LONG_S, REQUEST, kept
from tests.postgres import new_database

DEADLINE_S = 120.0
RESULT = {"key": "videos/raced/1.mp4"}
WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")


@dataclass(frozen=True)
class Scene:
    """One job that is raced for."""

    journal: Journal
    leases: Leases
    held: Claim

    @property
    def job_id(self) -> str:
        return self.held.job_id


Act = Callable[[Scene], object]
ACTS: dict[str, Act] = {
    "cancel": lambda scene: scene.journal.request_cancel(scene.job_id),
    "delete": lambda scene: scene.journal.delete(scene.job_id),
    "pause": lambda scene: scene.leases.pause(Update(scene.held), "t2i"),
    "continue": lambda scene: scene.journal.go_on(scene.job_id, 0),
    "release": lambda scene: scene.leases.release([scene.held]),
    "succeed": lambda scene: scene.leases.finish(Update(scene.held), "succeeded", result=dict(RESULT)),
    "fail": lambda scene: scene.leases.finish(Update(scene.held), "failed", error=JobError(code="x", message="y")),
    "keep": lambda scene: scene.leases.keep(scene.held, "i2v", 0, kept("i2v")),
    "beat": lambda scene: scene.leases.beat([scene.held], LONG_S),
    "claim": lambda scene: scene.leases.claim("b", LONG_S),
    "remix": lambda scene: scene.journal.submit(NewJob(REQUEST, parent_id=scene.job_id, needs={"t2i": [0]})),
}
STARTS = ("running", "lapsed", "often lapsed", "queued", "paused", "succeeded")


@pytest.fixture(scope="module")
def opened() -> Iterator[tuple[Database, Database]]:
    url = new_database()
    both = Database(url), Database(url)
    yield both
    for database in both:
        database.close()


def begin(database: Database, start: str) -> Scene:
    """A job in that state, with one output."""
    with database.write() as connection:
        tables = "jobs, checkpoints, erasures, tallies, holdings, job_events, stage_outputs, deliveries, forgotten"
        connection.execute(text(f"TRUNCATE {tables}"))
    journal, leases = Journal(database), Leases(database)
    journal.submit(NewJob(REQUEST))
    claimed = leases.claim("a", LAPSED_S if "lapsed" in start else LONG_S)
    assert claimed is not None
    held = claimed[0]
    leases.keep(held, "t2i", 0, kept("t2i"))
    if start == "often lapsed":
        with database.write() as connection:
            connection.execute(jobs.update().values(claims=5))
    if start == "queued":
        leases.release([held])
    elif start == "paused":
        leases.pause(Update(held), "t2i")
    elif start == "succeeded":
        leases.finish(Update(held), "succeeded", result=dict(RESULT))
    return Scene(journal, leases, held)


def outcome(act: Act, scene: Scene) -> object:
    try:
        return act(scene)
    except (LeaseLostError, ApiError) as error:
        return error


def race(databases: tuple[Database, Database], scene: Scene, first: Act, second: Act) -> tuple[object, object]:
    """What both gave; the first one's transaction ends last, unless the second one waits for it."""
    stopped, go_on = threading.Event(), threading.Event()
    gave: dict[str, object] = {}
    other = Scene(Journal(databases[1]), Leases(databases[1]), scene.held)

    def stop(_connection: object) -> None:
        if threading.current_thread() is early and not stopped.is_set():
            stopped.set()
            assert go_on.wait(DEADLINE_S)

    early = threading.Thread(target=lambda: gave.update(first=outcome(first, scene)))
    late = threading.Thread(target=lambda: gave.update(second=outcome(second, other)))
    event.listen(databases[0].engine, "commit", stop)
    try:
        early.start()
        until(lambda: stopped.is_set() or not early.is_alive())
        late.start()
        until(lambda: not late.is_alive() or waits(databases[1]))
    finally:
        go_on.set()
        early.join()
        late.join()
        event.remove(databases[0].engine, "commit", stop)
    return gave["first"], gave["second"]


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def waits(database: Database) -> bool:
    with database.read() as connection:
        return bool(connection.execute(WAITING).scalar_one())


@pytest.mark.slow
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", ACTS)
def test_whatever_happens_at_once_the_job_is_whole(opened: tuple[Database, Database], name: str, start: str) -> None:
    for other in ACTS:
        scene = begin(opened[0], start)
        gave = dict(zip((name, f"then {other}"), race(opened, scene, ACTS[name], ACTS[other]), strict=True))
        assert broken(scene, gave) == [], (start, gave)


def broken(scene: Scene, gave: dict[str, object]) -> list[str]:
    """Sentences on what does not hold."""
    found = []
    with scene.journal.database.read() as connection:
        row = connection.execute(select(jobs).where(jobs.c.id == scene.job_id)).first()
        sizes = {row.key: row.record.get("bytes", 0) for row in connection.execute(select(checkpoints))}
        named, held = set(sizes), connection.execute(select(func.sum(holdings.c.bytes))).scalar() or 0
        whose = set(connection.execute(select(checkpoints.c.job_id)).scalars())
        known = set(connection.execute(select(jobs.c.id)).scalars())
        to_erase = set(connection.execute(select(erasures.c.key)).scalars())
        states = list(connection.execute(select(jobs.c.state)).scalars())
    counts = {state: states.count(state) for state in states}
    if scene.journal.counts() != counts:
        found.append(f"counted are {scene.journal.counts()}, there are {counts}")
    if held != sum(sizes.values()):
        found.append(f"{held} bytes are counted, there are {sum(sizes.values())}")
    if whose - known:
        found.append("outputs stay of a job that was deleted")
    if named & to_erase:
        found.append(f"{named & to_erase} is named and to be erased")
    written = {"checkpoints/t2i.bin"} | {"checkpoints/i2v.bin" for name in gave if name.endswith("keep")}
    if lost := written - named - to_erase:
        found.append(f"{lost} is neither named nor to be erased")
    cancelled = any(name.endswith("cancel") and gave[name] in ("running", "cancelled") for name in gave)
    if row is None:
        return found if any(isinstance(gave[name], list) for name in gave) else [*found, "the job is gone"]
    kinds = [event.kind for event in scene.journal.events(scene.job_id)]
    ends = [kind for kind in kinds if kind in ("completed", "failed", "cancelled")]
    if len(ends) != (row.state in FINAL) or (ends and kinds[-1] != ends[0]):
        found.append(f"it is {row.state} and its events are {kinds}")
    if (row.state == "running") != (row.owner is not None) and row.state not in FINAL:
        found.append(f"it is {row.state} and its owner is {row.owner}")
    if cancelled and row.state not in FINAL and not (row.cancel_requested and row.state == "running"):
        found.append(f"a cancel is lost: it is {row.state}")
    return found
