"""One poller for every reader, on SQLite and PostgreSQL: nothing is missed, and nothing comes twice."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

import pytest

from client.schema import Event, StageState
from deployments.jobs.values import Claim, JobRequest, NewJob, Update
from deployments.journal.database import Database
from deployments.journal.feed import EventFeed
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from deployments.journal.steps import log_event
from tests.journals import postgres_journal

REQUEST = JobRequest(prompt="a fox", model="tiny", size="256x256", seconds="2", seed=7)
DEADLINE_S = 120.0


@pytest.fixture
async def feed(journal: Journal) -> AsyncIterator[EventFeed]:
    made = EventFeed(journal.database, poll_s=0.01)
    yield made
    await made.close()


def begin(journal: Journal) -> Claim:
    leases = Leases(journal.database)
    journal.submit(NewJob(REQUEST))
    claimed = leases.claim("a", 60.0)
    assert claimed is not None
    return claimed[0]


def end(journal: Journal, claim: Claim) -> None:
    leases = Leases(journal.database)
    leases.finish(Update(claim), "succeeded", result={"key": "k"})


async def read(feed: EventFeed, job_id: str, after: int = 0) -> list[Event]:
    async with asyncio.timeout(DEADLINE_S):
        return [event async for event in feed.follow(job_id, after) if event is not None]


async def test_a_finished_job_replays_and_ends_and_goes_on_from_anywhere(
    journal: Journal, leases: Leases, feed: EventFeed
) -> None:
    claim = begin(journal)
    leases.record([Update(claim, events=(("stage_queued", {"stage": "t2i"}),))])
    end(journal, claim)
    whole = await read(feed, claim.job_id)
    assert [event.kind for event in whole] == ["queued", "started", "stage_queued", "completed"]
    assert whole[2].data == {"stage": "t2i"}
    for place, event in enumerate(whole):
        assert await read(feed, claim.job_id, event.id) == whole[place + 1 :]
    assert feed.streams == 0


async def test_a_job_that_nobody_knows_ends_at_once(feed: EventFeed) -> None:
    assert await read(feed, "nobody") == []


async def test_two_writers_and_many_readers_miss_nothing(journal: Journal, leases: Leases, feed: EventFeed) -> None:
    claims = [begin(journal) for _ in range(6)]

    def write(own: list[Claim]) -> None:
        for number in range(30):
            for claim in own:
                leases.record([Update(claim, events=(("stage_output", {"stage": "v2v", "index": number}),))])
        for claim in own:
            end(journal, claim)

    readers = [asyncio.create_task(read(feed, claim.job_id)) for claim in claims for _ in range(5)]
    writers = [threading.Thread(target=write, args=(claims[start::2],)) for start in (0, 1)]
    for writer in writers:
        writer.start()
    for number, told in enumerate(await asyncio.gather(*readers)):
        events = [event for event in told if event.kind != "stage_progress"]
        ids = [event.id for event in events]
        assert ids == sorted(set(ids))
        assert [event.data["index"] for event in events if event.kind == "stage_output"] == list(range(30)), number
    for writer in writers:
        writer.join()


async def test_steps_are_told_the_newest_first_and_never_twice(
    journal: Journal, leases: Leases, feed: EventFeed
) -> None:
    claim = begin(journal)
    told = feed.follow(claim.job_id)
    async with asyncio.timeout(DEADLINE_S):
        assert [(await anext(told)).kind for _ in range(2)] == ["queued", "started"]  # type: ignore[union-attr]
        for percent in (10, 40):
            leases.record([Update(claim, (StageState(name="i2v", status="running", progress=percent),))])
            step = await anext(told)
            assert step is not None
            assert (step.kind, step.data) == ("stage_progress", {"stage": "i2v", "progress": percent})
        end(journal, claim)
        last = await anext(told)
        assert last is not None
        assert last.kind == "completed"


async def test_a_quiet_stream_is_kept_open(journal: Journal, feed: EventFeed) -> None:
    claim = begin(journal)
    told = feed.follow(claim.job_id, beat_s=0.01)
    async with asyncio.timeout(DEADLINE_S):
        kinds: list[str | None] = []
        while kinds.count(None) == 0 or len([kind for kind in kinds if kind]) < 2:
            event = await anext(told)
            kinds.append(event.kind if event else None)
    assert [kind for kind in kinds if kind] == ["queued", "started"]
    await told.aclose()
    assert feed.streams == 0


async def test_an_event_whose_transaction_ends_after_a_later_one_is_told(
    postgres: Journal, claims: tuple[Claim, Claim]
) -> None:
    early, late = claims
    feed = EventFeed(postgres.database, poll_s=0.01)
    told, others = feed.follow(early.job_id), feed.follow(late.job_id)

    async def kinds(stream: AsyncGenerator[Event | None], count: int) -> list[str]:
        return [event.kind for _ in range(count) if (event := await anext(stream)) is not None]

    async with asyncio.timeout(DEADLINE_S):
        for stream in (told, others):
            assert await kinds(stream, 2) == ["queued", "started"]
        with postgres.database.write() as connection:
            log_event(connection, early.job_id, "stage_queued", 1.0)
            end(postgres, late)
            assert await kinds(others, 1) == ["completed"]
        assert await kinds(told, 1) == ["stage_queued"]
    await told.aclose()
    await others.aclose()
    await feed.close()


@pytest.fixture
def postgres() -> Iterator[Journal]:
    opened = Journal(Database(postgres_journal()))
    yield opened
    opened.database.close()


@pytest.fixture
def claims(postgres: Journal) -> tuple[Claim, Claim]:
    return begin(postgres), begin(postgres)
