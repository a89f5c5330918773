"""What the repositories of preset `paper` publish about their networks, so that it can be costed without network.

Arguments of diffusers' and transformers' classes, by repository and subfolder, as far as they matter to shapes;
`tests/stages/model/weights/test_published.py` holds them to the published numbers of parameters. Knows nothing of
weights.
"""

from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]

SD15_UNET: Config = {
    "sample_size": 64,
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
MOTION_V153: Config = {
    "block_out_channels": [320, 640, 1280, 1280],
    "motion_layers_per_block": 2,
    "motion_num_attention_heads": 8,
    "motion_max_seq_length": 32,
    "use_motion_mid_block": False,
}
MOTION_V2: Config = {**MOTION_V153, "use_motion_mid_block": True, "motion_mid_block_layers_per_block": 1}
SPARSE_RGB: Config = {
    "in_channels": 4,
    "conditioning_channels": 4,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "use_simplified_condition_embedding": True,
}
CONTROL_SD15: Config = {"cross_attention_dim": 768, "attention_head_dim": 8}
SD_VAE: Config = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
CLIP_L_TEXT: Config = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "vocab_size": 49408,
    "projection_dim": 768,
}
CLIP_BIG_G_TEXT: Config = {
    **CLIP_L_TEXT,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
VIT_H: Config = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "patch_size": 14,
    "image_size": 224,
    "projection_dim": 1024,
    "hidden_act": "gelu",
}
SDXL_UNET: Config = {
    "sample_size": 128,
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 2,
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}

NETWORKS: Mapping[tuple[str, str], Config] = {
    ("mhdang/dpo-sd1.5-text2image-v1", "unet"): SD15_UNET,
    ("stable-diffusion-v1-5/stable-diffusion-v1-5", "text_encoder"): CLIP_L_TEXT,
    ("stabilityai/sd-vae-ft-mse", ""): SD_VAE,
    ("guoyww/animatediff-motion-adapter-v1-5-3", ""): MOTION_V153,
    ("wangfuyun/AnimateLCM", ""): MOTION_V2,
    ("guoyww/animatediff-sparsectrl-rgb", ""): SPARSE_RGB,
    ("ControlNet-1-1-preview/control_v11f1e_sd15_tile", ""): CONTROL_SD15,
    ("h94/IP-Adapter", "models/image_encoder"): VIT_H,
}

# In the layout of `stages.model.hub.published`, which adds them to its own.
PIPELINES: Mapping[str, Mapping[str, Config]] = {
    "stabilityai/stable-diffusion-xl-base-1.0": {
        "model_index": {
            "_class_name": "StableDiffusionXLPipeline",
            "force_zeros_for_empty_prompt": True,
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
            "scheduler": ["diffusers", "EulerDiscreteScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
        "scheduler": {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1},
        "text_encoder": CLIP_L_TEXT,
        "text_encoder_2": CLIP_BIG_G_TEXT,
        "unet": SDXL_UNET,
        "vae": {**SD_VAE, "sample_size": 1024, "scaling_factor": 0.13025},
    },
    "madebyollin/sdxl-vae-fp16-fix": {
        "vae": {**SD_VAE, "sample_size": 512, "scaling_factor": 0.13025, "force_upcast": False}
    },
}

ADAPTER_PLUS_QUERIES, ADAPTER_PLUS_DEPTH = 16, 4  # ip-adapter-plus_sd15: a resampler over the states of ViT-H


def adapter_plus_shapes(text: int, states: int) -> dict[str, tuple[int, ...]]:
    """Shapes of `image_proj.*` in the public file of the plus form, for a text of that width and such patch states."""
    inner = text
    shapes: dict[str, tuple[int, ...]] = {
        "latents": (1, ADAPTER_PLUS_QUERIES, inner),
        "proj_in.weight": (inner, states),
        "proj_in.bias": (inner,),
        "proj_out.weight": (text, inner),
        "proj_out.bias": (text,),
        "norm_out.weight": (text,),
        "norm_out.bias": (text,),
    }
    for layer in range(ADAPTER_PLUS_DEPTH):
        start = f"layers.{layer}"
        shapes |= {
            f"{start}.0.to_q.weight": (inner, inner),
            f"{start}.0.to_kv.weight": (2 * inner, inner),
            f"{start}.0.to_out.weight": (inner, inner),
            f"{start}.1.1.weight": (4 * inner, inner),
            f"{start}.1.3.weight": (inner, 4 * inner),
        }
        for norm in ("0.norm1", "0.norm2", "1.0"):
            shapes |= {f"{start}.{norm}.weight": (inner,), f"{start}.{norm}.bias": (inner,)}
    return shapes
