"""A preset as the next default one: one UNet for T2I, I2V and V2V, which reads the reference beside the noise and hears
the pooled text beside the time.

Random, narrow parts on disk; an autoencoder of eight pixels a latent in blocks, no ControlNet, no appearance encoder.
"""

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import torch
from diffusers import UNet2DConditionModel

from stages.presets import TINY, Part, Preset, Sizes, Windows
from stages.settings import Guide
from stages.training.default.autoencoder import build as build_vae
from stages.training.default.clips import build_motion, widened
from tests.stages import random_parts as parts

WIDTHS = (16, 32)
CHANNELS = 16


def make_spatial() -> UNet2DConditionModel:
    """T2I's, as it is before it is widened."""
    return UNet2DConditionModel(
        sample_size=8, in_channels=CHANNELS, out_channels=CHANNELS, block_out_channels=WIDTHS, layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=parts.TEXT, attention_head_dim=4, norm_num_groups=8, **parts.TOLD,
    )  # fmt: skip


def beside_preset(folder: Path) -> Preset:
    """With six keyframes, two of them fused in the next window, at a fast size and one that V2V redraws."""
    torch.manual_seed(0)
    unet, motion = widened(make_spatial()), build_motion(WIDTHS, heads=2, groups=8)
    with torch.no_grad():
        unet.conv_in.weight[:, CHANNELS:] = 0.2 * torch.randn_like(unet.conv_in.weight[:, CHANNELS:])
        for name, parameter in motion.named_parameters():
            if "proj_out" in name:
                parameter.copy_(0.1 * torch.randn_like(parameter))
    modules = {
        "unet": unet, "motion": motion, "vae": build_vae(widths=(16,)), "text_encoder": parts.make_text(),
        "tokenizer": parts.make_tokenizer(),
    }  # fmt: skip
    for name, module in modules.items():
        module.save_pretrained(folder / name)
    made = {name: Part(str(folder / name), "test") for name in modules}
    nothing = Guide(image_scale=0.0, controls=())
    return replace(
        TINY,
        parts=MappingProxyType({**made, "motion_v2v": made["motion"], "flow": TINY.parts["flow"]}),
        sizes=MappingProxyType({
            "64x64": Sizes((64, 64), (64, 64), (64, 64), strength=0.0),
            "128x128": Sizes((64, 64), (64, 64), (128, 128)),
        }),
        keyframes=MappingProxyType({"1": 6}),
        t2i=replace(TINY.t2i, steps=2),
        i2v=replace(TINY.i2v, steps=2),
        v2v=replace(TINY.v2v, steps=4),
        i2v_guide=nothing,
        v2v_guide=nothing,
        strength=0.5,
        i2v_windows=Windows(4, 2),
        v2v_windows=Windows(4, 2),
        image_mode="bypass",
        beside=True,
        vocabulary="",
        reads=0,
    )  # fmt: skip
