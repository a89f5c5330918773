"""How fast the journal answers when it holds a million jobs: `python -m benchmarks.journal_scale [--quick]`.

SQLite and a PostgreSQL of this machine are filled with 1,000,000 jobs, 4,000,000 rows of stages and 3,000,000 events;
one tenant has nine of ten jobs. Then every call that the server makes again and again is timed, by the journal's own
methods, and the plan of each of its queries is printed.

    <call>_ms_<database>    median of a call's repetitions
    slowest_hot_query_ms    the highest of those

About ten minutes; `--quick` at 50,000 jobs one.
"""

import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, event, select, text

from benchmarks.tools.result import parser_of, result
from client.schema import StageState
from deployments.jobs.plans import plan_of, planned_of
from deployments.jobs.values import Claim, JobRequest, Limits, NewJob, Update
from deployments.journal import looks
from deployments.journal.database import Database
from deployments.journal.feed import EventFeed
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from deployments.journal.limits import check
from deployments.journal.sweeps import Sweeps
from deployments.journal.tables import checkpoints, job_events, jobs, stage_outputs

JOBS, QUICK_JOBS = 1_000_000, 50_000
REPEATED = 15
RUNNING, QUEUED = 64, 200
WATCHED, BEATEN, PAGE = 500, 20, 20
BIG = "big"  # the tenant of nine jobs in ten
EVERY_S = 10.0  # a job
DAY_S = 86_400.0
OWNER, LEASE_S = "benchmark", 3600.0
REQUEST = JobRequest(prompt="a fox in a snowy forest at dusk", model="tiny", size="256x256", seconds="2", seed=7)
LIMITS = Limits(per_minute=1_000_000, max_queued=JOBS)
Act = Callable[[], object]

_SQLITE_NUMBERS = (
    "(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :jobs) SELECT i FROM n)"
)
_POSTGRES_NUMBERS = "(SELECT i FROM generate_series(0, :jobs - 1) AS s(i))"
_JOBS = """
INSERT INTO jobs (id, tenant, body_hash, state, priority, request, preset, planned, cancel_requested, owner, fence,
                  lease_until, not_before, claims, result, created_at, finished_at, expired)
SELECT 'video_' || md5(CAST(i AS TEXT)), CASE WHEN i % 10 < 9 THEN 'big' ELSE 'tenant' || i / 10 % 100 END, '', state,
       0, {request}, 'tiny', {planned}, false, CASE WHEN state = 'running' THEN 'benchmark' END, 1,
       CASE WHEN state = 'running' THEN :now + 3600 END, 0, 1, NULL, made,
       CASE WHEN state IN ('queued', 'running') THEN NULL ELSE made + 100 END, made + 100 < :now - 86400
FROM (SELECT i, :now - (:jobs - i) * :every AS made,
             CASE WHEN i >= :jobs - :queued THEN 'queued' WHEN i >= :jobs - :unfinished THEN 'running'
                  WHEN i % 20 = 0 THEN 'failed' WHEN i % 20 = 1 THEN 'cancelled' ELSE 'succeeded' END AS state
      FROM {numbers} AS numbers) AS made
"""
_STAGES = """
INSERT INTO stage_outputs (job_id, idx, name, status, progress, queued_s, run_s, bytes_out, failures)
SELECT id, idx, name,
       CASE WHEN state = 'succeeded' THEN 'completed' WHEN state = 'running' THEN 'running' ELSE 'waiting' END,
       CASE WHEN state = 'succeeded' THEN 100 ELSE 0 END, 1.5, CASE WHEN state = 'succeeded' THEN 2.5 END, 1000, 0
FROM jobs, ({stages}) AS stages
"""
_EVENTS = """
INSERT INTO job_events (job_id, at, kind, data) SELECT id, created_at + k, kind, '{{}}'
FROM jobs, (SELECT 0 AS k, 'queued' AS kind UNION ALL SELECT 1, 'started' UNION ALL SELECT 2, 'completed') AS kinds
"""
_STAGE_ROWS = (
    "SELECT 0 AS idx, 't2i' AS name UNION ALL SELECT 1, 'i2v' UNION ALL SELECT 2, 'v2v' UNION ALL SELECT 3, 'vfi'"
)
_KEPT = """
INSERT INTO checkpoints (job_id, idx, number, tenant, digest, key, record)
SELECT id, idx, 0, tenant, id || name, 'checkpoints/' || id || '/' || name || '.bin', '{{}}'
FROM jobs, ({stages}) AS stages WHERE NOT expired AND state = 'succeeded'
"""
_RESULTS = """
INSERT INTO checkpoints (job_id, idx, number, tenant, digest, key, record)
SELECT id, 4, 0, tenant, '', 'videos/' || id || '/1.mp4', '{{}}' FROM jobs WHERE state = 'succeeded'
"""
_TALLIES = """
INSERT INTO tallies (state, count)
SELECT state, count(*) FROM jobs WHERE state NOT IN ('queued', 'running') GROUP BY state
"""


def main(arguments: list[str] | None = None) -> None:
    options = parser_of("journal_scale", __doc__, quick="50,000 jobs").parse_args(arguments)
    from tests.postgres import new_database

    figures: dict[str, float | int | None] = {}
    with tempfile.TemporaryDirectory(prefix="magicvideo-bench-") as folder:
        for kind, url in (("sqlite", f"sqlite:///{folder}/jobs.sqlite"), ("postgres", new_database())):
            database = Database(url)
            started = time.monotonic()
            fill(database, QUICK_JOBS if options.quick else JOBS)
            print(f"{kind} is filled after {time.monotonic() - started:.0f} s.", flush=True)
            for name, ms in measured(database).items():
                figures[f"{name}_ms_{kind}"] = ms
            database.close()
    result("journal_scale", {"slowest_hot_query_ms": max(ms for ms in figures.values() if ms is not None), **figures})


def fill(database: Database, number: int) -> None:
    """So many jobs, one every `EVERY_S` until now; the newest ones run and wait. Indexes are made afterwards."""
    indexes = [index for table in (jobs, stage_outputs, job_events, checkpoints) for index in table.indexes]
    now = database.time()
    values = {"jobs": number, "now": now, "every": EVERY_S, "queued": QUEUED, "unfinished": QUEUED + RUNNING}
    texts = {"request": REQUEST, "planned": planned_of(REQUEST, plan_of(REQUEST))}
    literals = {name: f"'{value.model_dump_json()}'".replace(":", r"\:") for name, value in texts.items()}
    numbers = _SQLITE_NUMBERS if database.is_sqlite else _POSTGRES_NUMBERS
    with database.write() as connection:
        if database.is_sqlite:
            driver: Any = connection.connection.driver_connection
            driver.create_function("md5", 1, _md5, deterministic=True)
        for index in indexes:
            index.drop(connection)
        connection.execute(text(_JOBS.format(numbers=numbers, **literals)), values)
        for filling in (_STAGES, _KEPT, _EVENTS, _RESULTS, _TALLIES):
            connection.execute(text(filling.format(stages=_STAGE_ROWS)))
        for index in indexes:
            index.create(connection)
    if not database.is_sqlite:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))


def measured(database: Database) -> dict[str, float]:
    """Median milliseconds of every call; prints them with the plans of their queries."""
    medians = {}
    for name, act in _acts(database).items():
        with _statements(database) as seen:
            act()
        taken = []
        for _ in range(REPEATED):
            started = time.perf_counter()
            act()
            taken.append(1e3 * (time.perf_counter() - started))
        medians[name] = statistics.median(taken)
        print(f"{name}: {medians[name]:.2f} ms in {len(seen)} queries", flush=True)
        for statement, parameters in seen.items():
            _print_plan(database, statement, parameters)
    return medians


def _acts(database: Database) -> Mapping[str, Act]:
    journal, leases = Journal(database), Leases(database)
    feed, sweeps = EventFeed(database), Sweeps(database)
    with database.read() as connection:
        of_big = select(jobs.c.id).where(jobs.c.tenant == BIG, jobs.c.state == "succeeded")
        ids = list(connection.execute(of_big.order_by(jobs.c.created_at.desc()).limit(WATCHED)).scalars())
        total = connection.execute(text("SELECT count(*) FROM jobs")).scalar_one()
        middle = connection.execute(
            select(jobs.c.id).where(jobs.c.tenant == BIG).order_by(jobs.c.created_at).offset(total // 2).limit(1)
        ).scalar_one()
        running = list(connection.execute(select(jobs.c.id).where(jobs.c.state == "running")).scalars())
        newest = connection.execute(select(jobs.c.created_at, jobs.c.id).order_by(jobs.c.created_at.desc())).first()
    held = [Claim(job_id, OWNER, 1) for job_id in running]
    at_hand, gone = iter(held[BEATEN:]), iter(reversed(ids))
    more = [NewJob(REQUEST, tenant=BIG) for _ in range(REPEATED + 1)]
    waiting = iter([journal.submit(new, max_queued=JOBS)[0].id for new in more])
    watched = dict.fromkeys(ids[: WATCHED // 2] + running, True)
    states = (StageState(name="v2v", status="running", progress=50),)

    def reading(look: Callable[[Connection], object]) -> Act:
        def act() -> object:
            with database.read() as connection:
                return look(connection)

        return act

    def submit() -> None:
        def admit(connection: Connection, now: float) -> None:
            check(connection, BIG, LIMITS, now=now, wait_s=1.0)

        journal.submit(NewJob(REQUEST, tenant=BIG), admit=admit, max_queued=JOBS)

    feed._read(watched)
    arrived = (float(newest[0]), str(newest[1])) if newest is not None else (0.0, "")
    return {
        "get": lambda: journal.get(ids[0], tenant=BIG),
        "first_page": lambda: journal.page(tenant=BIG, limit=PAGE),
        "middle_page": lambda: journal.page(tenant=BIG, after=middle, limit=PAGE),
        "middle_page_asc": lambda: journal.page(tenant=BIG, after=middle, limit=PAGE, order="asc"),
        "submit": submit,
        "cancel": lambda: journal.request_cancel(next(waiting), tenant=BIG),
        "counts": journal.counts,
        "measured": reading(lambda connection: looks.read_measured(connection, "tiny")),
        "measured_nothing": reading(lambda connection: looks.read_measured(connection, "paper")),
        "outlook": reading(looks.read_outlook),
        "oldest": lambda: looks.oldest_queued_s(database),
        "arrivals": lambda: looks.read_arrivals(database, arrived),
        "poll_events": lambda: feed._read(watched),
        "poll_steps": lambda: feed._read_steps(set(watched)),
        "claim": lambda: leases.claim(OWNER, LEASE_S, Limits(max_running=1_000_000)),
        "beat": lambda: leases.beat(held[:BEATEN], LEASE_S),
        "record": lambda: leases.record([Update(held[0], states, (("stage_output", {"stage": "v2v"}),))]),
        "finish": lambda: leases.finish(Update(next(at_hand)), "succeeded", result={"key": "videos/a/1.mp4"}),
        "expire": lambda: sweeps.outputs(DAY_S / 5),
        "expire_nothing": lambda: sweeps.outputs(DAY_S * 1000),
        "delete": lambda: journal.delete(next(gone), tenant=BIG),
    }


@contextmanager
def _statements(database: Database) -> Iterator[dict[str, Any]]:
    """Every query that is sent meanwhile, with its parameters."""
    seen: dict[str, Any] = {}

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")) and not many:
            seen[statement] = parameters

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


def _print_plan(database: Database, statement: str, parameters: Any) -> None:
    explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
    print("  " + " ".join(statement.split())[:160])
    with database.read() as connection:
        for row in connection.exec_driver_sql(explain + statement, parameters):
            print(f"    {row[-1]}", flush=True)


def _md5(value: str) -> str:
    return hashlib.md5(value.encode(), usedforsecurity=False).hexdigest()


if __name__ == "__main__":
    main()
