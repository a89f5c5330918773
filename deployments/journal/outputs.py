"""Rows that name files: outputs of stages, files that users sent, results; and what makes two jobs the same.

Several rows may name one file; who removes rows learns which files nobody names any more. Works inside a transaction of
`Journal` or `Leases`, which know whose job it is.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, select, update

from deployments.errors import OutputsGoneError, UploadNotFoundError, VideoNotFoundError
from deployments.jobs.values import JobRequest, Source
from deployments.journal.tables import checkpoints, erasures, jobs, uploads
from stages.types import STAGE_NAMES, StageName

UPLOAD, SOURCE, RESULT = -2, -1, len(STAGE_NAMES)  # `idx` of checkpoints that are no stage's


def drop_files(connection: Connection, which: ColumnElement[bool]) -> list[str]:
    """Forget checkpoints; gives the keys that no other one names, whose files are to be erased from then on."""
    keys = set(connection.execute(select(checkpoints.c.key).where(which)).scalars())
    connection.execute(checkpoints.delete().where(which))
    return to_erase(connection, keys)


def to_erase(connection: Connection, keys: Collection[str]) -> list[str]:
    """Have those of these files erased that no row names (`deployments.journal.sweeps` does); gives their keys."""
    used = connection.execute(select(checkpoints.c.key).where(checkpoints.c.key.in_(keys))).scalars()
    unused = sorted(set(keys).difference(used))
    if unused:
        connection.execute(erasures.insert(), [{"key": key, "due_at": 0.0} for key in unused])
    return unused


def add_files(connection: Connection, job_id: str, tenant: str, request: JobRequest) -> None:
    """The files that a request names, so that they stay as long as the job does."""
    for number, source in enumerate((request.source, request.extends)):
        if source is not None:
            at = {"job_id": job_id, "idx": SOURCE, "number": number, "tenant": tenant}
            record = source.model_dump()
            connection.execute(checkpoints.insert().values(**at, digest="", key=source.key, record=record))


def hold_upload(connection: Connection, upload_id: str, tenant: str) -> None:
    """See that a file is there until this transaction ends, in which a job begins to name its bytes.

    Raises:
        UploadNotFoundError: the tenant has none of this id (any more).
    """
    own = select(uploads.c.id).where(uploads.c.id == upload_id, uploads.c.tenant == tenant)
    if connection.execute(own.with_for_update(read=True)).first() is None:
        raise UploadNotFoundError(upload_id)


def put_upload(connection: Connection, upload_id: str, tenant: str, source: Source) -> None:
    at = {"job_id": upload_id, "idx": UPLOAD, "number": 0, "tenant": tenant, "digest": ""}
    connection.execute(checkpoints.insert().values(**at, key=source.key, record=source.model_dump()))


def drop_uploads(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Forget files that were sent for several jobs; gives the keys that no job names."""
    connection.execute(uploads.delete().where(uploads.c.id.in_(ids)))
    return drop_files(connection, and_(checkpoints.c.job_id.in_(ids), checkpoints.c.idx == UPLOAD))


def copy_outputs(
    connection: Connection,
    job_id: str,
    tenant: str,
    parent_id: str,
    needs: Mapping[StageName, Sequence[int]],
) -> None:
    parent = connection.execute(
        select(jobs.c.id).where(jobs.c.id == parent_id, jobs.c.tenant == tenant).with_for_update()
    ).first()
    if parent is None:
        raise VideoNotFoundError(parent_id)
    for stage, numbers in needs.items():
        own = and_(checkpoints.c.job_id == parent_id, checkpoints.c.idx == STAGE_NAMES.index(stage))
        found = {row.number: row.record for row in connection.execute(select(checkpoints).where(own))}
        if missing := [number for number in numbers if number not in found]:
            raise OutputsGoneError(parent_id, stage, len(numbers) - len(missing), len(numbers))
        for place, number in enumerate(numbers):
            put_output(connection, job_id, tenant, stage, place, found[number])


def put_output(
    connection: Connection, job_id: str, tenant: str, stage: StageName, number: int, record: dict[str, Any]
) -> None:
    at = {"job_id": job_id, "idx": STAGE_NAMES.index(stage), "number": number}
    connection.execute(checkpoints.delete().where(*(checkpoints.c[name] == value for name, value in at.items())))
    values = {"tenant": tenant, "digest": record.get("digest", ""), "key": record["key"], "record": record}
    connection.execute(checkpoints.insert().values(**at, **values))


def twin_of(connection: Connection, tenant: str, content_hash: str | None) -> str | None:
    """The newest unfinished job that computes the same."""
    if content_hash is None:
        return None
    same = and_(jobs.c.tenant == tenant, jobs.c.content_hash == content_hash, jobs.c.state.in_(("queued", "running")))
    return connection.execute(
        select(jobs.c.id).where(same).order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(1)
    ).scalar()


def hurry_twins(connection: Connection, tenant: str, content_hash: str | None, priority: int) -> None:
    """Jobs that a new one would wait for because they compute the same are as urgent as it is."""
    if content_hash is None:
        return
    same = and_(jobs.c.tenant == tenant, jobs.c.content_hash == content_hash, jobs.c.state == "queued")
    connection.execute(update(jobs).where(same, jobs.c.priority < priority).values(priority=priority))


def content_hash_of(request: JobRequest, parent_id: str | None) -> str | None:
    """Of all that the result depends on; None where it is not to be shared."""
    if not request.reuse or request.pause_after is not None:
        return None
    return hashlib.sha256(f"{parent_id or ''} {request.model_dump_json()}".encode()).hexdigest()
