"""How much a tenant may do: its row in the table `tenants`, or the defaults of the configuration where it has none.

`at_limit` and `beyond_share` are asked when a job is claimed, `check` when one is written, inside the journal's own
transaction, so that a limit holds however many replicas claim and submit at once: on PostgreSQL, which does not queue
its writers, they take a lock first; a share needs none. `LimitBook` is what an operator reads and changes. Knows
nothing of HTTP or keys.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, and_, case, func, select, text

from deployments.errors import NotAllowedError, RateLimitError
from deployments.jobs.values import Limits
from deployments.journal.database import Database
from deployments.journal.outputs import held_bytes
from deployments.journal.tables import acceptances, jobs, tenants

WINDOW_S = 60.0
_CLAIMS = 0x6D76_636C  # of PostgreSQL's advisory locks: one claim at a time
_SUBMITS = 0x6D76_7375  # one new job of a tenant at a time


Admit = Callable[[Connection, float], None]
"""Asked inside the transaction that writes a new job, with the time; raises where the job is not to be."""


def limits_of(connection: Connection, tenant: str, default: Limits) -> Limits:
    """The tenant's own limits, or `default`."""
    row = connection.execute(select(tenants).where(tenants.c.name == tenant)).first()
    return default if row is None else _limits(row._mapping)


def at_limit(connection: Connection, default: Limits) -> list[str]:
    """Tenants that run as many jobs as they may. Where any tenant has such a limit, claims go one after another."""
    own = dict(connection.execute(select(tenants.c.name, tenants.c.max_running)).tuples().all())
    if all(limit is None for limit in (default.max_running, *own.values())):
        return []
    _lock(connection, "pg_advisory_xact_lock(:number)", number=_CLAIMS)
    running = select(jobs.c.tenant, func.count()).where(jobs.c.state == "running").group_by(jobs.c.tenant)
    limits = ((name, count, own.get(name, default.max_running)) for name, count in connection.execute(running).tuples())
    return [name for name, count, limit in limits if limit is not None and count >= limit]


def beyond_share(connection: Connection) -> list[str]:
    """Tenants that run more than their share, by weight, of all jobs that run, while others have jobs, too."""
    count = func.sum(case((jobs.c.state == "running", 1), else_=0))
    unfinished = select(jobs.c.tenant, count).where(jobs.c.state.in_(("running", "queued"))).group_by(jobs.c.tenant)
    runs = dict(connection.execute(unfinished).tuples().all())
    if len(runs) < 2:
        return []
    weighed = connection.execute(select(tenants.c.name, tenants.c.weight)).tuples()
    weights = {**dict.fromkeys(runs, 1), **{name: weight for name, weight in weighed if name in runs and weight}}
    share = sum(runs.values()) / sum(weights.values())
    return [name for name, count in runs.items() if count > share * weights[name]]


def judge_priority(limits: Limits, priority: int) -> None:
    """Whether the tenant's jobs may be so urgent.

    Raises:
        NotAllowedError: they may not.
    """
    if limits.max_priority is not None and priority > limits.max_priority:
        raise NotAllowedError(
            f"priority is {priority} and the limit of this API key's tenant is {limits.max_priority}; ask for that, or "
            "have the operator raise it with `limits set --max-priority`.",
            param="priority",
            code="priority_not_allowed",
        )


def check(connection: Connection, tenant: str, limits: Limits, *, now: float, wait_s: float) -> None:
    """Whether the tenant may have one more job; `wait_s` is the estimate until one of its waiting jobs starts.

    Raises:
        RateLimitError: it has as many waiting, or had as many accepted within a minute, as it may.
        NotAllowedError: its files take as many bytes as they may.
    """
    if limits.max_bytes is not None:
        _check_bytes(connection, tenant, limits.max_bytes)
    if limits.per_minute is None and limits.max_queued is None:
        return
    number = zlib.crc32(tenant.encode()) - 2**31
    _lock(connection, "pg_advisory_xact_lock(:space, :number)", space=_SUBMITS, number=number)
    if limits.per_minute is not None:
        own = acceptances.c.tenant == tenant
        connection.execute(acceptances.delete().where(own, acceptances.c.at <= now - WINDOW_S))
        nth = select(acceptances.c.at).where(own).order_by(acceptances.c.at.desc()).offset(limits.per_minute - 1)
        oldest = connection.execute(nth.limit(1)).scalar()
        if oldest is not None:
            raise RateLimitError(
                f"{limits.per_minute} videos were accepted within a minute and the limit of this API key's tenant is "
                f"{limits.per_minute}",
                oldest + WINDOW_S - now,
                code="rate_limited",
            )
        connection.execute(acceptances.insert().values(tenant=tenant, at=now))
    if limits.max_queued is not None:
        held = and_(jobs.c.tenant == tenant, jobs.c.state.in_(("queued", "paused")))
        waiting = connection.execute(select(func.count()).select_from(jobs).where(held)).scalar_one()
        if waiting >= limits.max_queued:
            raise RateLimitError(
                f"{waiting} videos of this API key's tenant are waiting or paused and its limit is {limits.max_queued}",
                wait_s,
                code="tenant_queue_full",
            )


def _check_bytes(connection: Connection, tenant: str, limit: int) -> None:
    """What jobs that run will add is not foreseen: they end, whatever they take."""
    held = held_bytes(connection, tenant)
    if held >= limit:
        raise NotAllowedError(
            f"The videos, kept outputs and uploads of this API key's tenant take {held} bytes and its limit is {limit}"
            "; delete some videos, or have the operator raise it with `limits set --max-bytes`.",
            code="tenant_storage_full",
        )


def admit_within(default: Limits, tenant: str, priority: int, wait_s: float, further: Callable[[], None]) -> Admit:
    """What `Journal.submit` asks about a new job of the tenant: its limits, then `further`."""

    def admit(connection: Connection, now: float) -> None:
        limits = limits_of(connection, tenant, default)
        judge_priority(limits, priority)
        check(connection, tenant, limits, now=now, wait_s=wait_s)
        further()

    return admit


class LimitBook:
    """The limits in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, tenant: str, default: Limits) -> Limits:
        with self._database.read() as connection:
            return limits_of(connection, tenant, default)

    def all(self) -> dict[str, Limits]:
        """Of every tenant that has limits of its own, by name."""
        with self._database.read() as connection:
            rows = connection.execute(select(tenants).order_by(tenants.c.name)).all()
        return {row.name: _limits(row._mapping) for row in rows}

    def change(self, tenant: str, changes: Mapping[str, Any], default: Limits) -> Limits:
        """Set some limits; a tenant that had none of its own starts from `default`. Gives what holds now."""
        with self._database.write() as connection:
            changed = Limits.model_validate(limits_of(connection, tenant, default).model_dump() | dict(changes))
            known = connection.execute(
                tenants.update().where(tenants.c.name == tenant).values(**changed.model_dump())
            ).rowcount
            if not known:
                connection.execute(tenants.insert().values(name=tenant, **changed.model_dump()))
        return changed


def _limits(row: Mapping[Any, Any]) -> Limits:
    return Limits(**{name: row[name] for name in Limits.model_fields})


def _lock(connection: Connection, call: str, **values: int) -> None:
    """Wait for a lock that ends with the transaction; SQLite's writers queue as they are."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT {call}"), values)
