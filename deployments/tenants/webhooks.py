"""Webhooks: whoever made a job is told once it has ended, signed as standardwebhooks.com says.

A job with a `webhook_url` has a row in `deliveries`, written with the job and due with its end, in the same
transactions; so no end is forgotten, and one may be told twice, under the same `webhook-id`. Each ingress replica runs
`Courier.run`: it takes a due row by moving its time ahead, and posts. A 2xx ends it, a 410 or the last attempt gives it
up.

The server posts to public addresses alone, unless `webhooks.allow_private`: the host is looked up, every address it has
must be public, and the connection goes to the one that was checked.
"""

import asyncio
import ipaddress
import json
import logging
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx
from sqlalchemy import select, update
from standardwebhooks.webhooks import Webhook

from deployments.bulkheads import Bulkhead
from deployments.errors import InvalidRequestError
from deployments.jobs.values import Job
from deployments.journal.database import Database
from deployments.journal.tables import deliveries

logger = logging.getLogger(__name__)

TIMEOUT_S = 10.0
RETRY_S = (5.0, 30.0, 120.0, 600.0, 3600.0, 4 * 3600.0, 12 * 3600.0)  # after the first, second, ... failure
MAX_URL_CHARS = 2000

Body = Callable[[str], tuple[Job, str] | None]
"""A job's id to the job and its JSON; None for one that is gone."""


class PrivateAddressError(OSError):
    """A webhook that leads into a private network."""


def judge_url(url: str | None, enabled: bool) -> None:
    """Whether a job may name this webhook.

    Raises:
        InvalidRequestError: it may not.
    """
    if url is None:
        return
    if not enabled:
        raise _refused("This server sends no webhooks; its operator can set webhooks.secret. Leave webhook_url out.")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and " " not in url
    except ValueError:
        usable = False
    if not usable or len(url) > MAX_URL_CHARS or not url.isascii() or not url.isprintable():
        raise _refused(f"webhook_url is {url[:80]!r}; it must be an address like https://example.com/hooks/video.")


def public_address(host: str, port: int, allow_private: bool) -> str:
    """An address of the host that may be connected to.

    Raises:
        OSError: it has none, or one of them is private.
    """
    found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    for address in sorted(found):
        if not allow_private and not ipaddress.ip_address(address).is_global:
            raise PrivateAddressError(f"{host} has the address {address}, which is not a public one")
    return min(found)


class Courier:
    """See the top of this module."""

    def __init__(
        self, database: Database, secret: str, body: Body, *, allow_private: bool, poll_s: float = 0.5
    ) -> None:
        self._database = database
        self._webhook = Webhook(secret)
        self._body = body
        self._allow_private = allow_private
        self._poll_s = poll_s
        self._threads = Bulkhead("The journal's database or a name server", threads=4, wait_s=TIMEOUT_S)

    async def run(self) -> None:
        """Deliver until cancelled."""
        async with httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as http:
            while True:
                try:
                    while (taken := await self._threads.run(self._take)) is not None:
                        await self._deliver(http, *taken)
                except Exception:
                    logger.exception("Webhooks could not be looked for; trying again.")
                await asyncio.sleep(self._poll_s)

    def _take(self) -> tuple[str, str, int, float] | None:
        """The most urgent due delivery as (job, url, attempt, now); its time is moved ahead, so that it is tried again
        if this process dies.
        """
        with self._database.write() as connection:
            now = self._database.now(connection)
            query = select(deliveries).where(deliveries.c.due_at <= now).order_by(deliveries.c.due_at).limit(1)
            row = connection.execute(query.with_for_update(skip_locked=True)).first()
            if row is None:
                return None
            again = now + TIMEOUT_S + RETRY_S[min(row.attempts, len(RETRY_S) - 1)]
            connection.execute(
                update(deliveries)
                .where(deliveries.c.job_id == row.job_id)
                .values(due_at=again, attempts=deliveries.c.attempts + 1)
            )
            return row.job_id, row.url, row.attempts + 1, now

    async def _deliver(self, http: httpx.AsyncClient, job_id: str, url: str, attempt: int, now: float) -> None:
        made = await self._threads.run(self._body, job_id)
        if made is None:
            return  # its row went with it
        job, video = made
        try:
            status = await self._post(http, job, url, video, now)
        except (OSError, httpx.HTTPError) as error:
            reason = f"{type(error).__name__}: {error}"
        else:
            if 200 <= status < 300:
                await self._threads.run(self._end, job_id, None)
                return
            reason = f"status {status}"
            attempt = len(RETRY_S) + 1 if status == 410 else attempt
        logger.warning("The webhook of job %s was not taken by %s: %s", job_id, urlsplit(url).hostname, reason)
        if attempt > len(RETRY_S):
            await self._threads.run(self._end, job_id, reason)

    async def _post(self, http: httpx.AsyncClient, job: Job, url: str, video: str, now: float) -> int:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        address = await self._threads.run(public_address, host, port, self._allow_private)
        ended = datetime.fromtimestamp(job.finished_at or now, UTC)
        kind = "video.completed" if job.state == "succeeded" else "video.failed"
        text = json.dumps({"type": kind, "timestamp": ended.isoformat(), "data": json.loads(video)})
        message_id, sent = f"msg_{job.id.removeprefix('video_')}", datetime.fromtimestamp(now, UTC)
        headers = {
            "host": parts.netloc.rpartition("@")[2],
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now)),
            "webhook-signature": self._webhook.sign(message_id, sent, text),
        }
        target = httpx.URL(url).copy_with(host=address, username=None, password=None)
        extensions = {"sni_hostname": host}  # the certificate is that of the name, the connection goes to the address
        answer = await http.post(target, content=text, headers=headers, extensions=extensions)
        return answer.status_code

    def _end(self, job_id: str, error: str | None) -> None:
        with self._database.write() as connection:
            delivered_at = None if error else self._database.now(connection)
            values = {"due_at": None, "error": error[:500] if error else None, "delivered_at": delivered_at}
            connection.execute(update(deliveries).where(deliveries.c.job_id == job_id).values(**values))


def _refused(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, param="webhook_url", code="invalid_field")
