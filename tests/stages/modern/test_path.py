"""Prompt to video with a model of today in every place: T2I -> Wan -> CogVideoX -> VFI, and mixed with our own."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from client.single import StageSettings
from stages.base import Cancelled, ignore_progress
from stages.i2v import I2V
from stages.local.pipeline import LocalPipeline
from stages.presets import PRESETS, Preset, RequestError, Windows, plan
from stages.types import Clip, StageName
from tests.stages.modern.rig import OWN, Log, Shelf, modern_preset, picture
from tests.stages.random_parts import paper_like

pytestmark = pytest.mark.slow


def frames(clips: Iterator[Clip]) -> int:
    made = list(clips)
    assert all(clip.size == (48, 32) and clip.fps == 24 for clip in made)
    return sum(len(clip.frames) for clip in made)


@pytest.mark.parametrize("painter", ["flux", "stable_diffusion_xl"])
def test_every_stage_a_model_of_today(shelf: Shelf, painter: str) -> None:
    parts = {"t2i": shelf[painter], "i2v_pipeline": shelf["wan_a14b"], "v2v_pipeline": shelf["cogvideox_text"]}
    preset = modern_preset(parts, size=(48, 32), frames=17, windows=Windows(9, 3))
    pipeline = LocalPipeline.load(preset)
    logs: dict[StageName, Log] = {}
    work = plan(preset, "a fox")
    assert frames(pipeline.run(work, 1, lambda name: logs.setdefault(name, Log()))) == work.frames == 49
    assert list(logs) == ["t2i", "i2v", "v2v", "vfi"]
    assert logs["i2v"].steps[-1] == (3, 3)


@pytest.mark.parametrize("replaced", [
    {"i2v_pipeline": "stable_video"}, {"v2v_pipeline": "ltx_condition"},
    {"i2v_pipeline": "ltx_text", "v2v_pipeline": "animatediff"},
])  # fmt: skip
def test_one_stage_of_the_papers_replaced_by_one_line(shelf: Shelf, tmp_path: Path, replaced: dict[str, str]) -> None:
    paper = paper_like(tmp_path)
    today = modern_preset({part: shelf[name] for part, name in replaced.items()})
    sizes = replace(next(iter(paper.sizes.values())), i2v=(64, 32), v2v=(64, 96))
    preset: Preset = replace(
        paper,
        parts=MappingProxyType({**paper.parts, **today.parts}),
        sizes=MappingProxyType({"64x96": sizes}),
        keyframes=MappingProxyType({"1": 5 if replaced.get("i2v_pipeline") == "stable_video" else 9}),
        i2v=OWN if "i2v_pipeline" in replaced else paper.i2v,
        v2v=OWN if "v2v_pipeline" in replaced else paper.v2v,
        i2v_windows=Windows(9, 2),
        v2v_windows=Windows(9, 2),
    )
    pipeline = LocalPipeline.load(preset)
    made = list(pipeline.run(plan(preset, "a fox"), 1, lambda _: ignore_progress))
    assert sum(len(clip.frames) for clip in made) == plan(preset, "a fox").frames
    assert all(clip.size == (64, 96) for clip in made)


@pytest.mark.parametrize("stage", ["t2i", "i2v", "v2v", "vfi"])
def test_a_stop_in_any_stage(shelf: Shelf, stage: StageName) -> None:
    parts = {"t2i": shelf["flux"], "i2v_pipeline": shelf["ltx_text"], "v2v_pipeline": shelf["wan_text"]}
    preset = modern_preset(parts, size=(64, 32))
    pipeline, log = LocalPipeline.load(preset), Log(stop_at=1, stop=Cancelled)
    with pytest.raises(Cancelled):
        list(pipeline.run(plan(preset, "a fox"), 1, lambda name: log if name == stage else ignore_progress))
    assert log.steps[-1][0] == 1


STAND_INS = {
    "modern": ("wan_a14b", "wan_text", ["flow", "gan", "i2v_vae", "v2v_vae", "i2v_high", "i2v_low"]),
    "kandinsky-6": ("kandinsky6_distilled", "kandinsky6_upscaler_distilled", ["flow", "gan"]),
    "ltx-2": ("ltx2_image", "kandinsky6_upscaler_distilled", ["flow", "gan", "i2v_distilled"]),
}


@pytest.mark.parametrize("name", STAND_INS)
def test_the_presets_numbers_fit_the_models_it_names(shelf: Shelf, name: str) -> None:
    """The rules come from configurations; those of the tiny models agree with the public ones in what rules need."""
    preset, (i2v, v2v, own) = PRESETS[name], STAND_INS[name]
    parts = {"t2i": shelf["z_image"], "i2v_pipeline": shelf[i2v], "v2v_pipeline": shelf[v2v]}
    LocalPipeline.load(replace(preset, parts=modern_preset(parts).parts, loras=()))
    assert {lora.part for lora in preset.loras} == {part for part in own if "i2v" in part and "vae" not in part}
    assert sorted(preset.parts) == sorted([*parts, *own])


def test_a_distilled_model_gets_the_noise_levels_that_it_has_learnt(shelf: Shelf) -> None:
    levels = PRESETS["ltx-2"].i2v
    base = replace(modern_preset({"i2v_pipeline": shelf["ltx2_image"]}, size=(64, 32)), i2v=levels)
    stage, log = I2V.load(base, "cpu"), Log()
    stage(picture(), params=plan(base, "a fox").i2v, seed=1, report=log)
    scheduler = stage.maker.runner.pipeline.scheduler  # type: ignore[union-attr]
    assert scheduler.sigmas.tolist() == pytest.approx([*levels.sigmas, 0.0])
    assert log.steps[-1] == (8, 8)
    with pytest.raises(RequestError, match=r"stages\.i2v\.steps is 20; preset 'test' has a model"):
        plan(base, "a fox", stages={"i2v": StageSettings(steps=20)})
    assert plan(base, "a fox", stages={"i2v": StageSettings(steps=8, guidance=2.0)}).i2v.denoising.guidance == 2.0


def test_four_steps_meet_both_networks_of_wan_twice(shelf: Shelf) -> None:
    """The schedule is shifted as the distillation was made: 1000, 937, 833, 625, and the boundary is 900."""
    base = modern_preset({"i2v_pipeline": shelf["wan_a14b"]}, size=(48, 32), frames=5)
    stage = I2V.load(replace(base, i2v=PRESETS["modern"].i2v), "cpu")
    runs = {"transformer": 0, "transformer_2": 0}
    for name in runs:
        module = stage.maker.runner.modules[name]  # type: ignore[union-attr]
        module.register_forward_hook(lambda *_, name=name: runs.update({name: runs[name] + 1}))
    params = replace(plan(base, "a fox").i2v, denoising=PRESETS["modern"].i2v)
    stage(picture(), params=params, seed=1, report=ignore_progress)
    assert runs == {"transformer": 2, "transformer_2": 2}
    steps = stage.maker.runner.pipeline.scheduler.timesteps  # type: ignore[union-attr]
    assert [round(float(step)) for step in steps] == pytest.approx([1000, 937, 833, 625], abs=1)
