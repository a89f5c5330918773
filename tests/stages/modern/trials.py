"""Trials of every video pipeline of diffusers behind its stage: the tiny build of each, and what it has to give."""

import json
from pathlib import Path

import numpy as np
import pytest

from stages.base import WeightsError
from stages.i2v import I2V
from stages.model.hub.classes import ANIMATES, REDRAWS, REFUSED
from stages.model.hub.video import HubAnimator, HubRedrawer
from stages.presets import Preset, plan
from stages.types import UInt8
from stages.v2v import V2V
from tests.stages.modern.rig import Log, Shelf, keyframes, modern_preset, picture

# class -> (its tiny build, size, frames); for V2V the size that it makes
I2V_BUILDS: dict[str, tuple[str, tuple[int, int], int]] = {
    "CogVideoXImageToVideoPipeline": ("cogvideox_image", (48, 32), 9),
    "HunyuanVideo15ImageToVideoPipeline": ("hunyuan15_image", (32, 32), 5),
    "Kandinsky5I2VPipeline": ("kandinsky5_image", (48, 32), 17),
    "Kandinsky6TI2VAPipeline": ("kandinsky6_image", (48, 32), 5),
    "LTX2ImageToVideoPipeline": ("ltx2_image", (64, 32), 9),
    "LTXConditionPipeline": ("ltx_condition", (64, 32), 9),
    "LTXImageToVideoPipeline": ("ltx_text", (64, 32), 9),
    "SanaImageToVideoPipeline": ("sana_image", (64, 32), 9),
    "SkyReelsV2ImageToVideoPipeline": ("skyreels_image", (48, 32), 5),
    "StableVideoDiffusionPipeline": ("stable_video", (72, 40), 5),
    "WanImageToVideoPipeline": ("wan_a14b", (48, 32), 5),
}
V2V_BUILDS: dict[str, tuple[str, tuple[int, int], int]] = {
    "AnimateDiffVideoToVideoControlNetPipeline": ("animatediff_control", (72, 40), 6),
    "AnimateDiffVideoToVideoPipeline": ("animatediff", (72, 40), 6),
    "CogVideoXVideoToVideoPipeline": ("cogvideox_text", (48, 32), 9),
    "Kandinsky6SRPipeline": ("kandinsky6_upscaler", (96, 64), 9),
    "LTX2LatentUpsamplePipeline": ("ltx2_upsampler", (64, 96), 9),
    "LTXConditionPipeline": ("ltx_condition", (64, 32), 9),
    "LTXLatentUpsamplePipeline": ("ltx_upsampler", (128, 64), 9),
    "WanVACEPipeline": ("wan_vace", (48, 32), 9),
    "WanVideoToVideoPipeline": ("wan_text", (48, 32), 9),
}


def preset_of(shelf: Shelf, part: str, build: tuple[str, tuple[int, int], int]) -> Preset:
    name, size, frames = build
    return modern_preset({part: shelf[name]}, size=size, frames=frames)


def try_i2v(shelf: Shelf, name: str) -> tuple[I2V, Preset, UInt8]:
    """It animates a picture: as many frames, of the size, with the steps that were asked for."""
    build = I2V_BUILDS[name]
    preset = preset_of(shelf, "i2v_pipeline", build)
    stage, log = I2V.load(preset, "cpu"), Log()
    assert isinstance(stage.maker, HubAnimator)
    if name != "LTXConditionPipeline":  # a repository of it runs in the family's own class for pictures
        assert stage.maker.runner.name == name
    wanted = plan(preset, "a fox", negative_prompt="a dog").i2v
    made = stage(picture(), params=wanted, seed=3, report=log).clip.frames
    assert made.shape == (build[2], build[1][1], build[1][0], 3)
    assert made.std() > 5
    assert log.steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
    return stage, preset, made


def try_v2v(shelf: Shelf, name: str) -> tuple[V2V, Preset, UInt8]:
    """It redraws a clip: as many frames, of the size, step by step, and another clip otherwise."""
    build = V2V_BUILDS[name]
    preset = preset_of(shelf, "v2v_pipeline", build)
    stage, log = V2V.load(preset, "cpu"), Log()
    assert isinstance(stage.maker, HubRedrawer)
    assert stage.maker.runner.name == name
    wanted = plan(preset, "a fox", negative_prompt="a dog").v2v
    made = stage(picture(), keyframes(build[2]), params=wanted, seed=3, report=log).clip.frames
    assert made.shape == (build[2], build[1][1], build[1][0], 3)
    assert made.std() > 5
    assert log.steps == [(step, log.steps[-1][1]) for step in range(log.steps[-1][1] + 1)]
    other = stage(picture(), keyframes(build[2], seed=1), params=wanted, seed=3, report=Log())
    assert not np.array_equal(made, other.clip.frames)
    return stage, preset, made


def try_refusal(folder: Path, name: str) -> None:
    """It is refused by its name, in both places, before a file of it is looked at."""
    folder.mkdir(exist_ok=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": name, "_diffusers_version": "0"}))
    for part, load in (("i2v_pipeline", I2V.load), ("v2v_pipeline", V2V.load)):
        with pytest.raises(WeightsError) as refused:
            load(modern_preset({part: str(folder)}), "cpu")
        told = f"is a {name}, which {REFUSED[name]}; name another pipeline in the preset."
        assert str(refused.value) == f"Part {part!r} from {folder} {told}"


def try_class(shelf: Shelf, folder: Path, name: str) -> str:
    """What became of it: "runs" or "refused".

    Raises:
        Exception: neither.
    """
    if name in REFUSED:
        try_refusal(folder, name)
        return "refused"
    if name in ANIMATES:
        try_i2v(shelf, name)
    if name in REDRAWS:
        try_v2v(shelf, name)
    if name not in ANIMATES | REDRAWS:
        raise LookupError(f"{name} stands in no table of stages/model/hub/classes.py")
    return "runs"
