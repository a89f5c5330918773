"""What the repositories of preset `modern` publish about themselves, so that it can be costed without network.

The `model_index.json` and the component configurations, as far as they differ from the defaults of their classes and
matter to shapes. `tests/stages/modern/test_rehearsal.py` holds them to the published numbers of parameters. Knows
nothing of weights.
"""

from collections.abc import Mapping

from stages.model.weights.published import PIPELINES, SD_VAE, Config

_T5_XXL: Config = {
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}
_UMT5_XXL: Config = {**_T5_XXL, "vocab_size": 256384}
_FLOW_UNIPC: Config = {
    "prediction_type": "flow_prediction",
    "use_flow_sigmas": True,
    "num_train_timesteps": 1000,
    "flow_shift": 3.0,
}
_WAN: Config = {
    "scheduler": ["diffusers", "UniPCMultistepScheduler"],
    "text_encoder": ["transformers", "UMT5EncoderModel"],
    "tokenizer": ["transformers", "T5TokenizerFast"],
    "transformer": ["diffusers", "WanTransformer3DModel"],
    "vae": ["diffusers", "AutoencoderKLWan"],
}

_Z_IMAGE_TURBO: Mapping[str, Config] = {
    "model_index": {
        "_class_name": "ZImagePipeline",
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "Qwen3Model"],
        "tokenizer": ["transformers", "Qwen2Tokenizer"],
        "transformer": ["diffusers", "ZImageTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    },
    "scheduler": {"shift": 3.0, "use_dynamic_shifting": False},
    "text_encoder": {
        "vocab_size": 151936,
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
    "transformer": {"axes_lens": [1536, 512, 512]},
    "vae": {
        **SD_VAE,
        "latent_channels": 16,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "shift_factor": 0.1159,
        "scaling_factor": 0.3611,
    },
}

_WAN_A14B: Config = {
    "num_attention_heads": 40,
    "attention_head_dim": 128,
    "in_channels": 36,
    "out_channels": 16,
    "ffn_dim": 13824,
    "num_layers": 40,
}

PUBLISHED: Mapping[str, Mapping[str, Config]] = {
    **PIPELINES,
    "Tongyi-MAI/Z-Image-Turbo": _Z_IMAGE_TURBO,
    "Wan-AI/Wan2.2-I2V-A14B-Diffusers": {
        "model_index": {
            "_class_name": "WanImageToVideoPipeline",
            "boundary_ratio": 0.9,
            "image_encoder": [None, None],
            "image_processor": [None, None],
            "transformer_2": ["diffusers", "WanTransformer3DModel"],
            **_WAN,
        },
        "scheduler": _FLOW_UNIPC,
        "text_encoder": _UMT5_XXL,
        "transformer": _WAN_A14B,
        "transformer_2": _WAN_A14B,
        "vae": {},
    },
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": {
        "model_index": {"_class_name": "WanPipeline", **_WAN},
        "scheduler": _FLOW_UNIPC,
        "text_encoder": _UMT5_XXL,
        "transformer": {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 30},
        "vae": {},
    },
}
