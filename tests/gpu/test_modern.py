"""Pipelines of today on a CUDA device: half precision, offload, the same bytes again, memory given back."""

import gc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from stages.base import Cancelled, ignore_progress
from stages.i2v import I2V
from stages.local.pipeline import LocalPipeline
from stages.presets import Preset, plan
from stages.settings import DTypeName, with_speeds
from stages.speed import Offload
from stages.types import UInt8
from tests.stages.modern.rig import Log, Shelf, modern_preset, picture

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

I2V_CASES: list[tuple[str, tuple[int, int], int, DTypeName]] = [
    ("wan_a14b", (48, 32), 5, "bfloat16"),
    ("wan_5b", (32, 32), 5, "bfloat16"),
    ("ltx_text", (64, 32), 9, "bfloat16"),
    ("cogvideox_image", (48, 32), 9, "bfloat16"),
    ("stable_video", (72, 40), 5, "float16"),
]


@pytest.fixture(autouse=True)
def memory_is_given_back() -> Iterator[None]:
    yield
    gc.collect()
    torch.cuda.empty_cache()


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return Shelf(tmp_path_factory.mktemp("pipelines"))


def whole(shelf: Shelf, dtype: DTypeName = "bfloat16", **changes: Any) -> Preset:
    parts = {"t2i": shelf["flux"], "i2v_pipeline": shelf["wan_a14b"], "v2v_pipeline": shelf["cogvideox_text"]}
    return replace(modern_preset(parts, size=(48, 32)), dtype=dtype, **changes)


def video(pipeline: LocalPipeline, preset: Preset) -> UInt8:
    made = pipeline.run(plan(preset, "a fox"), 7, lambda _: ignore_progress)
    return np.concatenate([clip.frames for clip in made])


@pytest.mark.parametrize(("name", "size", "frames", "dtype"), I2V_CASES, ids=[case[0] for case in I2V_CASES])
def test_half_precision_gives_the_same_bytes_again(
    shelf: Shelf, name: str, size: tuple[int, int], frames: int, dtype: DTypeName
) -> None:
    preset = replace(modern_preset({"i2v_pipeline": shelf[name]}, size=size, frames=frames), dtype=dtype)
    made = []
    for device in ("cuda", "cuda:0"):
        stage = I2V.load(preset, device)
        made.append(stage(picture(), params=plan(preset, "a fox").i2v, seed=7, report=ignore_progress).clip.frames)
    assert made[0].shape == (frames, size[1], size[0], 3)
    assert made[0].std() > 5
    assert np.array_equal(made[0], made[1])


def test_the_whole_path_in_half_precision(shelf: Shelf) -> None:
    preset = whole(shelf)
    assert video(LocalPipeline.load(preset, "cuda"), preset).shape == (25, 32, 48, 3)


def test_in_single_precision_it_is_the_video_that_a_cpu_makes(shelf: Shelf) -> None:
    preset = whole(shelf, dtype="float32")
    gpu, cpu = (video(LocalPipeline.load(preset, device), preset) for device in ("cuda", "cpu"))
    assert float(np.abs(gpu.astype(float) - cpu.astype(float)).mean()) < 2.0


def everywhere(preset: Preset, offload: Offload) -> Preset:
    return with_speeds(preset, {"t2i": {"offload": offload}, "i2v": {"offload": offload}, "v2v": {"offload": offload}})


@pytest.mark.parametrize("offload", ["model", "groups", "layers"])
def test_offload_gives_the_same_video_and_holds_nothing_between_calls(shelf: Shelf, offload: Offload) -> None:
    preset = whole(shelf)
    expected = video(LocalPipeline.load(preset, "cuda"), preset)
    pipeline = LocalPipeline.load(everywhere(preset, offload), "cuda")
    made = video(pipeline, preset)
    assert float(np.abs(made.astype(float) - expected.astype(float)).mean()) < 1.0
    for stage in (pipeline.i2v, pipeline.v2v):
        runner = stage.maker.runner  # type: ignore[union-attr]
        weights = [tensor for module in runner.modules.values() for tensor in module.parameters()]
        assert not [tensor for tensor in weights if tensor.device.type == "cuda"]


@pytest.mark.parametrize("offload", ["none", "model", "groups"])
def test_a_call_that_was_stopped_leaves_no_memory_behind(shelf: Shelf, offload: Offload) -> None:
    preset = replace(modern_preset({"i2v_pipeline": shelf["wan_a14b"]}), dtype="bfloat16")
    preset = with_speeds(preset, {"i2v": {"offload": offload}})
    stage, wanted = I2V.load(preset, "cuda"), plan(preset, "a fox").i2v
    first = stage(picture(), params=wanted, seed=7, report=ignore_progress).clip.frames
    gc.collect()
    before = torch.cuda.memory_allocated()
    for step in (0, 1, 3):
        with pytest.raises(Cancelled):
            stage(picture(), params=wanted, seed=7, report=Log(stop_at=step, stop=Cancelled))
    gc.collect()
    assert torch.cuda.memory_allocated() <= before + 2**20
    assert np.array_equal(first, stage(picture(), params=wanted, seed=7, report=ignore_progress).clip.frames)
