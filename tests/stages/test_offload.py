"""Offloading changes where modules are, not what they compute. Without a GPU the same code moves them to the CPU."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from stages.base import ignore_progress
from stages.i2v import I2V
from stages.presets import Preset, plan
from stages.settings import Offload
from stages.types import Image, UInt8
from tests.stages.random_parts import paper_like

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Preset:
    return paper_like(tmp_path_factory.mktemp("parts"))


def frames(preset: Preset, offload: Offload) -> UInt8:
    stage = I2V.load(replace(preset, offload=offload), "cpu")
    image = Image(np.full((40, 40, 3), 90, np.uint8))
    return stage(image, params=plan(preset, "a fox").i2v, seed=1, report=ignore_progress).clip.frames


@pytest.mark.parametrize("offload", ["model", "layers"])
def test_an_offloaded_network_gives_the_same_frames(preset: Preset, offload: Offload) -> None:
    difference = np.abs(frames(preset, offload).astype(int) - frames(preset, "none")).max()
    assert difference <= 1


def test_whole_models_are_lent_to_the_device_and_come_back(preset: Preset) -> None:
    network = I2V.load(replace(preset, offload="model"), "cpu").network
    network.device = torch.device("meta")  # a device that keeps nothing: what was lent to it shows
    module = torch.nn.Linear(2, 2)
    with pytest.raises(NotImplementedError), network.lend(module):
        assert module.weight.device.type == "meta"
    network.offload = "none"
    kept = torch.nn.Linear(2, 2)
    with network.lend(kept):
        assert kept.weight.device.type == "cpu"
