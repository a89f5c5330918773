"""LoRAs in a pipeline's networks: merged by weight and place when it loads, in the layout of those for Wan."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from stages.base import WeightsError
from stages.i2v import I2V
from stages.model.hub.video import HubAnimator
from stages.presets import Lora, Part, Preset
from tests.stages.modern.rig import Shelf, modern_preset

RANK = 2
THEIRS = {"attn1.to_q": "self_attn.q", "attn2.to_out.0": "cross_attn.o", "ffn.net.0.proj": "ffn.0"}
pytestmark = pytest.mark.slow


def wan_lora(network: torch.nn.Module, seed: int) -> dict[str, Tensor]:
    """In Wan's own names, as lightx2v publishes its distillations."""
    torch.manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for ours, theirs in THEIRS.items():
        weight: Any = network.get_submodule(f"blocks.0.{ours}").weight
        rows, columns = weight.shape
        stem = f"diffusion_model.blocks.0.{theirs}"
        tensors[f"{stem}.lora_down.weight"] = torch.randn(RANK, int(columns))
        tensors[f"{stem}.lora_up.weight"] = torch.randn(int(rows), RANK)
        tensors[f"{stem}.diff_b"] = torch.randn(int(rows))
    return tensors


def weights(stage: I2V) -> dict[str, dict[str, Tensor]]:
    assert isinstance(stage.maker, HubAnimator)
    return {name: dict(module.state_dict()) for name, module in stage.maker.runner.modules.items()}


@pytest.fixture
def preset(shelf: Shelf, tmp_path: Path) -> Preset:
    base = modern_preset({"i2v_pipeline": shelf["wan_a14b"]}, size=(48, 32), frames=5)
    network = I2V.load(base, "cpu").maker.runner.modules["transformer"]  # type: ignore[union-attr]
    for name, seed in (("high", 1), ("low", 2)):
        save_file(wan_lora(network, seed), tmp_path / f"{name}.safetensors")
    files = {name: Part(str(tmp_path), "test", weight_name=f"{name}.safetensors") for name in ("high", "low")}
    return replace(base, parts=MappingProxyType({**base.parts, **files}))


def test_each_is_merged_by_its_weight_into_its_network_alone(preset: Preset, tmp_path: Path) -> None:
    plain = weights(I2V.load(preset, "cpu"))
    loras = (
        Lora("high", 0.5, "i2v_pipeline.transformer"),
        Lora("low", 2.0, "i2v_pipeline.transformer_2"),
        Lora("high", 0.25, "i2v_pipeline.transformer_2"),
    )
    merged = weights(I2V.load(replace(preset, loras=loras), "cpu"))

    def change(scales: Mapping[int, float], key: str, shape: tuple[int, ...]) -> Tensor:
        total = torch.zeros(shape)
        for seed, scale in scales.items():
            file = load_file(tmp_path / f"{('high', 'low')[seed - 1]}.safetensors")
            ours = next((o for o in THEIRS if key.startswith(f"blocks.0.{o}.")), None)
            if ours is None:
                continue
            stem = f"diffusion_model.blocks.0.{THEIRS[ours]}"
            if key.endswith(".weight"):
                total += scale * file[f"{stem}.lora_up.weight"] @ file[f"{stem}.lora_down.weight"]
            else:
                total += scale * file[f"{stem}.diff_b"]
        return total

    for component, scales in (("transformer", {1: 0.5}), ("transformer_2", {2: 2.0, 1: 0.25})):
        for key, before in plain[component].items():
            wanted = before + change(scales, key, tuple(before.shape))
            assert torch.allclose(merged[component][key], wanted, atol=1e-5), key
    assert all(torch.equal(plain["vae"][key], merged["vae"][key]) for key in plain["vae"])


def refusal(preset: Preset, lora: Lora) -> str:
    with pytest.raises(WeightsError) as refused:
        I2V.load(replace(preset, loras=(lora,)), "cpu")
    return str(refused.value)


def test_a_place_that_is_none(preset: Preset) -> None:
    told = refusal(preset, Lora("high", 1.0, "i2v_pipeline.unet"))
    assert told == (
        "LoRA 'high' is to change 'unet' of part 'i2v_pipeline', a WanImageToVideoPipeline, which has text_encoder, "
        "transformer, transformer_2, vae: choose one of these by `into`."
    )


def test_a_file_that_matches_no_layer(preset: Preset, tmp_path: Path) -> None:
    strange = {"diffusion_model.blocks.7.self_attn.q.lora_down.weight": torch.zeros(RANK, 24)}
    save_file(
        {**strange, "diffusion_model.blocks.7.self_attn.q.lora_up.weight": torch.zeros(24, RANK)},
        tmp_path / "high.safetensors",
    )
    told = refusal(preset, Lora("high", 1.0, "i2v_pipeline.transformer"))
    assert told == (
        "Part 'high' is no LoRA of 'transformer' of part 'i2v_pipeline', it changes layers that it has not: "
        "blocks_7_attn1_to_q; choose one made for the same base."
    )
    save_file({"diffusion_model.nothing": torch.zeros(1)}, tmp_path / "high.safetensors")
    assert "Part 'high' is no LoRA of a WanImageToVideoPipeline (" in refusal(
        preset, Lora("high", 1.0, "i2v_pipeline.transformer")
    )


def test_it_is_told_before_a_weight_of_the_pipeline_is_read(preset: Preset, shelf: Shelf, tmp_path: Path) -> None:
    """A network whose file lacks its tensors would be refused for that; the LoRA comes first."""
    folder = shutil.copytree(shelf["wan_a14b"], tmp_path / "copy")
    save_file(
        {"none": torch.zeros(1)}, folder / "transformer" / "diffusion_pytorch_model.safetensors", {"format": "pt"}
    )
    parts = {**preset.parts, "i2v_pipeline": Part(str(folder), "test")}
    preset = replace(preset, parts=MappingProxyType(parts))
    lora, stem = Lora("high", 1.0, "i2v_pipeline.transformer"), "diffusion_model.blocks.7.self_attn.q"
    assert "lacks the tensors" in refusal(preset, lora)
    pair = {f"{stem}.lora_down.weight": torch.zeros(RANK, 24), f"{stem}.lora_up.weight": torch.zeros(24, RANK)}
    save_file(pair, tmp_path / "high.safetensors")
    assert "it changes layers that it has not: blocks_7_attn1_to_q" in refusal(preset, lora)


def test_what_is_named_after_another_network_goes_there(shelf: Shelf, tmp_path: Path) -> None:
    """As LTX-2's own: the denoiser's layers and the projection of its texts in one file."""
    base = modern_preset({"i2v_pipeline": shelf["ltx2_image"]}, size=(64, 32))
    networks = I2V.load(base, "cpu").maker.runner.modules  # type: ignore[union-attr]
    torch.manual_seed(5)
    tensors: dict[str, Tensor] = {}
    places = {
        "diffusion_model.transformer_blocks.0.attn1.to_q": ("transformer", "transformer_blocks.0.attn1.to_q.weight"),
        "text_embedding_projection.aggregate_embed": ("connectors", "text_proj_in.weight"),
    }
    plain = {stem: networks[place].state_dict()[key] for stem, (place, key) in places.items()}
    for stem, weight in plain.items():
        tensors[f"{stem}.lora_A.weight"] = torch.randn(RANK, weight.shape[1])
        tensors[f"{stem}.lora_B.weight"] = torch.randn(weight.shape[0], RANK)
    save_file(tensors, tmp_path / "fast.safetensors")
    parts = {**base.parts, "fast": Part(str(tmp_path), "test", weight_name="fast.safetensors")}
    loras = (Lora("fast", 0.5, "i2v_pipeline.transformer"),)
    merged = weights(I2V.load(replace(base, parts=MappingProxyType(parts), loras=loras), "cpu"))
    for stem, (place, key) in places.items():
        wanted = plain[stem] + 0.5 * tensors[f"{stem}.lora_B.weight"] @ tensors[f"{stem}.lora_A.weight"]
        assert torch.allclose(merged[place][key], wanted, atol=1e-5), place


def test_a_pipeline_that_takes_none(shelf: Shelf, preset: Preset) -> None:
    other = modern_preset({"i2v_pipeline": shelf["stable_video"]}, size=(72, 40), frames=5)
    preset = replace(other, parts=MappingProxyType({**preset.parts, **other.parts}))
    told = refusal(preset, Lora("high", 1.0, "i2v_pipeline.unet"))
    assert "is a StableVideoDiffusionPipeline, for which diffusers reads no LoRAs; leave 'high' out" in told
