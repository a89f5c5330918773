"""Products in bfloat16 on a CPU that has them: the clip is nearly the same, a preset that does not ask is untouched."""

from dataclasses import replace

import numpy as np
import pytest

from stages.base import ignore_progress
from stages.i2v import I2V
from stages.model.weights.loading import multiplies_in_bf16
from stages.presets import TINY, Preset, plan
from stages.types import Image
from tests.stages.mechanisms.beside_parts import beside_preset


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Preset:
    return beside_preset(tmp_path_factory.mktemp("parts"))


def frames(preset: Preset) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    work = plan(preset, "a fox", size="64x64", seconds="1").i2v
    return I2V.load(preset, "cpu")(Image(picture), params=work, seed=1, report=ignore_progress).clip.frames


def test_only_a_preset_that_asks_multiplies_in_bfloat16_and_its_clips_are_near(preset: Preset) -> None:
    asks = replace(preset, bf16=True)
    assert not multiplies_in_bf16(TINY, "cpu")
    assert not multiplies_in_bf16(asks, "meta")
    if not multiplies_in_bf16(asks, "cpu"):
        pytest.skip("this CPU has no instructions for bfloat16")
    network = I2V.load(asks, "cpu").network
    assert network.facts["device"].endswith(", bfloat16")
    assert not I2V.load(preset, "cpu").network.bf16
    exact, near = frames(preset).astype(float), frames(asks).astype(float)
    error = ((exact - near) ** 2).mean()
    assert 0 < error < 255**2 / 10**3, "at least 30 dB"
