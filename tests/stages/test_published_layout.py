"""Presets `paper` and `paper-fast`, unchanged but for sizes, load from repositories in their published form and run."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from stages.base import WeightsError, ignore_progress
from stages.i2v import I2V
from stages.local.pipeline import LocalPipeline
from stages.local.weights_command import main as weights_command
from stages.model.weights.files import is_hub_id, local_state
from stages.presets import PAPER, PAPER_FAST, Preset, plan
from stages.types import UInt8
from tests.stages import published_layout as layout
from tests.stages.random_parts import small

pytestmark = pytest.mark.slow

PRESETS = {preset.name: preset for preset in (PAPER, PAPER_FAST)}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copies of the repositories."""
    root = tmp_path_factory.mktemp("models")
    layout.publish(root)
    return root


@pytest.fixture(autouse=True)
def copies(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGICVIDEO_WEIGHTS", str(models))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def states(preset: Preset) -> dict[str, str]:
    return {name: local_state(name, part) for name, part in preset.parts.items() if is_hub_id(part)}


def video(preset: Preset) -> UInt8:
    made = LocalPipeline.load(preset, "cpu").run(plan(preset, "a fox", seed=3), 3, lambda _: ignore_progress)
    return np.concatenate([clip.frames for clip in made])


def same(state: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return state.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in state.items())


def test_a_pickle_alone_is_refused_and_the_way_out_that_is_told_works(models: Path) -> None:
    (models / layout.TILE / layout.WHOLE).unlink()
    assert states(PAPER)["control_v2v"] == "partly local"
    with pytest.raises(WeightsError, match=r"a pickle, where a \.safetensors file belongs") as failed:
        LocalPipeline.load(small(PAPER), "cpu")
    told = str(failed.value).split("`")[1].split()
    assert told[:5] == ["python", "-m", "stages", "weights", "--convert"]
    assert weights_command(told[4:]) == 0
    assert (models / layout.TILE / layout.WHOLE).is_file()


@pytest.mark.parametrize("name", PRESETS)
def test_every_part_is_found_and_the_pipeline_runs(name: str, models: Path) -> None:
    preset = PRESETS[name]
    assert set(states(preset).values()) == {"local"}
    made = video(small(preset))
    assert made.shape == (16, 72, 72, 3)
    assert made.std() > 1


def test_the_weights_that_run_are_those_of_the_files(models: Path) -> None:
    network = I2V.load(replace(small(PAPER), loras=()), "cpu").network
    unet: dict[str, Any] = network.unet.state_dict()
    for file in (models / layout.UNET / "unet" / layout.WHOLE, models / layout.MOTION / layout.WHOLE):
        saved = load_file(file)
        at_hand = {name: unet[name] for name in saved if name in unet}
        assert len(at_hand) > 0.8 * len(saved)  # up blocks and the like keep their names
        assert same(at_hand, {name: saved[name] for name in at_hand})
    older = load_file(models / layout.VAE / layout.WHOLE)["decoder.mid_block.attentions.0.query.weight"]
    assert torch.equal(network.vae.state_dict()["decoder.mid_block.attentions.0.to_q.weight"], older)
    adapter = load_file(models / layout.IP / "models" / "ip-adapter-plus_sd15.safetensors")
    first = next(p for p in network.unet.attn_processors.values() if hasattr(p, "to_k_ip"))
    assert torch.equal(first.to_k_ip[0].weight, adapter["ip_adapter.1.to_k_ip.weight"].float())


def test_the_domain_adapter_is_merged_into_the_spatial_attention_at_full_weight(models: Path) -> None:
    unet = I2V.load(small(PAPER), "cpu").network.unet.state_dict()
    base, lora = load_file(models / layout.UNET / "unet" / layout.WHOLE), layout.domain_lora()
    merged = 0
    for name, weight in base.items():
        place, _, last = name.removesuffix(".weight").removesuffix(".0").rpartition(".")
        stem, wanted = f"{place}.processor.{last}_lora", weight
        if f"{stem}.up.weight" in lora and name.endswith(".weight"):
            wanted, merged = weight + lora[f"{stem}.up.weight"] @ lora[f"{stem}.down.weight"], merged + 1
        assert torch.allclose(unet[name], wanted, atol=1e-6), name
    assert 2 * merged == len(lora) > 0
    assert "domain" not in PAPER_FAST.parts  # AnimateLCM has learnt without it


def test_animatelcm_is_a_motion_module_of_half_precision_and_a_merged_lora(models: Path) -> None:
    network = I2V.load(small(PAPER_FAST), "cpu").network
    unet = network.unet.state_dict()
    halves = load_file(models / layout.LCM / layout.HALF)
    assert all(torch.equal(unet[name].half(), tensor) for name, tensor in halves.items() if name in unet)
    assert any(name.startswith("mid_block.motion_modules") for name in unet)
    base, lora = load_file(models / layout.UNET / "unet" / layout.WHOLE), layout.lcm_lora()
    stems = [key.removesuffix(".alpha") for key in lora if key.endswith(".alpha")]
    merged = 0
    for name, weight in base.items():
        stem = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
        wanted = weight
        if stem in stems and name.endswith(".weight"):
            up, down = lora[f"{stem}.lora_up.weight"].float(), lora[f"{stem}.lora_down.weight"].float()
            wanted, merged = weight + 0.8 * (up @ down) * 0.5, merged + 1
        assert torch.allclose(unet[name], wanted, atol=1e-6), name
    assert merged == len(stems)


def test_the_hubs_cache_gives_the_same_network(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from_copies = I2V.load(small(PAPER), "cpu").network
    layout.as_cache(models, tmp_path / "hub")
    monkeypatch.delenv("MAGICVIDEO_WEIGHTS")
    assert {states(PAPER)[name] for name in ("unet", "motion", "t2i", "appearance", "tokenizer")} == {"cached"}
    from_cache = I2V.load(small(PAPER), "cpu").network
    for one, other in zip(from_copies.denoisers, from_cache.denoisers, strict=True):
        assert same(one.state_dict(), other.state_dict())
    assert same(from_copies.text.model.state_dict(), from_cache.text.model.state_dict())


def test_a_copy_of_half_a_repository_counts_for_the_parts_that_it_holds(models: Path, tmp_path: Path) -> None:
    whole, file = states(PAPER), models / layout.IP / "models" / "image_encoder" / "model.safetensors"
    kept = file.rename(tmp_path / "kept")
    try:
        assert states(PAPER) == {**whole, "image_encoder": "partly local"}
        (models / layout.IP / "models" / "image_encoder" / "pytorch_model.bin").rename(tmp_path / "pickle")
        with pytest.raises(WeightsError, match=rf"hf download h94/IP-Adapter .*copy the folder .* {models}/h94/IP-"):
            I2V.load(small(PAPER), "cpu")
    finally:
        kept.rename(file)
