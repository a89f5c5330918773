"""A job's rows as values: the one place that knows which column is which.

Reads only; `deployments.journal.journal` and `deployments.journal.leases` write.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, or_, select

from client.schema import JobError, StageState
from deployments.errors import VideoNotFoundError
from deployments.jobs.plans import plan_of, planned_of
from deployments.jobs.values import FINAL, SOFT_S, Job, JobRequest, NewJob, Outputs, Planned
from deployments.journal.outputs import STATES
from deployments.journal.tables import checkpoints, jobs, stage_outputs
from stages.types import STAGE_NAMES, StageName

PARKED = "parked"  # code of the column `error`, of an unfinished job that has stopped for an urgent one
URGENT = (jobs.c.priority.desc(), jobs.c.created_at + func.coalesce(jobs.c.promised_s, SOFT_S), jobs.c.id)
"""The order of claims of one tenant; `deployments.jobs.outlook.rank_of` is the same."""

Stages = tuple[tuple[StageState, ...], Outputs, Mapping[StageName, int], Outputs]


def read_job(connection: Connection, job_id: str, tenant: str | None = None) -> Job:
    """One job; `tenant`: only one of this tenant.

    Raises:
        VideoNotFoundError: there is none.
    """
    row = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
    if row is None or tenant not in (None, row.tenant):
        raise VideoNotFoundError(job_id)
    return job_of(row, *read_stages(connection, [job_id])[job_id])


def lock_job(connection: Connection, job_id: str, tenant: str | None = None) -> Row[Any]:
    """The row of one job, which nobody else changes until this transaction ends.

    Raises:
        VideoNotFoundError: there is none.
    """
    row = connection.execute(select(jobs).where(jobs.c.id == job_id).with_for_update()).first()
    if row is None or tenant not in (None, row.tenant):
        raise VideoNotFoundError(job_id)
    return row


def job_of(
    row: Row[Any],
    stages: tuple[StageState, ...],
    outputs: Outputs,
    failures: Mapping[StageName, int],
    states: Outputs,
) -> Job:
    request = JobRequest.model_validate(row.request)
    return Job(
        id=row.id,
        state=row.state,
        request=request,
        created_at=row.created_at,
        finished_at=row.finished_at,
        error=JobError.model_validate(row.error) if row.error and row.state in FINAL else None,
        result=row.result,
        cancel_requested=row.cancel_requested,
        claims=row.claims,
        stages=stages,
        # NULL: written before plans were kept
        planned=Planned.model_validate(row.planned) if row.planned else planned_of(request, plan_of(request)),
        outputs=outputs,
        states=states,
        tenant=row.tenant,
        parent_id=row.parent_id,
        priority=row.priority,
        deadline_s=row.promised_s,
        failures=failures,
        waits_for=row.error["message"] if row.error and row.state not in FINAL else None,
        claimed_at=row.claimed_at,
    )


def written_job(job_id: str, new: NewJob, planned: Planned, now: float, stages: tuple[StageState, ...]) -> Job:
    """What was just written, without reading it back."""
    return Job(
        id=job_id,
        state="queued",
        request=new.request,
        created_at=now,
        finished_at=None,
        error=None,
        result=None,
        cancel_requested=False,
        claims=0,
        stages=stages,
        planned=planned,
        tenant=new.tenant,
        priority=new.priority,
        deadline_s=new.deadline_s,
    )


def read_stages(connection: Connection, ids: Sequence[str]) -> dict[str, Stages]:
    query = select(stage_outputs).where(stage_outputs.c.job_id.in_(ids)).order_by(stage_outputs.c.idx)
    found: dict[str, list[StageState]] = {job_id: [] for job_id in ids}
    outputs: dict[str, dict[StageName, dict[int, dict[str, Any]]]] = {job_id: {} for job_id in ids}
    states: dict[str, dict[StageName, dict[int, dict[str, Any]]]] = {job_id: {} for job_id in ids}
    failures: dict[str, dict[StageName, int]] = {job_id: {} for job_id in ids}
    for row in connection.execute(query):
        found[row.job_id].append(
            StageState(
                name=row.name,
                status=row.status,
                progress=row.progress,
                queued_s=row.queued_s,
                run_s=row.run_s,
                bytes_out=row.bytes_out,
                peak_memory_mb=row.peak_memory_mb,
                origin=row.origin,
            )
        )
        if row.failures:
            failures[row.job_id][stage_name(row.name)] = row.failures
    count = len(STAGE_NAMES)
    of_stages = or_(checkpoints.c.idx.between(0, count - 1), checkpoints.c.idx.between(STATES, STATES + count - 1))
    kept = select(checkpoints).where(checkpoints.c.job_id.in_(ids), of_stages)
    for row in connection.execute(kept):
        held, index = (outputs, row.idx) if row.idx < STATES else (states, row.idx - STATES)
        held[row.job_id].setdefault(STAGE_NAMES[index], {})[row.number] = row.record
    return {job_id: (tuple(own), outputs[job_id], failures[job_id], states[job_id]) for job_id, own in found.items()}


def stage_name(name: str) -> StageName:
    return next(known for known in STAGE_NAMES if known == name)
