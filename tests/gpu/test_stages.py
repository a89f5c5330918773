"""The stages on a CUDA device: half precision, the same bytes again, cancellation, memory given back."""

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.base import Cancelled, ignore_progress
from stages.local.pipeline import LocalPipeline
from stages.presets import TINY, Preset, plan
from stages.types import UInt8
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
