"""Fragments of an mp4: each can be played when it is there, and together they are the whole video."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from deployments.files.fragments import Fragments, split_boxes
from deployments.files.mp4 import encode_chunk, join_chunks, read_chunk
from stages.types import Clip

RNG = np.random.default_rng(0)
LENGTHS = (22, 12, 1, 11)


def decoded(data: bytes) -> list[Fraction]:
    """When each frame is shown."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        return [Fraction(frame.pts * frame.time_base) for frame in container.decode(stream)]


@pytest.mark.parametrize("fps", [24.0, 30000 / 1001, 7.5])
def test_what_has_come_so_far_plays_without_a_gap(fps: float) -> None:
    fragments, sent = Fragments(), b""
    for number, length in enumerate(LENGTHS):
        frames = RNG.integers(0, 256, (length, 32, 48, 3)).astype(np.uint8)
        piece = fragments.add(encode_chunk(Clip(frames, fps)))
        names = [box[4:8] for box in split_boxes(piece)]
        assert names == ([b"ftyp", b"moov"] if number == 0 else []) + [b"moof", b"mdat"]
        sent += piece
        times = decoded(sent)
        assert len(times) == sum(LENGTHS[: number + 1])
        wanted = [Fraction(index) / Fraction(fps).limit_denominator(1001) for index in range(len(times))]
        assert max(abs(a - b) for a, b in zip(times, wanted, strict=True)) < Fraction(1, 1000)


def test_a_whole_video_of_several_chunks_is_one_of_them(tmp_path: Path) -> None:
    chunks = [encode_chunk(Clip(np.zeros((length, 32, 48, 3), np.uint8), 24.0)) for length in (16, 30)]
    join_chunks(chunks, tmp_path / "whole.mp4", {})
    fragments = Fragments()
    sent = fragments.add(read_chunk((tmp_path / "whole.mp4").read_bytes())) + fragments.add(chunks[0])
    assert decoded(sent) == [Fraction(index, 24) for index in range(62)]


def test_a_whole_video_goes_on_where_its_chunks_have_ended(tmp_path: Path) -> None:
    """The last chunks may be in the finished file alone: they are joined before they are kept."""
    chunks = [encode_chunk(Clip(RNG.integers(0, 256, (n, 32, 48, 3)).astype(np.uint8), 24.0)) for n in (16, 20, 10)]
    join_chunks(chunks, tmp_path / "whole.mp4", {})
    whole = read_chunk((tmp_path / "whole.mp4").read_bytes())
    for sent in range(len(chunks)):
        fragments = Fragments()
        data = b"".join(fragments.add(chunk) for chunk in chunks[:sent]) + fragments.add_rest(whole)
        assert decoded(data) == [Fraction(index, 24) for index in range(46)]
        with av.open(io.BytesIO(data)) as container, av.open(str(tmp_path / "whole.mp4")) as reference:
            pairs = zip(container.decode(video=0), reference.decode(video=0), strict=True)
            assert all(np.array_equal(ours.to_ndarray(), wanted.to_ndarray()) for ours, wanted in pairs)
