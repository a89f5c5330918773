"""What happens to a job's rows whoever changes them: it ends, its stages end or begin anew, an event is
written, a webhook is to be delivered (`deployments.tenants.webhooks` does).

Works inside a transaction of `Journal` or `Leases`; `now` is the database's clock.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from deployments.jobs.values import State
from deployments.journal.outputs import drop_files, drop_states
from deployments.journal.tables import (
    checkpoints,
    deliveries,
    forgotten,
    job_events,
    jobs,
    stage_outputs,
    tallies,
)

FORGOTTEN_S = 86_400.0  # so long a list goes on behind a job that was deleted
CANCELLED = {"code": "cancelled", "message": "The job was cancelled."}


def end_job(
    connection: Connection, job_id: str, state: State, error: Any, result: dict[str, Any] | None, now: float
) -> None:
    """The job, its stages and its webhook."""
    connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id)
        .values(state=state, error=error, result=result, finished_at=now, lease_until=None)
    )
    drop_states(connection, job_id)
    tally(connection, state, 1)
    schedule_delivery(connection, job_id, now)
    if state != "succeeded":
        end_stages(connection, job_id, "cancelled" if state == "cancelled" else "failed")
    kind = {"succeeded": "completed"}.get(state, state)
    log_event(connection, job_id, kind, now, **({"error": error} if error else {}))


def tally(connection: Connection, state: str, count: int) -> None:
    """So many jobs more are in a final state. Rows are only added, so that nobody waits for a counter's lock."""
    connection.execute(tallies.insert().values(state=state, count=count))


def forget_jobs(connection: Connection, ended: Sequence[Row[Any]], now: float) -> list[str]:
    """Remove jobs that have ended, whose rows the caller has locked; gives the keys of files that no job uses any more.

    Their places in the list are remembered for `FORGOTTEN_S`.
    """
    ids = [row.id for row in ended]
    unused = drop_files(connection, checkpoints.c.job_id.in_(ids))
    for table in (stage_outputs, job_events, deliveries):
        connection.execute(table.delete().where(table.c.job_id.in_(ids)))
    connection.execute(jobs.delete().where(jobs.c.id.in_(ids)))
    for state, count in Counter(row.state for row in ended).items():
        tally(connection, state, -count)
    places = [{"id": row.id, "tenant": row.tenant, "created_at": row.created_at, "forgotten_at": now} for row in ended]
    if places:
        connection.execute(forgotten.insert(), places)
    return unused


def tallied(connection: Connection) -> dict[str, int]:
    """Jobs in each final state."""
    total = func.sum(tallies.c.count)
    rows = connection.execute(select(tallies.c.state, total).group_by(tallies.c.state).having(total > 0))
    return dict(rows.tuples().all())


def end_stages(connection: Connection, job_id: str, status: str) -> None:
    """Stages that were under way get the job's end; those that never began stay `waiting`."""
    connection.execute(
        update(stage_outputs)
        .where(stage_outputs.c.job_id == job_id, stage_outputs.c.status.in_(("queued", "running")))
        .values(status=status)
    )


def reset_stages(connection: Connection, job_id: str) -> None:
    """The job begins again."""
    connection.execute(
        update(stage_outputs)
        .where(stage_outputs.c.job_id == job_id, stage_outputs.c.status != "skipped")
        .values(
            status="waiting", progress=0, queued_s=None, run_s=None, bytes_out=None, peak_memory_mb=None, origin=None
        )
    )


def log_event(connection: Connection, job_id: str, kind: str, now: float, /, **data: Any) -> None:
    """Readers of the job's events see it once the transaction is through."""
    connection.execute(job_events.insert().values(job_id=job_id, at=now, kind=kind, data=data))


def add_delivery(connection: Connection, job_id: str, url: str | None) -> None:
    """In the transaction that writes the job."""
    if url is not None:
        connection.execute(deliveries.insert().values(job_id=job_id, url=url, attempts=0))


def schedule_delivery(connection: Connection, job_id: str, now: float) -> None:
    """In the transaction that ends the job."""
    connection.execute(
        update(deliveries).where(deliveries.c.job_id == job_id, deliveries.c.delivered_at.is_(None)).values(due_at=now)
    )
