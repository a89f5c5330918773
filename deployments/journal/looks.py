"""Looks at the whole journal: what waits, what runs, what arrived, how long stages took. Reads only."""

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, and_, func, select

from deployments.jobs.outlook import Outlook, Unfinished, rank_of
from deployments.jobs.values import JobRequest
from deployments.jobs.work import Load, Loads, Speed, left_of, loads_of, speed_of
from deployments.journal.database import Database
from deployments.journal.tables import SUCCEEDED, checkpoints, jobs, stage_outputs
from stages.types import STAGE_NAMES, StageName

RECENT_JOBS = 32  # finished jobs whose seconds count
_AT_ONCE = 500  # ids in a query
_NOTHING = Outlook()

Arrival = tuple[float, str]
"""When a job was accepted, and its id; in the order of both."""
Paths = Sequence[Collection[StageName]]
"""Of each job that arrived, the stages that compute for it."""


def read_measured(connection: Connection, preset: str) -> dict[StageName, Speed]:
    """What recent jobs of this preset have shown; a stage that none has computed is missing."""
    recent = select(jobs.c.id).where(SUCCEEDED, jobs.c.preset == preset)
    newest = recent.order_by(jobs.c.created_at.desc()).limit(RECENT_JOBS)
    computed = (
        select(stage_outputs.c.idx, stage_outputs.c.run_s, jobs.c.request)
        .join(jobs, jobs.c.id == stage_outputs.c.job_id)
        .where(jobs.c.id.in_(newest), stage_outputs.c.run_s.is_not(None), stage_outputs.c.origin.is_(None))
    )
    found: dict[StageName, list[tuple[Load, float]]] = {}
    for index, run_s, request in connection.execute(computed).tuples():
        name = STAGE_NAMES[index]
        if (load := loads_of(JobRequest.model_validate(request)).get(name)) is not None:
            found.setdefault(name, []).append((load, run_s))
    return {name: speed_of(name, done) for name, done in found.items()}


def read_outlook(connection: Connection, before: Outlook = _NOTHING) -> Outlook:
    """Every job that waits or runs; nothing about the stages. What jobs ask is not read again of those in `before`."""
    of_running = and_(stage_outputs.c.job_id == jobs.c.id, jobs.c.state == "running")
    query = (
        select(
            *(jobs.c.id, jobs.c.tenant, jobs.c.state, jobs.c.priority, jobs.c.created_at, jobs.c.promised_s),
            *(stage_outputs.c.idx, stage_outputs.c.progress),
        )
        .outerjoin(stage_outputs, of_running)
        .where(jobs.c.state.in_(("queued", "running")))
    )
    rows = connection.execute(query).all()
    loads = _loads(connection, {(row.state, row.id) for row in rows}, before)
    kept = _kept(connection)
    waiting: list[Unfinished] = []
    running: dict[str, Unfinished] = {}
    progress: dict[str, dict[StageName, int]] = {}
    for row in rows:
        rank, asked = rank_of(row.priority, row.created_at, row.id, row.promised_s), loads[row.state, row.id]
        if row.state == "queued":
            waiting.append(Unfinished(rank, asked, left_of(asked, kept.get(row.id, {})), row.tenant))
        else:
            progress.setdefault(row.id, {})[STAGE_NAMES[row.idx]] = row.progress
            left = {name: 1 - progress[row.id].get(name, 0) / 100 for name in asked}
            running[row.id] = Unfinished(rank, asked, left, row.tenant)
    return Outlook(tuple(sorted(waiting)), tuple(running.values()))


def _loads(
    connection: Connection, wanted: Collection[tuple[str, str]], before: Outlook
) -> dict[tuple[str, str], Loads]:
    """By state and id, as a job that was continued asks more than it did before it paused."""
    known = {
        (state, one.rank[2]): one.loads
        for state, these in (("queued", before.waiting), ("running", before.running))
        for one in these
    }
    new = [one for one in wanted if one not in known]
    for at in range(0, len(new), _AT_ONCE):
        states = {job_id: state for state, job_id in new[at : at + _AT_ONCE]}
        query = select(jobs.c.id, jobs.c.request).where(jobs.c.id.in_(states))
        for job_id, request in connection.execute(query).tuples():
            known[states[job_id], job_id] = loads_of(JobRequest.model_validate(request))
    return known


def _kept(connection: Connection, ids: Sequence[str] | None = None) -> dict[str, dict[StageName, int]]:
    """How many outputs of each stage jobs have: the queued ones, or these."""
    these = jobs.c.state == "queued" if ids is None else jobs.c.id.in_(ids[:_AT_ONCE])
    query = (
        select(checkpoints.c.job_id, checkpoints.c.idx, func.count())
        .join(jobs, jobs.c.id == checkpoints.c.job_id)
        .where(these, checkpoints.c.idx.between(0, len(STAGE_NAMES) - 1))
        .group_by(checkpoints.c.job_id, checkpoints.c.idx)
    )
    found: dict[str, dict[StageName, int]] = {}
    for job_id, index, count in connection.execute(query).tuples():
        found.setdefault(job_id, {})[STAGE_NAMES[index]] = count
    return found


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


def read_arrivals(database: Database, last: Arrival) -> tuple[float, list[Arrival], Paths, int]:
    """The time, the jobs accepted after `last` with the stages that each passes, and how many nobody has claimed."""
    new = select(jobs.c.created_at, jobs.c.id, jobs.c.request).where(jobs.c.created_at >= last[0])
    in_order = new.order_by(jobs.c.created_at, jobs.c.id)
    waiting = select(func.count()).where(jobs.c.state == "queued")
    with database.read() as connection:
        now = database.now(connection)
        rows = [row for row in connection.execute(in_order).tuples() if row[:2] > last]
        kept = _kept(connection, [job_id for _, job_id, _ in rows]) if rows else {}
        queued = int(connection.execute(waiting).scalar_one())
    asked = {job_id: loads_of(JobRequest.model_validate(request)) for _, job_id, request in rows}
    left = {job_id: left_of(loads, kept.get(job_id, {})) for job_id, loads in asked.items()}
    paths = [[name for name in asked[job_id] if left[job_id].get(name, 1.0) > 0] for _, job_id, _ in rows]
    return now, [(made, job_id) for made, job_id, _ in rows], paths, queued
