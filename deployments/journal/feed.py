"""What happens to jobs, as it happens, for many readers: one poller of the journal for each ingress replica.

While somebody reads, every `poll_s` one query asks which of the watched jobs have news, and another fetches it. The
events of a watched job are held once, however many read it, and each reader keeps its place in them: a slow one costs
nothing. Steps of stages are no events of the journal; they come as `stage_progress` with the number of the event
before them, and a reader who is behind gets the newest alone.

Within one job, numbers follow its row's lock, so none is missed; those of different jobs may appear out of order, which
is why each job has a place of its own. Knows nothing of HTTP.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import func, select

from client.schema import Event
from deployments.bulkheads import Bulkhead
from deployments.journal.database import Database
from deployments.journal.tables import job_events, stage_outputs

logger = logging.getLogger(__name__)

LAST = frozenset({"completed", "failed", "cancelled"})  # the kinds that end a job
_STEPS_EVERY = 4  # polls
_RETRY_S = 1.0  # between two looks while the database does not answer


@dataclass
class _Watched:
    """One job that somebody reads."""

    readers: int = 0
    loaded: bool = False
    gone: bool = False
    events: list[Event] = field(default_factory=list)
    progress: dict[str, int] = field(default_factory=dict)  # of stages that run
    news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def seq(self) -> int:
        return self.events[-1].id if self.events else 0

    def tell(self) -> None:
        self.news.set()
        self.news = asyncio.Event()


class EventFeed:
    """See the top of this module. Needs a running event loop once somebody reads."""

    def __init__(self, database: Database, *, poll_s: float = 0.05) -> None:
        self._database = database
        self._poll_s = poll_s
        self._at_journal = Bulkhead("The journal's database", threads=2, wait_s=10.0)
        self._jobs: dict[str, _Watched] = {}
        self._poller: asyncio.Task[None] | None = None

    @property
    def streams(self) -> int:
        """How many read."""
        return sum(job.readers for job in self._jobs.values())

    async def follow(
        self, job_id: str, after: int = 0, *, beat_s: float | None = None, steps: bool = True
    ) -> AsyncGenerator[Event | None]:
        """Events of a job behind `after`, until its last one; None every `beat_s` in which nothing happens."""
        job = self._jobs.setdefault(job_id, _Watched())
        job.readers += 1
        try:
            self._wake()
            place, shown = 0, dict[str, int]()
            while True:
                news = job.news
                while place < len(job.events):
                    event = job.events[place]
                    place += 1
                    if event.id > after:
                        yield event
                    if event.kind in LAST:
                        return
                if job.gone:
                    return
                for stage, percent in list(job.progress.items()) if steps else ():
                    if shown.get(stage) != percent:
                        shown[stage] = percent
                        about = {"stage": stage, "progress": percent}
                        yield Event(id=job.seq, kind="stage_progress", at=job.events[-1].at, data=about)
                try:
                    async with asyncio.timeout(beat_s):
                        await news.wait()
                except TimeoutError:
                    yield None
        finally:
            job.readers -= 1
            if not job.readers:
                self._jobs.pop(job_id, None)

    def _wake(self) -> None:
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())

    async def _poll(self) -> None:
        turn, fails = 0, False
        while self._jobs:
            try:
                places = {job_id: (job.seq, job.loaded) for job_id, job in self._jobs.items()}
                news = await self._at_journal.run(self._read, places)
                self._take(places, news)
                if turn % _STEPS_EVERY == 0:
                    self._take_steps(await self._at_journal.run(self._read_steps, list(self._jobs)))
                fails = False
            except Exception:
                if not fails:  # a line for each time that it begins
                    logger.exception("The journal could not be read for events; trying again until it can.")
                fails = True
            turn += 1
            await asyncio.sleep(_RETRY_S if fails else self._poll_s)

    def _take(self, places: dict[str, tuple[int, bool]], news: Sequence[tuple[str, Event]]) -> None:
        changed = set()
        for job_id, event in news:
            job = self._jobs.get(job_id)
            if job is not None and event.id > job.seq:
                job.events.append(event)
                changed.add(job_id)
        for job_id in places:
            job = self._jobs.get(job_id)
            if job is None:
                continue
            if not job.loaded:
                job.loaded = True
                job.gone = not job.events
                changed.add(job_id)
        for job_id in changed:
            self._jobs[job_id].tell()

    def _take_steps(self, rows: Sequence[tuple[str, str, int]]) -> None:
        found: dict[str, dict[str, int]] = {}
        for job_id, stage, percent in rows:
            found.setdefault(job_id, {})[stage] = percent
        for job_id, job in self._jobs.items():
            steps = found.get(job_id, {})
            if job.loaded and steps != job.progress:
                job.progress = steps
                job.tell()

    def _read(self, places: dict[str, tuple[int, bool]]) -> list[tuple[str, Event]]:
        """In a thread: new events of the jobs at those places, in the order of their numbers."""
        newest = select(job_events.c.job_id, func.max(job_events.c.seq)).where(job_events.c.job_id.in_(places))
        with self._database.read() as connection:
            top = dict(connection.execute(newest.group_by(job_events.c.job_id)).tuples().all())
            behind = [job_id for job_id, seq in top.items() if seq > places[job_id][0]]
            if not behind:
                return []
            floor = min(places[job_id][0] for job_id in behind)
            query = select(job_events).where(job_events.c.job_id.in_(behind), job_events.c.seq > floor)
            rows = connection.execute(query.order_by(job_events.c.seq)).all()
        return [
            (row.job_id, Event(id=row.seq, kind=row.kind, at=row.at, data=row.data))
            for row in rows
            if row.seq > places[row.job_id][0]
        ]

    def _read_steps(self, ids: list[str]) -> list[tuple[str, str, int]]:
        columns = (stage_outputs.c.job_id, stage_outputs.c.name, stage_outputs.c.progress)
        query = select(*columns).where(stage_outputs.c.job_id.in_(ids), stage_outputs.c.status == "running")
        with self._database.read() as connection:
            return [(row.job_id, row.name, row.progress) for row in connection.execute(query)]

    async def close(self) -> None:
        """Stop polling."""
        if self._poller is not None:
            self._poller.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._poller
