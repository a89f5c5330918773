"""What the repositories of today's presets publish about themselves, so that they can be costed without network.

The `model_index.json` and the component configurations, as far as they differ from the defaults of their classes and
matter to shapes. `tests/stages/modern/test_published.py` holds them to the published numbers of parameters. Knows
nothing of weights.
"""

from collections.abc import Mapping

from stages.model.weights.published import CLIP_L_TEXT, PIPELINES, SD_VAE, Config

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

_QWEN_VL_7B: Config = {
    "text_config": {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "rope_scaling": {"mrope_section": [16, 24, 24], "rope_type": "default", "type": "default"},
    },
    "vision_config": {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 3584,
        "fullatt_block_indexes": [7, 15, 23, 31],
    },
    "tie_word_embeddings": False,
}
_KANDINSKY_6_LITE: Mapping[str, Config] = {
    "model_index": {
        "_class_name": "Kandinsky6TI2VAPipeline",
        "audio_vae": ["diffusers", "MMAudioVAE"],
        "scheduler": ["diffusers", "PiflowScheduler"],
        "text_encoder": ["transformers", "Qwen2_5_VLForConditionalGeneration"],
        "text_encoder_2": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "Qwen2_5_VLProcessor"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "transformer": ["diffusers", "Kandinsky6Transformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLHunyuanVideo"],
        "vocoder": ["diffusers", "MMAudioVocoder"],
    },
    "audio_vae": {},
    "scheduler": {"shift": 5.0, "n_grid": 10},
    "text_encoder": _QWEN_VL_7B,
    "text_encoder_2": CLIP_L_TEXT,
    "transformer": {
        "out_visual_dim": 160,  # ten noise levels of 16 channels
        "time_dim": 512,
        "model_dim": 1792,
        "ff_dim": 7168,
        "num_text_blocks": 2,
        "num_visual_blocks": 32,
        "axes_dims": [16, 24, 24],
        "in_audio_dim": 40,
        "out_audio_dim": 400,
        "model_dim_a": 896,
        "time_dim_a": 512,
        "ff_dim_a": 3584,
        "axes_dims_a": [16, 24, 24],
        "audio_freqs_scaling": 0.144,
        "text_token_padding": True,
        "ca_rope": True,
        "cross_gates": True,
        "fix_modulation": True,
        "visual_token_type_num_embeddings": 2,
    },
    "vae": {},
    "vocoder": {},
}
_KANDINSKY_6_ENLARGING: Mapping[str, Config] = {
    "model_index": {
        "_class_name": "Kandinsky6SRPipeline",
        "latent_upscaler": ["diffusers", "Kandinsky6SRLatentUpscalerBank"],
        "scheduler": ["diffusers", "PiflowScheduler"],
        "transformer": ["diffusers", "Kandinsky6SRTransformer3DModel"],
        "vae": ["diffusers", "Kandinsky6SRVAE"],
    },
    "latent_upscaler": {},
    "scheduler": {"shift": 3.5, "n_grid": 10},
    "transformer": {},
    "vae": {},
}

_GEMMA_3_12B: Config = {
    "text_config": {
        "vocab_size": 262208,
        "hidden_size": 3840,
        "intermediate_size": 15360,
        "num_hidden_layers": 48,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 256,
        "sliding_window": 1024,
    },
    "vision_config": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 896,
        "patch_size": 14,
        "vision_use_head": False,
    },
    "mm_tokens_per_image": 256,
}
_LTX_2: Mapping[str, Config] = {
    "model_index": {
        "_class_name": "LTX2Pipeline",
        "audio_vae": ["diffusers", "AutoencoderKLLTX2Audio"],
        "connectors": ["ltx2", "LTX2TextConnectors"],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "Gemma3ForConditionalGeneration"],
        "tokenizer": ["transformers", "GemmaTokenizer"],
        "transformer": ["diffusers", "LTX2VideoTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLLTX2Video"],
        "vocoder": ["ltx2", "LTX2Vocoder"],
    },
    "audio_vae": {},
    "connectors": {"rope_type": "split"},
    "scheduler": {
        "use_dynamic_shifting": True,
        "base_shift": 0.95,
        "max_shift": 2.05,
        "base_image_seq_len": 1024,
        "max_image_seq_len": 4096,
        "shift_terminal": 0.1,
    },
    "text_encoder": _GEMMA_3_12B,
    "transformer": {"rope_type": "split"},
    "vae": {"decoder_causal": False, "spatial_compression_ratio": 32, "temporal_compression_ratio": 8},
    "vocoder": {},
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
    "kandinskylab/Kandinsky-6.0-Lite-distill-5s-Diffusers": _KANDINSKY_6_LITE,
    "kandinskylab/Kandinsky-6.0-VSR-distilled2steps-5s-Diffusers": _KANDINSKY_6_ENLARGING,
    "Lightricks/LTX-2": _LTX_2,
}
