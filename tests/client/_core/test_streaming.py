"""A video while it is made: into a file, into a pipe, and what is said when it cannot be."""

import asyncio
import io
from pathlib import Path

import pytest

from client import APIConnectionError, AsyncClient, ConflictError, NotFoundError, OutputError
from deployments.files.fragments import Fragments
from tests.client.rig import MakeClient
from tests.client.shell import Shell
from tests.client.standin import streamed, video
from tests.client.wire import Fault, Wire

PATH = "GET .*/stream"


def test_into_a_file_into_a_pipe_and_by_both_clients(wire: Wire, make: MakeClient, tmp_path: Path) -> None:
    known, pipe, told = wire.finished(), io.BytesIO(), list[int]()
    size = make(wire.url).videos.stream_to(known, tmp_path / "fox.mp4", on_bytes=told.append)
    assert (tmp_path / "fox.mp4").read_bytes() == streamed()
    assert size == told[-1] == len(streamed())

    async def other() -> int:
        async with AsyncClient(wire.url) as client:
            return await client.videos.stream_to(known, pipe)

    assert asyncio.run(other()) == size
    assert pipe.getvalue() == streamed()
    assert not pipe.closed


async def test_pieces_come_while_the_video_is_made(wire: Wire) -> None:
    waiting, pipe, told = wire.add(), io.BytesIO(), list[int]()
    async with AsyncClient(wire.url) as client:
        for _ in range(3):
            await client.videos.retrieve(waiting)
        streaming = asyncio.create_task(client.videos.stream_to(waiting, pipe, on_bytes=told.append))
        async with asyncio.timeout(30):
            while not wire.app.state.feed.streams:  # nobody waits for a piece yet
                await asyncio.sleep(0.01)
        await client.videos.retrieve(waiting)
        await streaming
    fragments = Fragments()
    assert pipe.getvalue() == fragments.add(video()) + fragments.add(video())  # of two windows
    assert len(told) >= 2


def test_a_break_is_told_and_not_tried_again(wire: Wire, make: MakeClient) -> None:
    wire.faults = [Fault(PATH, cut_after=100)]
    with pytest.raises(APIConnectionError, match="broke off"):
        make(wire.url).videos.stream_to(wire.finished(), io.BytesIO())
    assert wire.count(PATH) == 1


def test_what_cannot_be_streamed_or_written_says_so(wire: Wire, make: MakeClient, tmp_path: Path) -> None:
    videos = make(wire.url).videos
    with pytest.raises(NotFoundError):
        videos.stream_to("video_9999", io.BytesIO())
    cancelled = videos.create("a fox").id
    videos.cancel(cancelled)
    with pytest.raises(ConflictError, match="without a video"):
        videos.stream_to(cancelled, io.BytesIO())
    with pytest.raises(OutputError, match="nowhere"):
        videos.stream_to(wire.finished(), tmp_path / "nowhere" / "fox.mp4")


def test_the_command_writes_a_file_or_to_stdout(shell: Shell, wire: Wire) -> None:
    assert shell("stream", wire.finished(), "-o", "fox.mp4") == 0
    assert Path("fox.mp4").read_bytes() == streamed()
    assert shell("stream", "video_9999") == 2
