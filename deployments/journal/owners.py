"""What was made before there was a key belongs to nobody: jobs, files, studies; an operator hands it over to a tenant.

Synchronous. Knows nothing of keys.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Table, and_, func, select, update

from deployments.jobs.values import NOBODY
from deployments.journal.database import Database
from deployments.journal.tables import checkpoints, forgotten, holdings, jobs, studies, uploads

PAGE = 500  # jobs of one transaction


@dataclass(frozen=True)
class Owned:
    """How much of each."""

    videos: int = 0
    files: int = 0
    studies: int = 0

    @property
    def total(self) -> int:
        return self.videos + self.files + self.studies

    def __str__(self) -> str:
        """As in "2 videos and 1 file"; of nothing, "0 videos"."""
        named = (("video", "videos", self.videos), ("file", "files", self.files), ("study", "studies", self.studies))
        found = [f"{count} {one if count == 1 else many}" for one, many, count in named if count] or ["0 videos"]
        return " and ".join(filter(None, (", ".join(found[:-1]), found[-1])))


def ownerless(database: Database) -> Owned:
    """What belongs to nobody."""
    with database.read() as connection:
        return Owned(*(_count(connection, table) for table in (jobs, uploads, studies)))


def hand_over(database: Database, tenant: str) -> Owned:
    """Jobs of nobody with all they keep, files and studies become the tenant's; gives how many. Running ones go on."""
    videos = 0
    with database.write() as connection:
        _free_keys(connection, studies, studies.c.tenant == NOBODY, tenant)
        files, own = (_take(connection, table, tenant) for table in (uploads, studies))
    while True:
        with database.write() as connection:
            taken = _page(connection, tenant)
            if taken < PAGE:  # nothing is nobody's any more
                connection.execute(update(holdings).where(holdings.c.tenant == NOBODY).values(tenant=tenant))
        videos += taken
        if taken < PAGE:
            return Owned(videos, files, own)


def _count(connection: Connection, table: Table) -> int:
    of_nobody = select(func.count()).select_from(table).where(table.c.tenant == NOBODY)
    return int(connection.execute(of_nobody).scalar_one())


def _take(connection: Connection, table: Table, tenant: str) -> int:
    """All of nobody's, with the files of each."""
    ids = list(connection.execute(select(table.c.id).where(table.c.tenant == NOBODY)).scalars())
    for owned, name in ((table, table.c.id), (checkpoints, checkpoints.c.job_id)):
        connection.execute(update(owned).where(name.in_(ids)).values(tenant=tenant))
    return len(ids)


def _page(connection: Connection, tenant: str) -> int:
    page = select(jobs.c.id).where(jobs.c.tenant == NOBODY).order_by(jobs.c.created_at, jobs.c.id).limit(PAGE)
    ids = list(connection.execute(page.with_for_update()).scalars())
    _free_keys(connection, jobs, jobs.c.id.in_(ids), tenant)
    connection.execute(update(jobs).where(jobs.c.id.in_(ids)).values(tenant=tenant))
    connection.execute(update(checkpoints).where(checkpoints.c.job_id.in_(ids)).values(tenant=tenant))
    connection.execute(update(forgotten).where(forgotten.c.tenant == NOBODY).values(tenant=tenant))
    return len(ids)


def _free_keys(connection: Connection, table: Table, which: ColumnElement[bool], tenant: str) -> None:
    """Idempotency keys that name something of the tenant's already."""
    own = select(table.c.idem_key).where(table.c.tenant == tenant, table.c.idem_key.is_not(None))
    connection.execute(update(table).where(and_(which, table.c.idem_key.in_(own))).values(idem_key=None))
