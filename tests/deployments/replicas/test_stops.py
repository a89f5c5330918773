"""A call that is told to stop gives its state, and another replica goes on; so do those of a replica that stops."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployments.replicas.replica import Replica
from stages.base import InputError
from stages.presets import TINY, plan
from stages.state import DenoisingState
from stages.types import Image

pytestmark = pytest.mark.slow

PLAN = plan(TINY, "a fox", steps=6)
KEYFRAMES = {"stage": "i2v", "run_s": 0.6, "steps": 30, "bytes_out": 100_000, "state_bytes": 64}
PICTURE = Image(np.full((64, 64, 3), 90, np.uint8))


def replica(**options: Any) -> Replica:
    return Replica("stages.replay:ReplayStage", "tiny", options={**KEYFRAMES, **options})


class Stream:
    """A call, and what has come of it."""

    def __init__(self, own: Replica, name: str = "job/i2v/0", **more: Any) -> None:
        self.items: list[tuple[Any, Any]] = []
        self.began = asyncio.Event()
        self._task = asyncio.create_task(self._read(own, name, more))

    async def _read(self, own: Replica, name: str, more: dict[str, Any]) -> None:
        stream = own.run(PICTURE, params=PLAN.i2v, seed=3, call=name, **more)
        async for payload in stream:
            self.items.append((payload, await anext(stream)))
            if self.items[-1][1]["kind"] == "progress":
                self.began.set()

    async def ended(self) -> tuple[Any, Any]:
        """Its last item."""
        await asyncio.wait_for(self._task, 120.0)
        return self.items[-1]


async def test_a_call_that_is_told_to_stop_gives_its_state_and_goes_on_elsewhere() -> None:
    own, other = replica(), replica()
    stream = Stream(own)
    await asyncio.wait_for(stream.began.wait(), 120.0)
    assert await own.pause("job/i2v/0")
    state, info = await stream.ended()
    assert (info["kind"], info["last"], info["total"]) == ("yielded", True, 30)
    assert 0 < info["step"] < 30
    assert info["run_s"] > 0
    assert isinstance(state, DenoisingState)
    rest = Stream(other, resume=state)
    value, made = await rest.ended()
    assert made["kind"] == "output"
    assert rest.items[1][1]["step"] == info["step"]  # at once: its caller knows that it goes on from there
    whole, _ = await Stream(other).ended()
    assert np.array_equal(value.clip.frames, whole.clip.frames)
    assert await own.ended() == {"yielded": 1}


async def test_a_replica_that_is_to_stop_gives_up_what_it_computes_and_what_waits_for_it() -> None:
    own = replica()
    running, waiting = Stream(own, "1"), Stream(own, "2")
    await asyncio.wait_for(running.began.wait(), 120.0)
    own.leave()
    late = Stream(own, "3")
    assert (await running.ended())[1]["step"] > 0
    for stream in (waiting, late):
        state, info = await stream.ended()
        assert (state, info["kind"], info["total"]) == (None, "yielded", 0)


async def test_a_stage_that_cannot_stop_is_left_to_end() -> None:
    own = replica(state_bytes=0)
    stream = Stream(own)
    await asyncio.wait_for(stream.began.wait(), 120.0)
    own.leave()
    assert (await stream.ended())[1]["kind"] == "output"
    assert stream.items[0][1]["stops"] is False


async def test_states_are_given_now_and_then() -> None:
    stream = Stream(replica(), state_every_s=0.1)
    await stream.ended()
    states = [(state, info) for state, info in stream.items if info["kind"] == "state"]
    assert len(states) >= 2
    assert [info["step"] for _, info in states] == sorted({state.step for state, _ in states})
    assert all(info["run_s"] > 0 for _, info in states)


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Nothing goes by the collector of cycles, which comes when it likes."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("end", ["completed", "yielded", "failed"])
@pytest.mark.usefixtures("uncollected")
async def test_what_came_in_goes_with_the_end_of_its_call(end: str) -> None:
    """A replica that still holds it keeps megabytes of the object store that nobody can use."""
    run_s = 60.0 if end == "yielded" else 0.2
    own = replica(run_s=run_s, **({"stage": "v2v"} if end == "failed" else {}))  # v2v wants keyframes
    picture = Image(PICTURE.pixels.copy())
    seen = weakref.ref(picture.pixels)

    async def call(picture: Image) -> None:
        stream = own.run(picture, params=PLAN.i2v, seed=3, call="job/i2v/0", state_every_s=60.0)
        try:
            async for _ in stream:
                if end == "yielded":
                    await own.pause("job/i2v/0")
        except InputError:
            assert end == "failed"

    held, picture = [picture], PICTURE
    await call(held.pop())
    assert await own.ended() == {end: 1}
    for _ in range(1000):  # the device's thread lets go a moment later
        if seen() is None:
            break
        await asyncio.sleep(0.01)
    assert seen() is None


async def test_the_trained_i2v_gives_the_same_bytes_from_two_replicas(tmp_path: Path) -> None:
    first, second = [Replica("stages.i2v:I2V", "tiny", threads=1) for _ in range(2)]
    whole, _ = await Stream(first).ended()
    stream = Stream(first)
    while not any(info["kind"] == "started" for _, info in stream.items):
        await asyncio.sleep(0.001)
    assert await first.pause("job/i2v/0")
    state, info = await stream.ended()
    assert info["kind"] == "yielded"
    value, _ = await Stream(second, resume=DenoisingState.from_bytes(state.to_bytes())).ended()
    assert value.clip.frames.tobytes() == whole.clip.frames.tobytes()
    assert info["step"] < info["total"]
