"""A job's rows as values: the one place that knows which column is which.

Reads only; `deployments.jobs` writes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from client.schema import JobError, StageState
from deployments.job_types import Job, JobRequest, Outputs
from deployments.tables import checkpoints, stage_outputs
from stages.types import STAGE_NAMES, StageName

Stages = tuple[tuple[StageState, ...], Outputs, Mapping[StageName, int]]


def job_of(row: Row[Any], stages: tuple[StageState, ...], outputs: Outputs, failures: Mapping[StageName, int]) -> Job:
    return Job(
        id=row.id,
        state=row.state,
        request=JobRequest.model_validate(row.request),
        created_at=row.created_at,
        finished_at=row.finished_at,
        error=JobError.model_validate(row.error) if row.error else None,
        result=row.result,
        cancel_requested=row.cancel_requested,
        claims=row.claims,
        stages=stages,
        outputs=outputs,
        tenant=row.tenant,
        parent_id=row.parent_id,
        priority=row.priority,
        failures=failures,
    )


def new_job(
    job_id: str, request: JobRequest, now: float, stages: tuple[StageState, ...], tenant: str, priority: int
) -> Job:
    """What was just written, without reading it back."""
    return Job(
        id=job_id,
        state="queued",
        request=request,
        created_at=now,
        finished_at=None,
        error=None,
        result=None,
        cancel_requested=False,
        claims=0,
        stages=stages,
        tenant=tenant,
        priority=priority,
    )


def read_stages(connection: Connection, ids: Sequence[str]) -> dict[str, Stages]:
    query = select(stage_outputs).where(stage_outputs.c.job_id.in_(ids)).order_by(stage_outputs.c.idx)
    found: dict[str, list[StageState]] = {job_id: [] for job_id in ids}
    outputs: dict[str, dict[StageName, dict[int, dict[str, Any]]]] = {job_id: {} for job_id in ids}
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
                origin=row.origin,
            )
        )
        if row.failures:
            failures[row.job_id][stage_name(row.name)] = row.failures
    of_stages = checkpoints.c.idx.between(0, len(STAGE_NAMES) - 1)
    kept = select(checkpoints).where(checkpoints.c.job_id.in_(ids), of_stages)
    for row in connection.execute(kept):
        outputs[row.job_id].setdefault(STAGE_NAMES[row.idx], {})[row.number] = row.record
    return {job_id: (tuple(states), outputs[job_id], failures[job_id]) for job_id, states in found.items()}


def stage_name(name: str) -> StageName:
    return next(known for known in STAGE_NAMES if known == name)
