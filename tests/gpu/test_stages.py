"""The stages on a CUDA device: half precision, the same bytes again, cancellation, memory given back."""

import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deployments.replicas.memory import PeakMemory
from stages.base import Cancelled, ignore_progress
from stages.i2v import I2V
from stages.local.pipeline import LocalPipeline
from stages.presets import TINY, Preset, SchedulerName, Windows, plan
from stages.state import DenoisingState, Pause, digest_of
from stages.types import Image, UInt8
from tests.stages.parity.rig import SCHEDULERS
from tests.stages.random_parts import paper_like

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def frames(pipeline: LocalPipeline, preset: Preset, **given: object) -> UInt8:
    made = pipeline.run(plan(preset, "a fox", seed=7, **given), 7, lambda _: ignore_progress)  # type: ignore[arg-type]
    return np.concatenate([clip.frames for clip in made])


@pytest.fixture(scope="module")
def random_parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Preset]:
    yield paper_like(tmp_path_factory.mktemp("parts"))
    gc.collect()
    torch.cuda.empty_cache()


def test_the_papers_path_runs_in_half_precision(random_parts: Preset) -> None:
    pipeline = LocalPipeline.load(random_parts, "cuda")
    assert pipeline.i2v.network.unet.dtype == torch.float16
    assert frames(pipeline, random_parts).shape == (16, 72, 72, 3)


def test_the_same_seed_gives_the_same_bytes(random_parts: Preset) -> None:
    one, other = (LocalPipeline.load(random_parts, device) for device in ("cuda", "cuda:0"))
    assert np.array_equal(frames(one, random_parts), frames(other, random_parts))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_stopped_denoising_goes_on_with_the_same_bytes(random_parts: Preset, scheduler: SchedulerName) -> None:
    stage, params = I2V.load(random_parts, "cuda"), plan(random_parts, "a fox").i2v
    image = Image(np.random.default_rng(1).integers(0, 256, (40, 40, 3)).astype(np.uint8))
    params = replace(params, denoising=replace(params.denoising, scheduler=scheduler), windows=Windows(4, 1))
    kept: list[DenoisingState] = []
    whole = stage(image, params=params, seed=7, report=ignore_progress, offer=Pause(kept.append, every_s=0))
    assert [state.step for state in kept] == [0, 1, 2, 3]
    for state in kept:
        made = stage(image, params=params, seed=7, report=ignore_progress, resume=state.to_bytes())
        assert digest_of(made) == digest_of(whole)


def test_the_tiny_video_is_the_one_that_a_cpu_makes() -> None:
    given = {"seconds": "1", "steps": 6}
    gpu, cpu = (frames(LocalPipeline.load(TINY, device), TINY, **given) for device in ("cuda", "cpu"))
    assert float(np.abs(gpu.astype(float) - cpu.astype(float)).mean()) < 2.0


def test_a_cancelled_stage_leaves_no_memory_behind(random_parts: Preset, tmp_path: Path) -> None:
    pipeline = LocalPipeline.load(random_parts, "cuda")
    frames(pipeline, random_parts)
    gc.collect()
    before = torch.cuda.memory_allocated()

    def stop(step: int, total: int) -> None:
        if step == 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        list(pipeline.run(plan(random_parts, "a fox"), 1, lambda name: stop if name == "v2v" else ignore_progress))
    gc.collect()
    assert torch.cuda.memory_allocated() <= before + 2**20


def test_a_call_says_what_it_allocated_of_the_device() -> None:
    weights = torch.empty(100 * 2**20, dtype=torch.uint8, device="cuda")
    peak, peaks = PeakMemory("cuda"), []
    for mib in (300, 10):
        peak.begin()
        needed = torch.empty(mib * 2**20, dtype=torch.uint8, device="cuda")
        del needed
        peaks.append(peak.mb() or 0.0)
    del weights
    assert peaks[0] >= 400
    assert 285 <= peaks[0] - peaks[1] <= 295  # each of its own call, and with what lies there
