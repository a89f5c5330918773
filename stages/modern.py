"""The presets of today's models: whole pipelines of diffusers in the place of T2I, I2V and V2V (`stages.model.hub`).

Parts are pinned to a commit where one is known here. Knows nothing of requests; `stages.presets` judges those.
"""

from dataclasses import replace
from types import MappingProxyType

from stages.settings import Denoising, Guide, Part, Preset, Prior, Sizes, Windows

# Whole pipelines of diffusers, with their own schedulers; see `stages.model.hub`. Wan makes 4k + 1 frames of multiples
# of 16 pixels, and its VAE wants float32. Steps, guidance, 81 frames and 832x480 as published; the rest is our choice.
_OWN = Denoising(scheduler="own", steps=40, guidance=3.5)
_NO_GUIDE = Guide(image_scale=0.0, controls=())
_WAN_22 = Part("Wan-AI/Wan2.2-I2V-A14B-Diffusers", "Apache-2.0", revision="596658fd9ca6b7b71d5057529bbf319ecbc61d74")
_WAN_21 = Part("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "Apache-2.0", revision="0fad780a534b6463e45facd96134c9f345acfa5b")

MODERN = Preset(
    name="modern",
    dtype="bfloat16",
    parts=MappingProxyType(
        {
            "t2i": Part("black-forest-labs/FLUX.1-schnell", "Apache-2.0"),
            "i2v_pipeline": _WAN_22,
            "i2v_vae": replace(_WAN_22, subfolder="vae", dtype="float32"),
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
    t2i=replace(_OWN, steps=4, guidance=1.0),
    i2v=_OWN,
    v2v=replace(_OWN, steps=30, guidance=5.0),
    prior=Prior(weight=0.0, decay=0.0, shared=0.0),
    i2v_guide=_NO_GUIDE,
    v2v_guide=_NO_GUIDE,
    strength=0.35,
    i2v_windows=Windows(length=81, overlap=0),
    v2v_windows=Windows(length=33, overlap=8),
    offload="model",
)
