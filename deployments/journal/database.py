"""The journal's database, SQLite in WAL mode or PostgreSQL: how it is opened, its two kinds of transaction, its clock.

SQLite is for one host and a local disk. Every transaction says whether it writes: on SQLite a writer takes the write
lock at once (BEGIN IMMEDIATE), so that two writers queue instead of failing half-way; readers never wait. Threads of
one process queue before that: SQLite's own waiting is polling, in which some wait for a second while others overtake.
On PostgreSQL a frozen writer loses its transaction, and with it its locks, after `IDLE_LIMIT_MS`; a host that vanishes
is given up after some twenty seconds. Alembic
(`migrations/`) makes and changes the tables, in whichever process opens the database first.

There is one clock, the database's: whatever is written, compared or shown comes from `now`, because hosts disagree.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Float,
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
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from client._shell.outputs import OutputError
from deployments.errors import ConfigError, StartError
from deployments.journal.damage import damaged, judge_file, judge_log

SCHEMA = "0012"  # the newest revision in `migrations/versions`
BUSY_TIMEOUT_MS = 10_000
_WAL_POLL_S = 0.02
IDLE_LIMIT_MS = 10_000
_POSTGRES_CLOCK = "extract(epoch FROM clock_timestamp())::float8"
STATEMENT_LIMIT_MS = 20_000
# A host that vanishes is noticed while we wait (keepalives) and while what we sent is not acknowledged (user timeout).
_DEAD_HOST = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # ms
}
_POOL_WAIT_S = 5.0
_RESERVE_BYTES = 2 * 2**20  # beside an SQLite file: spent where a full disk would not let anything be deleted
_DISK_FULL = "53100"  # of PostgreSQL
_MIGRATIONS = Path(__file__).resolve().parent / "migrations"
_SCHEMA_LOCK = 0x6D61_6769  # of PostgreSQL, while the schema is looked at and changed

T = TypeVar("T")

DatabaseError = DBAPIError
"""What a transaction raises when the database is away, hangs up or refuses."""

DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeoutError)
"""Those of them that may pass: it does not answer, is full, locked or cannot be reached."""


def is_full(error: Exception) -> bool:
    """Whether it says that the database's disk has no room."""
    orig = getattr(error, "orig", None)
    return getattr(orig, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL or getattr(orig, "sqlstate", "") == _DISK_FULL


def driver_url(url: str) -> URL:
    """The address with the driver that we use; `postgres://` and `postgresql://` mean psycopg.

    Raises:
        ConfigError: it is no address; it is not shown, because it may hold a password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigError(
            "The address of the journal's database cannot be read; it must look like sqlite:////folder/jobs.sqlite or "
            "postgresql://user:password@host/magicvideo, with @ : / ? in a password written as %40 %3A %2F %3F."
        ) from None
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername in ("postgres", "postgresql") else parsed


def redacted_url(url: str) -> str:
    """The address without its password."""
    return driver_url(url).render_as_string(hide_password=True)


@contextmanager
def opened(url: str) -> Iterator["Database"]:
    """A database for a command that an operator runs.

    Raises:
        StartError: it cannot be used; one sentence.
    """
    try:
        database = Database(url)
        try:
            yield database
        finally:
            database.close()
    except (OutputError, BrokenPipeError):
        raise  # of what is written meanwhile, not of the database
    except (SQLAlchemyError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        raise StartError(
            f"The database {redacted_url(url)} cannot be used ({reason}); "
            "--cluster, --config and --data-dir name another."
        ) from error


class Database:
    """One engine and its two kinds of transaction."""

    def __init__(self, url: str, *, check: bool = False) -> None:
        """Open it, and bring its schema up. `check`: read all of an SQLite file, to see whether it is whole.

        Raises:
            ConfigError: it is none of ours, or damaged.
        """
        parsed = driver_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.file = Path(parsed.database) if self.is_sqlite and parsed.database else None
        if not self.is_sqlite and parsed.get_backend_name() != "postgresql":
            raise ConfigError(
                f"The journal's database is {parsed.get_backend_name()!r}; it must be 'sqlite' or 'postgresql', as in "
                "sqlite:////var/lib/magicvideo/jobs.sqlite or postgresql://user:password@host/magicvideo."
            )
        if self.is_sqlite:
            if parsed.database:
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
                judge_log(Path(parsed.database))
            self.engine: Engine = create_engine(parsed)
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            limits = f"-c idle_in_transaction_session_timeout={IDLE_LIMIT_MS} -c lock_timeout={BUSY_TIMEOUT_MS} "
            options = {"options": f"{limits}-c statement_timeout={STATEMENT_LIMIT_MS}", **_DEAD_HOST}
            self.engine = create_engine(parsed, pool_pre_ping=True, pool_timeout=_POOL_WAIT_S, connect_args=options)
        self._turn = threading.Lock()
        if self.is_sqlite and check:
            try:
                with self.engine.connect() as connection:
                    driver: Any = connection.connection.driver_connection
                    judge_file(driver)
            except DBAPIError as error:  # not even its schema can be read
                if isinstance(error.orig, sqlite3.OperationalError):
                    raise
                raise damaged(str(error.orig)) from error
        self._migrate()
        self.keep_reserve()

    def now(self, connection: Connection) -> float:
        """Seconds since the epoch: PostgreSQL's own clock; SQLite has none but that of its one host."""
        if self.is_sqlite:
            return time.time()
        return float(connection.execute(select(self.clock())).scalar_one())

    def clock(self) -> ColumnElement[float]:
        """The same as a part of a query."""
        return literal(time.time()) if self.is_sqlite else literal_column(_POSTGRES_CLOCK, Float)

    def time(self) -> float:
        """`now`, in a transaction of its own."""
        with self.read() as connection:
            return self.now(connection)

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

    def freeing(self, write: Callable[[], T]) -> T:
        """What `write` gives, which frees room: also on a full disk, of which some is kept back for it."""
        try:
            return write()
        except OperationalError as error:
            if not is_full(error) or self._reserve is None or not self._reserve.exists():
                raise
            self._reserve.unlink(missing_ok=True)
            return write()

    def keep_reserve(self) -> None:
        """Keep that room back, if it is not and there is any."""
        if self._reserve is None or self._reserve.exists():
            return
        with suppress(OSError):
            try:
                with self._reserve.open("xb") as file:
                    os.posix_fallocate(file.fileno(), 0, _RESERVE_BYTES)
            except FileExistsError:
                return  # another process has just done it
            except OSError:
                self._reserve.unlink(missing_ok=True)

    @property
    def _reserve(self) -> Path | None:
        return None if self.file is None else self.file.with_name(f"{self.file.name}-reserve")

    def close(self) -> None:
        self.engine.dispose()

    def _migrate(self) -> None:
        """Bring the schema up to `SCHEMA`. Many processes may try at once; one does it."""
        with self.write() as connection:
            if not self.is_sqlite:
                connection.execute(text("SET LOCAL statement_timeout = 0"))
                connection.execute(text("SET LOCAL lock_timeout = 0"))
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
