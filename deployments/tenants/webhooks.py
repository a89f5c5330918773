"""Webhooks: whoever made a job is told once it has ended, in the shape of OpenAI's events (`id`, `object`, `type`,
`created_at`, `data`: the video), signed as standardwebhooks.com says.

A job with a `webhook_url` has a row in `deliveries`, written with the job and due with its end, in the same
transactions; so no end is forgotten, and one may be told twice, under the same `webhook-id`. Each ingress replica runs
`Courier.run`: it takes due rows by moving their time ahead, and posts, several at once, few of them to one place or for
one tenant, so that who answers slowly delays nobody else. A 2xx ends it, a 410 or the last attempt gives it up. A post
has one deadline for all of it; of the answer only status and headers are read.

The server posts to public addresses alone (`deployments.tenants.addresses`), unless `webhooks.allow_private`.
"""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx
from sqlalchemy import not_, or_, select, update
from standardwebhooks.webhooks import Webhook

from deployments.bulkheads import Bulkhead
from deployments.errors import InvalidRequestError, UnavailableError
from deployments.jobs.values import Job
from deployments.journal.database import Database
from deployments.journal.tables import deliveries, jobs
from deployments.tenants.addresses import EVERYWHERE, parse_address, public_address

logger = logging.getLogger(__name__)

POST_S = 10.0  # the whole of a post, from the name's look-up to the answer's last header
LOOK_UP_S = 5.0
AT_ONCE, PER_PLACE, PER_TENANT = 16, 2, 8  # posts of one replica
RETRY_S = (5.0, 30.0, 120.0, 600.0, 3600.0, 4 * 3600.0, 12 * 3600.0)  # after the first, second, ... failure

Body = Callable[[str], tuple[Job, str] | None]
"""A job's id to the job and its JSON; None for one that is gone."""


def judge_url(url: str | None, enabled: bool) -> None:
    """Whether a job may name this webhook.

    Raises:
        InvalidRequestError: it may not.
    """
    if url is None:
        return
    if not enabled:
        raise _refused("This server sends no webhooks; its operator can set webhooks.secret. Leave webhook_url out.")
    if (address := parse_address(url)) is None:
        raise _refused(f"webhook_url is {url[:80]!r}; it must be an address like https://example.com/hooks/video.")
    if address.has_user:
        raise _refused(f"webhook_url names a user at {address.place}; leave that out: posts are signed instead.")


@dataclass(frozen=True)
class _Due:
    """A delivery that was taken."""

    job_id: str
    url: str
    tenant: str
    attempt: int
    taken_at: float  # seconds since the epoch

    @property
    def place(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"


class Courier:
    """See the top of this module."""

    def __init__(
        self,
        database: Database,
        secret: str,
        body: Body,
        *,
        allow_private: bool,
        poll_s: float = 0.5,
        post_s: float = POST_S,
    ) -> None:
        self._database = database
        self._webhook = Webhook(secret)
        self._body = body
        self._networks = EVERYWHERE if allow_private else ()
        self._poll_s = poll_s
        self._post_s = post_s
        self._at_journal = Bulkhead("The journal's database", threads=4, wait_s=POST_S)
        self._at_names = Bulkhead("The name server", threads=AT_ONCE, wait_s=LOOK_UP_S)

    async def run(self) -> None:
        """Deliver until cancelled."""
        under_way: dict[asyncio.Task[None], _Due] = {}
        limits = httpx.Limits(max_keepalive_connections=0)  # a connection is one name's, and pools go by address
        async with (
            httpx.AsyncClient(timeout=self._post_s, limits=limits, follow_redirects=False, trust_env=False) as http,
            asyncio.TaskGroup() as group,
        ):
            while True:
                try:
                    while len(under_way) < AT_ONCE:
                        due = await self._at_journal.run(self._take, list(under_way.values()))
                        if due is None:
                            break
                        under_way[group.create_task(self._deliver(http, due))] = due
                except Exception:
                    logger.exception("Webhooks could not be looked for; trying again.")
                if under_way:
                    await asyncio.wait(under_way, timeout=self._poll_s, return_when=asyncio.FIRST_COMPLETED)
                    under_way = {task: due for task, due in under_way.items() if not task.done()}
                else:
                    await asyncio.sleep(self._poll_s)

    def _take(self, under_way: Sequence[_Due]) -> _Due | None:
        """The most urgent due delivery to a place and for a tenant that have few under way; its time is moved ahead, so
        that it is tried again if this process dies.
        """
        url = deliveries.c.url
        places = [place for place, count in Counter(due.place for due in under_way).items() if count >= PER_PLACE]
        full = [or_(url == place, *(url.startswith(place + end, autoescape=True) for end in "/?#")) for place in places]
        tenants = [name for name, count in Counter(due.tenant for due in under_way).items() if count >= PER_TENANT]
        with self._database.write() as connection:
            now = self._database.now(connection)
            query = (
                select(deliveries, jobs.c.tenant)
                .join(jobs, jobs.c.id == deliveries.c.job_id)
                .where(deliveries.c.due_at <= now, jobs.c.tenant.not_in(tenants), *map(not_, full))
                .where(deliveries.c.job_id.not_in([due.job_id for due in under_way]))
                .order_by(deliveries.c.due_at)
                .limit(1)
            )
            row = connection.execute(query.with_for_update(skip_locked=True, of=deliveries)).first()
            if row is None:
                return None
            again = now + POST_S + RETRY_S[min(row.attempts, len(RETRY_S) - 1)]
            connection.execute(
                update(deliveries)
                .where(deliveries.c.job_id == row.job_id)
                .values(due_at=again, attempts=deliveries.c.attempts + 1)
            )
            return _Due(row.job_id, row.url, row.tenant, row.attempts + 1, now)

    async def _deliver(self, http: httpx.AsyncClient, due: _Due) -> None:
        try:
            made = await self._at_journal.run(self._body, due.job_id)
            if made is None:
                return  # its row went with it
            status, reason = await self._answer_to(http, due, *made)
            if 200 <= status < 300:
                await self._at_journal.run(self._end, due.job_id, None)
                return
            logger.warning("The webhook of job %s was not taken by %s: %s", due.job_id, due.place, reason)
            if status == 410 or due.attempt > len(RETRY_S):
                await self._at_journal.run(self._end, due.job_id, reason)
        except Exception:
            logger.exception("The webhook of job %s could not be delivered; it is tried again.", due.job_id)

    async def _answer_to(self, http: httpx.AsyncClient, due: _Due, job: Job, video: str) -> tuple[int, str]:
        """The status, 0 where there is none, and why it is not a good one."""
        try:
            async with asyncio.timeout(self._post_s):
                status = await self._post(http, job, due.url, video, due.taken_at)
        except TimeoutError:
            return 0, f"no whole answer within {self._post_s:g} s"
        except (OSError, httpx.HTTPError, UnavailableError) as error:
            return 0, f"{type(error).__name__}: {error}"
        return status, f"status {status}"

    async def _post(self, http: httpx.AsyncClient, job: Job, url: str, video: str, now: float) -> int:
        target = parse_address(url)
        assert target is not None  # else the job would not have been accepted
        address = await self._at_names.run(public_address, target.host, target.port, self._networks)
        ended = datetime.fromtimestamp(job.finished_at or now, UTC)
        kind = "video.completed" if job.state == "succeeded" else "video.failed"
        number = job.id.removeprefix("video_")
        event = {"id": f"evt_{number}", "object": "event", "type": kind, "created_at": int(ended.timestamp())}
        text = json.dumps({**event, "timestamp": ended.isoformat(), "data": json.loads(video)})
        message_id, sent = f"msg_{number}", datetime.fromtimestamp(now, UTC)
        headers = {
            "host": target.netloc,
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now)),
            "webhook-signature": self._webhook.sign(message_id, sent, text),
        }
        extensions = {"sni_hostname": target.host}  # the certificate is that of the name
        async with http.stream(
            "POST", target.at(address), content=text, headers=headers, extensions=extensions
        ) as answer:
            return answer.status_code  # its body, which may have no end, is never read

    def _end(self, job_id: str, error: str | None) -> None:
        with self._database.write() as connection:
            delivered_at = None if error else self._database.now(connection)
            values = {"due_at": None, "error": error[:500] if error else None, "delivered_at": delivered_at}
            connection.execute(update(deliveries).where(deliveries.c.job_id == job_id).values(**values))


def _refused(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, param="webhook_url", code="invalid_field")
