"""The presets of today's models: whole pipelines of diffusers in the place of T2I, I2V and V2V (`stages.model.hub`).

Parts are pinned to a commit where one is known here; of Kandinsky's super resolution none is.
Sizes are those of the files that are fetched, where they are published. HunyuanVideo 1.5 is no preset: its licence
grants nothing in the European Union, the United Kingdom and South Korea, of its videos neither. Knows nothing of
requests; `stages.presets` judges those.
"""

from collections.abc import Mapping
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
_Z_IMAGE = Part(
    "Tongyi-MAI/Z-Image-Turbo", "Apache-2.0", size_gb=32.8, revision="f332072aa78be7aecdf3ee76d5c247082da564a6"
)
_WAN_22 = Part(
    "Wan-AI/Wan2.2-I2V-A14B-Diffusers",
    "Apache-2.0",
    size_gb=126.2,
    revision="596658fd9ca6b7b71d5057529bbf319ecbc61d74",
)
_WAN_21 = Part(
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    "Apache-2.0",
    size_gb=28.9,
    revision="0fad780a534b6463e45facd96134c9f345acfa5b",
)
_FOUR_STEPS = Part("lightx2v/Wan2.2-Distill-Loras", "Apache-2.0", revision="570044187a5219776ef30a5c60c6f76428a3a10a")

MODERN = Preset(
    name="modern",
    dtype="bfloat16",
    parts=MappingProxyType(
        {
            "t2i": _Z_IMAGE,
            "i2v_pipeline": _WAN_22,
            "i2v_vae": replace(_WAN_22, subfolder="vae", dtype="float32", size_gb=0.0),
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
            "v2v_vae": replace(_WAN_21, subfolder="vae", dtype="float32", size_gb=0.0),
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

# Both make 24 frames a second in clips of five seconds, enlarged by Kandinsky's super resolution in two steps a tile,
# which the noise mixed in (`strength`) lets redraw; 0.7 is its authors' default. VFI doubles the rate.
_ENLARGED: Mapping[str, Part] = MappingProxyType(
    {
        "v2v_pipeline": Part("kandinskylab/Kandinsky-6.0-VSR-distilled2steps-5s-Diffusers", "MIT"),
        "flow": Part("embedded:rife", "MIT"),
        "gan": Part("embedded:gan", "Apache-2.0"),
    }
)

# Lite, 3B, distilled to ten steps without guidance. It makes sound, too, which is left out.
KANDINSKY_6 = replace(
    MODERN,
    name="kandinsky-6",
    parts=MappingProxyType(
        {
            "t2i": _Z_IMAGE,
            "i2v_pipeline": Part(
                "kandinskylab/Kandinsky-6.0-Lite-distill-5s-Diffusers",
                "MIT",
                size_gb=26.6,
                revision="efbaeb9961770cc82fece5b9cb2197049d8c983c",
            ),
            **_ENLARGED,
        }
    ),
    sizes=MappingProxyType(
        {
            "1728x960": Sizes(t2i=(1296, 720), i2v=(864, 480), v2v=(1728, 960)),
            "960x1728": Sizes(t2i=(720, 1296), i2v=(480, 864), v2v=(960, 1728)),
        }
    ),
    keyframes=MappingProxyType({"5": 121, "3": 73, "2": 49}),
    keyframe_fps=24.0,
    vfi_factor=2,
    i2v=replace(_OWN, steps=10),
    v2v=replace(_OWN, steps=2),
    strength=0.7,
    i2v_windows=Windows(length=121, overlap=0),
    v2v_windows=Windows(length=121, overlap=0),
    loras=(),
)

_LTX_2 = Part(
    "Lightricks/LTX-2",
    "LTX-2 Community (from 10 M$ revenue a year: ask)",
    revision="47da56e2ad66ce4125a9922b4a8826bf407f9d0a",
)

# 19B, of which the LoRA of the same repository makes a model of eight steps without guidance at noise levels of its
# own. It makes sound, too, which is left out.
LTX_2 = replace(
    KANDINSKY_6,
    name="ltx-2",
    parts=MappingProxyType(
        {
            "t2i": _Z_IMAGE,
            "i2v_pipeline": _LTX_2,
            "i2v_distilled": replace(_LTX_2, weight_name="ltx-2-19b-distilled-lora-384.safetensors", size_gb=7.67),
            **_ENLARGED,
        }
    ),
    sizes=MappingProxyType(
        {
            "1536x1024": Sizes(t2i=(1152, 768), i2v=(768, 512), v2v=(1536, 1024)),
            "1024x1536": Sizes(t2i=(768, 1152), i2v=(512, 768), v2v=(1024, 1536)),
            "1792x1024": Sizes(t2i=(1344, 768), i2v=(896, 512), v2v=(1792, 1024)),
        }
    ),
    i2v=replace(_OWN, steps=8, sigmas=(1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875)),
    loras=(Lora("i2v_distilled", 1.0, "i2v_pipeline.transformer"),),
)
