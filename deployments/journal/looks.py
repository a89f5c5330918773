"""Looks at the whole journal: what waits, what runs, what arrived, how long stages took. Reads only."""

import statistics

from sqlalchemy import Connection, and_, func, select

from deployments.jobs.outlook import Outlook, Rank, Underway, Waiting, rank_of
from deployments.journal.database import Database
from deployments.journal.tables import SUCCEEDED, jobs, stage_outputs
from stages.types import STAGE_NAMES, StageName

RECENT_JOBS = 32  # finished jobs whose seconds count

Arrival = tuple[float, str]
"""When a job was accepted, and its id; in the order of both."""


def read_measured(connection: Connection, preset: str) -> dict[StageName, float]:
    """Median seconds that a job of this preset computes at each stage; one that none has computed is missing."""
    recent = select(jobs.c.id).where(SUCCEEDED, jobs.c.preset == preset)
    newest = recent.order_by(jobs.c.created_at.desc()).limit(RECENT_JOBS)
    computed = select(stage_outputs.c.idx, stage_outputs.c.run_s).where(
        stage_outputs.c.job_id.in_(newest), stage_outputs.c.run_s.is_not(None), stage_outputs.c.origin.is_(None)
    )
    found: dict[StageName, list[float]] = {}
    for index, run_s in connection.execute(computed).tuples():
        found.setdefault(STAGE_NAMES[index], []).append(run_s)
    return {name: statistics.median(values) for name, values in found.items()}


def read_outlook(connection: Connection) -> Outlook:
    """Every job that waits or runs; nothing about the stages."""
    of_running = and_(stage_outputs.c.job_id == jobs.c.id, jobs.c.state == "running")
    query = (
        select(
            *(jobs.c.id, jobs.c.tenant, jobs.c.state, jobs.c.priority, jobs.c.created_at),
            *(stage_outputs.c.idx, stage_outputs.c.progress),
        )
        .outerjoin(stage_outputs, of_running)
        .where(jobs.c.state.in_(("queued", "running")))
    )
    waiting: list[Waiting] = []
    running: dict[Rank, dict[StageName, float]] = {}
    for row in connection.execute(query):
        rank = rank_of(row.priority, row.created_at, row.id)
        if row.state == "queued":
            waiting.append(Waiting(rank, row.tenant))
        else:
            running.setdefault(rank, {})[STAGE_NAMES[row.idx]] = 1 - row.progress / 100
    return Outlook(tuple(sorted(waiting)), tuple(Underway(rank, left) for rank, left in running.items()))


def finished_by_minute(database: Database, minutes: int = 60) -> list[int]:
    """Jobs that succeeded in each of the last minutes, the newest last."""
    with database.read() as connection:
        now = database.now(connection)
        ended = select(jobs.c.finished_at).where(jobs.c.finished_at > now - 60 * minutes, SUCCEEDED)
        found = [0] * minutes
        for (at,) in connection.execute(ended).tuples():
            found[max(0, minutes - 1 - max(0, int((now - at) // 60)))] += 1
    return found


def oldest_queued_s(database: Database) -> float:
    """For how long the oldest queued job has waited; 0 where none waits."""
    waits = select(database.clock() - func.min(jobs.c.created_at)).where(jobs.c.state == "queued")
    with database.read() as connection:
        age_s = connection.execute(waits).scalar()
    return 0.0 if age_s is None else max(0.0, age_s)


def read_arrivals(database: Database, last: Arrival) -> tuple[float, list[Arrival], int]:
    """The time, the jobs accepted after `last`, and how many nobody has claimed."""
    new = select(jobs.c.created_at, jobs.c.id).where(jobs.c.created_at >= last[0])
    in_order = new.order_by(jobs.c.created_at, jobs.c.id)
    waiting = select(func.count()).where(jobs.c.state == "queued")
    with database.read() as connection:
        now = database.now(connection)
        rows = [(made, job_id) for made, job_id in connection.execute(in_order).tuples()]
        return now, [row for row in rows if row > last], int(connection.execute(waiting).scalar_one())
