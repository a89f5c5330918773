"""Jobs that were made before there was a key belong to nobody; an operator hands them over to a tenant.

Synchronous. Knows nothing of keys.
"""

from sqlalchemy import Connection, and_, func, select, update

from deployments.jobs.values import NOBODY
from deployments.journal.database import Database
from deployments.journal.tables import checkpoints, forgotten, holdings, jobs, uploads

PAGE = 500  # jobs of one transaction


def ownerless(database: Database) -> int:
    """Jobs that belong to nobody."""
    with database.read() as connection:
        of_nobody = select(func.count()).select_from(jobs).where(jobs.c.tenant == NOBODY)
        return int(connection.execute(of_nobody).scalar_one())


def hand_over(database: Database, tenant: str) -> int:
    """Jobs of nobody, with all they keep, and files become the tenant's; gives how many jobs. A running one goes on."""
    count = 0
    with database.write() as connection:
        files = list(connection.execute(select(uploads.c.id).where(uploads.c.tenant == NOBODY)).scalars())
        for table, name in ((uploads, uploads.c.id), (checkpoints, checkpoints.c.job_id)):
            connection.execute(update(table).where(name.in_(files)).values(tenant=tenant))
    while True:
        with database.write() as connection:
            taken = _page(connection, tenant)
            if taken < PAGE:  # nothing is nobody's any more
                connection.execute(update(holdings).where(holdings.c.tenant == NOBODY).values(tenant=tenant))
        count += taken
        if taken < PAGE:
            return count


def _page(connection: Connection, tenant: str) -> int:
    page = select(jobs.c.id).where(jobs.c.tenant == NOBODY).order_by(jobs.c.created_at, jobs.c.id).limit(PAGE)
    ids = list(connection.execute(page.with_for_update()).scalars())
    own = select(jobs.c.idem_key).where(jobs.c.tenant == tenant, jobs.c.idem_key.is_not(None))
    twice = and_(jobs.c.id.in_(ids), jobs.c.idem_key.in_(own))
    connection.execute(update(jobs).where(twice).values(idem_key=None))  # that key names a job of the tenant's
    connection.execute(update(jobs).where(jobs.c.id.in_(ids)).values(tenant=tenant))
    connection.execute(update(checkpoints).where(checkpoints.c.job_id.in_(ids)).values(tenant=tenant))
    connection.execute(update(forgotten).where(forgotten.c.tenant == NOBODY).values(tenant=tenant))
    return len(ids)
