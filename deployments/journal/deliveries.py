"""Rows of webhooks to deliver, as the journal writes them; `deployments.tenants.webhooks` delivers.

Works inside a transaction of `Journal` or `Leases`.
"""

from sqlalchemy import Connection, update

from deployments.journal.tables import deliveries


def add_delivery(connection: Connection, job_id: str, url: str | None) -> None:
    """In the transaction that writes the job."""
    if url is not None:
        connection.execute(deliveries.insert().values(job_id=job_id, url=url, attempts=0))


def schedule_delivery(connection: Connection, job_id: str, now: float) -> None:
    """In the transaction that ends the job."""
    connection.execute(
        update(deliveries).where(deliveries.c.job_id == job_id, deliveries.c.delivered_at.is_(None)).values(due_at=now)
    )
