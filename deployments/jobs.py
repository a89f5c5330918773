"""The job journal: what was asked, how far it is, how it ended. The one place where a job exists.

The ingress writes jobs into it, pipeline replicas claim them under a lease, and whoever answers a client reads it. A
claim carries a fence, and every write of an executor names it: when the lease lapsed and another executor took the job
over, the old one's writes change nothing. Claiming is also the reaper: a running job whose lease lapsed is due again.

    queued ──claim──► running ──finish──► succeeded | failed | cancelled
     ▲  ▲                │ │ release, or the lease lapses
     │  └────────────────┘ │
     └──continue── paused ◄┘

Checkpoints are rows that name a file: of a stage's output, of a file that a user sent, of the result. Several jobs may
name one file (a remix, a reused output); it goes with the last of them.

Synchronous and thread-safe: call it in a thread from async code. Knows nothing of Ray, HTTP or stages' values.
"""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import Connection, Row, String, and_, bindparam, exists, func, or_, select, update
from sqlalchemy.exc import IntegrityError

from client.schema import JobError, Order, StageState
from deployments.checkpoint_rows import (
    RESULT,
    add_files,
    content_hash_of,
    copy_outputs,
    drop_files,
    put_output,
    twin_of,
)
from deployments.errors import (
    DeadlineError,
    IdempotencyError,
    InvalidRequestError,
    LeaseLostError,
    NotPausedError,
    QueueFullError,
    TooManyClaimsError,
    VideoNotFoundError,
)
from deployments.job_rows import job_of, new_job, read_stages, stage_name
from deployments.job_types import FINAL, NOBODY, Beat, Claim, Event, Job, JobRequest, Limits, State, Update
from deployments.limits import at_limit
from deployments.plans import stages_of
from deployments.tables import Database, checkpoints, deliveries, job_events, jobs, stage_outputs
from deployments.webhooks import add_delivery, make_due
from stages.types import STAGE_NAMES, StageName

MAX_CLAIMS = 12  # a job under which the server died so often, without a new output, is not tried again
PAUSE_FROM, MAX_PAUSE_S = 3, 60.0  # from that many on it waits 2, 4, 8 ... s, so that others get through meanwhile
NO_LIMITS = Limits()
_LATE_AT_ONCE = 100  # jobs that one claim gives up

Admit = Callable[[Connection, float], None]
"""Asked inside the transaction that writes a new job, with the time; raises where the job is not to be."""


class Journal:
    """Jobs in a database."""

    def __init__(self, database_url: str) -> None:
        self._database = Database(database_url)

    def close(self) -> None:
        self._database.close()

    @property
    def database(self) -> Database:
        """For the modules that keep other tables of it."""
        return self._database

    # What the ingress does

    def submit(
        self,
        request: JobRequest,
        *,
        tenant: str = NOBODY,
        idem_key: str | None = None,
        body_hash: str = "",
        priority: int = 0,
        deadline_s: float | None = None,
        admit: Admit | None = None,
        max_queued: int = 1000,
        retry_after_s: int = 5,
        parent_id: str | None = None,
        needs: Mapping[StageName, Sequence[int]] | None = None,
        webhook_url: str | None = None,
    ) -> tuple[Job, bool]:
        """Write a job, or find the one that this key has already made. Gives (job, whether it is new).

        Args:
            parent_id: the job that this one is made from.
            needs: numbers of the parent's outputs that this job begins from; one of T2I's becomes number 0.

        Raises:
            VideoNotFoundError: there is no such parent.
            OutputsGoneError: the parent does not have those outputs (any more).
            IdempotencyError: the key was used with another body.
            QueueFullError: `max_queued` jobs are waiting.
            ApiError: what `admit` raised about a new job.
        """
        values = {
            "tenant": tenant,
            "idem_key": idem_key,
            "body_hash": body_hash,
            "priority": priority,
            "parent_id": parent_id,
            "content_hash": content_hash_of(request, parent_id),
        }
        try:
            return self._submit(request, values, needs or {}, deadline_s, admit, max_queued, retry_after_s, webhook_url)
        except IntegrityError:  # another process has just used the key; where there is none, it is an error
            if idem_key is None:
                raise
            return self._submit(request, values, needs or {}, deadline_s, admit, max_queued, retry_after_s, webhook_url)

    def _submit(
        self,
        request: JobRequest,
        values: dict[str, Any],
        needs: Mapping[StageName, Sequence[int]],
        deadline_s: float | None,
        admit: Admit | None,
        max_queued: int,
        retry_after_s: int,
        webhook_url: str | None,
    ) -> tuple[Job, bool]:
        tenant, parent_id = values["tenant"], values["parent_id"]
        with self._database.write() as connection:
            now, waiting, known = self._look(connection, tenant, values["idem_key"], max_queued)
            if known is not None:
                job_id, known_hash = known
                if known_hash != values["body_hash"]:
                    raise IdempotencyError(
                        f"Idempotency-Key {values['idem_key']!r} was used with another body; send a new key.",
                        param="Idempotency-Key",
                        code="idempotency_key_reused",
                    )
                return self._get(connection, job_id), False
            if waiting >= max_queued:
                raise QueueFullError(waiting, max_queued, retry_after_s)
            if admit is not None:
                admit(connection, now)
            job_id = f"video_{uuid.uuid4().hex}"
            connection.execute(
                jobs.insert().values(
                    **values,
                    id=job_id,
                    state="queued",
                    request=request.model_dump(),
                    start_stage=STAGE_NAMES.index(request.enter),
                    follows=twin_of(connection, tenant, values["content_hash"]),
                    created_at=now,
                    deadline=None if deadline_s is None else now + deadline_s,
                )
            )
            add_files(connection, job_id, tenant, request, now)
            add_delivery(connection, job_id, webhook_url)
            if parent_id is not None:
                copy_outputs(connection, job_id, tenant, parent_id, needs, now)
            own = stages_of(request)
            stages = tuple(StageState(name=n, status="waiting" if n in own else "skipped") for n in STAGE_NAMES)
            rows = [{"job_id": job_id, "idx": i, "name": s.name, "status": s.status} for i, s in enumerate(stages)]
            connection.execute(stage_outputs.insert(), rows)
            _log(connection, job_id, "queued")
            if parent_id is not None:  # it has outputs
                return self._get(connection, job_id), True
        return new_job(job_id, request, now, stages, tenant, values["priority"]), True

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
            return self._get(connection, job_id, tenant)

    def page(
        self, *, tenant: str | None = None, after: str | None = None, limit: int = 20, order: Order = "desc"
    ) -> tuple[list[Job], bool]:
        """Up to `limit` jobs by age, those behind `after`. Gives (jobs, whether more follow).

        Raises:
            VideoNotFoundError: there is no job `after`.
        """
        own = [] if tenant is None else [jobs.c.tenant == tenant]
        query = select(jobs).where(*own)
        with self._database.read() as connection:
            if after is not None:
                edge = connection.execute(select(jobs.c.created_at).where(jobs.c.id == after, *own)).scalar()
                if edge is None:
                    raise VideoNotFoundError(after)
                older = or_(jobs.c.created_at < edge, and_(jobs.c.created_at == edge, jobs.c.id < after))
                newer = or_(jobs.c.created_at > edge, and_(jobs.c.created_at == edge, jobs.c.id > after))
                query = query.where(newer if order == "asc" else older)
            by = (jobs.c.created_at, jobs.c.id) if order == "asc" else (jobs.c.created_at.desc(), jobs.c.id.desc())
            rows = connection.execute(query.order_by(*by).limit(limit + 1)).all()
            kept = rows[:limit]
            stages = read_stages(connection, [row.id for row in kept])
            return [job_of(row, *stages[row.id]) for row in kept], len(rows) > limit

    def request_cancel(self, job_id: str, *, tenant: str | None = None) -> State:
        """Cancel a waiting job at once, flag a running one; a finished one stays as it is. Gives the state now.

        Raises:
            VideoNotFoundError: there is no such job.
        """
        with self._database.write() as connection:
            self._get(connection, job_id, tenant)
            ended = connection.execute(
                update(jobs)
                .where(jobs.c.id == job_id, jobs.c.state.in_(("queued", "paused")))
                .values(state="cancelled", cancel_requested=True, finished_at=time.time(), error=_CANCELLED)
            ).rowcount
            if ended:
                _end_stages(connection, job_id, "cancelled")
                _log(connection, job_id, "cancelled")
                make_due(connection, job_id, self._database.now(connection))
            else:
                connection.execute(
                    update(jobs).where(jobs.c.id == job_id, jobs.c.state == "running").values(cancel_requested=True)
                )
            return self._get(connection, job_id).state

    def go_on(self, job_id: str, candidate: int, *, tenant: str | None = None) -> Job:
        """Queue a paused job again, from the `candidate`-th of T2I's pictures. Its deadline no longer holds.

        Raises:
            VideoNotFoundError: there is no such job.
            NotPausedError: it is not paused.
            InvalidRequestError: it has no such candidate.
        """
        with self._database.write() as connection:
            row = connection.execute(select(jobs).where(jobs.c.id == job_id).with_for_update()).first()
            if row is None or tenant not in (None, row.tenant):
                raise VideoNotFoundError(job_id)
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
                .values(state="queued", request=changed.model_dump(), deadline=None)
            )
            _log(connection, job_id, "continued", stage=stage, candidate=candidate)
            return self._get(connection, job_id)

    def delete(self, job_id: str, *, tenant: str | None = None) -> list[str] | None:
        """Forget a finished job; gives the keys of files that no job uses any more, None for one that stays: it has
        not ended.

        Raises:
            VideoNotFoundError: there is no such job.
        """
        with self._database.write() as connection:
            if self._get(connection, job_id, tenant).state not in FINAL:
                return None
            unused = drop_files(connection, checkpoints.c.job_id == job_id)
            for table in (stage_outputs, job_events, deliveries):
                connection.execute(table.delete().where(table.c.job_id == job_id))
            connection.execute(jobs.delete().where(jobs.c.id == job_id))
            return unused

    def counts(self) -> dict[str, int]:
        """Jobs by state."""
        with self._database.read() as connection:
            return dict(connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state)).tuples().all())

    def events(self, job_id: str, after: int = 0) -> list[Event]:
        """What happened to a job, in order."""
        query = select(job_events).where(job_events.c.job_id == job_id, job_events.c.seq > after)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(job_events.c.seq)).all()
        return [Event(row.seq, row.job_id, row.at, row.kind, row.data) for row in rows]

    # What an executor does

    def claim(self, owner: str, lease_s: float, limits: Limits = NO_LIMITS) -> tuple[Claim, Job] | None:
        """Take the most urgent due job: a queued one, or a running one whose lease lapsed.

        A queued one whose deadline has passed fails here. `limits` are those of tenants without a row of their own; the
        jobs of a tenant that runs as many as it may are passed over.
        """
        with self._database.write() as connection:
            full = at_limit(connection, limits)
            now = self._database.now(connection)
            _give_up_late(connection, now)
            twin = jobs.alias()
            twin_works = exists().where(twin.c.id == jobs.c.follows, twin.c.state.in_(("queued", "running")))
            waits = and_(jobs.c.state == "queued", jobs.c.not_before <= now)
            due = or_(
                and_(waits, jobs.c.tenant.not_in(full), ~twin_works),
                and_(jobs.c.state == "running", jobs.c.lease_until < now),
            )
            while True:
                query = select(jobs).where(due).order_by(jobs.c.priority.desc(), jobs.c.created_at, jobs.c.id).limit(1)
                row = connection.execute(query.with_for_update(skip_locked=True, of=jobs)).first()
                if row is None:
                    return None
                if row.cancel_requested:
                    _finish(connection, row.id, "cancelled", _CANCELLED, None)
                    continue
                if row.claims >= MAX_CLAIMS:
                    _finish(connection, row.id, "failed", _too_many(row.claims), None)
                    continue
                if row.state == "running" and row.claims >= PAUSE_FROM:
                    _put_off(connection, row, now)
                    continue
                connection.execute(
                    update(jobs)
                    .where(jobs.c.id == row.id, jobs.c.fence == row.fence)
                    .values(
                        state="running",
                        owner=owner,
                        fence=row.fence + 1,
                        claims=row.claims + 1,
                        lease_until=now + lease_s,
                    )
                )
                if row.state == "running":
                    _reset_stages(connection, row.id)
                _log(connection, row.id, "started" if row.state == "queued" else "restarted", owner=owner)
                return Claim(row.id, owner, row.fence + 1), self._get(connection, row.id)

    def beat(self, claims: Sequence[Claim], lease_s: float) -> Beat:
        """Renew the leases; learn which jobs were taken over and which should be cancelled."""
        lost: set[str] = set()
        cancelled: set[str] = set()
        with self._database.write() as connection:
            until = self._database.now(connection) + lease_s
            for claim in _in_order(claims):
                flag = _hold(connection, claim, lease_until=until)
                if flag is None:
                    lost.add(claim.job_id)
                elif flag:
                    cancelled.add(claim.job_id)
        return Beat(frozenset(lost), frozenset(cancelled))

    def record(self, updates: Sequence[Update]) -> Beat:
        """Write what executors have to say, in one transaction; the jobs that are no longer theirs are skipped."""
        lost: set[str] = set()
        cancelled: set[str] = set()
        with self._database.write() as connection:
            for item in sorted(updates, key=lambda update: update.claim.job_id):
                job_id = item.claim.job_id
                flag = _hold(connection, item.claim)
                if flag is None:
                    lost.add(job_id)
                    continue
                if flag:
                    cancelled.add(job_id)
                _write(connection, item)
        return Beat(frozenset(lost), frozenset(cancelled))

    def finish(
        self,
        last: Update,
        state: Literal["succeeded", "failed", "cancelled"],
        *,
        error: JobError | None = None,
        result: dict[str, Any] | None = None,
    ) -> None:
        """End a job, with its executor's last words, in one transaction.

        Raises:
            LeaseLostError: the job is no longer this executor's; nothing was written.
        """
        with self._database.write() as connection:
            if _hold(connection, last.claim) is None:
                raise LeaseLostError(f"Job {last.claim.job_id} was taken over from fence {last.claim.fence}.")
            job_id = last.claim.job_id
            _write(connection, last)
            _finish(connection, job_id, state, error.model_dump() if error else None, result)
            if result is not None:
                tenant = connection.execute(select(jobs.c.tenant).where(jobs.c.id == job_id)).scalar_one()
                at = {"job_id": job_id, "idx": RESULT, "number": 0, "tenant": tenant, "digest": ""}
                now, key = self._database.now(connection), str(result.get("key", ""))
                connection.execute(checkpoints.insert().values(**at, key=key, record=result, created_at=now))

    def pause(self, last: Update, stage: StageName) -> None:
        """Put a job aside until `go_on`, with its executor's last words.

        Raises:
            LeaseLostError: the job is no longer this executor's; nothing was written.
        """
        with self._database.write() as connection:
            job_id = last.claim.job_id
            if _hold(connection, last.claim) is None:
                raise LeaseLostError(f"Job {job_id} was taken over from fence {last.claim.fence}.")
            _write(connection, last)
            cancelled = connection.execute(select(jobs.c.cancel_requested).where(jobs.c.id == job_id)).scalar_one()
            if cancelled:
                _finish(connection, job_id, "cancelled", _CANCELLED, None)
                return
            connection.execute(
                update(jobs)
                .where(jobs.c.id == job_id)
                .values(state="paused", owner=None, lease_until=None, claims=jobs.c.claims - 1)
            )
            _log(connection, job_id, "paused", stage=stage)

    def keep(self, claim: Claim, stage: StageName, number: int, record: dict[str, Any]) -> bool:
        """Record a checkpoint of the `number`-th call of a stage; False when the job is no longer this executor's.

        A job that has ended keeps its outputs too: a remix starts from them. `record` holds the digest of all that the
        output depends on, by which identical jobs find it. A job that comes this far is none that kills its server:
        its claims are counted anew.
        """
        with self._database.write() as connection:
            tenant = _held_tenant(connection, claim, claims=1)
            if tenant is None:
                return False
            put_output(connection, claim.job_id, tenant, stage, number, record, self._database.now(connection))
            return True

    def adopt(self, claim: Claim, stage: StageName, number: int, digest: str) -> dict[str, Any] | None:
        """Take over an output of that digest from another job of the same tenant; None where there is none."""
        with self._database.write() as connection:
            tenant = _held_tenant(connection, claim)
            same = and_(checkpoints.c.tenant == tenant, checkpoints.c.digest == digest)
            query = select(checkpoints.c.record).where(same).limit(1)
            record: dict[str, Any] | None = connection.execute(query).scalar()
            if tenant is None or record is None:
                return None
            put_output(connection, claim.job_id, tenant, stage, number, record, self._database.now(connection))
            return record

    def expire_outputs(self, ended_before: float, limit: int = 100) -> list[str]:
        """Forget the checkpoints of jobs that ended before then; gives the keys of files that no job uses any more."""
        with self._database.write() as connection:
            has_output = select(checkpoints.c.job_id).where(checkpoints.c.idx != RESULT)
            query = select(jobs.c.id).where(jobs.c.finished_at < ended_before, jobs.c.id.in_(has_output)).limit(limit)
            ids = list(connection.execute(query.with_for_update(skip_locked=True)).scalars())
            return drop_files(connection, and_(checkpoints.c.job_id.in_(ids), checkpoints.c.idx != RESULT))

    def release(self, claims: Sequence[Claim]) -> None:
        """Give jobs back: queued again, as if never claimed, except that the fence grew."""
        with self._database.write() as connection:
            for claim in _in_order(claims):
                done = connection.execute(
                    update(jobs)
                    .where(jobs.c.id == claim.job_id, jobs.c.fence == claim.fence, jobs.c.state == "running")
                    .values(
                        state="queued", owner=None, lease_until=None, fence=claim.fence + 1, claims=jobs.c.claims - 1
                    )
                ).rowcount
                if done:
                    _reset_stages(connection, claim.job_id)
                    _log(connection, claim.job_id, "released")

    # Rows to values

    def _get(self, connection: Connection, job_id: str, tenant: str | None = None) -> Job:
        row = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
        if row is None or tenant not in (None, row.tenant):
            raise VideoNotFoundError(job_id)
        return job_of(row, *read_stages(connection, [job_id])[job_id])


_CANCELLED = {"code": "cancelled", "message": "The job was cancelled."}


def _held_tenant(connection: Connection, claim: Claim, **values: Any) -> str | None:
    """Whose job it is, while it is this executor's or has succeeded under it."""
    return connection.execute(
        update(jobs)
        .where(jobs.c.id == claim.job_id, jobs.c.fence == claim.fence, jobs.c.state.in_(("running", "succeeded")))
        .values(fence=claim.fence, **values)
        .returning(jobs.c.tenant)
    ).scalar()


def _in_order(claims: Sequence[Claim]) -> list[Claim]:
    """Every writer locks rows in the same order, so that none waits for the other in turn."""
    return sorted(claims, key=lambda claim: claim.job_id)


def _too_many(claims: int) -> dict[str, str]:
    return {
        "code": TooManyClaimsError.code,
        "message": f"The server went down {claims} times at the same place of this video; the limit is {MAX_CLAIMS}.",
    }


def _put_off(connection: Connection, row: Row[Any], now: float) -> None:
    """Queue a job again whose server keeps dying, for later: it may be what kills it. Its deadline no longer holds."""
    pause_s = min(MAX_PAUSE_S, 2.0 ** (row.claims - PAUSE_FROM + 1))
    connection.execute(
        update(jobs)
        .where(jobs.c.id == row.id)
        .values(
            state="queued",
            owner=None,
            lease_until=None,
            fence=row.fence + 1,
            not_before=now + pause_s,
            deadline=None,
        )
    )
    _reset_stages(connection, row.id)
    _log(connection, row.id, "released", pause_s=pause_s)


def _give_up_late(connection: Connection, now: float) -> None:
    """Queued jobs whose deadline has passed fail."""
    late = select(jobs.c.id, jobs.c.created_at, jobs.c.deadline).where(jobs.c.state == "queued", jobs.c.deadline < now)
    for row in connection.execute(late.limit(_LATE_AT_ONCE).with_for_update(skip_locked=True)).all():
        waited_s, allowed_s = now - row.created_at, row.deadline - row.created_at
        message = f"The job still waited after {waited_s:.1f} s and its deadline_s was {allowed_s:g}; allow it more."
        _finish(connection, row.id, "failed", {"code": DeadlineError.code, "message": message}, None)


def _hold(connection: Connection, claim: Claim, **values: Any) -> bool | None:
    """Touch the job under this fence: None when it is no longer this executor's, else whether a cancel is wanted."""
    return connection.execute(
        update(jobs)
        .where(jobs.c.id == claim.job_id, jobs.c.fence == claim.fence, jobs.c.state == "running")
        .values(owner=claim.owner, **values)
        .returning(jobs.c.cancel_requested)
    ).scalar()


def _write(connection: Connection, item: Update) -> None:
    for state in item.stages:
        index = STAGE_NAMES.index(stage_name(state.name))
        connection.execute(
            update(stage_outputs)
            .where(stage_outputs.c.job_id == item.claim.job_id, stage_outputs.c.idx == index)
            .values(
                **state.model_dump(exclude={"name"}),
                finished_at=time.time() if state.status in ("completed", "failed", "cancelled") else None,
            )
        )
    for name, count in item.failures.items():
        connection.execute(
            update(stage_outputs)
            .where(stage_outputs.c.job_id == item.claim.job_id, stage_outputs.c.idx == STAGE_NAMES.index(name))
            .values(failures=stage_outputs.c.failures + count)
        )
    for kind, data in item.events:
        _log(connection, item.claim.job_id, kind, **data)


def _finish(connection: Connection, job_id: str, state: State, error: Any, result: dict[str, Any] | None) -> None:
    connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id)
        .values(state=state, error=error, result=result, finished_at=time.time(), lease_until=None)
    )
    make_due(connection, job_id, time.time())
    if state != "succeeded":
        _end_stages(connection, job_id, "cancelled" if state == "cancelled" else "failed")
    _log(connection, job_id, {"succeeded": "completed"}.get(state, state), **({"error": error} if error else {}))


def _end_stages(connection: Connection, job_id: str, status: str) -> None:
    """Stages that were under way get the job's end; those that never began stay `waiting`."""
    connection.execute(
        update(stage_outputs)
        .where(stage_outputs.c.job_id == job_id, stage_outputs.c.status.in_(("queued", "running")))
        .values(status=status, finished_at=time.time())
    )


def _reset_stages(connection: Connection, job_id: str) -> None:
    connection.execute(
        update(stage_outputs)
        .where(stage_outputs.c.job_id == job_id, stage_outputs.c.status != "skipped")
        .values(status="waiting", progress=0, queued_s=None, run_s=None, bytes_out=None, origin=None, finished_at=None)
    )


def _log(connection: Connection, job_id: str, kind: str, **data: Any) -> None:
    connection.execute(job_events.insert().values(job_id=job_id, at=time.time(), kind=kind, data=data))
