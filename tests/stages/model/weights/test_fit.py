"""Parts that were not made for each other are refused by name and both shapes, before a device is touched."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel, MotionAdapter, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from stages.base import WeightsError
from stages.i2v import I2V
from stages.model.network.appearance import split_adapter
from stages.model.weights.fit import check_adapter, check_control, check_motion, check_unet
from stages.model.weights.loading import settle
from stages.presets import PAPER, Part, Preset
from stages.t2i import T2I
from tests.stages import random_parts as parts
from tests.stages.random_parts import own_loop, paper_like


def motion(**changes: Any) -> MotionAdapter:
    given = {"block_out_channels": (32, 64), "motion_layers_per_block": 1, "motion_num_attention_heads": 2}
    return MotionAdapter(**{**given, "motion_norm_num_groups": 8, **changes})


def unet(**changes: Any) -> UNet2DConditionModel:
    own = {key: value for key, value in parts.make_unet().config.items() if not key.startswith("_")}
    return UNet2DConditionModel(**{**own, **changes})


def test_parts_that_fit_pass() -> None:
    base, adapter = unet(), parts.make_motion()
    check_unet(base, parts.TEXT, 4)
    check_motion(base, adapter)
    check_motion(base, motion(use_motion_mid_block=False))
    for tensors in (parts.patch_adapter(), parts.global_adapter()):
        check_adapter(base, parts.make_image_encoder(), split_adapter(tensors))
    for control in (parts.make_control(base), parts.make_sparse()):
        check_control("control", base, control)


@pytest.mark.parametrize(
    ("adapter", "told"),
    [
        (
            lambda: motion(block_out_channels=(32, 96), motion_num_attention_heads=4),
            "down_blocks.1.motion_modules.0.proj_in.weight is (96, 96) instead of (64, 64), "
            "up_blocks.0.motion_modules.0.proj_in.weight is (96, 96) instead of (64, 64), "
            "up_blocks.0.motion_modules.1.proj_in.weight is (96, 96) instead of (64, 64); choose one made for it",
        ),
        (
            lambda: motion(block_out_channels=(32, 64, 64)),
            "down_blocks.2.motion_modules.0.proj_in.weight (64, 64) has no place in it",
        ),
        (
            lambda: motion(motion_layers_per_block=2),
            "down_blocks.0.motion_modules.1.proj_in.weight (32, 32) has no place in it, "
            "down_blocks.1.motion_modules.1.proj_in.weight (64, 64) has no place in it, "
            "up_blocks.0.motion_modules.2.proj_in.weight (64, 64) has no place in it and 1 more",
        ),
        (lambda: motion(block_out_channels=(32,)), "down_blocks.1.motion_modules.0.proj_in.weight (64, 64) is missing"),
        (lambda: motion(conv_in_channels=9), "brings a first layer for 9 channels, the UNet reads 4"),
    ],
)
def test_a_motion_module_of_another_unet(adapter: Callable[[], MotionAdapter], told: str) -> None:
    with pytest.raises(WeightsError, match=f"The motion module .*{re.escape(told)}"):
        check_motion(unet(), adapter())


def vision(**changes: Any) -> CLIPVisionModelWithProjection:
    given = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(**{**given, "image_size": 32, "patch_size": 8, "projection_dim": parts.TEXT, **changes})
    )


def test_an_appearance_adapter_of_another_unet_or_image_encoder() -> None:
    base, encoder = unet(), vision()
    wide = {
        name: torch.zeros(96, tensor.shape[1]) if "ip_adapter." in name else tensor
        for name, tensor in parts.patch_adapter().items()
    }
    told = "1.to_k_ip.weight is (96, 32) instead of (32, 32), 1.to_v_ip.weight is (96, 32) instead of (32, 32), "
    with pytest.raises(WeightsError, match=f"does not fit the UNet: {re.escape(told)}3.to_k_ip.* and 5 more; choose"):
        check_adapter(base, encoder, split_adapter(wide))
    more = {**parts.global_adapter(), "ip_adapter.9.to_k_ip.weight": torch.zeros(32, 32)}  # SDXL's have more layers
    with pytest.raises(WeightsError, match=r"9\.to_k_ip\.weight \(32, 32\) has no place in it"):
        check_adapter(base, encoder, split_adapter(more))
    fewer = {name: tensor for name, tensor in parts.global_adapter().items() if ".7." not in name}
    with pytest.raises(WeightsError, match=r"7\.to_k_ip\.weight \(64, 32\) is missing, 7\.to_v_ip"):
        check_adapter(base, encoder, split_adapter(fewer))
    with pytest.raises(WeightsError, match="reads pictures of width 32, part 'image_encoder' gives 64; choose the im"):
        check_adapter(base, vision(hidden_size=64), split_adapter(parts.patch_adapter()))
    with pytest.raises(WeightsError, match="reads pictures of width 32, part 'image_encoder' gives 48; choose the im"):
        check_adapter(base, vision(projection_dim=48), split_adapter(parts.global_adapter()))
    faces = {name.replace("image_proj.proj.", "image_proj.proj.0."): t for name, t in parts.global_adapter().items()}
    with pytest.raises(WeightsError, match=r"a projection of an unknown form \(norm\.bias, norm\.weight, proj\.0\.bi"):
        check_adapter(base, encoder, split_adapter(faces))


def test_a_unet_of_another_text_encoder_vae_or_kind() -> None:
    with pytest.raises(WeightsError, match="reads text of width 32, part 'text_encoder' gives 48; choose the text"):
        check_unet(unet(), 48, 4)
    with pytest.raises(WeightsError, match="reads latents of 9 channels, part 'vae' gives 4; choose"):
        check_unet(unet(in_channels=9), parts.TEXT, 4)
    check_unet(unet(**parts.TOLD), parts.TEXT, 4)
    sdxl = unet(**{**parts.TOLD, "projection_class_embeddings_input_dim": parts.TEXT + 6 * 8})
    with pytest.raises(WeightsError, match="reads 80 numbers beside the time, but gets 48: 32 of pooled text, 8 e"):
        check_unet(sdxl, parts.TEXT, 4)
    with pytest.raises(WeightsError, match="wants 'timestep' beside the text; T2I, I2V and V2V take UNets"):
        check_unet(unet(class_embed_type="timestep"), parts.TEXT, 4)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"cross_attention_dim": 48}, "has cross_attention_dim 48, the UNet 32"),
        ({"block_out_channels": (32, 96)}, "has block_out_channels (32, 96), the UNet (32, 64)"),
        ({"layers_per_block": 2}, "has layers_per_block 2, the UNet 1"),
        ({"in_channels": 9}, "has in_channels 9, the UNet 4"),
    ],
)
def test_a_controlnet_of_another_unet(changes: dict[str, Any], told: str) -> None:
    own = {key: value for key, value in parts.make_control(unet()).config.items() if not key.startswith("_")}
    control = ControlNetModel(**{**own, **changes})
    with pytest.raises(WeightsError, match=f"Part 'control_v2v' {re.escape(told)}; choose a ControlNet made for this"):
        check_control("control_v2v", unet(), control)


def test_parts_that_run_as_one_have_one_device_and_dtype() -> None:
    def of(**own: Any) -> Preset:
        made = {"unet": Part("x", "test", **own), "vae": Part("x", "test", dtype="float32")}
        return replace(PAPER, parts=MappingProxyType(made))

    with pytest.raises(WeightsError, match="'unet' is to have the dtype 'bfloat16', the stage has 'float16'; UNet, mo"):
        settle(of(dtype="bfloat16"), "cpu", together=["unet"])
    with pytest.raises(WeightsError, match="Device 'cuda:99' does not exist"):
        settle(of(device="cuda:99"), "cpu", together=["unet"])
    with pytest.raises(WeightsError, match="'unet' is to have the device 'cpu', the stage has 'meta'"):
        settle(of(device="cpu"), "meta", together=["unet"])
    settled = settle(of(device="cpu:0", dtype="float16"), "cpu", together=["unet"])
    assert {name: part.device for name, part in settled.parts.items()} == {"unet": "cpu", "vae": "cpu"}


@pytest.mark.slow
def test_a_stage_refuses_them_when_it_loads(tmp_path: Path) -> None:
    preset = paper_like(tmp_path)
    text = CLIPTextModel(
        CLIPTextConfig(vocab_size=54, hidden_size=48, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
                       max_position_embeddings=16, projection_dim=48, bos_token_id=52, eos_token_id=53, pad_token_id=53)
    )  # fmt: skip
    text.save_pretrained(tmp_path / "other_text")
    motion(block_out_channels=(32, 96), motion_num_attention_heads=4).save_pretrained(tmp_path / "other_motion")
    vision(hidden_size=64).save_pretrained(tmp_path / "other_eye")

    def swap(part: str, folder: str) -> Preset:
        return replace(preset, parts={**preset.parts, part: Part(str(tmp_path / folder), "test")})

    for stage, changed, told in (
        (T2I, own_loop(swap("text_encoder", "other_text")), "part 'text_encoder' gives 48"),
        (I2V, swap("text_encoder", "other_text"), "part 'text_encoder' gives 48"),
        (I2V, swap("motion", "other_motion"), "down_blocks.1.motion_modules.0.proj_in.weight is (96, 96) instead of"),
        (I2V, swap("image_encoder", "other_eye"), "part 'image_encoder' gives 64"),
    ):
        with pytest.raises(WeightsError, match=re.escape(told)):
            stage.load(changed, "cpu")
    file = tmp_path / "appearance" / "appearance.safetensors"
    whole = load_file(file)
    save_file({name: tensor for name, tensor in whole.items() if ".5." not in name}, file)
    with pytest.raises(WeightsError, match=r"5\.to_k_ip\.weight \(32, 32\) is missing"):
        I2V.load(preset, "cpu")
