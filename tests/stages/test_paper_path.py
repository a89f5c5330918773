"""The classes that run the public weights, run with random ones: every branch that `tiny` does not take."""

from pathlib import Path

import numpy as np
import pytest

from stages.base import Cancelled, WeightsError, ignore_progress
from stages.local.pipeline import LocalPipeline
from stages.presets import Preset, plan
from stages.types import Clip, StageName
from tests.stages.random_parts import paper_like

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Preset:
    return paper_like(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def pipeline(preset: Preset) -> LocalPipeline:
    return LocalPipeline.load(preset)


def make(pipeline: LocalPipeline, preset: Preset, seed: int) -> list[Clip]:
    return list(pipeline.run(plan(preset, "a fox", seed=seed), seed, lambda _: ignore_progress))


@pytest.fixture(scope="module")
def clips(pipeline: LocalPipeline, preset: Preset) -> list[Clip]:
    """Of seed 1."""
    return make(pipeline, preset, 1)


def test_the_whole_path_gives_every_frame(clips: list[Clip]) -> None:
    assert [len(clip.frames) for clip in clips] == [4, 12]  # 2 then 4 keyframes: 3 * (6 - 1) + 1 frames
    assert all(clip.size == (72, 72) and clip.fps == 24 for clip in clips)


def test_the_seed_decides_every_byte(pipeline: LocalPipeline, preset: Preset, clips: list[Clip]) -> None:
    again, other = (make(pipeline, preset, seed) for seed in (1, 2))
    assert all(np.array_equal(a.frames, b.frames) for a, b in zip(clips, again, strict=True))
    assert not np.array_equal(clips[0].frames, other[0].frames)


def test_the_backbone_is_held_once(pipeline: LocalPipeline) -> None:
    one, other = pipeline.i2v.network.unet.state_dict(), pipeline.v2v.network.unet.state_dict()
    for name, tensor in one.items():
        same = tensor.data_ptr() == other[name].data_ptr()
        assert same != ("motion_modules" in name), name


@pytest.mark.parametrize("stage", ["t2i", "i2v", "v2v"])
def test_a_report_that_raises_stops_the_stage_at_that_step(
    pipeline: LocalPipeline, preset: Preset, stage: StageName
) -> None:
    seen: list[int] = []

    def stop(step: int, total: int) -> None:
        seen.append(step)
        if step == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        list(pipeline.run(plan(preset, "a fox"), 1, lambda name: stop if name == stage else ignore_progress))
    assert seen[-1] == 2


@pytest.mark.parametrize("part", ["motion", "control_v2v", "image_encoder"])
def test_a_broken_file_is_one_sentence_that_names_the_part(preset: Preset, part: str) -> None:
    file = next(Path(preset.parts[part].source).glob("*.safetensors"))
    whole = file.read_bytes()
    try:
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(WeightsError, match=f"Part '{part}' cannot be loaded from .*{part}"):
            LocalPipeline.load(preset)
    finally:
        file.write_bytes(whole)
