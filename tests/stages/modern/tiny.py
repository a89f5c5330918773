"""Today's pipelines with random weights of a few kilobytes, built from the config classes of diffusers.

Each is saved as the hub lays it out. Random weights make noise, but noise that depends on every input: enough to see
that an argument arrives, a step is counted and a seed decides.
"""

from pathlib import Path
from typing import Any

import diffusers
import torch
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)

from tests.stages.random_parts import make_motion, make_text, make_tokenizer, make_unet, make_vae

WIDTH = 32  # of the text states


def t5_tokenizer() -> T5Tokenizer:
    letters = [(letter, -3.0) for letter in "▁abcdefghijklmnopqrstuvwxyz"]
    return T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), *letters], extra_ids=0)


def _t5(config: type, model: type) -> Any:
    return model(config(vocab_size=64, d_model=WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2))


def t5() -> T5EncoderModel:
    return _t5(T5Config, T5EncoderModel)


def umt5() -> UMT5EncoderModel:
    return _t5(UMT5Config, UMT5EncoderModel)


def wan_vae(**more: Any) -> diffusers.AutoencoderKLWan:
    """Factor 8 in space, 4 in time."""
    return diffusers.AutoencoderKLWan(
        base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True], **more
    )


def wan_transformer(in_channels: int = 16, out_channels: int = 16) -> diffusers.WanTransformer3DModel:
    return diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=in_channels,
        out_channels=out_channels,
        text_dim=WIDTH,
        freq_dim=16,
        ffn_dim=32,
        num_layers=1,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )


def _wan(cls: type, **more: Any) -> Any:
    return cls(
        tokenizer=t5_tokenizer(),
        text_encoder=umt5(),
        vae=wan_vae(),
        scheduler=diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0
        ),
        **more,
    )


def wan_a14b() -> Any:
    """Wan 2.2 I2V A14B: two denoisers, for high and for low noise; the picture's latents beside the noise."""
    high, low = wan_transformer(16 + 4 + 16), wan_transformer(16 + 4 + 16)
    return _wan(diffusers.WanImageToVideoPipeline, transformer=high, transformer_2=low, boundary_ratio=0.9)


def wan_text() -> Any:
    """Wan 2.1 T2V 1.3B: a repository that names the class for text alone."""
    return _wan(diffusers.WanPipeline, transformer=wan_transformer())


def wan_5b() -> Any:
    """Wan 2.2 TI2V 5B: names the class for text alone, marks the given frame by its timestep, patches in its VAE."""
    pipeline = _wan(diffusers.WanPipeline, transformer=wan_transformer(16, 16), expand_timesteps=True)
    pipeline.register_modules(
        vae=wan_vae(
            decoder_base_dim=4, patch_size=2, in_channels=12, out_channels=12, is_residual=True, scale_factor_spatial=16
        )
    )
    return pipeline


def _ltx(cls: type) -> Any:
    return cls(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=diffusers.AutoencoderKLLTXVideo(
            latent_channels=8,
            block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1, 1),
            spatio_temporal_scaling=(True, True, True, False),
            decoder_spatio_temporal_scaling=(True, True, True, False),
            decoder_inject_noise=(False, False, False, False, False),
            upsample_residual=(False, False, False, False),
            upsample_factor=(1, 1, 1, 1),
            timestep_conditioning=False,
            patch_size=4,
            patch_size_t=1,
            encoder_causal=True,
            decoder_causal=False,
        ),
        text_encoder=t5(),
        tokenizer=t5_tokenizer(),
        transformer=diffusers.LTXVideoTransformer3DModel(
            in_channels=8,
            out_channels=8,
            num_attention_heads=2,
            attention_head_dim=16,
            cross_attention_dim=32,
            num_layers=1,
            caption_channels=WIDTH,
        ),
    )


def ltx_text() -> Any:
    return _ltx(diffusers.LTXPipeline)


def ltx_condition() -> Any:
    return _ltx(diffusers.LTXConditionPipeline)


def _cogvideox(cls: type, in_channels: int, **transformer: Any) -> Any:
    return cls(
        tokenizer=t5_tokenizer(),
        text_encoder=t5(),
        vae=diffusers.AutoencoderKLCogVideoX(
            in_channels=3,
            out_channels=3,
            down_block_types=("CogVideoXDownBlock3D",) * 4,
            up_block_types=("CogVideoXUpBlock3D",) * 4,
            block_out_channels=(8, 8, 8, 8),
            latent_channels=4,
            layers_per_block=1,
            norm_num_groups=2,
            temporal_compression_ratio=4,
        ),
        transformer=diffusers.CogVideoXTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=in_channels,
            out_channels=4,
            time_embed_dim=4,
            text_embed_dim=WIDTH,
            num_layers=1,
            sample_width=8,
            sample_height=8,
            sample_frames=9,
            patch_size=2,
            max_text_seq_length=226,
            **{"use_rotary_positional_embeddings": True, **transformer},
        ),
        scheduler=diffusers.CogVideoXDDIMScheduler(prediction_type="v_prediction", timestep_spacing="trailing"),
    )


def cogvideox_image() -> Any:
    return _cogvideox(diffusers.CogVideoXImageToVideoPipeline, 8)


def cogvideox_learned() -> Any:
    """CogVideoX-5b-I2V: it has learnt the positions of one size, here 64x64."""
    return _cogvideox(diffusers.CogVideoXImageToVideoPipeline, 8, use_learned_positional_embeddings=True)


def cogvideox_text() -> Any:
    return _cogvideox(diffusers.CogVideoXPipeline, 4)


def vision() -> CLIPVisionModelWithProjection:
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=224,
            patch_size=112, projection_dim=WIDTH,
        )
    )  # fmt: skip


def stable_video() -> Any:
    """Stable Video Diffusion of 14 frames, here of 5: no prompt, no text encoder."""
    return diffusers.StableVideoDiffusionPipeline(
        vae=diffusers.AutoencoderKLTemporalDecoder(
            block_out_channels=(32, 32, 32, 32), down_block_types=("DownEncoderBlock2D",) * 4, layers_per_block=1
        ),
        image_encoder=vision(),
        unet=diffusers.UNetSpatioTemporalConditionModel(
            block_out_channels=(32, 64),
            layers_per_block=1,
            in_channels=8,
            out_channels=4,
            down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
            cross_attention_dim=WIDTH,
            num_attention_heads=2,
            projection_class_embeddings_input_dim=96,
            addition_time_embed_dim=32,
            num_frames=5,
        ),
        scheduler=diffusers.EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", interpolation_type="linear",
            prediction_type="v_prediction", sigma_max=700.0, sigma_min=0.002, steps_offset=1,
            timestep_spacing="leading", timestep_type="continuous", use_karras_sigmas=True,
        ),
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 224}),
    )  # fmt: skip


def animatediff() -> Any:
    """The repository of a text pipeline; diffusers redraws with it."""
    return diffusers.AnimateDiffPipeline(
        vae=make_vae(),
        text_encoder=make_text(),
        tokenizer=make_tokenizer(),
        unet=make_unet(),
        motion_adapter=make_motion(),
        scheduler=diffusers.DDIMScheduler(beta_schedule="linear", clip_sample=False),
    )


def stable_diffusion() -> Any:
    return diffusers.StableDiffusionPipeline(
        vae=make_vae(), text_encoder=make_text(), tokenizer=make_tokenizer(), unet=make_unet(),
        scheduler=diffusers.DDIMScheduler(), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip


def stable_diffusion_xl() -> Any:
    text = {
        "vocab_size": 54, "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 16, "projection_dim": WIDTH, "bos_token_id": 52,
        "eos_token_id": 53, "pad_token_id": 53,
    }  # fmt: skip
    from transformers import CLIPTextModelWithProjection

    return diffusers.StableDiffusionXLPipeline(
        vae=make_vae(),
        text_encoder=CLIPTextModel(CLIPTextConfig(**text)),
        text_encoder_2=CLIPTextModelWithProjection(CLIPTextConfig(**text)),
        tokenizer=make_tokenizer(),
        tokenizer_2=make_tokenizer(),
        unet=diffusers.UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(32, 64),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=(2, 4),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            transformer_layers_per_block=(1, 1),
            projection_class_embeddings_input_dim=6 * 8 + WIDTH,
            cross_attention_dim=2 * WIDTH,
            norm_num_groups=8,
        ),
        scheduler=diffusers.EulerDiscreteScheduler(),
        add_watermarker=False,
    )


def pixart() -> Any:
    """No `callback_on_step_end`, and a size of its own choice where it is not told."""
    return diffusers.PixArtSigmaPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5(),
        vae=make_vae(),
        transformer=diffusers.PixArtTransformer2DModel(
            num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1,
            cross_attention_dim=16, sample_size=8, patch_size=2, caption_channels=WIDTH,
            use_additional_conditions=False,
        ),
        scheduler=diffusers.DPMSolverMultistepScheduler(),
    )  # fmt: skip


def flux() -> Any:
    """FLUX.1 schnell: flow matching, no guidance."""
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=diffusers.AutoencoderKL(
            block_out_channels=(8, 8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4, norm_num_groups=4, layers_per_block=1,
            shift_factor=0.0609, scaling_factor=1.5035,
        ),
        text_encoder=make_text(),
        tokenizer=make_tokenizer(),
        text_encoder_2=t5(),
        tokenizer_2=t5_tokenizer(),
        transformer=diffusers.FluxTransformer2DModel(
            patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH, axes_dims_rope=(4, 4, 8),
            guidance_embeds=False,
        ),
    )  # fmt: skip


def save(pipeline: Any, folder: Path) -> str:
    """Where it was saved, in the layout of the hub."""
    pipeline.save_pretrained(folder)
    return str(folder)


def build(make: Any, folder: Path) -> str:
    """The same weights for everyone: built from one seed, and saved."""
    torch.manual_seed(0)
    return save(make(), folder)
