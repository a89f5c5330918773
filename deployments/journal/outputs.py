"""Rows that name files: outputs of stages, files that users sent, results; and what makes two jobs the same.

Several rows may name one file; who removes rows learns which files nobody names any more. A file counts against its
tenant's bytes from the first row that names it to the last. Works inside a transaction of
`Journal` or `Leases`, which know whose job it is.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, func, literal, or_, select, update

from deployments.errors import OutputsGoneError, UploadNotFoundError, VideoNotFoundError
from deployments.jobs.values import JobRequest, Source
from deployments.journal.tables import (
    checkpoints,
    erasures,
    forgotten,
    holdings,
    jobs,
    studies,
    study_links,
    study_votes,
    uploads,
)
from stages.types import STAGE_NAMES, StageName

STUDY, UPLOAD, SOURCE, RESULT = -3, -2, -1, len(STAGE_NAMES)  # `idx` of checkpoints that are no stage's
STATES = 10  # `idx` of the first stage's states; the others follow


def drop_files(connection: Connection, which: ColumnElement[bool]) -> list[str]:
    """Forget checkpoints; gives the keys that no other one names, whose files are to be erased from then on."""
    found = select(checkpoints.c.key, checkpoints.c.tenant, checkpoints.c.record).where(which)
    if not (rows := {row.key: row for row in connection.execute(found)}):
        return []
    connection.execute(checkpoints.delete().where(which))
    unused = to_erase(connection, rows.keys())
    for key in unused:
        _hold(connection, rows[key].tenant, -_size_of(rows[key].record))
    return unused


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
            _name(connection, tenant, source.model_dump(), job_id=job_id, idx=SOURCE, number=number, digest="")


def add_result(connection: Connection, job_id: str, record: dict[str, Any]) -> None:
    """The file that a job ends with."""
    tenant = connection.execute(select(jobs.c.tenant).where(jobs.c.id == job_id)).scalar_one()
    _name(connection, tenant, record, job_id=job_id, idx=RESULT, number=0, digest=record.get("sha256", ""))


def lasts(now: float | ColumnElement[float]) -> ColumnElement[bool]:
    """Of a file that was sent for several jobs: its time is not over, whether or not a sweep has come by."""
    return or_(uploads.c.expires_at.is_(None), uploads.c.expires_at > now)


def hold_upload(connection: Connection, upload_id: str, tenant: str, now: float) -> None:
    """See that a file is there until this transaction ends, in which a job begins to name its bytes.

    Raises:
        UploadNotFoundError: the tenant has none of this id (any more).
    """
    own = select(uploads.c.id).where(uploads.c.id == upload_id, uploads.c.tenant == tenant, lasts(now))
    if connection.execute(own.with_for_update(read=True)).first() is None:
        raise UploadNotFoundError(upload_id)


def put_upload(connection: Connection, upload_id: str, tenant: str, source: Source) -> None:
    _name(connection, tenant, source.model_dump(), job_id=upload_id, idx=UPLOAD, number=0, digest="")


def put_study_videos(
    connection: Connection, study_id: str, tenant: str, records: Mapping[int, Mapping[str, Any]]
) -> None:
    """The files that a study shows or is made of, by number, so that they stay as long as it does."""
    for number, record in records.items():
        _name(connection, tenant, dict(record), job_id=study_id, idx=STUDY, number=number, digest="")


def drop_studies(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Forget studies with their links and votes; gives the keys of files that nothing else names."""
    connection.execute(studies.delete().where(studies.c.id.in_(ids)))
    for table in (study_votes, study_links):
        connection.execute(table.delete().where(table.c.study_id.in_(ids)))
    return drop_files(connection, and_(checkpoints.c.job_id.in_(ids), checkpoints.c.idx == STUDY))


def drop_uploads(connection: Connection, ids: Sequence[str], now: float) -> list[str]:
    """Forget files that were sent for several jobs; gives the keys that no job names. A list goes on behind them."""
    places = select(uploads.c.id, uploads.c.tenant, uploads.c.created_at, literal(now)).where(uploads.c.id.in_(ids))
    columns = ["id", "tenant", "created_at", "forgotten_at"]
    connection.execute(forgotten.insert().from_select(columns, places))
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
    """The output, in the place of an earlier one of that call."""
    at = {"job_id": job_id, "idx": STAGE_NAMES.index(stage), "number": number}
    here = and_(*(checkpoints.c[name] == value for name, value in at.items()))
    drop_files(connection, and_(here, checkpoints.c.key != record["key"]))
    again = update(checkpoints).where(here).values(digest=record.get("digest", ""), record=record)
    if not connection.execute(again).rowcount:
        _name(connection, tenant, record, **at, digest=record.get("digest", ""))


def held_bytes(connection: Connection, tenant: str) -> int:
    """Of all files that the tenant's jobs name."""
    total = select(func.sum(holdings.c.bytes)).where(holdings.c.tenant == tenant)
    return int(connection.execute(total).scalar() or 0)


def fold(connection: Connection, sums: Table, limit: int = 10_000) -> None:
    """Of a table whose rows add up: many become one of each name, the sum staying as it is."""
    seq, name, number = sums.c
    some = select(seq).order_by(seq).limit(limit).with_for_update(skip_locked=True)
    total = Counter[str]()
    for key, count in connection.execute(sums.delete().where(seq.in_(some)).returning(name, number)).tuples().all():
        total[key] += count
    if rows := [{name.name: key, number.name: count} for key, count in total.items() if count]:
        connection.execute(sums.insert(), rows)


def _name(connection: Connection, tenant: str, record: dict[str, Any], **at: Any) -> None:
    """A row more that names a file."""
    key = str(record.get("key", ""))
    is_new = connection.execute(select(checkpoints.c.key).where(checkpoints.c.key == key).limit(1)).first() is None
    connection.execute(checkpoints.insert().values(**at, tenant=tenant, key=key, record=record))
    if is_new:
        _hold(connection, tenant, _size_of(record))


def _hold(connection: Connection, tenant: str, count: int) -> None:
    """So many bytes more. Rows are only added, so that nobody waits for a counter's lock."""
    if count:
        connection.execute(holdings.insert().values(tenant=tenant, bytes=count))


def _size_of(record: Mapping[str, Any]) -> int:
    return int(record.get("bytes", record.get("size_bytes", 0)))


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
    _name(connection, tenant, record, job_id=job_id, idx=STATES + index, number=number, digest="")
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
