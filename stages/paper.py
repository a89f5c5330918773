"""The presets of the published sizes, of public SD1.5 weights: `paper`, and `paper-fast`, which is distilled.

Every part is pinned to a commit of its repository. Knows nothing of requests; `stages.presets` judges those.
"""

from dataclasses import replace
from types import MappingProxyType

from stages.settings import Control, Denoising, Guide, Lora, Part, Preset, Prior, Sizes, Windows

_OPENRAIL = "CreativeML Open RAIL-M"
_SD15, _SD15_AT = "stable-diffusion-v1-5/stable-diffusion-v1-5", "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
_IP, _IP_AT = "h94/IP-Adapter", "018e402774aeeddd60609b4ecdb7e298259dc729"

_SD15_NOISE = Denoising(
    scheduler="ddim",
    steps=25,
    guidance=7.5,
    beta_schedule="linear",
    beta_end=0.012,
    prediction_type="epsilon",
    timestep_spacing="leading",
)

_MOTION_V3 = Part(
    "guoyww/animatediff-motion-adapter-v1-5-3",
    "see hub",
    size_gb=1.67,
    revision="449d8993ead63a068e1030eb26925132814db1c8",
)

PAPER = Preset(
    name="paper",
    dtype="float16",
    parts=MappingProxyType(
        {
            "t2i": Part(
                "stabilityai/stable-diffusion-xl-base-1.0",
                "CreativeML Open RAIL++-M",
                variant="fp16",
                size_gb=6.94,
                revision="462165984030d82259a11f4367a4eed129e94a7b",
            ),
            "t2i_vae": Part(
                "madebyollin/sdxl-vae-fp16-fix",
                "MIT",
                size_gb=0.335,
                revision="207b116dae70ace3637169f1ddd2434b91b3a8cd",
            ),
            "vae": Part(
                "stabilityai/sd-vae-ft-mse", "MIT", size_gb=0.335, revision="31f26fdeee1355a5c34592e401dd41e45d25a493"
            ),
            "text_encoder": Part(_SD15, _OPENRAIL, "text_encoder", size_gb=0.492, revision=_SD15_AT),
            "tokenizer": Part(_SD15, _OPENRAIL, "tokenizer", size_gb=0.0016, revision=_SD15_AT),
            "unet": Part(
                "mhdang/dpo-sd1.5-text2image-v1",
                "CreativeML Open RAIL++-M",
                "unet",
                size_gb=3.44,
                revision="e41d91e4614877090d054f58ce39307ac878cf24",
            ),
            "motion": _MOTION_V3,
            "motion_v2v": _MOTION_V3,
            "domain": Part(  # what the motion module saw while it learnt, its "domain adapter"
                "guoyww/animatediff-motion-lora-v1-5-3",
                "see hub",
                weight_name="diffusion_pytorch_model.safetensors",
                size_gb=0.102,
                revision="8b5ff2775000d82040bf595e66f14db7246c1534",
            ),
            "image_encoder": Part(_IP, "Apache-2.0", "models/image_encoder", size_gb=2.53, revision=_IP_AT),
            "appearance": Part(
                _IP, "Apache-2.0", "models", "ip-adapter-plus_sd15.safetensors", size_gb=0.098, revision=_IP_AT
            ),
            "control": Part(
                "guoyww/animatediff-sparsectrl-rgb",
                "see hub",
                size_gb=1.99,
                revision="b8003d681d813c095e459b9141122894daff2d13",
            ),
            "control_v2v": Part(  # the commit of its open request 1: the branch has a pickle alone
                "ControlNet-1-1-preview/control_v11f1e_sd15_tile",
                _OPENRAIL,
                size_gb=1.45,
                revision="4db89880533c858b379a07cfb438995c5c8d7734",
            ),
            "flow": Part("embedded:rife", "MIT"),
            "gan": Part("embedded:gan", "Apache-2.0"),
        }
    ),
    sizes=MappingProxyType(  # the paper's; the others have as many pixels, T2I near what SDXL has learnt
        {
            "1048x1048": Sizes(t2i=(1024, 1024), i2v=(600, 600), v2v=(1048, 1048)),
            "1400x784": Sizes(t2i=(1344, 768), i2v=(800, 448), v2v=(1400, 784)),
            "784x1400": Sizes(t2i=(768, 1344), i2v=(448, 800), v2v=(784, 1400)),
            "1216x912": Sizes(t2i=(1152, 864), i2v=(704, 528), v2v=(1216, 912)),
        }
    ),
    keyframes=MappingProxyType({"4": 32, "2": 16, "8": 64}),
    keyframe_fps=8.0,
    vfi_factor=3,
    t2i=Denoising("euler", 30, 5.0, "scaled_linear", "epsilon", timestep_spacing="leading"),
    i2v=_SD15_NOISE,
    v2v=replace(_SD15_NOISE, steps=20),
    prior=Prior(weight=1.0, decay=0.0, shared=0.0),
    i2v_guide=Guide(image_scale=0.8, controls=(Control("control", kind="sparse"),)),
    v2v_guide=Guide(image_scale=0.8, controls=(Control("control_v2v", image="keyframes"),)),
    strength=0.45,
    i2v_windows=Windows(length=16, overlap=4),  # of AnimateDiff's training; its module has positions for 32
    v2v_windows=Windows(length=16, overlap=4),
    loras=(Lora("domain"),),  # published beside this motion module and SparseCtrl, at full weight
    reads=75,
    negative_prompt="bad quality, worst quality, low resolution, blurry, deformed, watermark, text",
)

_LCM = Part("wangfuyun/AnimateLCM", "MIT", revision="3d4d00fc113225e1040f4d3bec504b6ec750c10c")

PAPER_FAST = replace(
    PAPER,
    name="paper-fast",
    parts=MappingProxyType(
        {
            **{name: part for name, part in PAPER.parts.items() if name != "domain"},
            "motion": replace(_LCM, variant="fp16", size_gb=0.908),
            "motion_v2v": replace(_LCM, variant="fp16", size_gb=0.908),
            "lcm": replace(_LCM, weight_name="AnimateLCM_sd15_t2v_lora.safetensors", size_gb=0.135),
        }
    ),
    i2v=replace(_SD15_NOISE, scheduler="lcm", steps=6, guidance=2.0),
    v2v=replace(_SD15_NOISE, scheduler="lcm", steps=6, guidance=2.0),
    strength=0.5,  # three of the six steps
    loras=(Lora("lcm", 0.8),),
    max_steps=50,  # of the schedule that the model was distilled with
)
