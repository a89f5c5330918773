"""Events reach the caller once each, in order, over however many connections it takes."""

import httpx
import pytest

from client import APIConnectionError, Event, NotFoundError
from client.schema import JobError
from tests.client.rig import MakeClient, Timeline
from tests.client.wire import Fault, Wire

PATH = "GET .*/events"


@pytest.fixture
def video_id(wire: Wire) -> str:
    wire.standin.error = JobError(code="stage_failed", message="Die Füchsin ist grün.")  # a break may halve a sign
    return wire.finished()


@pytest.fixture
def events(wire: Wire, video_id: str) -> list[Event]:
    return wire.events(video_id)


def test_every_event_comes_and_the_last_one_ends_it(
    wire: Wire, make: MakeClient, video_id: str, events: list[Event]
) -> None:
    client = make(wire.url)
    assert (events[0].kind, events[-1].kind) == ("queued", "failed")
    assert list(client.videos.events(video_id)) == events
    assert list(client.videos.events(video_id, after=events[2].id)) == events[3:]
    assert wire.count(PATH) == 2


@pytest.mark.parametrize("cut", [0, 1, 40, 95, 150, 500, 2000])
def test_a_stream_that_breaks_anywhere_goes_on_where_it_broke(
    wire: Wire, make: MakeClient, video_id: str, events: list[Event], timeline: Timeline, cut: int
) -> None:
    wire.faults = [Fault(PATH, cut_after=cut), Fault(PATH, status=503), Fault(PATH, cut_after=cut)]
    assert list(make(wire.url).videos.events(video_id)) == events
    assert wire.faults == []
    assert len(timeline.pauses) == 3


@pytest.mark.parametrize("back", range(1, 6))
def test_a_stream_that_breaks_within_a_sign_goes_on(
    wire: Wire, make: MakeClient, video_id: str, events: list[Event], back: int
) -> None:
    whole = httpx.get(f"{wire.url}/v1/videos/{video_id}/events").content
    wire.faults = [Fault(PATH, cut_after=whole.rindex("grün".encode()) + back)]
    assert list(make(wire.url).videos.events(video_id)) == events


def test_a_stream_that_ends_early_is_opened_again(
    wire: Wire, make: MakeClient, video_id: str, events: list[Event]
) -> None:
    wire.faults = [Fault(PATH, end_after=length) for length in (1, 200, 700)]
    assert list(make(wire.url).videos.events(video_id)) == events
    assert wire.count(PATH) == 4


def test_a_video_that_nobody_knows_is_not_tried_again(wire: Wire, make: MakeClient) -> None:
    with pytest.raises(NotFoundError):
        list(make(wire.url).videos.events("video_nobody"))
    assert wire.count(PATH) == 1


def test_a_server_that_stays_away_ends_it_with_a_sentence(wire: Wire, make: MakeClient, timeline: Timeline) -> None:
    with pytest.raises(APIConnectionError, match=r"127\.0\.0\.1:9"):
        list(make("http://127.0.0.1:9").videos.events("video_1"))
    assert 60 <= timeline.clock() < 80
