"""LoRA files in the three published layouts are merged exactly, and one that fits nothing is refused."""

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from stages.base import InputError, WeightsError, ignore_progress
from stages.i2v import I2V
from stages.model.weights.lora import check_places, merge
from stages.presets import MODERN, PAPER, PRESETS, Lora, Part, plan
from stages.types import Image
from tests.stages.random_parts import make_unet, paper_like

RANK, ALPHA = 4, 2.0
LAYERS = ("down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", "mid_block.attentions.0.proj_in")
OUT = "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0"
CONV = "down_blocks.0.resnets.0.conv1"


def changes() -> dict[str, tuple[Tensor, Tensor]]:
    """Name of a layer -> down, up; linear layers, 1x1 and 3x3 convolutions."""
    torch.manual_seed(5)
    unet, made = make_unet(), {}
    for name in (*LAYERS, OUT, CONV):
        weight = unet.get_submodule(name).weight
        tail = weight.shape[2:]
        down = torch.randn(RANK, weight.shape[1], *tail)
        made[name] = (down, torch.randn(weight.shape[0], RANK, *([1] * len(tail))))
    return made


def kohya() -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, (down, up) in changes().items():
        stem = "lora_unet_" + name.replace(".", "_")
        tensors |= {
            f"{stem}.lora_down.weight": down,
            f"{stem}.lora_up.weight": up,
            f"{stem}.alpha": torch.tensor(ALPHA),
        }
    tensors["lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight"] = torch.zeros(RANK, 8)
    return tensors


def peft() -> dict[str, Tensor]:
    pairs = changes().items()
    return {f"unet.{n}.lora_A.weight": down for n, (down, _) in pairs} | {
        f"unet.{n}.lora_B.weight": up for n, (_, up) in pairs
    }


def older() -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, (down, up) in changes().items():
        if name in (LAYERS[0], OUT):
            attention, layer = name.removesuffix(".0").rsplit(".", 1)
            tensors[f"unet.{attention}.processor.{layer}_lora.down.weight"] = down
            tensors[f"unet.{attention}.processor.{layer}_lora.up.weight"] = up
    return tensors


@pytest.mark.parametrize(("tensors", "factor"), [(kohya(), ALPHA / RANK), (peft(), 1.0), (older(), 1.0)])
def test_every_layout_adds_up_times_down(tensors: dict[str, Tensor], factor: float) -> None:
    unet = make_unet()
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    count = merge(unet, tensors, 0.8, "lcm")
    changed = {name for name, tensor in unet.state_dict().items() if not torch.equal(tensor, before[name])}
    assert len(changed) == count == (2 if tensors.keys() == older().keys() else 4)
    for name, (down, up) in changes().items():
        if f"{name}.weight" in changed:
            added = unet.get_submodule(name).weight - before[f"{name}.weight"]
            wanted = 0.8 * factor * (up.flatten(1) @ down.flatten(1)).view(added.shape)
            assert torch.allclose(added, wanted, atol=1e-5)


def test_a_lora_of_another_base_is_refused_by_its_first_names() -> None:
    wrong = {f"lora_unet_nowhere_{i}.lora_{end}.weight": torch.zeros(4, 4) for i in range(5) for end in ("down", "up")}
    with pytest.raises(WeightsError, match="layers that it has not: nowhere_0, nowhere_1, nowhere_2 and 2 more"):
        merge(make_unet(), wrong, 1.0, "lcm")
    with pytest.raises(WeightsError, match="Part 'lcm' is no LoRA of this UNet, it holds no change"):
        merge(make_unet(), {"lora_te_layers_0.lora_down.weight": torch.zeros(1)}, 1.0, "lcm")
    shape = {f"unet.{LAYERS[0]}.lora_A.weight": torch.zeros(4, 9), f"unet.{LAYERS[0]}.lora_B.weight": torch.zeros(9, 4)}
    with pytest.raises(WeightsError, match=r"by \(9, 4\) x \(4, 9\), the layer is \(32, 32\)"):
        merge(make_unet(), shape, 1.0, "lcm")


@pytest.mark.slow
def test_a_lora_for_a_pipeline_that_is_not_there_is_no_silence() -> None:
    for preset in PRESETS.values():
        check_places(preset)
    for place in ("i2v_pipelin.transformer", "i2v_pipeline", "transformer"):
        with pytest.raises(WeightsError) as refused:
            check_places(replace(MODERN, loras=(Lora("i2v_high", 1.0, place),)))
        assert str(refused.value) == (
            f"LoRA 'i2v_high' is to change {place!r}, and preset 'modern' has the pipelines t2i, i2v_pipeline, "
            f"v2v_pipeline: let `into` name one and its network, as in 'i2v_pipeline.transformer'."
        )
    with pytest.raises(WeightsError, match="preset 'paper' has the pipelines t2i: let"):
        check_places(replace(PAPER, loras=(Lora("domain", 1.0, "i2v_pipeline.transformer"),)))


def test_a_preset_names_a_lora_in_one_line_and_few_steps_of_lcm_follow_the_seed(tmp_path: Path) -> None:
    base = paper_like(tmp_path)
    save_file(kohya(), tmp_path / "lcm.safetensors")
    parts = MappingProxyType({**base.parts, "lcm": Part(str(tmp_path), "test", weight_name="lcm.safetensors")})
    fast = replace(base.i2v, scheduler="lcm", steps=4, guidance=2.0)
    image = Image(np.full((40, 40, 3), 90, np.uint8))

    def frames(scale: float | None, seed: int = 1) -> Tensor:
        loras = () if scale is None else (Lora("lcm", scale),)
        preset = replace(base, parts=parts, loras=loras, i2v=fast)
        made = I2V.load(preset, "cpu")(image, params=plan(preset, "a fox").i2v, seed=seed, report=ignore_progress)
        return torch.from_numpy(made.clip.frames.copy())

    plain = frames(None)
    assert torch.equal(plain, frames(None))  # LCM draws noise at every step: from the job's seed
    assert not torch.equal(plain, frames(None, seed=2))
    assert torch.equal(plain, frames(0.0))
    assert not torch.equal(plain, frames(0.8))


@pytest.mark.slow
def test_more_frames_than_the_motion_module_knows_need_windows(tmp_path: Path) -> None:
    preset = paper_like(tmp_path)
    params = replace(plan(preset, "a fox").i2v, frames=40, windows=replace(preset.i2v_windows, length=40, overlap=0))
    with pytest.raises(InputError, match=r"40 frames at once; its motion module knows at most 32\. Use windows"):
        I2V.load(preset, "cpu")(Image(np.zeros((8, 8, 3), np.uint8)), params=params, seed=1, report=ignore_progress)


@pytest.mark.parametrize(
    "more", [{"dora_scale": (32, 1)}, {"lora_mid.weight": (4, 4, 3, 3)}, {"hada_w1_a": (32, 4)}], ids=str
)
def test_a_change_that_is_understood_in_part_is_refused(more: dict[str, tuple[int, ...]]) -> None:
    unet = make_unet()
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    strange = {f"lora_unet_mid_block_attentions_0_proj_in.{end}": torch.ones(shape) for end, shape in more.items()}
    with pytest.raises(WeightsError, match=r"no pair of a LoRA: lora_unet_mid_block_attentions_0_proj_in\."):
        merge(unet, {**kohya(), **strange}, 1.0, "lcm")
    half = kohya()
    half.pop("lora_unet_down_blocks_0_resnets_0_conv1.lora_up.weight")
    with pytest.raises(WeightsError, match=r"no pair of a LoRA: lora_unet_down_blocks_0_resnets_0_conv1\.alpha"):
        merge(unet, half, 1.0, "lcm")
    assert all(torch.equal(tensor, before[name]) for name, tensor in unet.state_dict().items())
