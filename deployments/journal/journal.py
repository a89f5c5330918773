"""The job journal for who asks: what was asked, how far it is, how it ended. The one place where a job exists.

The ingress writes jobs into it, pipeline replicas claim them under a lease (`deployments.journal.leases`), and whoever
answers a client reads it.

    queued ──claim──► running ──finish──► succeeded | failed | cancelled
     ▲  ▲                │ │ release, or the lease lapses
     │  └────────────────┘ │
     └──continue── paused ◄┘

Checkpoints are rows that name a file: of a stage's output, of a file that a user sent, of the result. Several jobs may
name one file (a remix, a reused output); it goes with the last of them.

Synchronous and thread-safe: call it in a thread from async code. Knows nothing of Ray, HTTP or stages' values.
"""

import hashlib
import uuid
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, Select, String, and_, bindparam, func, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from client.schema import Order, StageState
from deployments.errors import (
    IdempotencyError,
    InvalidRequestError,
    NotPausedError,
    QueueFullError,
    VideoNotFoundError,
)
from deployments.jobs.plans import plan_of, planned_of, stages_of
from deployments.jobs.values import FINAL, UNFINISHED, Event, Job, JobRequest, NewJob, Planned, State
from deployments.journal.database import Database
from deployments.journal.limits import Admit
from deployments.journal.outputs import (
    RESULT,
    add_files,
    content_hash_of,
    copy_outputs,
    hold_upload,
    hurry_twins,
    twin_of,
)
from deployments.journal.rows import PARKED, URGENT, job_of, lock_job, read_job, read_stages, written_job
from deployments.journal.steps import CANCELLED, add_delivery, end_job, forget_jobs, log_event, tallied
from deployments.journal.tables import checkpoints, forgotten, job_events, jobs, stage_outputs
from stages.types import STAGE_NAMES

SEARCHED = 2000  # jobs that one search looks through, in the order of an index


class Journal:
    """Jobs in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def database(self) -> Database:
        """For the modules that keep other tables of it."""
        return self._database

    def submit(
        self, new: NewJob, *, admit: Admit | None = None, max_queued: int = 1000, retry_after_s: int = 5
    ) -> tuple[Job, bool]:
        """Write a job, or find the one that its key has already made. Gives (job, whether it is new).

        Raises:
            VideoNotFoundError: there is no such parent.
            UploadNotFoundError: the file that it begins from was deleted.
            OutputsGoneError: the parent does not have those outputs (any more).
            IdempotencyError: the key was used with another body.
            QueueFullError: `max_queued` jobs are waiting.
            ApiError: what `admit` raised about a new job.
        """
        planned = planned_of(new.request, plan_of(new.request)).noted(new.note)
        write = partial(self._submit, new, planned, admit, max_queued, retry_after_s)
        try:
            return write()
        except IntegrityError:  # another process has just used the key; where there is none, it is an error
            if new.idem_key is None:
                raise
            return write()

    def _submit(
        self, new: NewJob, planned: Planned, admit: Admit | None, max_queued: int, retry_after_s: int
    ) -> tuple[Job, bool]:
        request, tenant, body_hash = new.request, new.tenant, hashlib.sha256(new.body.encode()).hexdigest()
        with self._database.write() as connection:
            now, waiting, known = self._look(connection, tenant, new.idem_key, max_queued)
            if known is not None:
                job_id, known_hash = known
                if known_hash != body_hash:
                    raise IdempotencyError(
                        f"Idempotency-Key {new.idem_key!r} was used with another body; send a new key.",
                        param="Idempotency-Key",
                        code="idempotency_key_reused",
                    )
                return read_job(connection, job_id), False
            if waiting >= max_queued:
                raise QueueFullError(waiting, max_queued, retry_after_s)
            if admit is not None:
                admit(connection, now)
            if new.upload_id is not None:
                hold_upload(connection, new.upload_id, tenant, now)
            job_id, content_hash = f"video_{uuid.uuid4().hex}", content_hash_of(request, new.parent_id)
            twin = twin_of(connection, tenant, content_hash)
            connection.execute(
                jobs.insert().values(
                    id=job_id,
                    tenant=tenant,
                    idem_key=new.idem_key,
                    body_hash=body_hash,
                    state="queued",
                    priority=new.priority,
                    request=request.model_dump(),
                    planned=planned.model_dump(),
                    preset=request.model,
                    parent_id=new.parent_id,
                    content_hash=content_hash,
                    follows=twin,
                    created_at=now,
                    deadline=None if new.deadline_s is None else now + new.deadline_s,
                    promised_s=new.deadline_s,
                )
            )
            if twin is not None:
                hurry_twins(connection, tenant, content_hash, new.priority)
            add_files(connection, job_id, tenant, request)
            add_delivery(connection, job_id, new.webhook_url)
            if new.parent_id is not None:
                copy_outputs(connection, job_id, tenant, new.parent_id, new.needs)
            own = stages_of(request)
            stages = tuple(StageState(name=n, status="waiting" if n in own else "skipped") for n in STAGE_NAMES)
            rows = [{"job_id": job_id, "idx": i, "name": s.name, "status": s.status} for i, s in enumerate(stages)]
            connection.execute(stage_outputs.insert(), rows)
            log_event(connection, job_id, "queued", now)
            if new.parent_id is not None:  # it has outputs
                return read_job(connection, job_id), True
        return written_job(job_id, new, planned, now, stages), True

    def foresee(
        self, tenant: str, idem_key: str | None, *, admit: Admit, max_queued: int = 1000, retry_after_s: int = 5
    ) -> None:
        """Raise what limits would have `submit` raise about a new job, before it costs anything. Writes nothing."""
        with suppress(_NothingWrittenError), self._database.write() as connection:
            now, waiting, known = self._look(connection, tenant, idem_key, max_queued)
            if known is None and waiting >= max_queued:
                raise QueueFullError(waiting, max_queued, retry_after_s)
            if known is None:
                admit(connection, now)
            raise _NothingWrittenError

    def _look(
        self, connection: Connection, tenant: str, idem_key: str | None, max_queued: int
    ) -> tuple[float, int, tuple[str, str] | None]:
        """All that is asked before a job is written, in one query: the time, how many jobs wait (`max_queued` at most),
        and the id and body's hash of the job that the key has made.
        """
        queued = select(jobs.c.id).where(jobs.c.state == "queued").limit(max_queued).subquery()
        waiting = select(func.count()).select_from(queued).scalar_subquery()
        own = and_(jobs.c.tenant == tenant, jobs.c.idem_key == bindparam("key", idem_key, String))
        known = [select(column).where(own).scalar_subquery() for column in (jobs.c.id, jobs.c.body_hash)]
        now, count, job_id, known_hash = connection.execute(select(self._database.clock(), waiting, *known)).one()
        return float(now), int(count), None if job_id is None else (job_id, known_hash)

    # `tenant` here: only a job of this tenant exists; None, for the server itself: whosever it is.

    def get(self, job_id: str, *, tenant: str | None = None) -> Job:
        """One job.

        Raises:
            VideoNotFoundError: there is none.
        """
        with self._database.read() as connection:
            return read_job(connection, job_id, tenant)

    def page(
        self, *, tenant: str | None = None, after: str | None = None, limit: int = 20, order: Order = "desc"
    ) -> tuple[list[Job], bool]:
        """Up to `limit` jobs by age, those behind `after`, which may have been deleted meanwhile. Gives (jobs, whether
        more follow).

        Raises:
            VideoNotFoundError: there is no job `after`, and was none within `FORGOTTEN_S`.
        """
        with self._database.read() as connection:
            query = _by_age(connection, select(jobs), tenant, after, order)
            rows = connection.execute(query.limit(limit + 1)).all()
            return _jobs_of(connection, rows[:limit]), len(rows) > limit

    def search(
        self,
        words: Sequence[str] = (),
        states: Collection[str] = (),
        *,
        tenant: str | None = None,
        after: str | None = None,
        limit: int = 20,
        order: Order = "desc",
    ) -> tuple[list[Job], str | None]:
        """As `page`, of jobs whose prompt holds all of the words, in any case, and that are in one of the states; no
        words, or no states, ask for nothing. Looks through `SEARCHED` jobs at most. Gives (jobs, the id behind which
        there may be more).

        Raises:
            VideoNotFoundError: as `page` does.
        """
        wanted = [word.casefold() for word in words]
        columns = select(jobs.c.id, jobs.c.state, jobs.c.request["prompt"].as_string().label("prompt"))
        with self._database.read() as connection:
            query = _by_age(connection, columns, tenant, after, order)
            rows = connection.execute(query.limit(SEARCHED + 1)).all()
            fits: list[str] = []
            last = rows[SEARCHED - 1].id if len(rows) > SEARCHED else None
            for row in rows[:SEARCHED]:
                prompt = row.prompt.casefold()
                if (not states or row.state in states) and all(word in prompt for word in wanted):
                    if len(fits) == limit:
                        last = fits[-1]
                        break
                    fits.append(row.id)
            found = {row.id: row for row in connection.execute(select(jobs).where(jobs.c.id.in_(fits)))}
            return _jobs_of(connection, [found[job_id] for job_id in fits]), last

    def request_cancel(self, job_id: str, *, tenant: str | None = None) -> State:
        """Cancel a waiting job at once, flag a running one; a finished one stays as it is. Gives the state now.

        Raises:
            VideoNotFoundError: there is no such job.
        """
        return self._database.freeing(partial(self._request_cancel, job_id, tenant))

    def _request_cancel(self, job_id: str, tenant: str | None) -> State:
        with self._database.write() as connection:
            state: State = lock_job(connection, job_id, tenant).state
            now = self._database.now(connection)
            if state in ("queued", "paused"):
                end_job(connection, job_id, "cancelled", CANCELLED, None, now)
                state = "cancelled"
            if state not in FINAL:
                connection.execute(update(jobs).where(jobs.c.id == job_id).values(cancel_requested=True))
            return state

    def go_on(self, job_id: str, candidate: int, *, tenant: str | None = None) -> Job:
        """Queue a paused job again, from the `candidate`-th of T2I's pictures. Its deadline no longer holds.

        Raises:
            VideoNotFoundError: there is no such job.
            NotPausedError: it is not paused.
            InvalidRequestError: it has no such candidate.
        """
        with self._database.write() as connection:
            row = lock_job(connection, job_id, tenant)
            if row.state != "paused":
                raise NotPausedError(job_id, row.state)
            request = JobRequest.model_validate(row.request)
            if candidate >= request.candidates:
                raise InvalidRequestError(
                    f"candidate is {candidate}; video {job_id} has candidates 0 to {request.candidates - 1}.",
                    param="candidate",
                    code="invalid_field",
                )
            stage = request.pause_after
            changed = request.model_copy(update={"pause_after": None, "candidate": candidate})
            connection.execute(
                update(jobs)
                .where(jobs.c.id == job_id)
                .values(state="queued", request=changed.model_dump(), deadline=None, promised_s=None, lease_until=None)
            )
            log_event(connection, job_id, "continued", self._database.now(connection), stage=stage, candidate=candidate)
            return read_job(connection, job_id)

    def delete(self, job_id: str, *, tenant: str | None = None) -> list[str] | None:
        """Forget a finished job; gives the keys of files that no job uses any more, None for one that stays: it has
        not ended.

        Raises:
            VideoNotFoundError: there is no such job.
        """
        return self._database.freeing(partial(self._delete, job_id, tenant))

    def _delete(self, job_id: str, tenant: str | None) -> list[str] | None:
        with self._database.write() as connection:
            row = lock_job(connection, job_id, tenant)
            return None if row.state not in FINAL else forget_jobs(connection, [row], self._database.now(connection))

    def made(self, sha256: str, *, tenant: str) -> str | None:
        """The newest job of the tenant whose result, byte for byte, is this file."""
        own = and_(checkpoints.c.tenant == tenant, checkpoints.c.digest == sha256, checkpoints.c.idx == RESULT)
        query = select(jobs.c.id).join(checkpoints, checkpoints.c.job_id == jobs.c.id).where(own)
        with self._database.read() as connection:
            return connection.execute(query.order_by(jobs.c.created_at.desc(), jobs.c.id).limit(1)).scalar()

    def waits(self) -> dict[str, int]:
        """What unfinished jobs say that the platform lacks, with how many of them do."""
        held = and_(jobs.c.state.in_(("queued", "running")), jobs.c.error.is_not(None))
        with self._database.read() as connection:
            said = connection.execute(select(jobs.c.error).where(held)).scalars()
            return dict(Counter(error["message"] for error in said if error["code"] != PARKED))

    def counts(self) -> dict[str, int]:
        """Jobs by state."""
        of_state = select(jobs.c.state, func.count()).where(jobs.c.state.in_(UNFINISHED)).group_by(jobs.c.state)
        with self._database.read() as connection:
            return dict(connection.execute(of_state).tuples().all()) | tallied(connection)

    def ahead(self, limit: int) -> list[tuple[Job, float]]:
        """Jobs that run, then those that wait, as they will be claimed; and how long ago each was accepted."""
        unfinished = select(jobs).where(jobs.c.state.in_(("running", "queued")))
        with self._database.read() as connection:
            now = self._database.now(connection)
            rows = connection.execute(unfinished.order_by(jobs.c.state.desc(), *URGENT).limit(limit)).all()
            stages = read_stages(connection, [row.id for row in rows])
            return [(job_of(row, *stages[row.id]), now - row.created_at) for row in rows]

    def events(self, job_id: str, after: int = 0) -> list[Event]:
        """What happened to a job, in order."""
        query = select(job_events).where(job_events.c.job_id == job_id, job_events.c.seq > after)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(job_events.c.seq)).all()
        return [Event(row.seq, row.job_id, row.at, row.kind, row.data) for row in rows]


def _by_age(
    connection: Connection, query: Select[Any], tenant: str | None, after: str | None, order: Order
) -> Select[Any]:
    """Jobs in the order of their age, from behind one of them on."""
    columns = (jobs.c.created_at, jobs.c.id)
    if tenant is not None:
        query = query.where(jobs.c.tenant == tenant)
    if after is not None:
        place, edge = tuple_(*columns), tuple_(*_place(connection, after, tenant))
        query = query.where(place > edge if order == "asc" else place < edge)
    return query.order_by(*(columns if order == "asc" else (column.desc() for column in columns)))


def _jobs_of(connection: Connection, rows: Sequence[Row[Any]]) -> list[Job]:
    stages = read_stages(connection, [row.id for row in rows])
    return [job_of(row, *stages[row.id]) for row in rows]


class _NothingWrittenError(Exception):
    """Takes back what a transaction has written."""


def _place(connection: Connection, job_id: str, tenant: str | None) -> tuple[float, str]:
    """Where a job stands in the list, or stood until it was deleted."""
    for table in (jobs, forgotten):
        own = [] if tenant is None else [table.c.tenant == tenant]
        created_at = connection.execute(select(table.c.created_at).where(table.c.id == job_id, *own)).scalar()
        if created_at is not None:
            return created_at, job_id
    raise VideoNotFoundError(job_id)
