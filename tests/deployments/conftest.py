"""What tests of the journal and of the API share: one database of each kind; the application over one."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from tests.deployments.api.served import Served
from tests.deployments.rig import Rig
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


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    yield made
    await made.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    running = Served(tmp_path)
    running.start()
    yield running
    running.stop()
