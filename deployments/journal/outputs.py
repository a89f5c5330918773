"""Rows that name files: outputs of stages, files that users sent, results; and what makes two jobs the same.

Several rows may name one file; who removes rows learns which files nobody names any more. Works inside a transaction of
`Journal` or `Leases`, which know whose job it is.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, select, update

from deployments.errors import OutputsGoneError, VideoNotFoundError
from deployments.jobs.values import JobRequest
from deployments.journal.tables import checkpoints, erasures, jobs
from stages.types import STAGE_NAMES, StageName

SOURCE, RESULT = -1, len(STAGE_NAMES)  # `idx` of checkpoints that are no stage's
STATES = 10  # `idx` of the first stage's states; the others follow


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


def put_state(
    connection: Connection, job_id: str, tenant: str, stage: StageName, number: int, record: dict[str, Any]
) -> bool:
    """Whether it is the newest of a call whose output is not kept; else its file is to be erased."""
    index = STAGE_NAMES.index(stage)
    own = and_(checkpoints.c.job_id == job_id, checkpoints.c.number == number)
    query = select(checkpoints.c.idx, checkpoints.c.record).where(own, checkpoints.c.idx.in_((index, STATES + index)))
    found = {row.idx: row.record for row in connection.execute(query)}
    before = found.get(STATES + index)
    if index in found or (before is not None and before["step"] >= record["step"]):
        to_erase(connection, [record["key"]])
        return False
    if before is not None:
        drop_files(connection, and_(own, checkpoints.c.idx == STATES + index))
    values = {"tenant": tenant, "digest": "", "key": record["key"], "record": record}
    connection.execute(checkpoints.insert().values(job_id=job_id, idx=STATES + index, number=number, **values))
    return True


def drop_states(connection: Connection, job_id: str, stage: StageName | None = None, number: int = 0) -> None:
    """Nobody goes on from them: those of one call, whose output is kept, or of a job that has ended."""
    which = [checkpoints.c.job_id == job_id]
    if stage is None:
        which.append(checkpoints.c.idx >= STATES)
    else:
        which += [checkpoints.c.idx == STATES + STAGE_NAMES.index(stage), checkpoints.c.number == number]
    if connection.execute(select(checkpoints.c.key).where(*which).limit(1)).first() is not None:
        drop_files(connection, and_(*which))


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
