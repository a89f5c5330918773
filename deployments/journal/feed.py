"""What happens to jobs, as it happens, for many readers: one poller of the journal for each ingress replica.

While somebody reads, every `poll_s` one query asks which jobs have events behind the newest number that was seen, and
another fetches those of watched jobs; what a poll costs depends on what has happened, not on how many are watched. The
events of a watched job are held once, however many read it, and each reader keeps its place in them: a slow one costs
nothing. Steps of stages are no events of the journal; they come as `stage_progress` with the number of the event
before them, and a reader who is behind gets the newest alone.

Within one job, numbers follow its row's lock, so none is missed. Those of different jobs may appear out of order: a
number that is left out is asked for again until no transaction can be open that holds it. Knows nothing of HTTP.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, and_, func, select

from client.schema import Event
from deployments.bulkheads import Bulkhead
from deployments.journal.database import Database
from deployments.journal.tables import job_events, jobs, stage_outputs

logger = logging.getLogger(__name__)
T = TypeVar("T")

LAST = frozenset({"completed", "failed", "cancelled"})  # the kinds that end a job
_STEPS_EVERY = 4  # polls
_RETRY_S = 1.0  # between two looks while the database does not answer
_OPEN_S = 60.0  # no transaction that writes an event is open for so long
_AT_ONCE = 500  # values in one query
_BEHIND = 5_000  # numbers before the newest among which the first poll looks for those that are left out


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


@dataclass(frozen=True)
class _Tail:
    """How far the events of all jobs were seen."""

    top: int  # the newest number
    left_out: Mapping[int, float]  # lower numbers that were not seen, and since when, monotonic


class EventFeed:
    """See the top of this module. Needs a running event loop once somebody reads."""

    def __init__(self, database: Database, *, poll_s: float = 0.05) -> None:
        self._database = database
        self._poll_s = poll_s
        self._at_journal = Bulkhead("The journal's database", threads=2, wait_s=10.0)
        self._jobs: dict[str, _Watched] = {}
        self._poller: asyncio.Task[None] | None = None
        self._tail: _Tail | None = None

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
        turn, fails, self._tail = 0, False, None
        while self._jobs:
            try:
                loaded = {job_id: job.loaded for job_id, job in self._jobs.items()}
                self._take(loaded, await self._at_journal.run(self._read, loaded))
                if turn % _STEPS_EVERY == 0:
                    self._take_steps(await self._at_journal.run(self._read_steps, set(self._jobs)))
                fails = False
            except Exception:
                if not fails:  # a line for each time that it begins
                    logger.exception("The journal could not be read for events; trying again until it can.")
                fails = True
            turn += 1
            await asyncio.sleep(_RETRY_S if fails else self._poll_s)

    def _take(self, watched: Iterable[str], news: Sequence[tuple[str, Event]]) -> None:
        changed = set()
        for job_id, event in news:
            job = self._jobs.get(job_id)
            if job is not None and event.id > job.seq:
                job.events.append(event)
                changed.add(job_id)
        for job_id in watched:
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

    def _read(self, loaded: Mapping[str, bool]) -> list[tuple[str, Event]]:
        """In a thread: new events of the watched jobs, in the order of their numbers; all of one that is not loaded."""
        with self._database.read() as connection:
            tail = self._tail if self._tail is not None else _first_tail(connection)
            behind, tail = _behind(connection, tail)
            numbers = [seq for seq, job_id in behind if loaded.get(job_id)]
            unknown = [job_id for job_id, known in loaded.items() if not known]
            rows: list[Row[Any]] = []
            for column, values in ((job_events.c.seq, numbers), (job_events.c.job_id, unknown)):
                for some in _parts(values):
                    rows += connection.execute(select(job_events).where(column.in_(some))).all()
        self._tail = tail  # not before all of it was read
        found = [(row.job_id, Event(id=row.seq, kind=row.kind, at=row.at, data=row.data)) for row in rows]
        return sorted(found, key=lambda item: item[1].id)

    def _read_steps(self, ids: Collection[str]) -> list[tuple[str, str, int]]:
        columns = (stage_outputs.c.job_id, stage_outputs.c.name, stage_outputs.c.progress)
        own = and_(stage_outputs.c.job_id == jobs.c.id, stage_outputs.c.status == "running")
        query = select(*columns).select_from(jobs).join(stage_outputs, own).where(jobs.c.state == "running")
        with self._database.read() as connection:
            return [(row.job_id, row.name, row.progress) for row in connection.execute(query) if row.job_id in ids]

    async def close(self) -> None:
        """Stop polling."""
        if self._poller is not None:
            self._poller.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._poller


def _first_tail(connection: Connection) -> _Tail:
    newest = connection.execute(select(func.max(job_events.c.seq))).scalar() or 0
    return _Tail(max(0, newest - _BEHIND), {})


def _behind(connection: Connection, tail: _Tail) -> tuple[list[tuple[int, str]], _Tail]:
    """Number and job of the events that were not seen before, and how far they are seen then."""
    number, now = job_events.c.seq, time.monotonic()
    left_out = {seq: since for seq, since in tail.left_out.items() if now - since < _OPEN_S}
    query = select(number, job_events.c.job_id)
    rows = list(connection.execute(query.where(number > tail.top).order_by(number)).tuples())
    top = rows[-1][0] if rows else tail.top
    for some in _parts(left_out):
        rows += connection.execute(query.where(number.in_(some))).tuples()
    for seq in range(max(tail.top, top - _BEHIND) + 1, top):
        left_out.setdefault(seq, now)
    for seq, _ in rows:
        left_out.pop(seq, None)
    return rows, _Tail(top, left_out)


def _parts(values: Iterable[T]) -> Iterator[list[T]]:
    """At most `_AT_ONCE` of them each."""
    left = iter(values)
    while part := list(islice(left, _AT_ONCE)):
        yield part
