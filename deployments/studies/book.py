"""Studies in the journal's database: made, listed, prepared, deleted. Raters' links and votes stand in `votes`.

The files that a study is made of are its own from the moment that it is made; each goes once the video to be shown is
there. Synchronous and thread-safe.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Semaphore
from typing import Any

from sqlalchemy import Connection, Row, and_, func, or_, select, update
from sqlalchemy.exc import IntegrityError

from client.schema_studies import Media, StudyState
from deployments.errors import (
    IdempotencyError,
    InvalidRequestError,
    UploadNotFoundError,
    VideoGoneError,
    VideoNotFoundError,
    VideoNotReadyError,
)
from deployments.jobs.values import Planned
from deployments.journal.database import Database
from deployments.journal.outputs import RESULT, STUDY, UPLOAD, drop_files, drop_studies, put_study_videos
from deployments.journal.tables import checkpoints, jobs, studies, study_links, study_votes
from deployments.studies.errors import StudyNotFoundError
from deployments.studies.plan import Kept, Plan

FROM_SOURCE = 1_000_000  # `number` of a file that a study is made of, beyond those that it shows
MEASURED = 2_000_000  # of the file of its numbers
_LEASE_S = 120.0
_AT_ONCE = 250  # ids in one query
_REMEMBERED = 32  # plans
_ALL_BUT_PLAN = [column for column in studies.c if column.name != "plan"]


@dataclass(frozen=True)
class Record:
    """A study as it stands."""

    id: str
    tenant: str
    created_at: float
    state: StudyState
    error: str | None
    title: str
    instructions: str
    digest: str
    plan: Plan
    media: Media | None
    note: str | None
    prepared: int
    links: int
    votes: int


@dataclass(frozen=True)
class NewStudy:
    """What is written of a study."""

    tenant: str
    title: str
    instructions: str
    plan: Plan
    body_hash: str
    idem_key: str | None = None


class Plans:
    """Plans that were read before; one never changes, and may hold thousands of trials."""

    def __init__(self) -> None:
        self._read: dict[str, Plan] = {}

    def of(self, connection: Connection, study_id: str) -> Plan:
        """The plan of a study that is there."""
        if (known := self._read.get(study_id)) is not None:
            return known
        row = connection.execute(select(studies.c.plan).where(studies.c.id == study_id)).scalar_one()
        while len(self._read) >= _REMEMBERED:
            self._read.pop(next(iter(self._read)), None)
        plan = self._read[study_id] = Plan.model_validate(row)
        return plan


class StudyBook:
    """The studies in a database."""

    def __init__(self, database: Database, plans: Plans | None = None) -> None:
        self._database, self._plans = database, plans or Plans()

    def look_up(self, ids: Sequence[str], tenant: str) -> dict[str, Kept]:
        """The videos of these jobs and files.

        Raises:
            VideoNotFoundError, UploadNotFoundError: the tenant has none of this id.
            VideoNotReadyError, VideoGoneError: a job has no video yet, or no more.
            InvalidRequestError: it is a picture.
        """
        found: dict[str, Kept] = {}
        with self._database.read() as connection:
            for some in _parts(ids):
                for row in connection.execute(_files(some, tenant)).all():
                    found[row.job_id] = _kept(row)
            for video_id in ids:
                if video_id not in found:
                    self._explain(connection, video_id, tenant)
        return found

    @staticmethod
    def _explain(connection: Connection, video_id: str, tenant: str) -> None:
        if video_id.startswith("file-"):
            raise UploadNotFoundError(video_id)
        own = and_(jobs.c.id == video_id, jobs.c.tenant == tenant)
        row = connection.execute(select(jobs.c.state).where(own)).first()
        if row is None:
            raise VideoNotFoundError(video_id)
        if row.state == "succeeded":
            raise VideoGoneError(video_id, "it is kept no longer")
        raise VideoNotReadyError(
            f"Video {video_id} is {row.state}; a study takes completed ones, so wait for it or make it again.",
            param="systems",
            code="video_not_ready",
        )

    def add(self, new: NewStudy) -> str:
        """Write a study, or find the one that its key has already made; gives its id.

        Raises:
            IdempotencyError: the key was used with another body.
            VideoNotFoundError: one of its videos has gone meanwhile.
        """
        try:
            return self._add(new)
        except IntegrityError:  # another process has just used the key
            known = self.made_by(new.tenant, new.idem_key, new.body_hash)
            if known is None:
                raise
            return known

    def made_by(self, tenant: str, idem_key: str | None, body_hash: str) -> str | None:
        """The study that a key has made.

        Raises:
            IdempotencyError: it was used with another body.
        """
        if idem_key is None:
            return None
        own = and_(studies.c.tenant == tenant, studies.c.idem_key == idem_key)
        with self._database.read() as connection:
            row = connection.execute(select(studies.c.id, studies.c.body_hash).where(own)).first()
        if row is not None and row.body_hash != body_hash:
            raise IdempotencyError(
                f"Idempotency-Key {idem_key!r} was used with another body; send a new key.",
                param="Idempotency-Key",
                code="idempotency_key_reused",
            )
        return None if row is None else str(row.id)

    def _add(self, new: NewStudy) -> str:
        study_id, plan = f"study_{secrets.token_hex(16)}", new.plan
        sources = [video for own in plan.sources for video in own]
        with self._database.write() as connection:
            there: set[str] = set()
            for some in _parts(list(dict.fromkeys(video.id for video in sources))):
                held = _files(some, new.tenant).with_for_update(read=True, of=checkpoints)
                there.update(row.job_id for row in connection.execute(held))
            if gone := next((video.id for video in sources if video.id not in there), None):
                raise VideoNotFoundError(gone)
            connection.execute(
                studies.insert().values(
                    id=study_id,
                    tenant=new.tenant,
                    idem_key=new.idem_key,
                    body_hash=new.body_hash,
                    created_at=self._database.now(connection),
                    state="preparing",
                    title=new.title,
                    instructions=new.instructions,
                    plan=plan.model_dump(mode="json"),
                    digest=plan.digest,
                )
            )
            records = {FROM_SOURCE + number: _record(video) for number, video in enumerate(sources)}
            put_study_videos(connection, study_id, new.tenant, records)
        return study_id

    def get(self, study_id: str, *, tenant: str | None = None) -> Record:
        """One study.

        Raises:
            StudyNotFoundError: there is none of this tenant.
        """
        with self._database.read() as connection:
            row = connection.execute(select(*_ALL_BUT_PLAN).where(studies.c.id == study_id)).first()
            if row is None or tenant not in (None, row.tenant):
                raise StudyNotFoundError(study_id)
            return self._record(connection, row)

    def page(self, tenant: str, limit: int = 100) -> list[Record]:
        """The newest studies of a tenant."""
        by_age = (
            select(*_ALL_BUT_PLAN).where(studies.c.tenant == tenant).order_by(studies.c.created_at.desc(), studies.c.id)
        )
        with self._database.read() as connection:
            return [self._record(connection, row) for row in connection.execute(by_age.limit(limit)).all()]

    def _record(self, connection: Connection, row: Row[Any]) -> Record:
        shown = and_(checkpoints.c.job_id == row.id, checkpoints.c.idx == STUDY, checkpoints.c.number < FROM_SOURCE)
        now = self._database.clock()
        valid = and_(
            study_links.c.study_id == row.id, study_links.c.revoked_at.is_(None), study_links.c.expires_at > now
        )
        counts = (
            select(func.count()).select_from(table).where(which).scalar_subquery()
            for table, which in (
                (checkpoints, shown),
                (study_links, valid),
                (study_votes, study_votes.c.study_id == row.id),
            )
        )
        prepared, links, votes = connection.execute(select(*counts)).one()
        return Record(
            id=row.id,
            tenant=row.tenant,
            created_at=row.created_at,
            state=row.state,
            error=row.error,
            title=row.title,
            instructions=row.instructions,
            digest=row.digest,
            plan=self._plans.of(connection, row.id),
            media=None if row.media is None else Media.model_validate(row.media),
            note=row.note,
            prepared=int(prepared),
            links=int(links),
            votes=int(votes),
        )

    def delete(self, study_id: str, *, tenant: str) -> list[str]:
        """Forget a study with its links and votes; gives the keys of files that nothing else names.

        Raises:
            StudyNotFoundError: there is none of this tenant.
        """

        def write() -> list[str]:
            with self._database.write() as connection:
                own = and_(studies.c.id == study_id, studies.c.tenant == tenant)
                if connection.execute(select(studies.c.id).where(own).with_for_update()).first() is None:
                    raise StudyNotFoundError(study_id)
                return drop_studies(connection, [study_id])

        return self._database.freeing(write)

    # For who prepares the videos, and who measures them.

    def take(self, study_id: str, state: StudyState = "preparing") -> bool:
        """Take the preparation on, or the measuring of one that is ready, unless somebody has it or it is over."""
        with self._database.write() as connection:
            now = self._database.now(connection)
            free = or_(studies.c.lease_until.is_(None), studies.c.lease_until < now)
            which = and_(studies.c.id == study_id, studies.c.state == state, free)
            taken = connection.execute(update(studies).where(which).values(lease_until=now + _LEASE_S))
            return bool(taken.rowcount)

    def hold(self, study_id: str, lease_s: float = _LEASE_S) -> bool:
        """Have it for longer; False where the study was deleted meanwhile."""
        with self._database.write() as connection:
            until = self._database.now(connection) + lease_s
            held = update(studies).where(studies.c.id == study_id).values(lease_until=until)
            return bool(connection.execute(held).rowcount)

    @contextmanager
    def turn(self, study_id: str, places: Semaphore) -> Iterator[bool]:
        """A place among those who work at once, and meanwhile the study; False where it was deleted while waiting."""
        while not places.acquire(timeout=_LEASE_S / 4):
            if not self.hold(study_id):
                yield False
                return
        try:
            yield self.hold(study_id)
        finally:
            places.release()

    def is_taken(self, study_id: str) -> bool:
        """Whether somebody prepares or measures it now."""
        with self._database.read() as connection:
            now = self._database.now(connection)
            own = select(studies.c.id).where(studies.c.id == study_id, studies.c.lease_until >= now)
            return connection.execute(own).first() is not None

    def measured(self, study_id: str) -> str | None:
        """The key of the file of its numbers, once there is one."""
        own = and_(checkpoints.c.job_id == study_id, checkpoints.c.idx == STUDY, checkpoints.c.number == MEASURED)
        with self._database.read() as connection:
            return connection.execute(select(checkpoints.c.key).where(own)).scalar()

    def shown(self, study_id: str) -> dict[int, dict[str, Any]]:
        """The files of a study that are ready, by number of the video."""
        with self._database.read() as connection:
            own = and_(checkpoints.c.job_id == study_id, checkpoints.c.idx == STUDY, checkpoints.c.number < FROM_SOURCE)
            rows = connection.execute(select(checkpoints.c.number, checkpoints.c.record).where(own)).all()
        return {row.number: row.record for row in rows}

    def numbers(self, study_id: str) -> dict[int, dict[str, float]]:
        """What was measured of the videos, by number."""
        return {video: record.get("numbers", {}) for video, record in self.shown(study_id).items()}

    def keep(self, study_id: str, number: int, record: Mapping[str, Any]) -> bool:
        """A video is ready; False where the study was deleted meanwhile."""
        with self._database.write() as connection:
            now = self._database.now(connection)
            held = connection.execute(
                update(studies)
                .where(studies.c.id == study_id)
                .values(lease_until=now + _LEASE_S)
                .returning(studies.c.tenant)
            ).scalar()
            if held is None:
                return False
            at = and_(checkpoints.c.job_id == study_id, checkpoints.c.idx == STUDY)
            drop_files(connection, and_(at, checkpoints.c.number == number))
            put_study_videos(connection, study_id, held, {number: record})
            return True

    def settle(self, study_id: str, media: Media | None, note: str | None, error: str | None = None) -> None:
        """The preparation is over; the files that the study was made of are no longer its own."""
        with self._database.write() as connection:
            values = {
                "state": "failed" if media is None else "ready",
                "media": None if media is None else media.model_dump(),
                "note": note,
                "error": error,
                "lease_until": None,
            }
            connection.execute(update(studies).where(studies.c.id == study_id).values(**values))
            own = and_(checkpoints.c.job_id == study_id, checkpoints.c.idx == STUDY)
            drop_files(connection, and_(own, checkpoints.c.number >= FROM_SOURCE))


def _files(ids: Sequence[str], tenant: str) -> Any:
    """The files of jobs and uploads, with what the job planned."""
    own = and_(checkpoints.c.job_id.in_(ids), checkpoints.c.tenant == tenant, checkpoints.c.idx.in_((RESULT, UPLOAD)))
    columns = (checkpoints.c.job_id, checkpoints.c.idx, checkpoints.c.record, jobs.c.planned, jobs.c.request)
    return select(*columns).outerjoin(jobs, jobs.c.id == checkpoints.c.job_id).where(own)


def _kept(row: Row[Any]) -> Kept:
    record = row.record
    if row.idx == UPLOAD:
        if record["kind"] != "video":
            raise _picture(f"The file {row.job_id}")
        size, frames, fps = (record["width"], record["height"]), record["frames"], record["fps"]
    else:
        if record["media_type"] != "video/mp4":
            raise _picture(f"Video {row.job_id}")
        planned = Planned.model_validate(row.planned)
        size, frames, fps = planned.size, planned.frames, planned.fps
    return Kept(
        id=row.job_id,
        sha256=record["sha256"],
        key=record["key"],
        size_bytes=record["size_bytes"],
        width=size[0],
        height=size[1],
        frames=frames,
        fps=fps,
        seed=None if row.request is None else row.request.get("seed"),
    )


def _picture(what: str) -> InvalidRequestError:
    return InvalidRequestError(f"{what} is a picture; a study compares videos.", param="systems", code="invalid_field")


def _record(video: Kept) -> dict[str, Any]:
    return {"key": video.key, "bytes": video.size_bytes, "sha256": video.sha256}


def _parts(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE)]
