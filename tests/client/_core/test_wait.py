"""Waiting for a job: progress, cadence, the ways it ends, and outages on the way. Time is the pauses alone."""

import asyncio
from typing import Any

import pytest

from client import (
    APIConnectionError,
    AsyncClient,
    InvalidArgumentError,
    JobError,
    NotFoundError,
    ServerError,
    UnexpectedResponseError,
    Video,
    VideoFailedError,
    WaitTimeoutError,
)
from client._core.flows import OUTAGE_S
from tests.client.rig import MakeClient, Timeline
from tests.client.wire import Fault, Wire

SHARES = [15, 45, 85, 100]  # of the job, done with each stage
PACE = "openai-poll-after-ms"


def test_wait_tells_every_state_and_gives_the_last(api: Any, wire: Wire) -> None:
    states: list[Video] = []
    video = api.videos.create_and_wait("a fox", seed=7, on_progress=states.append)
    assert (video.status, video.progress, video.frames, video.fps, video.seed) == ("completed", 100, 46, 24.0, 7)
    assert [state.progress for state in states] == SHARES
    assert [[stage.status for stage in state.stages] for state in states[:2]] == [
        ["completed", "running", "waiting", "waiting"],
        ["completed", "completed", "running", "waiting"],
    ]
    assert states[-1] == video


def test_the_server_sets_the_pace(api: Any, wire: Wire, timeline: Timeline) -> None:
    wire.headers[PACE] = "2500"
    api.videos.create_and_wait("a fox")
    assert timeline.pauses == [2.5, 2.5, 2.5]


@pytest.mark.parametrize("header", [None, "soon", "nan", "-5"])
def test_without_a_usable_pace_the_pauses_grow(api: Any, wire: Wire, timeline: Timeline, header: str | None) -> None:
    wire.headers[PACE], wire.standin.ticks = header, 20
    api.videos.create_and_wait("a fox")
    assert timeline.pauses[0] == 0.5
    assert timeline.pauses == sorted(timeline.pauses)
    assert timeline.pauses[-1] == 5.0


def test_a_failed_job_raises_with_the_servers_reason(api: Any, wire: Wire) -> None:
    wire.standin.error = JobError(code="out_of_memory", message="V2V needs 3 GiB more.")
    with pytest.raises(VideoFailedError, match=r"V2V needs 3 GiB more\. \(out_of_memory\)") as caught:
        api.videos.create_and_wait("a fox")
    assert caught.value.video.status == "failed"
    assert caught.value.video.error == wire.standin.error


def test_the_wait_ends_at_its_timeout_and_the_job_goes_on(api: Any, wire: Wire, timeline: Timeline) -> None:
    wire.headers[PACE], wire.standin.ticks = "4000", 1000
    video = api.videos.create("a fox")
    with pytest.raises(WaitTimeoutError, match=r"in_progress at 0 % after waiting 10 s; .*wait again") as caught:
        api.videos.wait(video.id, timeout_s=10)
    assert timeline.pauses == [4.0, 4.0, 2.0]
    assert caught.value.video.id == video.id
    assert isinstance(caught.value, TimeoutError)


def test_a_timeout_of_zero_asks_once(api: Any, wire: Wire, timeline: Timeline) -> None:
    wire.standin.ticks = 1000
    video = api.videos.create("a fox")
    with pytest.raises(WaitTimeoutError):
        api.videos.wait(video.id, timeout_s=0)
    assert wire.count(f"GET /v1/videos/{video.id}") == 1
    assert timeline.pauses == []


def test_a_timeout_that_is_no_number_is_refused(api: Any, wire: Wire) -> None:
    with pytest.raises(InvalidArgumentError, match="timeout_s is nan"):
        api.videos.wait("video_0001", timeout_s=float("nan"))
    assert wire.seen == []


def test_waiting_for_what_does_not_exist_ends_at_once(api: Any, timeline: Timeline) -> None:
    with pytest.raises(NotFoundError, match="video_9999"):
        api.videos.wait("video_9999")
    assert timeline.pauses == []


def test_the_wait_outlives_a_short_outage(api: Any, wire: Wire) -> None:
    wire.faults = [Fault("GET", cut_after=5)] * 4 + [Fault("GET", status=502)] * 4
    assert api.videos.create_and_wait("a fox").status == "completed"
    assert wire.faults == []


def test_an_outage_right_at_the_start_is_an_error(api: Any, wire: Wire) -> None:
    known = wire.finished()
    wire.faults = [Fault("GET", status=502)] * 3
    with pytest.raises(ServerError):
        api.videos.wait(known)


def test_a_long_outage_ends_the_wait(api: Any, wire: Wire, timeline: Timeline) -> None:
    wire.standin.ticks = 1000
    states: list[Video] = []

    def break_down(state: Video) -> None:
        states.append(state)
        wire.faults = [Fault("GET", cut_after=0)] * 1000

    with pytest.raises(APIConnectionError):
        api.videos.create_and_wait("a fox", on_progress=break_down)
    assert len(states) == 1
    assert OUTAGE_S <= timeline.clock() < 2 * OUTAGE_S


def test_an_answer_outside_the_contract_ends_the_wait(make: MakeClient, wire: Wire) -> None:
    known = wire.finished()
    wire.faults = [Fault("GET", status=200, body=b'{"id": 3}')]
    with pytest.raises(UnexpectedResponseError, match="is not a Video"):
        make(wire.url).videos.wait(known)


def test_a_listener_that_raises_ends_the_wait(api: Any, wire: Wire) -> None:
    def stop(state: Video) -> None:
        raise LookupError(state.id)

    with pytest.raises(LookupError) as caught:
        api.videos.create_and_wait("a fox", on_progress=stop)
    assert api.videos.retrieve(wire.last.id).id == str(caught.value)  # the client can still be used


async def test_async_listeners_and_jobs_side_by_side(wire: Wire) -> None:
    told: dict[str, list[int]] = {}

    async def note(state: Video) -> None:
        await asyncio.sleep(0)
        told.setdefault(state.prompt, []).append(state.progress)

    async with AsyncClient(wire.url) as client:
        names = ["a fox", "an owl", "a whale"]
        videos = await asyncio.gather(*(client.videos.create_and_wait(name, on_progress=note) for name in names))
    assert [video.prompt for video in videos] == names
    assert told == dict.fromkeys(names, SHARES)


async def test_a_cancelled_wait_leaves_the_client_usable(wire: Wire) -> None:
    wire.standin.ticks = 1_000_000
    seen = asyncio.Event()
    async with AsyncClient(wire.url) as client:
        video = await client.videos.create("a fox")
        task = asyncio.create_task(client.videos.wait(video.id, on_progress=lambda _: seen.set()))
        await asyncio.wait_for(seen.wait(), timeout=120)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await client.videos.retrieve(video.id)).status == "in_progress"
