"""Stages with deep tiny pipelines under a `Speed`: what the tests of caches and the benchmark of knobs share."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from stages.i2v import I2V
from stages.presets import Preset, plan
from stages.settings import with_speeds
from stages.t2i import T2I
from stages.types import StageName, UInt8
from stages.v2v import V2V
from tests.stages.modern.rig import Shelf, keyframes, modern_preset, picture

STEPS = 8  # that are denoised
# class -> stage, its build, size, frames
BUILDS: dict[str, tuple[StageName, str, tuple[int, int], int]] = {
    "CogVideoXImageToVideoPipeline": ("i2v", "cogvideox_image", (48, 32), 9),
    "CogVideoXVideoToVideoPipeline": ("v2v", "cogvideox_text", (48, 32), 9),
    "FluxPipeline": ("t2i", "flux", (48, 32), 1),
    "LTXConditionPipeline": ("v2v", "ltx_condition", (64, 32), 9),
    "LTXImageToVideoPipeline": ("i2v", "ltx_text", (64, 32), 9),
    "WanImageToVideoPipeline": ("i2v", "wan_5b", (64, 32), 5),
    "WanVACEPipeline": ("v2v", "wan_vace", (48, 32), 9),
    "WanVideoToVideoPipeline": ("v2v", "wan_text", (48, 32), 9),
}
RATIOS = {"mag_ratios": [1.0] * STEPS}
Call = Callable[..., UInt8]  # with `report`: the pixels


def preset_of(shelf: Shelf, name: str, knobs: dict[str, Any], **changes: Any) -> Preset:
    stage, build, size, frames = BUILDS[name]
    part = "t2i" if stage == "t2i" else f"{stage}_pipeline"
    preset = modern_preset({part: shelf.deep(build, **changes)}, size=size, frames=frames)
    steps = 2 * STEPS if stage == "v2v" and name != "WanVACEPipeline" else STEPS  # strength 0.5 leaves half of them
    preset = replace(preset, **{stage: replace(preset.i2v, steps=steps)})  # type: ignore[arg-type]
    return with_speeds(preset, {stage: knobs})


def load(shelf: Shelf, name: str, knobs: dict[str, Any], **changes: Any) -> tuple[Any, Call]:
    """The stage, and one call of it."""
    preset = preset_of(shelf, name, knobs, **changes)
    asked, stage = plan(preset, "a fox", negative_prompt="a dog"), BUILDS[name][0]
    if stage == "t2i":
        painter = T2I.load(preset, "cpu")
        return painter, lambda report, seed=3: painter(params=asked.t2i, seed=seed, report=report).pixels[None]
    if stage == "i2v":
        animator = I2V.load(preset, "cpu")
        return animator, partial(_frames, animator, picture(), params=asked.i2v)
    redrawer = V2V.load(preset, "cpu")
    clip = keyframes(asked.i2v.frames)
    return redrawer, partial(_frames, redrawer, picture(), clip, params=asked.v2v)


def _frames(stage: Any, *inputs: Any, report: Any, seed: int = 3, **options: Any) -> UInt8:
    made: UInt8 = stage(*inputs, seed=seed, report=report, **options).clip.frames
    return made
