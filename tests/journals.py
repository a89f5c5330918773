"""Addresses of journals that nobody has used: copies of one of each kind, whose schema the migrations made.

`tests/deployments/journal/test_tables.py` proves the migrations, on databases that are empty.
"""

import tempfile
from functools import cache
from pathlib import Path

import pytest
from sqlalchemy import make_url

from deployments.journal.database import Database
from tests.postgres import new_database

KINDS = ["sqlite", pytest.param("postgres", marks=pytest.mark.slow)]
"""Of databases; `make quick` starts no server for one."""


def sqlite_journal(folder: Path) -> str:
    """The one of that folder; made where there is none."""
    path = folder / "jobs.sqlite"
    if not path.exists():
        path.write_bytes(_sqlite())
    return f"sqlite:///{path}"


def postgres_journal() -> str:
    return new_database(template=_postgres())


@cache
def _sqlite() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        Database(f"sqlite:///{folder}/jobs.sqlite").close()
        return Path(folder, "jobs.sqlite").read_bytes()


@cache
def _postgres() -> str:
    url = new_database()
    Database(url).close()
    return str(make_url(url).database)
