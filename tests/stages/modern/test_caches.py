"""Caches of diffusers behind a stage: each class has those of the table, and none outlives its call."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stages.base import Cancelled, InputError, ignore_progress
from stages.model.hub.knobs import CACHES
from stages.presets import plan
from stages.state import can_yield
from tests.stages.modern.rig import Log, Shelf, picture
from tests.stages.modern.sped import BUILDS, RATIOS, STEPS, load, preset_of

pytestmark = pytest.mark.slow

KNOBS: dict[str, dict[str, Any]] = {
    "first_block": {"cache_threshold": 1000.0},
    "mag": RATIOS,
    "taylorseer": {"cache_every": 2},
    "pyramid": {"cache_every": 2},
    "faster": {"cache_every": 2},
}


@pytest.mark.parametrize("name", sorted(CACHES))
def test_a_cache_skips_work_and_a_call_after_a_cancelled_one_equals_a_fresh_one(shelf: Shelf, name: str) -> None:
    _, exact = load(shelf, name, {})
    right = exact(report=ignore_progress)
    for cache in CACHES[name]:
        stage, call = load(shelf, name, {"cache": cache, **KNOBS[cache]})
        assert not can_yield(stage), cache
        first = call(report=ignore_progress)
        assert first.std() > 5, cache
        assert not np.array_equal(first, right), cache
        with pytest.raises(Cancelled):
            call(report=Log(stop_at=STEPS // 2 + 1, stop=Cancelled), seed=4)
        assert np.array_equal(call(report=ignore_progress), first), cache


def test_a_cache_of_the_half_without_a_prompt_needs_guidance(shelf: Shelf) -> None:
    name = "CogVideoXImageToVideoPipeline"
    stage, _ = load(shelf, name, {"cache": "faster"})
    asked = plan(preset_of(shelf, name, {}), "a fox").i2v
    free = replace(asked, denoising=replace(asked.denoising, guidance=1.0))
    with pytest.raises(InputError) as refused:
        stage(picture(), params=free, seed=3, report=ignore_progress)
    assert str(refused.value) == (
        "Cache 'faster' skips the half of a step that guidance needs, and guidance is 1: ask for more than 1, or take "
        "cache 'pyramid'."
    )


def test_every_class_of_the_table_has_a_build() -> None:
    assert set(CACHES) <= set(BUILDS)
