"""What happens to a job's rows whoever changes them: it ends, its stages end or begin anew, an event is written.

Works inside a transaction of `Journal` or `Leases`; `now` is the database's clock.
"""

from typing import Any

from sqlalchemy import Connection, update

from deployments.jobs.values import State
from deployments.journal.deliveries import schedule_delivery
from deployments.journal.tables import job_events, jobs, stage_outputs

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
    schedule_delivery(connection, job_id, now)
    if state != "succeeded":
        end_stages(connection, job_id, "cancelled" if state == "cancelled" else "failed")
    kind = {"succeeded": "completed"}.get(state, state)
    log_event(connection, job_id, kind, now, **({"error": error} if error else {}))


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
        .values(status="waiting", progress=0, queued_s=None, run_s=None, bytes_out=None, origin=None)
    )


def log_event(connection: Connection, job_id: str, kind: str, now: float, /, **data: Any) -> None:
    """Readers of the job's events see it once the transaction is through."""
    connection.execute(job_events.insert().values(job_id=job_id, at=now, kind=kind, data=data))
