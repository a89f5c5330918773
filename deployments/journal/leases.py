"""The job journal for who executes: claims under a lease, progress, checkpoints, the end of a job.

A claim carries a fence, and every write of an executor names it: when the lease lapsed and another executor took the
job over, the old one's writes change nothing. Claiming is also the reaper: a running job whose lease lapsed is due
again. `deployments.journal.journal` draws the states.

Synchronous and thread-safe: call it in a thread from async code. Knows nothing of Ray, HTTP or stages' values.
"""

from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy import Connection, Row, and_, exists, func, or_, select, update

from client.schema import JobError
from deployments.errors import DeadlineError, LeaseLostError, TooManyClaimsError
from deployments.jobs.values import Beat, Claim, Job, Limits, State, Update
from deployments.journal.database import Database
from deployments.journal.limits import at_limit, beyond_share, limits_of
from deployments.journal.outputs import add_result, drop_states, put_output, put_state, to_erase
from deployments.journal.rows import PARKED, URGENT, read_job, stage_name
from deployments.journal.steps import CANCELLED, end_job, log_event, reset_stages
from deployments.journal.tables import checkpoints, job_events, jobs, stage_outputs
from stages.types import STAGE_NAMES, StageName

MAX_CLAIMS = 12  # a job under which the server died so often, without a new output, is not tried again
PAUSE_FROM, MAX_PAUSE_S = 3, 60.0  # from that many on it waits 2, 4, 8 ... s, so that others get through meanwhile
MAX_PLATFORM_PAUSE_S = 30.0  # of a job that is put off: 2, 4, 8 ... s
NO_LIMITS = Limits()
_LATE_AT_ONCE = 100  # jobs that one claim gives up


class Leases:
    """The right to work on jobs of a database, and what comes of the work."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(
        self, owner: str, lease_s: float, limits: Limits = NO_LIMITS, least: int | None = None
    ) -> tuple[Claim, Job] | None:
        """Take the most urgent due job: a queued one, or a running one whose lease lapsed. The most urgent is that of
        the highest class, and in a class that of the earliest deadline, of a tenant that does not already run more than
        its share. `least`: only one of this class or above.

        A queued one whose deadline has passed fails here; one that is claimed does not any more, and its deadline
        orders its calls (`Job.deadline_s`). `limits` are those of tenants without a row of their own; the jobs of a
        tenant that runs as many as it may are passed over.
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
            if least is not None:
                due = and_(due, jobs.c.priority >= least)
            crowds = and_(jobs.c.state == "queued", jobs.c.tenant.in_(beyond_share(connection)))
            while True:
                query = select(jobs).where(due).order_by(URGENT[0], crowds, *URGENT[1:]).limit(1)
                row = connection.execute(query.with_for_update(skip_locked=True, of=jobs)).first()
                if row is None:
                    return None
                if row.cancel_requested:
                    end_job(connection, row.id, "cancelled", CANCELLED, None, now)
                    continue
                if row.claims >= MAX_CLAIMS:
                    end_job(connection, row.id, "failed", _too_many(row.claims), None, now)
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
                        claimed_at=now,
                        deadline=None,
                    )
                )
                if row.state == "running":
                    reset_stages(connection, row.id)
                log_event(connection, row.id, "started" if row.state == "queued" else "restarted", now, owner=owner)
                weight = limits_of(connection, row.tenant, limits).weight or 1
                claim = Claim(row.id, owner, row.fence + 1, now - row.created_at, weight)
                return claim, read_job(connection, row.id)

    def beat(self, claims: Sequence[Claim], lease_s: float) -> Beat:
        """Renew the leases; learn which jobs were taken over and which should be cancelled."""
        ids = {claim.job_id for claim in claims}
        if not ids:
            return Beat()
        query = select(jobs.c.id, jobs.c.fence, jobs.c.cancel_requested).where(jobs.c.id.in_(ids))
        running = query.where(jobs.c.state == "running").order_by(jobs.c.id).with_for_update()
        with self._database.write() as connection:
            until = self._database.now(connection) + lease_s
            found = {row.id: row for row in connection.execute(running)}
            held = [claim for claim in claims if claim.job_id in found and found[claim.job_id].fence == claim.fence]
            mine = {claim.job_id for claim in held}
            connection.execute(update(jobs).where(jobs.c.id.in_(mine)).values(lease_until=until))
        lost = frozenset(claim.job_id for claim in claims if claim not in held)
        return Beat(lost, frozenset(job_id for job_id in mine if found[job_id].cancel_requested))

    def record(self, updates: Sequence[Update]) -> Beat:
        """Write what executors have to say, in one transaction; the jobs that are no longer theirs are skipped."""
        lost: set[str] = set()
        cancelled: set[str] = set()
        with self._database.write() as connection:
            now = self._database.now(connection)
            for item in sorted(updates, key=lambda update: update.claim.job_id):
                job_id = item.claim.job_id
                flag = _hold(connection, item.claim, error=_waiting(item.waits_for, item.paused_for))
                if flag is None:
                    lost.add(job_id)
                    continue
                if flag:
                    cancelled.add(job_id)
                _write(connection, item, now)
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
            LeaseLostError: the job is no longer this executor's; nothing was written, and the result's file is erased.
        """
        with self._database.write() as connection:
            held = _hold(connection, last.claim) is not None
            if held:
                self._end(connection, last, state, error, result)
            elif result is not None:
                to_erase(connection, [str(result["key"])])
        if not held:
            raise LeaseLostError(f"Job {last.claim.job_id} was taken over from fence {last.claim.fence}.")

    def _end(
        self, connection: Connection, last: Update, state: State, error: JobError | None, result: dict[str, Any] | None
    ) -> None:
        job_id, now = last.claim.job_id, self._database.now(connection)
        _write(connection, last, now)
        end_job(connection, job_id, state, error.model_dump() if error else None, result, now)
        if result is not None:
            add_result(connection, job_id, result)

    def pause(self, last: Update, stage: StageName) -> None:
        """Put a job aside until `go_on`, with its executor's last words.

        Raises:
            LeaseLostError: the job is no longer this executor's; nothing was written.
        """
        with self._database.write() as connection:
            job_id = last.claim.job_id
            if _hold(connection, last.claim) is None:
                raise LeaseLostError(f"Job {job_id} was taken over from fence {last.claim.fence}.")
            now = self._database.now(connection)
            _write(connection, last, now)
            cancelled = connection.execute(select(jobs.c.cancel_requested).where(jobs.c.id == job_id)).scalar_one()
            if cancelled:
                end_job(connection, job_id, "cancelled", CANCELLED, None, now)
                return
            connection.execute(
                update(jobs)
                .where(jobs.c.id == job_id)
                .values(state="paused", owner=None, lease_until=now, claims=jobs.c.claims - 1, error=None)
            )
            log_event(connection, job_id, "paused", now, stage=stage)

    def put_off(self, last: Update, reason: str) -> None:
        """Queue a job again for later, with its executor's last words: the platform lacks something that it needs.

        That is not counted against the job; `reason` is one sentence for whoever asks for it.

        Raises:
            LeaseLostError: the job is no longer this executor's; nothing was written.
        """
        with self._database.write() as connection:
            job_id = last.claim.job_id
            cancelled = _hold(connection, last.claim)
            if cancelled is None:
                raise LeaseLostError(f"Job {job_id} was taken over from fence {last.claim.fence}.")
            now = self._database.now(connection)
            _write(connection, last, now)
            if cancelled:
                end_job(connection, job_id, "cancelled", CANCELLED, None, now)
                return
            before = select(func.count()).where(job_events.c.job_id == job_id, job_events.c.kind == "put_off")
            pause_s = min(MAX_PLATFORM_PAUSE_S, 2.0 ** (connection.execute(before).scalar_one() + 1))
            connection.execute(
                update(jobs)
                .where(jobs.c.id == job_id)
                .values(
                    state="queued",
                    owner=None,
                    lease_until=None,
                    fence=last.claim.fence + 1,
                    claims=jobs.c.claims - 1,
                    not_before=now + pause_s,
                    error=_waiting(reason),
                )
            )
            reset_stages(connection, job_id)
            log_event(connection, job_id, "put_off", now, pause_s=pause_s, reason=reason)

    def keep(self, claim: Claim, stage: StageName, number: int, record: dict[str, Any]) -> bool:
        """Record a checkpoint of the `number`-th call of a stage; False when the job is no longer this executor's: its
        file is erased then.

        A job that has ended keeps its outputs too: a remix starts from them. `record` holds the digest of all that the
        output depends on, by which identical jobs find it. A job that comes this far is none that kills its server:
        its claims are counted anew.
        """
        with self._database.write() as connection:
            tenant = _held_tenant(connection, claim, claims=1, expired=False)
            if tenant is None:
                to_erase(connection, [record["key"]])
                return False
            put_output(connection, claim.job_id, tenant, stage, number, record)
            drop_states(connection, claim.job_id, stage, number)
            return True

    def keep_state(self, claim: Claim, stage: StageName, number: int, record: dict[str, Any]) -> bool:
        """Record the state of a call that has not ended, in the place of an older one; False where it is not needed,
        or the job is no longer this executor's: its file is erased then.

        It goes when the call's output is kept, or the job ends. It counts as `keep` does against what kills a server.
        """
        with self._database.write() as connection:
            tenant = _held_tenant(connection, claim, claims=1)
            if tenant is None:
                to_erase(connection, [record["key"]])
                return False
            return put_state(connection, claim.job_id, tenant, stage, number, record)

    def adopt(self, claim: Claim, stage: StageName, number: int, digest: str) -> dict[str, Any] | None:
        """Take over an output of that digest from another job of the same tenant; None where there is none."""
        with self._database.write() as connection:
            tenant = _held_tenant(connection, claim)
            same = and_(checkpoints.c.tenant == tenant, checkpoints.c.digest == digest)
            query = select(checkpoints.c.record).where(same).limit(1).with_for_update(read=True)  # it is not deleted
            record: dict[str, Any] | None = connection.execute(query).scalar()
            if tenant is None or record is None:
                return None
            put_output(connection, claim.job_id, tenant, stage, number, record)
            return record

    def release(self, claims: Sequence[Claim]) -> None:
        """Give jobs back: queued again, as if never claimed, except that the fence grew."""
        with self._database.write() as connection:
            now = self._database.now(connection)
            for claim in _in_order(claims):
                if _hold(connection, claim):
                    end_job(connection, claim.job_id, "cancelled", CANCELLED, None, now)
                    continue
                done = connection.execute(
                    update(jobs)
                    .where(jobs.c.id == claim.job_id, jobs.c.fence == claim.fence, jobs.c.state == "running")
                    .values(
                        state="queued",
                        owner=None,
                        lease_until=None,
                        fence=claim.fence + 1,
                        claims=jobs.c.claims - 1,
                        error=None,
                    )
                ).rowcount
                if done:
                    reset_stages(connection, claim.job_id)
                    log_event(connection, claim.job_id, "released", now)


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


def _waiting(reason: str | None, paused: str | None = None) -> dict[str, str] | None:
    """As the column `error` of an unfinished job."""
    if reason is None:
        return None if paused is None else {"code": PARKED, "message": paused}
    return {"code": "waiting", "message": reason}


def _too_many(claims: int) -> dict[str, str]:
    return {
        "code": TooManyClaimsError.code,
        "message": f"The server went down {claims} times at the same place of this video; the limit is {MAX_CLAIMS}.",
    }


def _put_off(connection: Connection, row: Row[Any], now: float) -> None:
    """Queue a job again whose server keeps dying, for later: it may be what kills it."""
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
            error=None,
        )
    )
    reset_stages(connection, row.id)
    log_event(connection, row.id, "released", now, pause_s=pause_s)


def _give_up_late(connection: Connection, now: float) -> None:
    """Queued jobs whose deadline has passed fail."""
    late = select(jobs.c.id, jobs.c.created_at, jobs.c.deadline).where(jobs.c.state == "queued", jobs.c.deadline < now)
    for row in connection.execute(late.limit(_LATE_AT_ONCE).with_for_update(skip_locked=True)).all():
        waited_s, allowed_s = now - row.created_at, row.deadline - row.created_at
        message = f"The job still waited after {waited_s:.1f} s and its deadline_s was {allowed_s:g}; allow it more."
        end_job(connection, row.id, "failed", {"code": DeadlineError.code, "message": message}, None, now)


def _hold(connection: Connection, claim: Claim, **values: Any) -> bool | None:
    """Touch the job under this fence: None when it is no longer this executor's, else whether a cancel is wanted."""
    return connection.execute(
        update(jobs)
        .where(jobs.c.id == claim.job_id, jobs.c.fence == claim.fence, jobs.c.state == "running")
        .values(owner=claim.owner, **values)
        .returning(jobs.c.cancel_requested)
    ).scalar()


def _write(connection: Connection, item: Update, now: float) -> None:
    for state in item.stages:
        index = STAGE_NAMES.index(stage_name(state.name))
        connection.execute(
            update(stage_outputs)
            .where(stage_outputs.c.job_id == item.claim.job_id, stage_outputs.c.idx == index)
            .values(**state.model_dump(exclude={"name"}))
        )
    for name, count in item.failures.items():
        connection.execute(
            update(stage_outputs)
            .where(stage_outputs.c.job_id == item.claim.job_id, stage_outputs.c.idx == STAGE_NAMES.index(name))
            .values(failures=stage_outputs.c.failures + count)
        )
    for kind, data in item.events:
        log_event(connection, item.claim.job_id, kind, now, **data)
