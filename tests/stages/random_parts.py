"""A preset like `paper` in every respect but width: SD-type parts with random weights, saved as the hub lays them out.

It lets the code that runs the public weights run on a CPU in a second: a four-channel VAE of factor 8, SparseCtrl for
I2V, a tile ControlNet for V2V, the patch form of the IP-Adapter, and a diffusers pipeline for T2I.
"""

import json
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    MotionAdapter,
    SparseControlNetModel,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, CLIPVisionConfig, CLIPVisionModelWithProjection

from stages.model.sampling.sampler import build_scheduler
from stages.presets import PAPER, Part, Preset, Sizes, Windows

WIDTHS = (32, 64)
TEXT = 32
DOWN = ("CrossAttnDownBlock2D", "DownBlock2D")
UP = ("UpBlock2D", "CrossAttnUpBlock2D")


TOLD: dict[str, Any] = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": TEXT + 2 * 8,
}  # of a UNet that hears text and size beside the time


def make_unet(**more: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=WIDTHS,
        layers_per_block=1,
        down_block_types=DOWN,
        up_block_types=UP,
        cross_attention_dim=TEXT,
        attention_head_dim=4,
        norm_num_groups=8,
        **more,
    )


def make_motion() -> MotionAdapter:
    return MotionAdapter(
        block_out_channels=WIDTHS, motion_layers_per_block=1, motion_num_attention_heads=2, motion_norm_num_groups=8
    )


def make_vae(**more: Any) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=[8, 8, 8, 8],
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        norm_num_groups=4,
        layers_per_block=1,
        **{"latent_channels": 4, **more},
    )


def wake(control: ControlNetModel | SparseControlNetModel) -> None:
    """Give it weights where a fresh ControlNet has zeros, so that it sees its picture and changes something."""
    embedding = control.controlnet_cond_embedding
    silent = (control.controlnet_down_blocks, control.controlnet_mid_block, getattr(embedding, "conv_out", embedding))
    with torch.no_grad():
        for module in silent:
            for parameter in module.parameters():
                parameter.copy_(0.1 * torch.randn_like(parameter))


def make_control(unet: UNet2DConditionModel) -> ControlNetModel:
    control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8, 8, 8))
    wake(control)
    return control


def make_sparse() -> SparseControlNetModel:
    sparse = SparseControlNetModel(
        in_channels=4,
        conditioning_channels=4,
        block_out_channels=WIDTHS,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
        cross_attention_dim=TEXT,
        attention_head_dim=4,
        norm_num_groups=8,
        motion_num_attention_heads=2,
        use_simplified_condition_embedding=True,
    )
    wake(sparse)
    return sparse


def make_tokenizer() -> CLIPTokenizer:
    letters = [chr(code) for code in range(97, 123)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={word: index for index, word in enumerate(words)},
        merges=[],
        unk_token="<|endoftext|>",
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        model_max_length=16,
    )


def make_text() -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=54, hidden_size=TEXT, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
            max_position_embeddings=16, projection_dim=TEXT, bos_token_id=52, eos_token_id=53, pad_token_id=53,
        )
    )  # fmt: skip


def make_image_encoder() -> CLIPVisionModelWithProjection:
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=32,
            patch_size=8, projection_dim=TEXT,
        )
    )  # fmt: skip


def _attention_layers() -> dict[str, Tensor]:
    """Keys and values for the cross-attentions of `make_unet`, in the public order."""
    tensors = {}
    widths = [32, 32, 32, 64]  # down, two in up, middle
    for position, width in enumerate(widths):
        tensors[f"ip_adapter.{2 * position + 1}.to_k_ip.weight"] = torch.randn(width, TEXT) * 0.2
        tensors[f"ip_adapter.{2 * position + 1}.to_v_ip.weight"] = torch.randn(width, TEXT) * 0.2
    return tensors


def global_adapter() -> dict[str, Tensor]:
    """The form with one embedding of the picture."""
    image = {
        "image_proj.proj.weight": torch.randn(4 * TEXT, TEXT) * 0.2,
        "image_proj.proj.bias": torch.zeros(4 * TEXT),
        "image_proj.norm.weight": torch.ones(TEXT),
        "image_proj.norm.bias": torch.zeros(TEXT),
    }
    return {**image, **_attention_layers()}


def patch_adapter() -> dict[str, Tensor]:
    """The form with a resampler over patch states; heads of 64 as the loader expects."""
    inner, queries = 64, 4
    image: dict[str, Tensor] = {
        "latents": torch.randn(1, queries, inner) * 0.2,
        "proj_in.weight": torch.randn(inner, 32) * 0.2,
        "proj_in.bias": torch.zeros(inner),
        "proj_out.weight": torch.randn(TEXT, inner) * 0.2,
        "proj_out.bias": torch.zeros(TEXT),
        "norm_out.weight": torch.ones(TEXT),
        "norm_out.bias": torch.zeros(TEXT),
    }
    for layer in range(4):  # the loader knows no other depth
        start = f"layers.{layer}"
        image[f"{start}.0.to_q.weight"] = torch.randn(inner, inner) * 0.1
        image[f"{start}.0.to_kv.weight"] = torch.randn(2 * inner, inner) * 0.1
        image[f"{start}.0.to_out.weight"] = torch.randn(inner, inner) * 0.1
        image[f"{start}.1.1.weight"] = torch.randn(4 * inner, inner) * 0.1
        image[f"{start}.1.3.weight"] = torch.randn(inner, 4 * inner) * 0.1
        for norm in ("0.norm1", "0.norm2", "1.0"):
            image[f"{start}.{norm}.weight"] = torch.ones(inner)
            image[f"{start}.{norm}.bias"] = torch.zeros(inner)
    return {**{f"image_proj.{name}": tensor for name, tensor in image.items()}, **_attention_layers()}


def paper_like(folder: Path) -> Preset:
    """Save every part under `folder`; the preset `paper` with those parts, small odd sizes and few steps."""
    torch.manual_seed(0)
    unet, vae, text, tokenizer = make_unet(), make_vae(), make_text(), make_tokenizer()
    modules = {
        "unet": unet,
        "vae": vae,
        "text_encoder": text,
        "tokenizer": tokenizer,
        "motion": make_motion(),
        "motion_v2v": make_motion(),
        "image_encoder": make_image_encoder(),
        "control": make_sparse(),
        "control_v2v": make_control(unet),
    }
    for name, module in modules.items():
        module.save_pretrained(folder / name)
    StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=build_scheduler(PAPER.t2i),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder / "t2i")  # fmt: skip
    (folder / "appearance").mkdir()
    save_file(patch_adapter(), folder / "appearance" / "appearance.safetensors")
    parts = {name: Part(str(folder / name), "test") for name in [*modules, "t2i", "appearance"]}
    assert json.loads((folder / "t2i" / "model_index.json").read_text())["_class_name"] == "StableDiffusionPipeline"
    return small(replace(PAPER, parts=MappingProxyType({**parts, "flow": PAPER.parts["flow"]}), loras=()))


def small(preset: Preset) -> Preset:
    """Odd sizes, six keyframes and few steps: what random parts can do in a second."""
    return replace(
        preset,
        sizes=MappingProxyType({"72x72": Sizes(t2i=(64, 64), i2v=(40, 40), v2v=(72, 72))}),
        keyframes=MappingProxyType({"1": 6}),
        t2i=replace(preset.t2i, steps=3),
        i2v=replace(preset.i2v, steps=3),
        v2v=replace(preset.v2v, steps=6),
        v2v_windows=Windows(length=4, overlap=1),
    )


def own_loop(preset: Preset) -> Preset:
    """The same without a pipeline for T2I: its own loop draws, over the UNet of the video stages."""
    parts = {name: part for name, part in preset.parts.items() if name not in ("t2i", "t2i_vae")}
    return replace(preset, parts=MappingProxyType(parts))
