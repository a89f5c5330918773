"""The tiny networks before training: one function a part, sizes in one place.

Gives modules of diffusers and transformers with fresh weights. Attention stays off the highest resolution, which is
what makes them trainable on a CPU. Knows nothing of data or losses.
"""

from typing import Any

from diffusers import ControlNetModel, MotionAdapter, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

WIDTHS = (64, 88, 96)
GROUPS = 8
HEADS = 4
TEXT_WIDTH = 128
TEXT_CONTEXT = 32
LATENT_CHANNELS = 16
IMAGE_TOKENS = 4
MAX_FRAMES = 32


def build_text_encoder(vocabulary: int, end: int) -> CLIPTextModel:
    """Two layers of CLIP's text transformer over a vocabulary of `vocabulary` tokens that ends texts with `end`."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=HEADS,
            max_position_embeddings=TEXT_CONTEXT,
            projection_dim=TEXT_WIDTH,
            bos_token_id=end - 1,
            eos_token_id=end,
            pad_token_id=end,
        )
    )


def build_unet() -> UNet2DConditionModel:
    """The spatial layers: T2I's, and those that I2V and V2V begin with."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=WIDTHS,
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=HEADS,
        norm_num_groups=GROUPS,
    )


def build_motion() -> MotionAdapter:
    """A motion module whose output projections are zero, so that training starts from the per-picture output."""
    motion = MotionAdapter(
        block_out_channels=WIDTHS,
        motion_layers_per_block=1,
        motion_num_attention_heads=HEADS,
        motion_norm_num_groups=GROUPS,
        motion_max_seq_length=MAX_FRAMES,
        use_motion_mid_block=False,
    )
    for name, module in motion.named_modules():
        if name.endswith("proj_out") and isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return motion


def build_control(unet: UNet2DConditionModel) -> ControlNetModel:
    """An RGB ControlNet without text attention; its convolutions start as the UNet's, its outputs at zero."""
    control = ControlNetModel(
        in_channels=LATENT_CHANNELS,
        down_block_types=("DownBlock2D",) * len(WIDTHS),
        mid_block_type="UNetMidBlock2D",
        block_out_channels=WIDTHS,
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=HEADS,
        norm_num_groups=GROUPS,
        conditioning_embedding_out_channels=(16, 24, 32, 64, 96),
    )
    control.load_state_dict({k: v for k, v in unet.state_dict().items() if k in control.state_dict()}, strict=False)
    return control


def build_image_encoder() -> CLIPVisionModelWithProjection:
    """A small CLIP image encoder that reads the reference at 128 pixels."""
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=96,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=HEADS,
            image_size=128,
            patch_size=16,
            projection_dim=TEXT_WIDTH,
        )
    )


def build_appearance(unet: Any) -> dict[str, dict[str, Any]]:
    """Weights of the decoupled cross-attention for `unet` in the layout of the public IP-Adapter; keys start small."""
    import torch

    image: dict[str, Any] = {
        "proj.weight": torch.randn(IMAGE_TOKENS * TEXT_WIDTH, TEXT_WIDTH) * TEXT_WIDTH**-0.5,
        "proj.bias": torch.zeros(IMAGE_TOKENS * TEXT_WIDTH),
        "norm.weight": torch.ones(TEXT_WIDTH),
        "norm.bias": torch.zeros(TEXT_WIDTH),
    }
    attention: dict[str, Any] = {}
    index = 1
    for name, processor in unet.attn_processors.items():
        if name.endswith("attn1.processor") or "motion_modules" in name:
            continue
        layer = unet.get_submodule(name.removesuffix(".processor"))
        attention[f"{index}.to_k_ip.weight"] = layer.to_k.weight.detach().clone()
        attention[f"{index}.to_v_ip.weight"] = layer.to_v.weight.detach().clone() * 0.1
        index += 2
        del processor
    return {"image_proj": image, "ip_adapter": attention}
