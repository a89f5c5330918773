"""The journal's tables and how its engine is opened: SQLAlchemy Core, SQLite in WAL mode or PostgreSQL.

JSON columns hold plain values, keys of artifacts and digests; never tensors, never pickle. SQLite is for one host and a
local disk. Every transaction says whether it writes: on SQLite a writer takes the write lock at once (BEGIN IMMEDIATE),
so that two writers queue instead of failing half-way; readers never wait. Threads of one process queue before that:
SQLite's own waiting is polling, in which some wait for a second while others overtake. On PostgreSQL a frozen writer
loses its transaction, and with it its locks, after `IDLE_LIMIT_MS`. The tables are made and changed by alembic
(`migrations/`), by whichever process opens the journal first.

Knows nothing of what a job is; `deployments.jobs` does.
"""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    event,
    inspect,
    literal,
    literal_column,
    make_url,
    select,
    text,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from deployments.errors import ConfigError

SCHEMA = "0002"  # the newest revision in `migrations/versions`
BUSY_TIMEOUT_MS = 10_000
_WAL_POLL_S = 0.02
IDLE_LIMIT_MS = 10_000
_POSTGRES_CLOCK = "extract(epoch FROM clock_timestamp())::float8"
_DEAD_HOST = {"connect_timeout": 10, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
_MIGRATIONS = Path(__file__).resolve().parent / "migrations"
_SCHEMA_LOCK = 0x6D61_6769  # of PostgreSQL, while the schema is looked at and changed

metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False, default=""),
    Column("idem_key", String),
    Column("body_hash", String, nullable=False, default=""),
    Column("state", String, nullable=False),  # queued | running | paused | succeeded | failed | cancelled
    Column("priority", Integer, nullable=False, default=0),  # higher goes first
    Column("request", JSON, nullable=False),
    Column("parent_id", String),  # for remixes
    Column("start_stage", Integer, nullable=False, default=0),
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Column("owner", String),
    Column("fence", Integer, nullable=False, default=0),  # grows with every claim; a write with an older one is void
    Column("lease_until", Float),  # seconds since the epoch
    Column("not_before", Float, nullable=False, default=0.0),
    Column("claims", Integer, nullable=False, default=0),
    Column("error", JSON(none_as_null=True)),
    Column("result", JSON(none_as_null=True)),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("content_hash", String),  # of everything that the result depends on; NULL: not to be shared
    Column("follows", String),  # an identical job that is not finished: this one waits for its outputs
    Column("deadline", Float),  # seconds since the epoch; a job that is still queued then fails
    UniqueConstraint("tenant", "idem_key"),
    Index("jobs_due", "state", "priority", "created_at"),
    Index("jobs_leases", "state", "lease_until"),
    Index("jobs_tenants", "tenant", "state"),
    Index("jobs_age", "created_at", "id"),
    Index("jobs_content", "tenant", "content_hash"),
)

stage_outputs = Table(
    "stage_outputs",
    metadata,
    Column("job_id", String, primary_key=True),
    Column("idx", Integer, primary_key=True),
    Column("name", String, nullable=False),
    Column("status", String, nullable=False),  # client.schema.StageStatus
    Column("progress", Integer, nullable=False, default=0),  # percent
    Column("queued_s", Float),
    Column("run_s", Float),
    Column("bytes_out", Integer),
    Column("origin", String),  # restored | reused | uploaded; NULL: computed
    Column("attempts", Integer, nullable=False, default=0),
    Column("failures", Integer, nullable=False, default=0),
    Column("error", JSON(none_as_null=True)),
    Column("finished_at", Float),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("job_id", String, primary_key=True),
    Column("idx", Integer, primary_key=True),  # of the stage
    Column("number", Integer, primary_key=True),  # of the call: a window, or a candidate
    Column("tenant", String, nullable=False),
    Column("digest", String, nullable=False),  # of everything that the output depends on
    Column("key", String, nullable=False),  # of the file; several jobs may use one
    Column("record", JSON, nullable=False),  # key, bytes, sha256
    Column("created_at", Float, nullable=False),
    Index("checkpoints_digest", "tenant", "digest"),
    Index("checkpoints_key", "key"),
)

tenants = Table(
    "tenants",
    metadata,
    Column("name", String, primary_key=True),
    Column("max_running", Integer),  # NULL: no limit, here and below
    Column("max_queued", Integer),
    Column("per_minute", Integer),
    Column("reuse", Boolean, nullable=False, default=False),  # stages' outputs across the tenant's jobs
    Column("created_at", Float, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("label", String, nullable=False),
    Column("hash", String, nullable=False),  # argon2
    Column("created_at", Float, nullable=False),
    Column("revoked_at", Float),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("job_id", String, primary_key=True),
    Column("url", String, nullable=False),
    Column("due_at", Float),  # NULL: the job has not ended, or nothing more is tried
    Column("attempts", Integer, nullable=False, default=0),
    Column("delivered_at", Float),
    Column("error", String),
    Index("deliveries_due", "due_at"),
)

job_events = Table(
    "job_events",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("job_id", String, nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("kind", String, nullable=False),
    Column("data", JSON, nullable=False),
    sqlite_autoincrement=True,
)


def driver_url(url: str) -> URL:
    """The address with the driver that we use; `postgres://` and `postgresql://` mean psycopg."""
    parsed = make_url(url)
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername in ("postgres", "postgresql") else parsed


def shown_url(url: str) -> str:
    """The address without its password."""
    return driver_url(url).render_as_string(hide_password=True)


@contextmanager
def opened(url: str) -> Iterator["Database"]:
    """A database for a command that an operator runs.

    Raises:
        ConfigError: it cannot be used; one sentence.
    """
    try:
        database = Database(url)
        try:
            yield database
        finally:
            database.close()
    except (SQLAlchemyError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        raise ConfigError(
            f"The database {shown_url(url)} cannot be used ({reason}); --cluster, --config and --data-dir name another."
        ) from error


class Database:
    """One engine and its two kinds of transaction."""

    def __init__(self, url: str) -> None:
        parsed = driver_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        if not self.is_sqlite and parsed.get_backend_name() != "postgresql":
            raise ConfigError(
                f"The journal's database is {parsed.get_backend_name()!r}; it must be 'sqlite' or 'postgresql', as in "
                "sqlite:////var/lib/magicvideo/jobs.sqlite or postgresql://user:password@host/magicvideo."
            )
        if self.is_sqlite:
            if parsed.database:
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            self.engine: Engine = create_engine(parsed)
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            limits = f"-c idle_in_transaction_session_timeout={IDLE_LIMIT_MS} -c lock_timeout={BUSY_TIMEOUT_MS}"
            self.engine = create_engine(parsed, pool_pre_ping=True, connect_args={"options": limits, **_DEAD_HOST})
        self._turn = threading.Lock()
        self._migrate()

    def now(self, connection: Connection) -> float:
        """Seconds since the epoch: the database's own clock where several hosts use it."""
        if self.is_sqlite:
            return time.time()
        return float(connection.execute(select(self.clock())).scalar_one())

    def clock(self) -> ColumnElement[float]:
        """The same as a part of a query."""
        return literal(time.time()) if self.is_sqlite else literal_column(_POSTGRES_CLOCK, Float)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes; no await and no other I/O inside it."""
        turn = self._turn if self.is_sqlite else nullcontext()
        with turn, self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent snapshot."""
        options = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        with self.engine.connect().execution_options(**options) as connection, connection.begin():
            yield connection

    def close(self) -> None:
        self.engine.dispose()

    def _migrate(self) -> None:
        """Bring the schema up to `SCHEMA`. Many processes may try at once; one does it."""
        with self.write() as connection:
            if not self.is_sqlite:
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})"))
            tables = set(inspect(connection).get_table_names())
            found = (
                connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
                if "alembic_version" in tables
                else None
            )
            if found == SCHEMA:
                return
            from alembic import command  # takes a moment; only who changes a schema pays for it
            from alembic.config import Config
            from alembic.util.exc import CommandError

            config = Config()
            config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
            config.attributes["connection"] = connection
            try:
                if found is None and "jobs" in tables:  # made by a version that had no migrations
                    command.stamp(config, "0001")
                command.upgrade(config, "head")
            except CommandError as error:
                raise ConfigError(
                    f"The job journal has schema {found!r}, which this server, whose newest is {SCHEMA!r}, does not "
                    "know; run the newer server, or point storage.database_url at another database."
                ) from error


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are ours, not the driver's
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    _enter_wal(cursor)
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _enter_wal(cursor: Any) -> None:
    """The file stays in this mode. SQLite does not wait for others while it changes it, whatever the busy timeout."""
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_WAL_POLL_S)


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
