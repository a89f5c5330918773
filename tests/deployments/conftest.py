"""What tests of the journal and of what stands beside it share: one database of each kind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.database import Database
from deployments.jobs import Journal
from deployments.leases import Leases
from tests.postgres import new_database


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/jobs.sqlite" if request.param == "sqlite" else new_database()


@pytest.fixture
def journal(url: str) -> Iterator[Journal]:
    opened = Journal(Database(url))
    yield opened
    opened.database.close()


@pytest.fixture
def leases(journal: Journal) -> Leases:
    return Leases(journal.database)
