"""I2V by pipelines of diffusers: each gives what the pipeline called by hand gives, step by step, and can stop."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import diffusers
import numpy as np
import PIL.Image
import pytest
import torch

from stages.base import Cancelled, InputError, derive_seed, ignore_progress
from stages.i2v import I2V
from stages.model.hub.runner import _tell_once
from stages.model.network.pictures import resize_frames
from stages.presets import I2VParams, Preset, plan
from stages.types import UInt8
from tests.stages.modern.rig import Log, Shelf, alike, modern_preset, picture

pytestmark = pytest.mark.slow  # together they take half a minute

# name, the class that must be chosen, size, frames, arguments beyond the common ones
CASES: list[tuple[str, str, tuple[int, int], int, dict[str, Any]]] = [
    ("wan_a14b", "WanImageToVideoPipeline", (48, 32), 5, {"guidance_scale": 4.0}),
    ("wan_5b", "WanImageToVideoPipeline", (32, 32), 5, {"guidance_scale": 4.0}),
    ("ltx_text", "LTXImageToVideoPipeline", (64, 32), 9, {"guidance_scale": 4.0, "frame_rate": 8}),
    ("cogvideox_image", "CogVideoXImageToVideoPipeline", (48, 32), 9, {"guidance_scale": 4.0}),
    ("stable_video", "StableVideoDiffusionPipeline", (72, 40), 5, {"max_guidance_scale": 4.0, "fps": 8}),
]
NAMES = [case[0] for case in CASES]
Loaded = Callable[[str], tuple[I2V, Preset]]


def load(shelf: Shelf, name: str) -> tuple[I2V, Preset]:
    _, _, size, frames, _ = CASES[NAMES.index(name)]
    preset = modern_preset({"i2v_pipeline": shelf[name]}, size=size, frames=frames)
    return I2V.load(preset, "cpu"), preset


@pytest.fixture(scope="module")
def loaded(shelf: Shelf) -> Loaded:
    """Each stage once: that a call leaves no trace is tested."""
    return cache(partial(load, shelf))


def params(preset: Preset, **changes: Any) -> I2VParams:
    return replace(plan(preset, "a fox", negative_prompt="a dog").i2v, **changes)


def animate(stage: I2V, wanted: I2VParams, seed: int = 3, looks: int = 0) -> UInt8:
    return stage(picture(looks), params=wanted, seed=seed, report=ignore_progress).clip.frames


@pytest.mark.parametrize(("name", "kind", "size", "frames", "more"), CASES, ids=NAMES)
def test_it_is_the_pipeline_called_by_hand(
    shelf: Shelf, loaded: Loaded, name: str, kind: str, size: tuple[int, int], frames: int, more: dict[str, Any]
) -> None:
    stage, preset = loaded(name)
    made = stage(picture(), params=params(preset), seed=3, report=ignore_progress)
    pipeline = getattr(diffusers, kind).from_pretrained(shelf[name])
    pipeline.set_progress_bar_config(disable=True)
    words = {} if name == "stable_video" else {"prompt": "a fox", "negative_prompt": "a dog"}
    by_hand = pipeline(
        image=PIL.Image.fromarray(resize_frames(picture().pixels[None], size)[0]),
        width=size[0],
        height=size[1],
        num_frames=frames,
        num_inference_steps=3,
        generator=torch.Generator("cpu").manual_seed(derive_seed(3, "i2v")),
        output_type="np",
        **words,
        **more,
    ).frames[0]
    assert made.latents is None
    assert made.clip.fps == 8
    assert made.clip.frames.shape == (frames, size[1], size[0], 3)
    assert made.clip.frames.std() > 5
    assert alike(made.clip.frames, (by_hand * 255).round().astype(np.uint8))


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_and_the_picture_decide_every_byte(loaded: Loaded, name: str) -> None:
    stage, preset = loaded(name)
    first, again = (animate(stage, params(preset)) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, animate(stage, params(preset), seed=4))
    assert not np.array_equal(first, animate(stage, params(preset), looks=1))


@pytest.mark.parametrize("name", NAMES)
def test_every_step_is_reported_once_and_in_order(loaded: Loaded, name: str) -> None:
    stage, preset = loaded(name)
    log = Log()
    stage(picture(), params=params(preset), seed=3, report=log)
    assert log.steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert log.seen == sorted(log.seen)


@pytest.mark.parametrize("name", NAMES)
def test_a_report_that_raises_stops_at_that_step_and_leaves_no_trace(shelf: Shelf, loaded: Loaded, name: str) -> None:
    stage, preset = loaded(name)
    for step in (0, 1, 3):
        log = Log(stop_at=step, stop=Cancelled)
        with pytest.raises(Cancelled):
            stage(picture(), params=params(preset), seed=3, report=log)
        assert log.steps[-1][0] == step
    fresh, _ = load(shelf, name)
    assert np.array_equal(animate(stage, params(preset)), animate(fresh, params(preset)))


def test_a_negative_prompt_that_a_pipeline_does_not_take_is_told_once(
    loaded: Loaded, caplog: pytest.LogCaptureFixture
) -> None:
    _tell_once.cache_clear()
    for name in ("stable_video", "stable_video", "wan_5b"):
        stage, preset = loaded(name)
        animate(stage, params(preset))
    assert [record.getMessage() for record in caplog.records if "negative prompt" in record.getMessage()] == [
        "StableVideoDiffusionPipeline takes no negative prompt: those of requests have no effect in its stage."
    ]


def test_a_stop_comes_within_a_step(shelf: Shelf) -> None:
    """Wan runs its denoiser twice a step, with and without the prompt: between the two is a chance to stop."""
    stage, preset = load(shelf, "wan_a14b")
    runs: list[object] = []
    stage.maker.runner.modules["transformer"].register_forward_hook(lambda *_: runs.append(1))  # type: ignore[union-attr]

    def stop(step: int, total: int) -> None:
        if runs:
            raise Cancelled

    with pytest.raises(Cancelled):
        stage(picture(), params=params(preset), seed=3, report=stop)
    assert len(runs) == 1


def test_two_denoisers_share_the_steps(shelf: Shelf) -> None:
    stage, preset = load(shelf, "wan_a14b")
    runs = {"transformer": 0, "transformer_2": 0}
    for name in runs:
        module = stage.maker.runner.modules[name]  # type: ignore[union-attr]
        module.register_forward_hook(lambda *_, name=name: runs.update({name: runs[name] + 1}))
    animate(stage, params(preset))
    assert sum(runs.values()) == 6
    assert min(runs.values()) > 0


@pytest.mark.parametrize(("name", "frames", "nearest"), [
    ("wan_a14b", 6, "5 or 9"), ("wan_a14b", 0, "1"), ("ltx_text", 12, "9 or 17"), ("cogvideox_image", 13, "9 or 17"),
    ("stable_video", 4, "5"), ("stable_video", 9, "5"),
])  # fmt: skip
def test_a_number_of_frames_that_the_model_cannot_make(loaded: Loaded, name: str, frames: int, nearest: str) -> None:
    stage, preset = loaded(name)
    log = Log()
    with pytest.raises(InputError, match=rf"was asked for {frames} frames; it makes .*: take {nearest} in the preset"):
        stage(picture(), params=params(preset, frames=frames), seed=3, report=log)
    assert not log.seen


@pytest.mark.parametrize(("name", "size", "nearest"), [
    ("wan_a14b", (40, 32), "32x32"), ("wan_5b", (48, 32), "64x32"), ("ltx_text", (48, 64), "64x64"),
    ("cogvideox_image", (24, 32), "32x32"), ("stable_video", (20, 40), "16x40"),
])  # fmt: skip
def test_a_size_that_the_model_cannot_make(loaded: Loaded, name: str, size: tuple[int, int], nearest: str) -> None:
    stage, preset = loaded(name)
    asked = f"{size[0]}x{size[1]}"
    with pytest.raises(
        InputError, match=rf"was asked for {asked} pixels; it makes multiples of \d+ pixels: take {nearest}"
    ):
        stage(picture(), params=params(preset, size=size), seed=3, report=ignore_progress)


def test_positions_that_were_learnt_fit_one_size(shelf: Shelf) -> None:
    preset = modern_preset({"i2v_pipeline": shelf["cogvideox_learned"]}, size=(64, 64))
    stage = I2V.load(preset, "cpu")
    assert animate(stage, params(preset)).shape == (9, 64, 64, 3)
    with pytest.raises(InputError, match="asked for 48x64 pixels; it makes 64x64 alone: take 64x64"):
        animate(stage, params(preset, size=(48, 64)))


def test_longer_than_the_preset_allows_at_once(loaded: Loaded) -> None:
    stage, preset = loaded("wan_a14b")
    with pytest.raises(InputError, match=r"asked for 85 frames, the preset allows 81 at once; .* has no windows"):
        animate(stage, params(preset, frames=85))


def test_motion_cannot_be_left_out(loaded: Loaded) -> None:
    stage, preset = loaded("ltx_text")
    with pytest.raises(InputError, match="cannot leave out its motion"):
        animate(stage, params(preset, motion=False))


def test_another_scheduler_by_one_line(shelf: Shelf) -> None:
    stage, preset = load(shelf, "cogvideox_image")
    own = animate(stage, params(preset))
    ddim = replace(preset.i2v, scheduler="ddim", prediction_type="v_prediction")
    assert not np.array_equal(own, animate(stage, params(preset, denoising=ddim)))
    assert np.array_equal(own, animate(stage, params(preset)))
