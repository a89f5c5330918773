"""Checkpoints: every value of a stage comes back as it was, and a damaged file is never used."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployments.files.keeper import Keeper
from deployments.files.mp4 import EncodedChunk, Mp4Finisher, encode_chunk
from deployments.files.packing import pack, unpack
from deployments.files.store import ArtifactStore, CheckpointError
from stages.state import DenoisingState
from stages.types import Clip, Image, Keyframes, Latents, Piece

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (3, 8, 6, 3)).astype(np.uint8)
LATENTS = Latents(RNG.normal(size=(3, 4, 2, 2)).astype(np.float16))
VALUES: list[Any] = [
    Image(FRAMES[0]),
    Keyframes(LATENTS, Clip(FRAMES, 8.0)),
    Keyframes(None, Clip(FRAMES[:, ::2], 7.5)),
    Piece(Clip(FRAMES, 8.0), 1, 5, 2, last=True),
    EncodedChunk(b"\x00mp4", 3, (6, 8), Fraction(24000, 1001)),
]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if hasattr(one, "__dataclass_fields__"):
        return type(one) is type(other) and all(
            same(getattr(one, name), getattr(other, name)) for name in one.__dataclass_fields__
        )
    return bool(one == other) and type(one) is type(other)


def test_a_state_comes_back_as_it_was_and_a_damaged_one_never() -> None:
    state = DenoisingState({"stage": "i2v"}, 3, 10, LATENTS.values, {"before": (1.5, None)})
    data = b"".join(pack(state))
    assert unpack(data).digest == state.digest
    with pytest.raises(CheckpointError, match="state"):
        unpack(data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    assert same(unpack(b"".join(pack(value))), value)


@pytest.mark.parametrize("value", [object(), {"a": 1}, Path("x")])
def test_what_is_no_stages_value_is_refused(value: Any) -> None:
    with pytest.raises(CheckpointError, match=f"type {type(value).__name__} cannot be kept"):
        pack(value)


@pytest.mark.parametrize("data", [b"", b"short", b"\xff" * 100, b"".join(pack(VALUES[0]))[:-5]])
def test_what_is_no_checkpoint_is_told(data: bytes) -> None:
    with pytest.raises(CheckpointError, match="not readable"):
        unpack(data)


async def test_the_keeper_keeps_and_gives_back_and_refuses_what_was_changed(tmp_path: Path) -> None:
    url = f"file://{tmp_path}"
    keeper, key = Keeper(url), "checkpoints/video_1/1-i2v-0-abc.bin"
    record = await keeper.keep(VALUES[1], key)
    assert record["key"] == key
    assert record["bytes"] == ArtifactStore(url).size(key) > VALUES[1].nbytes
    value, info = [item async for item in keeper.load(key, record["sha256"])]
    assert same(value, VALUES[1])
    assert (info["last"], info["bytes"]) == (True, VALUES[1].nbytes)
    file = tmp_path / key
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match=r"recorded was"):
        [item async for item in keeper.load(key, record["sha256"])]
    file.unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        [item async for item in keeper.load(key, record["sha256"])]
    assert list((tmp_path / "checkpoints" / "video_1").iterdir()) == []


async def test_the_keeper_joins_chunks_as_the_last_stages_replica_does(tmp_path: Path) -> None:
    chunks = [encode_chunk(Clip(FRAMES + shift, 24.0)) for shift in (0, 1)]
    first, second = f"file://{tmp_path / 'first'}", f"file://{tmp_path / 'second'}"
    told = await Keeper(first).finish(*chunks, key="videos/v/1.mp4", provenance={"prompt": "a fox"})
    made = Mp4Finisher(second).assemble(chunks, "videos/v/1.mp4", {"prompt": "a fox"})
    assert told == {
        "key": "videos/v/1.mp4",
        "size_bytes": made.size_bytes,
        "sha256": made.sha256,
        "media_type": "video/mp4",
    }
    longer = await Keeper(first).finish(*chunks, key="videos/w/1.mp4", provenance={}, before="videos/v/1.mp4")
    assert longer["size_bytes"] > told["size_bytes"]
