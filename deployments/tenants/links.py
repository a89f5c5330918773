"""Addresses of a video's content that need no key: signed, for a while, and the same for every replica.

    ?expires=<seconds since the epoch>&signature=<HMAC-SHA256 of id and expires, base64url>

The secret is made once and kept in the journal's database; that of raters' links stands apart, and in backups. A link
is worth what its tenant's keys are: it ends at its time, with the video, and with the last valid key of the tenant. It
is part of an address, so nothing here or above logs one. Knows nothing of HTTP.
"""

import base64
import hashlib
import hmac
import math
import secrets
import time
from collections.abc import Callable

from sqlalchemy import Table, exists, select
from sqlalchemy.exc import IntegrityError

from deployments.bulkheads import Bulkhead
from deployments.errors import NotAllowedError, VideoNotFoundError
from deployments.journal.database import Database
from deployments.journal.tables import api_keys, jobs, link_secrets, study_secrets

_STEPS = 24  # a link lasts up to so small a part longer, so that who asks again is given the same one

Sign = Callable[[str], str]
"""A video's id to the query of its link."""


class Links:
    """As one ingress replica makes and reads them."""

    def __init__(
        self,
        database: Database,
        at_journal: Bulkhead,
        *,
        lasts_s: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._at_journal = database, at_journal
        self._lasts_s, self._clock = lasts_s, clock
        self._secret: bytes | None = None
        self._raters_secret: bytes | None = None
        self._epoch_s = 0.0  # what the database's clock said when ours said 0

    async def signer(self) -> Sign | None:
        """None where this server gives no links."""
        if self._lasts_s is None:
            return None
        secret, step = await self._known(), self._lasts_s / _STEPS
        expires = math.ceil((self._now() // step + 1) * step + self._lasts_s)
        return lambda video_id: f"expires={expires}&signature={_signature(secret, video_id, str(expires))}"

    async def tenant_of(self, video_id: str, expires: str, signature: str) -> str:
        """Whose video a link opens.

        Raises:
            NotAllowedError: it is none of ours, or over.
            VideoNotFoundError: its video is gone, or its tenant has no valid key any more.
        """
        if self._lasts_s is None:
            said = "This server opens no links any more; ask for the content with an API key."
            raise NotAllowedError(said, param="signature", code="invalid_link")
        wanted = _signature(await self._known(), video_id, expires)
        if not hmac.compare_digest(wanted.encode(), signature.encode()):
            raise _refused("is not signed by this server")
        if int(expires) <= self._now():
            raise _refused("has expired")
        tenant = await self._at_journal.run(self._tenant, video_id)
        if tenant is None:
            raise VideoNotFoundError(video_id)
        return tenant

    async def mark(self, purpose: str, text: str, *, make: bool = False) -> str | None:
        """The signature of what raters have, under a key of that purpose. None where this journal has signed nothing
        yet, and `make` does not say that it is to begin.
        """
        if self._raters_secret is None:
            secret = await self._at_journal.run(self._secret_in, study_secrets, make)
            if secret is None:
                return None
            self._raters_secret = bytes.fromhex(secret)
        return _signature(hmac.digest(self._raters_secret, purpose.encode(), hashlib.sha256), text)

    def _tenant(self, video_id: str) -> str | None:
        valid = exists().where(api_keys.c.tenant == jobs.c.tenant, api_keys.c.revoked_at.is_(None))
        with self._database.read() as connection:
            return connection.execute(select(jobs.c.tenant).where(jobs.c.id == video_id, valid)).scalar()

    async def _known(self) -> bytes:
        if self._secret is None:
            secret, now = await self._at_journal.run(self._read)
            self._secret, self._epoch_s = bytes.fromhex(secret), now - self._clock()
        return self._secret

    def _now(self) -> float:
        """Seconds since the epoch by the database's clock, which was asked once."""
        return self._epoch_s + self._clock()

    def _read(self) -> tuple[str, float]:
        """The secret of videos' links, and the time."""
        return str(self._secret_in(link_secrets, make=True)), self._database.time()

    def _secret_in(self, table: Table, make: bool) -> str | None:
        """The one secret, which whoever is first makes."""
        query = select(table.c.secret).where(table.c.id == 1)
        with self._database.read() as connection:
            found = connection.execute(query).scalar()
        if found is None and make:
            try:
                with self._database.write() as connection:
                    connection.execute(table.insert().values(id=1, secret=secrets.token_hex(32)))
            except IntegrityError:
                pass  # another replica was first
            with self._database.read() as connection:
                found = connection.execute(query).scalar_one()
        return found


def _refused(why: str) -> NotAllowedError:
    said = f"This address {why}; take the video's url from GET /v1/videos/{{id}}."
    return NotAllowedError(said, param="signature", code="invalid_link")


def _signature(secret: bytes, *parts: str) -> str:
    digest = hmac.digest(secret, "\n".join(parts).encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
