"""Chunks encoded apart become one mp4 whose frames are those that went in."""

import io
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from deployments.files.mp4 import EncodedChunk, EncodeError, Mp4Finisher, encode_chunk, join_chunks
from deployments.files.store import ArtifactStore
from stages.types import Clip, Image, UInt8

SIZE = 64


def frames(count: int, first: int = 0) -> UInt8:
    """A white bar that moves two pixels a frame over a red ground."""
    made = np.zeros((count, SIZE, SIZE, 3), np.uint8)
    made[..., 0] = 200
    for index in range(count):
        at = 2 * (first + index) % SIZE
        made[index, :, at : at + 8] = 255
    return made


def decoded(source: Path | io.BytesIO) -> list[UInt8]:
    with av.open(source) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def chunks_of(counts: list[int]) -> list[EncodedChunk]:
    starts = np.cumsum([0, *counts])
    return [encode_chunk(Clip(frames(n, int(start)), 24.0)) for n, start in zip(counts, starts, strict=False)]


@pytest.mark.parametrize("counts", [[46], [28, 18], [1, 3, 1, 7]])
def test_the_joined_file_holds_every_frame_in_order_at_the_right_time(tmp_path: Path, counts: list[int]) -> None:
    path = tmp_path / "video.mp4"
    join_chunks(chunks_of(counts), path, {"seed": 7})
    total = sum(counts)
    shown = decoded(path)
    assert len(shown) == total
    errors = [float(np.abs(a.astype(int) - b).mean()) for a, b in zip(shown, frames(total), strict=True)]
    assert max(errors) < 6
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        times = [packet.pts * stream.time_base for packet in container.demux(stream) if packet.pts is not None]
        assert times == [Fraction(index, 24) for index in range(total)]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate or 0) == 24.0
        assert json.loads(container.metadata["comment"]) == {"seed": 7}


def test_the_index_lies_in_front_of_the_frames(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    join_chunks(chunks_of([5, 5]), path, {})
    data = path.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_each_chunk_starts_with_a_keyframe_and_stands_alone() -> None:
    for chunk in chunks_of([4, 6]):
        assert len(decoded(io.BytesIO(chunk.data))) == chunk.frames
        with av.open(io.BytesIO(chunk.data)) as container:
            keys = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
        assert keys == [True] + [False] * (chunk.frames - 1)


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    for path in paths:
        join_chunks(chunks_of([3, 4]), path, {"prompt": "a fox"})
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_colours_survive_and_are_tagged() -> None:
    red = Clip(np.full((2, SIZE, SIZE, 3), (220, 30, 40), np.uint8), 8.0)
    chunk = encode_chunk(red)
    shown = decoded(io.BytesIO(chunk.data))[1]
    assert np.abs(shown.reshape(-1, 3).mean(0) - (220, 30, 40)).max() < 4
    with av.open(io.BytesIO(chunk.data)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_range) == (1, 1)  # BT.709, limited range


def test_the_finisher_keeps_the_file(tmp_path: Path) -> None:
    finisher = Mp4Finisher(f"file://{tmp_path}")
    chunk = finisher.encode(Clip(frames(3), 24.0))
    made = finisher.assemble([chunk], "videos/video_1/1.mp4", {"prompt": 'a "fox"\n狐'})
    stored = tmp_path / made.key
    assert stored.stat().st_size == made.size_bytes
    assert len(decoded(stored)) == 3
    with av.open(stored) as container:
        assert json.loads(container.metadata["comment"]) == {"prompt": 'a "fox"\n狐'}
    assert ArtifactStore(f"file://{tmp_path}").exists(made.key)


def test_what_cannot_be_encoded_is_refused_in_words(tmp_path: Path) -> None:
    finisher = Mp4Finisher(f"file://{tmp_path}")
    with pytest.raises(EncodeError, match="got Image"):
        finisher.encode(Image(frames(1)[0]))
    with pytest.raises(EncodeError, match="even sides, got 63x64"):
        encode_chunk(Clip(np.zeros((1, 64, 63, 3), np.uint8), 8.0))
    with pytest.raises(EncodeError, match="at least one chunk"):
        join_chunks([], tmp_path / "x.mp4", {})
    other = encode_chunk(Clip(np.zeros((1, 32, 32, 3), np.uint8), 24.0))
    with pytest.raises(EncodeError, match=r"\(64, 64\) at 24 fps and \(32, 32\) at 24 fps"):
        join_chunks([*chunks_of([2]), other], tmp_path / "x.mp4", {})
