"""What tests of the journal and of the API share: one database of each kind; the application over one."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from tests.deployments.api.served import Served
from tests.deployments.rig import Rig
from tests.journals import KINDS, postgres_journal, sqlite_journal


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return sqlite_journal(tmp_path) if request.param == "sqlite" else postgres_journal()


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
