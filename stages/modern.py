"""The presets of today's models: whole pipelines of diffusers in the place of T2I, I2V and V2V (`stages.model.hub`).

Parts are pinned to a commit where one is known here. Knows nothing of requests; `stages.presets` judges those.
"""

from dataclasses import replace
from types import MappingProxyType

from stages.settings import Denoising, Guide, Lora, Part, Preset, Prior, Sizes, Windows
from stages.speed import Speed

# Their own schedulers; Wan makes 4k + 1 frames of multiples of 16 pixels, and its VAE wants float32. 81 frames, 832x480
# and the boundary of the two networks as published. Each network of Wan 2.2 has its half of a distillation to four
# steps without guidance, whose schedule is shifted by 5; Z-Image-Turbo is distilled to eight passes. V2V is ours: the
# last of six steps, where one without guidance is nearly right; `strength` 0.35 makes it two.
_OWN = Denoising(scheduler="own", steps=4, guidance=1.0)
_NO_GUIDE = Guide(image_scale=0.0, controls=())
_WAN_22 = Part("Wan-AI/Wan2.2-I2V-A14B-Diffusers", "Apache-2.0", revision="596658fd9ca6b7b71d5057529bbf319ecbc61d74")
_WAN_21 = Part("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "Apache-2.0", revision="0fad780a534b6463e45facd96134c9f345acfa5b")
_FOUR_STEPS = Part("lightx2v/Wan2.2-Distill-Loras", "Apache-2.0")

MODERN = Preset(
    name="modern",
    dtype="bfloat16",
    parts=MappingProxyType(
        {
            "t2i": Part("Tongyi-MAI/Z-Image-Turbo", "Apache-2.0", revision="f332072aa78be7aecdf3ee76d5c247082da564a6"),
            "i2v_pipeline": _WAN_22,
            "i2v_vae": replace(_WAN_22, subfolder="vae", dtype="float32"),
            "i2v_high": replace(
                _FOUR_STEPS,
                weight_name="wan2.2_i2v_A14b_high_noise_lora_rank64_lightx2v_4step_1022.safetensors",
                size_gb=0.635,
            ),
            "i2v_low": replace(
                _FOUR_STEPS,
                weight_name="wan2.2_i2v_A14b_low_noise_lora_rank64_lightx2v_4step_1022.safetensors",
                size_gb=0.739,
            ),
            "v2v_pipeline": _WAN_21,
            "v2v_vae": replace(_WAN_21, subfolder="vae", dtype="float32"),
            "flow": Part("embedded:rife", "MIT"),
            "gan": Part("embedded:gan", "Apache-2.0"),
        }
    ),
    sizes=MappingProxyType(
        {
            "1248x720": Sizes(t2i=(1248, 720), i2v=(832, 480), v2v=(1248, 720)),
            "720x1248": Sizes(t2i=(720, 1248), i2v=(480, 832), v2v=(720, 1248)),
        }
    ),
    keyframes=MappingProxyType({"5": 81, "3": 49, "2": 33}),
    keyframe_fps=16.0,
    vfi_factor=3,
    t2i=replace(_OWN, steps=8),
    i2v=replace(_OWN, flow_shift=5.0),
    v2v=replace(_OWN, steps=6),
    prior=Prior(weight=0.0, decay=0.0, shared=0.0),
    i2v_guide=_NO_GUIDE,
    v2v_guide=_NO_GUIDE,
    strength=0.2,
    i2v_windows=Windows(length=81, overlap=0),
    v2v_windows=Windows(length=41, overlap=1),
    speeds=MappingProxyType(dict.fromkeys(("t2i", "i2v", "v2v"), Speed(offload="model"))),
    loras=(
        Lora("i2v_high", 1.0, "i2v_pipeline.transformer"),
        Lora("i2v_low", 1.0, "i2v_pipeline.transformer_2"),
    ),
)
