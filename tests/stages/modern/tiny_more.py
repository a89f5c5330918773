"""More of today's pipelines with random weights of a few kilobytes: those that only the table of classes needs."""

from typing import Any

import diffusers
import transformers
from diffusers.pipelines.ltx.modeling_latent_upsampler import LTXLatentUpsamplerModel
from diffusers.pipelines.ltx2 import LTX2LatentUpsamplerModel, LTX2TextConnectors, LTX2Vocoder

from tests.stages.modern import tiny
from tests.stages.modern.tiny import WIDTH, t5_tokenizer, umt5, vision, wan_vae
from tests.stages.random_parts import make_control, make_motion, make_text, make_tokenizer, make_unet, make_vae, wake


def flow() -> diffusers.FlowMatchEulerDiscreteScheduler:
    return diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0)


def chatty() -> Any:
    """A tokenizer that knows how a message is laid out."""
    tokenizer = t5_tokenizer()
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    return tokenizer


def z_image() -> Any:
    """Its prompts are messages to a language model."""
    qwen = transformers.Qwen3Config(
        vocab_size=64, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=16,
    )  # fmt: skip
    vae = make_vae(latent_channels=16, shift_factor=0.1159, scaling_factor=0.3611)
    return diffusers.ZImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae,
        text_encoder=transformers.Qwen3Model(qwen),
        tokenizer=chatty(),
        transformer=diffusers.ZImageTransformer2DModel(
            dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=WIDTH, axes_dims=[4, 6, 6],
            axes_lens=[1024, 64, 64],
        ),
    )  # fmt: skip


def sana_image() -> Any:
    """It calls its number of frames `frames`, and would choose another size."""
    gemma = transformers.Gemma2Config(
        vocab_size=64, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=2048,
    )  # fmt: skip
    return diffusers.SanaImageToVideoPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=transformers.Gemma2Model(gemma),
        vae=wan_vae(),
        transformer=diffusers.SanaVideoTransformer3DModel(
            in_channels=16, out_channels=16, num_attention_heads=2, attention_head_dim=12, num_layers=1,
            num_cross_attention_heads=2, cross_attention_head_dim=12, cross_attention_dim=24, caption_channels=WIDTH,
            sample_size=8, patch_size=(1, 2, 2), rope_max_seq_len=64, qk_norm="rms_norm_across_heads",
        ),
        scheduler=flow(),
    )  # fmt: skip


def hunyuan15_image() -> Any:
    """It takes no size, but chooses one of its own list; its guidance is a component."""
    qwen = transformers.Qwen2_5_VLTextConfig(
        vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=2, rope_scaling={"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
    )  # fmt: skip
    siglip = transformers.SiglipVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=54, patch_size=2
    )
    byt5 = transformers.T5Config(vocab_size=384, d_model=WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    return diffusers.HunyuanVideo15ImageToVideoPipeline(
        text_encoder=transformers.Qwen2_5_VLTextModel(qwen),
        tokenizer=chatty(),
        transformer=diffusers.HunyuanVideo15Transformer3DModel(
            in_channels=9, out_channels=4, num_attention_heads=2, attention_head_dim=8, num_layers=1,
            num_refiner_layers=1, mlp_ratio=2.0, patch_size=1, patch_size_t=1, text_embed_dim=16,
            text_embed_2_dim=WIDTH, image_embed_dim=16, rope_axes_dim=(2, 2, 4), target_size=32, task_type="i2v",
        ),
        vae=diffusers.AutoencoderKLHunyuanVideo15(
            latent_channels=4, block_out_channels=(16, 16), layers_per_block=1, spatial_compression_ratio=4,
            temporal_compression_ratio=2, downsample_match_channel=False, upsample_match_channel=False,
        ),
        scheduler=flow(),
        text_encoder_2=transformers.T5EncoderModel(byt5),
        tokenizer_2=transformers.ByT5Tokenizer(),
        guider=diffusers.ClassifierFreeGuidance(guidance_scale=6.0),
        image_encoder=transformers.SiglipVisionModel(siglip),
        feature_extractor=transformers.SiglipImageProcessor(size={"height": 54, "width": 54}),
    )  # fmt: skip


def _skyreels(cls: type, in_channels: int, **more: Any) -> Any:
    return cls(
        tokenizer=t5_tokenizer(),
        text_encoder=umt5(),
        transformer=diffusers.SkyReelsV2Transformer3DModel(
            patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=in_channels,
            out_channels=16, text_dim=WIDTH, freq_dim=16, ffn_dim=32, num_layers=1, cross_attn_norm=True,
            qk_norm="rms_norm_across_heads", rope_max_seq_len=32, image_dim=None if not more else 32,
        ),
        vae=wan_vae(),
        scheduler=diffusers.UniPCMultistepScheduler(flow_shift=5.0, use_flow_sigmas=True),
        **more,
    )  # fmt: skip


def skyreels_image() -> Any:
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 224})
    return _skyreels(diffusers.SkyReelsV2ImageToVideoPipeline, 36, image_encoder=vision(), image_processor=processor)


def ltx2_vae() -> Any:
    """Factor 8 in space, 2 in time."""
    return diffusers.AutoencoderKLLTX2Video(
        latent_channels=4, block_out_channels=(8,), decoder_block_out_channels=(8,), layers_per_block=(1, 1),
        down_block_types=("LTX2VideoDownBlock3D",), decoder_layers_per_block=(1, 1), spatio_temporal_scaling=(True,),
        decoder_spatio_temporal_scaling=(True,), decoder_inject_noise=(False, False),
        downsample_type=("spatiotemporal",), upsample_type=("spatiotemporal",), upsample_residual=(False,),
        upsample_factor=(1,), timestep_conditioning=False, patch_size=4, patch_size_t=1, encoder_causal=True,
        decoder_causal=False,
    )  # fmt: skip


def ltx2_image() -> Any:
    """It makes sound with its frames."""
    gemma = transformers.Gemma3TextConfig(
        vocab_size=64, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16,
    )  # fmt: skip
    siglip = transformers.SiglipVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    audio = diffusers.AutoencoderKLLTX2Audio(
        base_channels=4, output_channels=2, ch_mult=(1,), num_res_blocks=1, attn_resolutions=None, in_channels=2,
        resolution=32, latent_channels=2, norm_type="pixel", causality_axis="height", dropout=0.0,
        mid_block_add_attention=False, sample_rate=16000, mel_hop_length=160, is_causal=True, mel_bins=8,
    )  # fmt: skip
    connector = {
        f"{kind}_connector_{key}": value
        for kind in ("video", "audio")
        for key, value in (
            ("num_attention_heads", 4), ("attention_head_dim", 8), ("num_layers", 1), ("num_learnable_registers", None)
        )
    }  # fmt: skip
    return diffusers.LTX2ImageToVideoPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=ltx2_vae(),
        audio_vae=audio,
        text_encoder=transformers.Gemma3ForConditionalGeneration(
            transformers.Gemma3Config(text_config=gemma, vision_config=siglip, mm_tokens_per_image=4)
        ),
        tokenizer=t5_tokenizer(),
        connectors=LTX2TextConnectors(
            caption_channels=WIDTH, text_proj_in_factor=2, connector_rope_base_seq_len=32, rope_theta=10000.0,
            rope_double_precision=False, causal_temporal_positioning=False, rope_type="split", **connector,
        ),
        transformer=diffusers.LTX2VideoTransformer3DModel(
            in_channels=4, out_channels=4, patch_size=1, patch_size_t=1, num_attention_heads=2, attention_head_dim=8,
            cross_attention_dim=16, audio_in_channels=4, audio_out_channels=4, audio_num_attention_heads=2,
            audio_attention_head_dim=4, audio_cross_attention_dim=8, num_layers=1, caption_channels=WIDTH,
            qk_norm="rms_norm_across_heads", rope_double_precision=False, rope_type="split",
        ),
        vocoder=LTX2Vocoder(
            in_channels=16, hidden_channels=32, out_channels=2, upsample_kernel_sizes=[4, 4], upsample_factors=[2, 2],
            resnet_kernel_sizes=[3], resnet_dilations=[[1, 3, 5]], leaky_relu_negative_slope=0.1,
            output_sampling_rate=16000,
        ),
    )  # fmt: skip


def hunyuan_vae(channels: int = 16) -> Any:
    return diffusers.AutoencoderKLHunyuanVideo(
        latent_channels=channels, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4,
        down_block_types=("HunyuanVideoDownBlock3D",) * 4, up_block_types=("HunyuanVideoUpBlock3D",) * 4,
        spatial_compression_ratio=8, temporal_compression_ratio=4, mid_block_add_attention=False,
    )  # fmt: skip


def qwen_vl() -> Any:
    text = {
        "vocab_size": 64, "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2,
        "rope_scaling": {"mrope_section": [2, 2, 4], "rope_type": "default", "type": "default"},
    }  # fmt: skip
    seen = {"depth": 1, "hidden_size": WIDTH, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": WIDTH}
    config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=seen)
    return transformers.Qwen2_5_VLForConditionalGeneration(config)


def clip_77() -> tuple[Any, Any]:
    tokenizer = make_tokenizer()
    tokenizer.model_max_length = 77
    config = transformers.CLIPTextConfig(
        vocab_size=54, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=77, projection_dim=WIDTH, bos_token_id=52, eos_token_id=53, pad_token_id=53,
    )  # fmt: skip
    return transformers.CLIPTextModel(config), tokenizer


def _kandinsky(cls: type, transformer: Any, **more: Any) -> Any:
    clip, words = clip_77()
    return cls(
        transformer=transformer, vae=hunyuan_vae(), text_encoder=qwen_vl(), tokenizer=t5_tokenizer(),
        text_encoder_2=clip, tokenizer_2=words, **{"scheduler": flow(), **more},
    )  # fmt: skip


def kandinsky5_image() -> Any:
    network = diffusers.Kandinsky5Transformer3DModel(
        in_visual_dim=16, in_text_dim=WIDTH, in_text_dim2=WIDTH, time_dim=16, out_visual_dim=16, patch_size=(1, 2, 2),
        model_dim=16, ff_dim=32, num_text_blocks=1, num_visual_blocks=1, axes_dims=(4, 6, 6), visual_cond=True,
        attention_type="regular",
    )  # fmt: skip
    return _kandinsky(diffusers.Kandinsky5I2VPipeline, network)


def _kandinsky6(**more: Any) -> Any:
    return diffusers.Kandinsky6Transformer3DModel(
        in_text_dim=WIDTH, in_text_dim2=WIDTH, time_dim=16, model_dim=32, ff_dim=32, num_text_blocks=1,
        num_visual_blocks=1, axes_dims=(4, 6, 6), visual_token_type_num_embeddings=2, **more,
    )  # fmt: skip


def kandinsky6_image() -> Any:
    return _kandinsky(diffusers.Kandinsky6TI2VAPipeline, _kandinsky6())


def kandinsky6_distilled() -> Any:
    """Says several noise levels in one pass, and has no guidance."""
    network, levels = _kandinsky6(out_visual_dim=32, out_audio_dim=40), diffusers.PiflowScheduler(n_grid=2)
    return _kandinsky(diffusers.Kandinsky6TI2VAPipeline, network, scheduler=levels)


def kandinsky6_upscaler_distilled() -> Any:
    return kandinsky6_upscaler(8, diffusers.PiflowScheduler(shift=3.5, n_grid=2))


def kandinsky6_upscaler(said: int = 4, scheduler: Any = None) -> Any:
    """Tile by tile."""
    return diffusers.Kandinsky6SRPipeline(
        transformer=diffusers.Kandinsky6SRTransformer3DModel(
            in_visual_dim=4, out_visual_dim=said, time_dim=16, model_dim=16, ff_dim=32, num_visual_blocks=1,
            axes_dims=(4, 6, 6), tile_sizes=((32, 32),),
        ),
        vae=diffusers.Kandinsky6SRVAE(
            latent_channels=4, encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8),
            layers_per_block=1,
        ),
        scheduler=scheduler or flow(),
    )  # fmt: skip


def wan_vace() -> Any:
    """It sees the reference picture."""
    return diffusers.WanVACEPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=umt5(),
        vae=wan_vae(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0),
        transformer=diffusers.WanVACETransformer3DModel(
            patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=16, out_channels=16,
            text_dim=WIDTH, freq_dim=16, ffn_dim=32, num_layers=2, cross_attn_norm=True,
            qk_norm="rms_norm_across_heads", rope_max_seq_len=32, vace_layers=[0], vace_in_channels=96,
        ),
    )  # fmt: skip


def ltx_upsampler() -> Any:
    """No steps, no prompt: twice the side in latents."""
    vae = tiny._ltx(diffusers.LTXPipeline).vae
    upsampler = LTXLatentUpsamplerModel(in_channels=8, mid_channels=32, num_blocks_per_stage=1)
    return diffusers.LTXLatentUpsamplePipeline(vae=vae, latent_upsampler=upsampler)


def ltx2_upsampler() -> Any:
    upsampler = LTX2LatentUpsamplerModel(in_channels=4, mid_channels=32, num_blocks_per_stage=1)
    return diffusers.LTX2LatentUpsamplePipeline(vae=ltx2_vae(), latent_upsampler=upsampler)


def animatediff_control() -> Any:
    """It redraws frames that a ControlNet reads too."""
    unet = make_unet()
    control = make_control(unet)
    wake(control)
    return diffusers.AnimateDiffVideoToVideoControlNetPipeline(
        vae=make_vae(), text_encoder=make_text(), tokenizer=make_tokenizer(), unet=unet, motion_adapter=make_motion(),
        controlnet=control, scheduler=diffusers.DDIMScheduler(beta_schedule="linear", clip_sample=False),
    )  # fmt: skip
