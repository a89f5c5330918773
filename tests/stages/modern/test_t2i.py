"""T2I by pipelines of diffusers, each put in by one line of the preset: SD1.5, SDXL, PixArt, FLUX, Z-Image."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from stages.base import Cancelled, InputError, derive_seed, ignore_progress
from stages.presets import Preset, T2IParams, plan
from stages.t2i import T2I
from stages.types import UInt8
from tests.stages.modern.rig import Log, Shelf, alike, modern_preset

NAMES = ["stable_diffusion", "stable_diffusion_xl", "pixart", "flux", "z_image"]
Loaded = Callable[[str], tuple[T2I, Preset]]


def load(shelf: Shelf, name: str) -> tuple[T2I, Preset]:
    preset = modern_preset({"t2i": shelf[name]}, size=(48, 32))
    return T2I.load(preset, "cpu"), preset


@pytest.fixture(scope="module")
def loaded(shelf: Shelf) -> Loaded:
    """Each stage once: that nothing is left of a call is tested."""
    return cache(partial(load, shelf))


def paint(stage: T2I, wanted: T2IParams, seed: int = 3) -> UInt8:
    return stage(params=wanted, seed=seed, report=ignore_progress).pixels


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("negative", ["", "a dog"])
def test_it_is_the_pipeline_called_by_hand_with_its_own_scheduler(
    shelf: Shelf, loaded: Loaded, name: str, negative: str
) -> None:
    stage, preset = loaded(name)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(shelf[name])
    pipeline.set_progress_bar_config(disable=True)
    said = negative or preset.negative_prompt
    more: dict[str, Any] = {"use_resolution_binning": False} if name == "pixart" else {}
    by_hand = pipeline(
        prompt="a fox",
        width=48,
        height=32,
        num_inference_steps=3,
        guidance_scale=4.0,
        generator=torch.Generator("cpu").manual_seed(derive_seed(3, "t2i")),
        output_type="np",
        **({"negative_prompt": said} if said else {}),
        **more,
    ).images[0]
    made = paint(stage, plan(preset, "a fox", negative_prompt=negative).t2i)
    assert made.shape == (32, 48, 3)
    assert made.std() > 5
    assert alike(made, (by_hand * 255).round().astype(np.uint8))


@pytest.mark.parametrize("name", NAMES)
def test_seed_and_prompt_decide_and_nothing_is_left_of_the_call_before(loaded: Loaded, name: str) -> None:
    stage, preset = loaded(name)
    fox, cat = (plan(preset, prompt).t2i for prompt in ("a fox", "many cats"))
    first = paint(stage, fox)
    assert not np.array_equal(first, paint(stage, fox, seed=4))
    assert not np.array_equal(first, paint(stage, cat))
    assert np.array_equal(first, paint(stage, fox))


@pytest.mark.parametrize("name", NAMES)
def test_steps_are_reported_and_stopped(loaded: Loaded, name: str) -> None:
    """PixArt has no callback at the end of a step: its scheduler is watched instead."""
    stage, preset = loaded(name)
    wanted, log = plan(preset, "a fox").t2i, Log()
    stage(params=wanted, seed=3, report=log)
    assert log.steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
    for step in (0, 1, 3):
        stopped = Log(stop_at=step, stop=Cancelled)
        with pytest.raises(Cancelled):
            stage(params=wanted, seed=3, report=stopped)
        assert stopped.steps == log.steps[: step + 1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("negative", ["", "a dog"])
def test_a_batch_is_each_picture_alone_but_for_rounding(loaded: Loaded, name: str, negative: str) -> None:
    stage, preset = loaded(name)
    asked = [
        (replace(plan(preset, text).t2i, negative_prompt=negative), 3 + n)
        for n, text in enumerate(("a fox", "a whale"))
    ]
    alone = [paint(stage, params, seed) for params, seed in asked]
    for one, other in zip(alone, stage.batch(asked, ignore_progress), strict=True):
        assert np.abs(one.astype(int) - other.pixels).max() <= 1
    assert not np.array_equal(alone[0], alone[1])


def test_another_scheduler_by_one_line(loaded: Loaded) -> None:
    stage, preset = loaded("stable_diffusion")
    own = plan(preset, "a fox").t2i
    euler = replace(own, denoising=replace(preset.t2i, scheduler="euler"))
    first = paint(stage, own)
    assert not np.array_equal(first, paint(stage, euler))
    assert np.array_equal(first, paint(stage, own))


def test_a_size_that_the_model_would_round(loaded: Loaded) -> None:
    """FLUX packs 2x2 latents: it makes multiples of 16, and rounds others down."""
    stage, preset = loaded("flux")
    odd = replace(plan(preset, "a fox").t2i, size=(40, 32))
    with pytest.raises(InputError, match="asked for 40x32 pixels; it makes multiples of 16 pixels: take 32x32"):
        paint(stage, odd)
