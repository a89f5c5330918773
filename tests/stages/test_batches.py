"""T2I's batches: each picture is what it is alone but for rounding, whoever draws it and whatever else is drawn.

The trained weights and random ones through the loop of `stages.t2i`, and a pipeline of diffusers. The tolerance is what
was measured on CPUs: one grey level, in one value of a thousand at most; it is shown to be far below another picture.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stages.base import BatchStage, Cancelled, InputError, ignore_progress
from stages.presets import TINY, Preset, T2IParams, plan
from stages.t2i import T2I
from stages.types import UInt8
from tests.stages.random_parts import own_loop, paper_like

PROMPTS = ("a fox", "a whale at night", "a red car by the sea")
SEEDS = (5, 6, 7)
LEVELS, SHARE = 1, 1e-3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parts")


@pytest.fixture(scope="module")
def random_parts(folder: Path) -> Preset:
    return paper_like(folder)


@pytest.fixture(scope="module", params=["tiny", "own loop", "diffusers", "lcm"])
def made(request: pytest.FixtureRequest, random_parts: Preset) -> tuple[T2I, Preset]:
    presets = {
        "tiny": replace(TINY, t2i=replace(TINY.t2i, steps=3)),
        "own loop": own_loop(random_parts),
        "lcm": own_loop(replace(random_parts, t2i=replace(random_parts.t2i, scheduler="lcm"))),
        "diffusers": random_parts,
    }
    preset = presets[request.param]
    return T2I.load(preset, "cpu"), preset


def asked(preset: Preset, count: int = 3) -> list[tuple[T2IParams, int]]:
    return [(plan(preset, text).t2i, seed) for text, seed in zip(PROMPTS[:count], SEEDS[:count], strict=True)]


def assert_alike(one: UInt8, other: UInt8) -> None:
    apart = np.abs(one.astype(int) - other)
    assert apart.max() <= LEVELS
    assert (apart > 0).mean() <= SHARE


@pytest.mark.slow
def test_each_picture_of_a_batch_is_what_it_is_alone_but_for_rounding(made: tuple[T2I, Preset]) -> None:
    stage, preset = made
    requests = asked(preset)
    alone = [stage(params=params, seed=seed, report=ignore_progress).pixels for params, seed in requests]
    for size in (1, 2, 3):
        for own, picture in zip(alone, stage.batch(requests[:size], ignore_progress), strict=False):
            assert_alike(own, picture.pixels)
    assert np.array_equal(stage.batch(requests[:1], ignore_progress)[0].pixels, alone[0])
    assert (np.abs(alone[0].astype(int) - alone[1]) > LEVELS).mean() > 100 * SHARE


def test_a_place_in_the_batch_and_its_company_change_nothing_but_rounding(made: tuple[T2I, Preset]) -> None:
    stage, preset = made
    requests = asked(preset)
    first, last = stage.batch(requests, ignore_progress), stage.batch(requests[::-1], ignore_progress)
    for one, other in zip(first, reversed(last), strict=True):
        assert_alike(one.pixels, other.pixels)


def test_a_batch_is_reported_step_by_step_and_stops_at_one(made: tuple[T2I, Preset]) -> None:
    stage, preset = made
    seen: list[tuple[int, int]] = []

    def stop(step: int, total: int) -> None:
        seen.append((step, total))
        if step == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        stage.batch(asked(preset), stop)
    assert sorted(set(seen)) == [(0, 3), (1, 3), (2, 3)]


def test_texts_do_not_make_a_shape_and_all_else_does(made: tuple[T2I, Preset]) -> None:
    stage, preset = made
    own = plan(preset, "a fox").t2i
    assert isinstance(stage, BatchStage)
    assert stage.shape(own) == stage.shape(plan(preset, "a whale").t2i) is not None
    others = [
        replace(own, size=(own.size[0], 2 * own.size[1])),
        replace(own, negative_prompt="" if own.negative_prompt else "a dog"),
        replace(own, denoising=replace(own.denoising, steps=9)),
        replace(own, denoising=replace(own.denoising, guidance=1.5)),
        replace(own, denoising=replace(own.denoising, beta_end=0.02)),
    ]
    for other in others:
        assert stage.shape(other) != stage.shape(own)
        with pytest.raises(InputError, match="pictures of one shape at once"):
            stage.batch([(own, 1), (other, 2)], ignore_progress)
