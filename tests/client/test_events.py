"""Events reach the caller once each, in order, over however many connections it takes."""

import pytest

from client import APIConnectionError, Event, NotFoundError
from tests.client.rig import MakeClient, Timeline
from tests.client.wire import Fault, Wire

KINDS = ("queued", "started", "stage_started", "keyframe_ready", "completed")
EVENTS = [Event(id=10 * number, kind=kind, at=1.0, data={"text": "grün"}) for number, kind in enumerate(KINDS, 1)]
PATH = "GET .*/events"


@pytest.fixture
def video_id(wire: Wire) -> str:
    wire.events = list(EVENTS)
    return wire.finished()


def test_every_event_comes_and_the_last_one_ends_it(wire: Wire, make: MakeClient, video_id: str) -> None:
    client = make(wire.url)
    assert list(client.videos.events(video_id)) == EVENTS
    assert list(client.videos.events(video_id, after=30)) == EVENTS[3:]
    assert wire.count(PATH) == 2


@pytest.mark.parametrize("cut", [0, 1, 40, 95, 150, 200, 290])
def test_a_stream_that_breaks_anywhere_goes_on_where_it_broke(
    wire: Wire, make: MakeClient, video_id: str, timeline: Timeline, cut: int
) -> None:
    wire.faults = [Fault(PATH, cut_after=cut), Fault(PATH, status=503), Fault(PATH, cut_after=cut)]
    assert list(make(wire.url).videos.events(video_id)) == EVENTS
    assert wire.faults == []
    assert len(timeline.pauses) == 3


def test_a_stream_that_ends_early_is_opened_again(wire: Wire, make: MakeClient, video_id: str) -> None:
    wire.early = [2, 0, 1]
    assert list(make(wire.url).videos.events(video_id)) == EVENTS
    assert wire.count(PATH) == 4


def test_a_video_that_nobody_knows_is_not_tried_again(wire: Wire, make: MakeClient) -> None:
    with pytest.raises(NotFoundError):
        list(make(wire.url).videos.events("video_nobody"))
    assert wire.count(PATH) == 1


def test_a_server_that_stays_away_ends_it_with_a_sentence(wire: Wire, make: MakeClient, timeline: Timeline) -> None:
    with pytest.raises(APIConnectionError, match=r"127\.0\.0\.1:9"):
        list(make("http://127.0.0.1:9").videos.events("video_1"))
    assert 60 <= timeline.clock() < 80
