"""Downloads: every byte or nothing, resumed where they broke, and a clear word where the disk refuses."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from client import (
    APIConnectionError,
    AsyncClient,
    ConflictError,
    NotFoundError,
    OutputError,
    ServerError,
    UnexpectedResponseError,
)
from tests.client.rig import MakeClient
from tests.client.wire import Fault, Wire

CONTENT = "GET .*/content"


def ranges(wire: Wire) -> list[str | None]:
    return [request.headers.get("range") for request in wire.seen if request.line.endswith("/content")]


def test_every_byte_arrives_and_is_told(api: Any, wire: Wire, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    target = tmp_path / "fox.mp4"
    path = api.videos.download(wire.finished(), target, on_bytes=lambda done, total: told.append((done, total)))
    assert path == target
    assert target.read_bytes() == wire.payload
    assert told[-1] == (len(wire.payload), len(wire.payload))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert os.listdir(tmp_path) == ["fox.mp4"]


def test_an_old_file_is_replaced(api: Any, wire: Wire, tmp_path: Path) -> None:
    target = tmp_path / "fox.mp4"
    target.write_bytes(b"old")
    api.videos.download(wire.finished(), str(target))
    assert target.read_bytes() == wire.payload


def test_a_break_is_resumed_where_it_was(api: Any, wire: Wire, tmp_path: Path) -> None:
    wire.faults = [Fault(CONTENT, cut_after=100_000), Fault(CONTENT, cut_after=50_000), Fault(CONTENT, status=503)]
    api.videos.download(wire.finished(), tmp_path / "fox.mp4")
    assert (tmp_path / "fox.mp4").read_bytes() == wire.payload
    assert ranges(wire) == [None, "bytes=100000-", "bytes=150000-", "bytes=150000-"]


def test_a_server_that_falls_silent_is_asked_for_the_rest(make: MakeClient, wire: Wire, tmp_path: Path) -> None:
    wire.faults = [Fault(CONTENT, hang_after=100_000)]
    make(wire.url, timeout_s=0.3).videos.download(wire.finished(), tmp_path / "fox.mp4")
    assert (tmp_path / "fox.mp4").read_bytes() == wire.payload
    assert ranges(wire) == [None, "bytes=100000-"]


def test_a_body_that_is_shorter_than_it_says_is_completed(api: Any, wire: Wire, tmp_path: Path) -> None:
    head = {"content-type": "video/mp4", "content-length": str(len(wire.payload))}
    wire.faults = [Fault(CONTENT, status=200, headers=head, body=wire.payload[:1000])]
    api.videos.download(wire.finished(), tmp_path / "fox.mp4")
    assert (tmp_path / "fox.mp4").read_bytes() == wire.payload
    assert ranges(wire) == [None, "bytes=1000-"]


def test_a_server_without_ranges_starts_over(api: Any, wire: Wire, tmp_path: Path) -> None:
    wire.faults = [Fault(CONTENT, cut_after=100_000), Fault(CONTENT, without="range")]
    api.videos.download(wire.finished(), tmp_path / "fox.mp4")
    assert (tmp_path / "fox.mp4").read_bytes() == wire.payload
    assert ranges(wire) == [None, "bytes=100000-"]


def test_a_video_that_changed_on_the_way_is_taken_anew(api: Any, wire: Wire, tmp_path: Path) -> None:
    known, first = wire.finished(), wire.payload

    def change(done: int, total: int | None) -> None:
        wire.replace(known, bytes(reversed(first)))

    wire.faults = [Fault(CONTENT, cut_after=100_000)]
    api.videos.download(known, tmp_path / "fox.mp4", on_bytes=change)
    assert (tmp_path / "fox.mp4").read_bytes() == bytes(reversed(first))


def test_a_range_that_was_not_asked_for_is_refused(api: Any, wire: Wire, tmp_path: Path) -> None:
    wrong = Fault(CONTENT, status=206, headers={"content-range": "bytes 7-9/12"}, body=b"abc")
    wire.faults = [Fault(CONTENT, cut_after=100_000), wrong]
    told = f"from 100000 of {len(wire.payload)}, the server sent 'bytes 7-9/12'"
    with pytest.raises(UnexpectedResponseError, match=told):
        api.videos.download(wire.finished(), tmp_path / "fox.mp4")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(CONTENT, status=200, headers={"content-type": "text/html"}, body=b"<h1>hi</h1>"), "sent text/html"),
        (Fault(CONTENT, status=200, headers={"content-encoding": "gzip"}, body=b"x"), "sent gzip"),
    ],
)
def test_what_is_no_video_does_not_become_a_file(
    api: Any, wire: Wire, tmp_path: Path, fault: Fault, message: str
) -> None:
    wire.faults = [fault]
    with pytest.raises(UnexpectedResponseError, match=message):
        api.videos.download(wire.finished(), tmp_path / "fox.mp4")
    assert os.listdir(tmp_path) == []


def test_when_nothing_moves_any_more_the_old_file_stays(api: Any, wire: Wire, tmp_path: Path) -> None:
    target = tmp_path / "fox.mp4"
    target.write_bytes(b"old")
    wire.faults = [Fault(CONTENT, cut_after=100_000)] + [Fault(CONTENT, cut_after=0)] * 20
    with pytest.raises(APIConnectionError, match="/content broke off"):
        api.videos.download(wire.finished(), target)
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["fox.mp4"]
    assert wire.count(CONTENT) == 3  # the first, which moved, and two in a row which did not


def test_refusals(make: MakeClient, wire: Wire, tmp_path: Path) -> None:
    api = make(wire.url, max_retries=0)
    waiting = wire.add()
    with pytest.raises(ConflictError, match="is queued; poll it until its status is completed") as caught:
        api.videos.download(waiting, tmp_path / "fox.mp4")
    assert caught.value.code == "video_not_ready"
    with pytest.raises(NotFoundError, match="video_9999"):
        api.videos.download("video_9999", tmp_path / "fox.mp4")
    wire.faults = [Fault(CONTENT, status=500)]
    with pytest.raises(ServerError):
        api.videos.download(wire.finished(), tmp_path / "fox.mp4")
    assert os.listdir(tmp_path) == []


def test_a_place_that_cannot_be_written_is_said_before_anything_is_asked(api: Any, wire: Wire, tmp_path: Path) -> None:
    known = wire.finished()
    with pytest.raises(OutputError, match=r"There is no folder .*absent for fox\.mp4; make it first") as caught:
        api.videos.download(known, tmp_path / "absent" / "fox.mp4")
    assert caught.value.path == tmp_path / "absent" / "fox.mp4"
    assert isinstance(caught.value, OSError)
    with pytest.raises(OutputError, match="is a folder; name a file in it"):
        api.videos.download(known, tmp_path)
    assert wire.seen == []


def test_a_full_disk_is_named_and_leaves_nothing(api: Any, wire: Wire, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the full disk: the same failure of the same call."""
    import resource
    import signal

    known = wire.finished()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"Cannot write .*fox\.mp4: .*free the space"):
            api.videos.download(known, tmp_path / "fox.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path) == []


async def test_a_cancelled_download_leaves_nothing(wire: Wire, tmp_path: Path) -> None:
    known = wire.finished()
    wire.faults = [Fault(CONTENT, cut_after=1000), Fault(CONTENT)]  # some bytes, then silence
    began = asyncio.Event()
    async with AsyncClient(wire.url) as client:
        target = tmp_path / "fox.mp4"
        task = asyncio.create_task(client.videos.download(known, target, on_bytes=lambda *_: began.set()))
        await asyncio.wait_for(began.wait(), timeout=120)
        assert len(os.listdir(tmp_path)) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert os.listdir(tmp_path) == []
