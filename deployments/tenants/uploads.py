"""Files that a tenant sends once and several jobs may begin from: `POST /v1/files`.

A file is a row here and one in `checkpoints` that names its bytes in the store, as the rows of the jobs that begin from
it do: the bytes go with the last of them. Synchronous. Knows nothing of HTTP or of what is in a file.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, func, select, tuple_

from client.schema import Order
from deployments.errors import NotAllowedError, UploadNotFoundError
from deployments.jobs.values import Source
from deployments.journal.database import Database
from deployments.journal.outputs import drop_uploads, lasts, put_upload
from deployments.journal.tables import checkpoints, forgotten, uploads


@dataclass(frozen=True)
class NewUpload:
    """A file whose bytes are in the store."""

    id: str
    tenant: str
    bytes: int
    filename: str
    purpose: str
    source: Source  # `enters` is for who names it to say


@dataclass(frozen=True)
class Upload(NewUpload):
    """A file as it stands."""

    created_at: float  # seconds since the epoch
    expires_at: float | None


class UploadBook:
    """The files in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, new: NewUpload, *, keep_s: float | None, max_files: int, max_bytes: int) -> Upload:
        """Write it down.

        Raises:
            NotAllowedError: the tenant has as many files, or bytes of them, as it may.
        """
        with self._database.write() as connection:
            now = self._database.now(connection)
            own = and_(uploads.c.tenant == new.tenant, lasts(now))
            have = select(func.count(), func.coalesce(func.sum(uploads.c.bytes), 0)).where(own)
            count, size = connection.execute(have).one()
            if count >= max_files or size + new.bytes > max_bytes:
                raise NotAllowedError(
                    f"This file has {new.bytes} bytes, and beside it there are {count} of {size} bytes together; the "
                    f"limits are {max_files} files and {max_bytes} bytes. Delete some with DELETE /v1/files/{{id}}.",
                    param="file",
                    code="files_full",
                )
            upload = Upload(**vars(new), created_at=now, expires_at=None if keep_s is None else now + keep_s)
            row = {name: value for name, value in vars(upload).items() if name != "source"}
            connection.execute(uploads.insert().values(**row))
            put_upload(connection, new.id, new.tenant, new.source)
        return upload

    def get(self, upload_id: str, *, tenant: str) -> Upload:
        """One file.

        Raises:
            UploadNotFoundError: there is none of this tenant.
        """
        with self._database.read() as connection:
            return self._one(connection, upload_id, tenant)

    def page(
        self, *, tenant: str, after: str | None, limit: int, order: Order, purpose: str | None
    ) -> tuple[list[Upload], bool]:
        """Up to `limit` files by age, those behind `after`. Gives (files, whether more follow).

        Raises:
            UploadNotFoundError: there is no file `after`.
        """
        place = tuple_(uploads.c.created_at, uploads.c.id)
        query = self._query().where(uploads.c.tenant == tenant)
        if purpose is not None:
            query = query.where(uploads.c.purpose == purpose)
        with self._database.read() as connection:
            if after is not None:
                at = tuple_(_place(connection, after, tenant), after)
                query = query.where(place > at if order == "asc" else place < at)
            columns = (uploads.c.created_at, uploads.c.id)
            by = columns if order == "asc" else tuple(column.desc() for column in columns)
            rows = connection.execute(query.order_by(*by).limit(limit + 1)).all()
        return [_upload(row) for row in rows[:limit]], len(rows) > limit

    def delete(self, upload_id: str, *, tenant: str) -> list[str]:
        """Forget a file; gives the keys of bytes that no job uses.

        Raises:
            UploadNotFoundError: there is none of this tenant.
        """

        def write() -> list[str]:
            with self._database.write() as connection:
                self._one(connection, upload_id, tenant)
                return drop_uploads(connection, [upload_id], self._database.now(connection))

        return self._database.freeing(write)

    def _one(self, connection: Connection, upload_id: str, tenant: str) -> Upload:
        row = connection.execute(self._query().where(uploads.c.id == upload_id, uploads.c.tenant == tenant)).first()
        if row is None:
            raise UploadNotFoundError(upload_id)
        return _upload(row)

    def _query(self) -> Select[Any]:
        """Files whose time is not over."""
        files = select(uploads, checkpoints.c.record).join(checkpoints, checkpoints.c.job_id == uploads.c.id)
        return files.where(lasts(self._database.clock()))


def _place(connection: Connection, upload_id: str, tenant: str) -> float:
    """When a file came, which is in the list or was until it went."""
    for table in (uploads, forgotten):
        own = and_(table.c.id == upload_id, table.c.tenant == tenant)
        created_at = connection.execute(select(table.c.created_at).where(own)).scalar()
        if created_at is not None:
            return float(created_at)
    raise UploadNotFoundError(upload_id)


def _upload(row: Row[Any]) -> Upload:
    return Upload(
        id=row.id,
        tenant=row.tenant,
        bytes=row.bytes,
        filename=row.filename,
        purpose=row.purpose,
        source=Source.model_validate(row.record),
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
