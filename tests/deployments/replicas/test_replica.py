"""The replica without Ray: what a call says and when, that it stops within one step, and that calls take turns."""

import asyncio
import io
import os
import sys
import threading
from collections.abc import AsyncGenerator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import PIL.Image
import pytest

from deployments.errors import ConfigError, StartError
from deployments.on_ray.streams import Info
from deployments.replicas import turns
from deployments.replicas.memory import PeakMemory
from deployments.replicas.replica import Replica, resolve
from stages.base import Report, WeightsError
from stages.presets import TINY, Preset, plan
from stages.types import Clip, Image, Keyframes, Latents, Piece, StageName, Window

HERE = "tests.deployments.replicas.test_replica"
PLAN = plan(TINY, "a fox")
DEADLINE_S = 120.0


class Gated:
    """A T2I whose every step waits to be let through, so that a test decides what happens when."""

    name: StageName = "t2i"
    made: "Gated"

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.entered = threading.Event()
        self.steps = 0
        self.inside = 0
        self.most_inside = 0
        Gated.made = self

    @classmethod
    def load(cls, preset: Preset, device: str) -> Self:
        return cls()

    def warm_up(self) -> None:
        """Nothing to warm."""

    def __call__(self, *inputs: Any, params: Any, seed: int, report: Report) -> Image:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            for step in range(10):
                self.entered.set()
                assert self.gate.acquire(timeout=DEADLINE_S)
                report(step + 1, 10)
                self.steps += 1
            return Image(np.full((8, 8, 3), seed, np.uint8))
        finally:
            self.inside -= 1


class Broken:
    """A stage whose weights are not there."""

    name: StageName = "t2i"

    @classmethod
    def load(cls, preset: Preset, device: str) -> Self:
        raise WeightsError("The file weights.safetensors is cut off\nafter 3 of 9 bytes.")


class Looking:
    """A T2I that keeps what it sees when it is loaded."""

    name: StageName = "t2i"
    saw: tuple[str, str | None, str | None] = ("", None, None)

    @classmethod
    def load(cls, preset: Preset, device: str) -> Self:
        Looking.saw = (
            preset.speed("t2i").offload,
            os.environ.get("CUDA_VISIBLE_DEVICES"),
            os.environ.get("CUDA_DEVICE_ORDER"),
        )
        return cls()

    def warm_up(self) -> None:
        """Nothing to warm."""

    def __call__(self, *inputs: Any, params: Any, seed: int, report: Report) -> Image:
        return Image(np.zeros((8, 8, 3), np.uint8))


class Hungry:
    """A T2I that needs as many MiB beside its picture as `seed` says."""

    name: StageName = "t2i"

    @classmethod
    def load(cls, preset: Preset, device: str) -> Self:
        return cls()

    def warm_up(self) -> None:
        """Nothing to warm."""

    def __call__(self, *inputs: Any, params: Any, seed: int, report: Report) -> Image:
        np.ones(seed * 2**20, np.uint8)  # and freed at once
        return Image(np.zeros((8, 8, 3), np.uint8))

    def batch(self, calls: Any, report: Report) -> list[Image]:
        return [self(params=params, seed=seed, report=report) for params, seed in calls]

    def shape(self, params: Any) -> str:
        return "one"


class Drawing:
    """A T2I that shows each of its steps as a picture of one grey."""

    name: StageName = "t2i"

    @classmethod
    def load(cls, preset: Preset, device: str) -> Self:
        return cls()

    def warm_up(self) -> None:
        """Nothing to warm."""

    def __call__(self, *inputs: Any, params: Any, seed: int, report: Report) -> Image:
        glimpse = getattr(report, "glimpse", None)
        for step in range(6):
            if glimpse is not None:
                glimpse(partial(np.full, (8, 8, 3), 40 * step, np.uint8))
            report(step + 1, 6)
        return Image(np.zeros((8, 8, 3), np.uint8))


class Overflowing:
    """A V2V that raises."""

    name: StageName = "v2v"

    @classmethod
    def load(cls, preset: Preset, device: str) -> Self:
        return cls()

    def warm_up(self) -> None:
        """Nothing to warm."""

    def __call__(self, *inputs: Any, params: Any, seed: int, report: Report) -> Piece:
        raise ValueError("the denoiser overflowed")


def replay(stage: str, **options: Any) -> Replica:
    return Replica("stages.replay:ReplayStage", "tiny", options={"stage": stage, "run_s": 0.0, **options})


async def collect(generator: Any) -> list[tuple[Any, Info]]:
    flat = [item async for item in generator]
    return list(zip(flat[::2], flat[1::2], strict=True))


def keyframes() -> Keyframes:
    return Keyframes(Latents(np.zeros((16, 4, 2, 2), np.float16)), Clip(np.zeros((16, 16, 16, 3), np.uint8), 8.0))


async def until_set(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, DEADLINE_S)


async def test_one_value_comes_between_its_start_and_its_end() -> None:
    given = await collect(replay("t2i", steps=3, bytes_out=3000).run(params=PLAN.t2i, seed=1))
    kinds = [info["kind"] for _, info in given]
    assert (kinds[0], kinds[-1]) == ("started", "output")
    payload, info = given[-1]
    assert isinstance(payload, Image)
    assert (info["last"], info["index"], info["bytes"]) == (True, 0, payload.nbytes)
    assert all(value is None for value, info in given if info["kind"] != "output")
    assert given[0][1]["load_s"] > 0


@pytest.mark.slow
async def test_a_long_call_says_how_far_it_is_and_a_short_one_saves_the_messages() -> None:
    long, short = (replay("t2i", steps=10, run_s=run_s, bytes_out=3000) for run_s in (1.0, 0.0))
    steps = [info["step"] for _, info in await collect(long.run(params=PLAN.t2i, seed=1)) if info["kind"] == "progress"]
    assert steps == sorted(set(steps))
    assert steps
    assert [info["kind"] for _, info in await collect(short.run(params=PLAN.t2i, seed=1))] == ["started", "output"]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's high-water mark is Linux'")
async def test_an_output_says_the_most_memory_of_its_own_call() -> None:
    replica = Replica(f"{HERE}:Hungry", "tiny")
    small, large, after = [
        (await collect(replica.run(params=PLAN.t2i, seed=mib)))[-1][1]["peak_memory_mb"] for mib in (1, 200, 1)
    ]
    assert 180 < large - small < 260
    assert large - after > 180  # not the most of the process' whole life


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's high-water mark is Linux'")
async def test_of_calls_at_once_each_says_the_most_of_all() -> None:
    replica = Replica(f"{HERE}:Hungry", "tiny", batch=(2, DEADLINE_S))
    alone = (await collect(Replica(f"{HERE}:Hungry", "tiny").run(params=PLAN.t2i, seed=1)))[-1][1]["peak_memory_mb"]
    calls = (collect(replica.run(params=PLAN.t2i, seed=mib)) for mib in (1, 200))
    peaks = [pairs[-1][1]["peak_memory_mb"] for pairs in await asyncio.gather(*calls)]
    assert min(peaks) - alone > 180


async def test_a_gpu_that_nothing_lies_on_has_no_peak() -> None:
    peak = PeakMemory("cuda")
    peak.begin()
    assert peak.mb() is None  # not this process' memory instead


@pytest.mark.parametrize(("every", "greys"), [(0, []), (1, [0, 40, 80, 120, 160, 200]), (2, [40, 120, 200])])
async def test_steps_are_shown_beside_what_is_told_of_them(
    monkeypatch: pytest.MonkeyPatch, every: int, greys: list[int]
) -> None:
    monkeypatch.setattr(turns, "_PROGRESS_PERIOD_S", 0.0)
    replica = Replica(f"{HERE}:Drawing", "tiny", glimpse_every=every)
    given = await collect(replica.run(params=PLAN.t2i, seed=1))
    shown = [info["glimpse"] for _, info in given if "glimpse" in info]
    assert [round(float(np.asarray(picture_of(data)).mean())) for data in shown] == greys
    assert all(len(data) < 1000 for data in shown)
    replica.reconfigure({"stall_limit_s": 9.0, "glimpse_every": 0, "logs": ("text", "INFO")})
    given = await collect(replica.run(params=PLAN.t2i, seed=1))
    assert not any("glimpse" in info for _, info in given)


def picture_of(data: bytes) -> Any:
    return PIL.Image.open(io.BytesIO(data)).convert("RGB")


async def test_each_window_is_a_call() -> None:
    replica = replay("v2v")
    for part in (0, 1):
        given = await collect(replica.run(keyframes(), params=replace(PLAN.v2v, part=part), seed=1))
        outputs = [(payload, info) for payload, info in given if info["kind"] == "output"]
        assert [(payload.index, info["last"]) for payload, info in outputs] == [(part, True)]


async def test_stages_that_live_together_are_called_by_name_and_take_turns() -> None:
    options = {"stage": "v2v", "run_s": 0.0}
    replica = Replica(
        "stages.replay:ReplayStage",
        "tiny",
        options={"stage": "i2v", "run_s": 0.0},
        guests={"v2v": ("stages.replay:ReplayStage", options)},
    )
    image = Image(np.zeros((16, 16, 3), np.uint8))
    made = (await collect(replica.run(image, params=PLAN.i2v, seed=1)))[-1][0]
    assert isinstance(made, Keyframes)
    piece = (await collect(replica.run(made, params=PLAN.v2v, seed=1, stage="v2v")))[-1][0]
    assert isinstance(piece, Piece)
    with pytest.raises(ConfigError, match="Stage vfi does not live in this replica, which hosts i2v, v2v"):
        await collect(replica.run(piece, params=PLAN.vfi, seed=1, stage="vfi"))
    assert await replica.ended() == {"completed": 2}


@pytest.mark.slow
async def test_i2v_and_v2v_hold_their_common_layers_once() -> None:
    together = Replica("stages.i2v:I2V", "tiny", guests={"v2v": ("stages.v2v:V2V", {})})
    i2v, v2v = (together._stages[name].network.unet for name in ("i2v", "v2v"))  # type: ignore[attr-defined]
    shared = {
        name for name, tensor in v2v.state_dict().items() if tensor.data_ptr() == i2v.state_dict()[name].data_ptr()
    }
    assert shared == {name for name in v2v.state_dict() if "motion_modules" not in name}


async def test_a_cancelled_call_stops_at_its_next_step_and_frees_the_device() -> None:
    replica = Replica(f"{HERE}:Gated", "tiny")
    stage = Gated.made
    call = asyncio.create_task(collect(replica.run(params=PLAN.t2i, seed=1)))
    await until_set(stage.entered)
    call.cancel()
    await asyncio.sleep(0)
    assert not call.done()  # the device is not free before the stage has stopped
    stage.gate.release()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (stage.steps, stage.inside) == (0, 0)
    assert await replica.ended() == {"cancelled": 1}
    stage.gate.release(10)
    assert (await collect(replica.run(params=PLAN.t2i, seed=1)))[-1][1]["last"]


async def test_a_call_that_waits_for_the_device_never_starts_when_cancelled() -> None:
    replica = Replica(f"{HERE}:Gated", "tiny")
    stage = Gated.made
    first = asyncio.create_task(collect(replica.run(params=PLAN.t2i, seed=1)))
    await until_set(stage.entered)
    second = asyncio.create_task(collect(replica.run(params=PLAN.t2i, seed=2)))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    stage.gate.release(10)
    assert (await first)[-1][1]["last"]
    assert await replica.ended() == {"completed": 1}


async def test_two_calls_never_share_the_device() -> None:
    replica = Replica(f"{HERE}:Gated", "tiny")
    stage = Gated.made
    stage.gate.release(30)
    given = await asyncio.gather(*(collect(replica.run(params=PLAN.t2i, seed=seed)) for seed in (1, 2, 3)))
    assert [int(pairs[-1][0].pixels[0, 0, 0]) for pairs in given] == [1, 2, 3]
    assert stage.most_inside == 1


async def test_a_stage_that_raises_says_so() -> None:
    replica = Replica(f"{HERE}:Overflowing", "tiny")
    with pytest.raises(ValueError, match="overflowed"):
        await collect(replica.run(params=PLAN.v2v, seed=1))
    assert await replica.ended() == {"failed": 1}


async def test_a_silent_call_makes_the_replica_unhealthy_and_an_idle_one_is_not() -> None:
    replica = Replica(f"{HERE}:Gated", "tiny", stall_limit_s=0.0)
    replica.check_health()
    stage = Gated.made
    call = asyncio.create_task(collect(replica.run(params=PLAN.t2i, seed=1)))
    await until_set(stage.entered)
    with pytest.raises(RuntimeError, match="t2i has reported no step"):
        replica.check_health()
    stage.gate.release(10)
    await call
    replica.check_health()


async def test_the_finisher_encodes_what_leaves_and_joins_it(tmp_path: Path) -> None:
    replica = Replica(
        "stages.replay:ReplayStage",
        "tiny",
        options={"stage": "vfi", "run_s": 0.0, "bytes_out": 1_200_000},
        finisher="deployments.files.mp4:Mp4Finisher",
        finisher_options={"artifacts_url": f"file://{tmp_path}"},
    )
    frames = Clip(np.zeros((4, 16, 16, 3), np.uint8), 8.0)
    given = await collect(replica.run(Window(frames, 0, 0, 0, last=True), params=PLAN.vfi, seed=1))
    chunk, info = given[-1]
    assert (chunk.frames, info["bytes"]) == (10, len(chunk.data))
    made = await replica.finish(chunk, key="videos/video_1/1.mp4", provenance={})
    assert (tmp_path / made["key"]).stat().st_size == made["size_bytes"]
    with pytest.raises(ConfigError, match="t2i has no finisher"):
        await replay("t2i").finish(key="videos/video_1/1.mp4", provenance={})


@pytest.mark.parametrize(
    ("factory", "preset", "words"),
    [
        (f"{HERE}:Broken", "tiny", "WeightsError: The file weights.safetensors is cut off after 3 of 9 bytes."),
        ("stages.nowhere:T2I", "tiny", "'stages.nowhere:T2I' cannot be imported"),
        ("stages.types:Nobody", "tiny", "'stages.types:Nobody' cannot be imported"),
        ("no colon", "tiny", "write a path like"),
        ("stages.replay:ReplayStage", "huge", "Unknown preset 'huge'"),
    ],
)
def test_a_replica_that_cannot_start_says_why_in_one_line(factory: str, preset: str, words: str) -> None:
    with pytest.raises(StartError) as failed:
        Replica(factory, preset)
    assert words in str(failed.value)
    assert "\n" not in str(failed.value)


def test_resolve_finds_what_is_there() -> None:
    assert resolve("stages.presets:TINY") is TINY


async def test_leaving_the_stream_early_stops_the_call() -> None:
    replica = Replica(f"{HERE}:Gated", "tiny")
    stage = Gated.made
    stream: AsyncGenerator[Any, None] = replica.run(params=PLAN.t2i, seed=1)  # type: ignore[assignment]
    await anext(stream)
    await until_set(stage.entered)
    stage.gate.release()
    await stream.aclose()
    assert (stage.steps, await replica.ended()) == (0, {"cancelled": 1})


def test_a_stage_sees_the_gpu_that_it_was_given_and_is_offloaded_as_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")  # as Ray may have named them
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    Replica(f"{HERE}:Looking", "tiny")
    assert Looking.saw == ("none", "0,1,2,3", "FASTEST_FIRST")
    Replica(f"{HERE}:Looking", "tiny", gpu="2", speeds={"t2i": {"offload": "layers"}})
    assert Looking.saw == ("layers", "2", "PCI_BUS_ID")
