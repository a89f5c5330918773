"""Offloading changes where modules are, not what they compute.

Without a GPU the same code moves them to the CPU, and to the meta device, which keeps nothing: what was lent shows.
"""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stages.base import ignore_progress
from stages.i2v import I2V
from stages.model.weights import offload as offloading
from stages.model.weights.offload import Places
from stages.presets import Preset, plan
from stages.settings import with_speeds
from stages.speed import Offload
from stages.t2i import T2I
from stages.t2i.stage import OwnLoop
from stages.types import Image, UInt8
from tests.stages.random_parts import own_loop, paper_like


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Preset:
    return paper_like(tmp_path_factory.mktemp("parts"))


def forced(offload: Offload) -> Places:
    """As on a GPU, with the CPU in its place."""
    places = Places("cpu")
    places.offload = offload
    return places


def frames(preset: Preset, offload: Offload) -> UInt8:
    stage = I2V.load(preset, "cpu")
    stage.network.places = forced(offload)
    for module in stage.network.denoisers:
        stage.network.places.put(module, every_step=True)
    image = Image(np.full((40, 40, 3), 90, np.uint8))
    return stage(image, params=plan(preset, "a fox").i2v, seed=1, report=ignore_progress).clip.frames


@pytest.mark.slow
@pytest.mark.parametrize("offload", ["model", "layers"])
def test_an_offloaded_network_gives_the_same_frames(preset: Preset, offload: Offload) -> None:
    difference = np.abs(frames(preset, offload).astype(int) - frames(preset, "none")).max()
    assert difference <= 1


@pytest.mark.slow
@pytest.mark.parametrize("offload", ["model", "layers"])
def test_t2is_own_loop_draws_the_same_picture(preset: Preset, offload: Offload) -> None:
    def draw(offload: Offload) -> UInt8:
        loaded = OwnLoop.load(own_loop(preset), "cpu")
        places = forced(offload)
        places.put(loaded._unet, every_step=True)
        painter = OwnLoop(loaded._unet, loaded._vae, loaded._text, places)
        return painter.paint([(plan(preset, "a fox").t2i, 1)], ignore_progress)

    assert np.abs(draw(offload).astype(int) - draw("none")).max() <= 1


def test_whole_models_are_lent_to_the_device_and_come_back() -> None:
    places = Places("meta", "model")
    module = nn.Linear(2, 2)
    places.put(module)
    assert module.weight.device.type == "cpu"
    with pytest.raises(NotImplementedError), places.lend(module):  # meta gives nothing back
        assert module.weight.device.type == "meta"
    stays = Places("meta", "none")
    stays.put(module)
    with stays.lend(module):
        assert module.weight.device.type == "meta"


def test_a_part_with_a_device_of_its_own_is_never_lent() -> None:
    places = Places("meta", "model")
    module = nn.Linear(2, 2)
    places.put(module, "cpu")
    with places.lend(module):
        assert module.weight.device.type == "cpu"


def test_layers_wait_on_the_cpu_under_hooks_and_the_rest_is_on_the_device() -> None:
    places = Places("meta", "layers")
    network, once = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Linear(2, 2)
    kept = [parameter.clone() for parameter in network.parameters()]
    places.put(network, every_step=True)
    places.put(once)
    assert all(hasattr(layer, "_hf_hook") for layer in network)
    held: Any = network[0]._hf_hook.weights_map  # type: ignore[union-attr]
    assert torch.equal(held["weight"], kept[0])
    assert held["weight"].device.type == "cpu"
    assert network(torch.zeros(1, 2, device="meta")).device.type == "meta"
    assert once.weight.device.type == "meta"


def test_on_a_cpu_it_has_no_effect_and_is_told_once(preset: Preset, caplog: pytest.LogCaptureFixture) -> None:
    offloading._tell_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            T2I.load(with_speeds(own_loop(preset), {"t2i": {"offload": "layers"}}), "cpu")
    told = [record.getMessage() for record in caplog.records if "offload" in record.getMessage()]
    assert told == ["On a CPU there is nothing to offload: `offload='layers'` has no effect."]


@pytest.mark.slow
def test_a_text_encoder_of_another_dtype_and_device_feeds_the_same_network(preset: Preset) -> None:
    def made(preset: Preset) -> tuple[I2V, UInt8, UInt8]:
        stage = I2V.load(preset, "cpu")
        image = Image(np.full((40, 40, 3), 90, np.uint8))
        clip = stage(image, params=plan(preset, "a fox").i2v, seed=1, report=ignore_progress).clip
        return stage, clip.frames, T2I.load(own_loop(preset), "cpu")(
            params=plan(preset, "a fox").t2i, seed=1, report=ignore_progress
        ).pixels  # fmt: skip

    text = replace(preset.parts["text_encoder"], dtype="bfloat16", device="cpu")
    plain, half = made(preset), made(replace(preset, parts={**preset.parts, "text_encoder": text}))
    assert half[0].network.text.model.dtype == torch.bfloat16
    assert half[0].network.unet.dtype == torch.float32
    for one, other in zip(plain[1:], half[1:], strict=True):
        assert not np.array_equal(one, other)  # rounded text is heard
        assert np.abs(one.astype(int) - other.astype(int)).mean() < 8
