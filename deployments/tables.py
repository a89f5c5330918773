"""The journal's tables and how its engine is opened: SQLAlchemy Core, SQLite in WAL mode or any other database.

JSON columns hold plain values, keys of artifacts and digests; never tensors, never pickle. SQLite is for one host and a
local disk. Every transaction says whether it writes: on SQLite a writer takes the write lock at once (BEGIN IMMEDIATE),
so that two writers queue instead of failing half-way; readers never wait.

Knows nothing of what a job is; `deployments.jobs` does.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
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
    make_url,
)

from deployments.errors import ConfigError

SCHEMA_VERSION = 1
BUSY_TIMEOUT_MS = 10_000

metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False, default=""),
    Column("idem_key", String),
    Column("body_hash", String, nullable=False, default=""),
    Column("state", String, nullable=False),  # queued | running | succeeded | failed | cancelled
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
    UniqueConstraint("tenant", "idem_key"),
    Index("jobs_due", "state", "priority", "created_at"),
    Index("jobs_leases", "state", "lease_until"),
    Index("jobs_tenants", "tenant", "state"),
    Index("jobs_age", "created_at", "id"),
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
    Column("attempts", Integer, nullable=False, default=0),
    Column("failures", Integer, nullable=False, default=0),
    Column("output", JSON(none_as_null=True)),  # key and digest of the checkpoint; NULL: none is kept
    Column("error", JSON(none_as_null=True)),
    Column("copied_from", String),
    Column("finished_at", Float),
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

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))


class Database:
    """One engine and its two kinds of transaction."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        if self.is_sqlite and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        self.engine: Engine = create_engine(url, pool_pre_ping=not self.is_sqlite)
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        self._create()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes; no await and no other I/O inside it."""
        with self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent snapshot."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    def close(self) -> None:
        self.engine.dispose()

    def _create(self) -> None:
        with self.write() as connection:
            metadata.create_all(connection)
            found = connection.execute(schema_version.select()).scalars().first()
            if found is None:
                connection.execute(schema_version.insert().values(version=SCHEMA_VERSION))
            elif found != SCHEMA_VERSION:
                raise ConfigError(
                    f"The job journal has schema version {found}, this server needs {SCHEMA_VERSION}; "
                    "point storage.database_url at another database or migrate this one."
                )


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are ours, not the driver's
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={BUSY_TIMEOUT_MS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
