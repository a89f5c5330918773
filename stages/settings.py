"""The types of the table in `stages.presets`, and of the parameters that a stage is called with.

Frozen dataclasses of plain values, so that they travel, compare and hash anywhere. Every mechanism of the paper has
its switch here: `motion`, `Guide.image_scale` (appearance encoder), `Guide.controls` (RGB ControlNets),
`Guide.latents` (the reference beside the noise),
`Prior.weight` (noise prior), `strength` (V2V), `image_mode` (pictures in joint training), `share_spatial`. Knows
nothing of torch, Ray, HTTP or files, and judges nothing: `stages.presets.plan` does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, Protocol

from stages.speed import EXACT, Speed, changed, judge
from stages.types import StageName

SchedulerName = Literal["ddim", "euler", "dpmpp_2m", "lcm", "own"]  # "own": the one that a pipeline of the hub brings
ControlKind = Literal["plain", "sparse"]
ControlImage = Literal["reference", "keyframes"]
DTypeName = Literal["float32", "float16", "bfloat16"]
ImageMode = Literal["single_frame", "bypass"]


class RequestError(ValueError):
    """A request that a preset cannot serve. `param` is the name of the offending field."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True)
class Part:
    """Where one part's weights are: `embedded:<folder>` inside `stages/weights`, a hub id, or a local folder.

    `revision` pins a hub id to a commit, so that a push to its repository changes nothing here; "main" is whatever is
    there on the day. `dtype` and `device` override the preset's for this part alone, e.g. a text encoder on the CPU.
    """

    source: str
    licence: str
    subfolder: str = ""
    weight_name: str = ""
    variant: str | None = None
    dtype: DTypeName | None = None
    device: str | None = None
    size_gb: float = 0.0  # of the files that are fetched, as published; 0: unknown
    revision: str = "main"


@dataclass(frozen=True)
class Lora:
    """A low-rank change, merged when the stage loads.

    Of the spatial layers of the built-in networks; or of one network of a pipeline, which `into` names as in
    "i2v_pipeline.transformer_2".
    """

    part: str
    scale: float = 1.0
    into: str = ""


@dataclass(frozen=True)
class Denoising:
    """How one stage samples. `steps` is the length of the schedule, `guidance` the classifier-free guidance scale."""

    scheduler: SchedulerName
    steps: int
    guidance: float
    beta_schedule: str = "scaled_linear"
    prediction_type: Literal["epsilon", "v_prediction"] = "epsilon"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    timestep_spacing: Literal["leading", "trailing", "linspace"] = "trailing"
    zero_terminal_snr: bool = False
    flow_shift: float = 0.0  # of the scheduler that a pipeline brings; 0: as it is published
    sigmas: tuple[float, ...] = ()  # noise levels that a distilled pipeline learnt, one a step; else the scheduler's


class Asked(Protocol):
    """What a request asks of one stage alone; None: nothing."""

    @property
    def steps(self) -> int | None: ...

    @property
    def guidance(self) -> float | None: ...


@dataclass(frozen=True)
class Prior:
    """The latent noise prior: mean towards the reference's latent. See `stages.model.sampling.prior` for the
    formula.
    """

    weight: float  # lambda: 0 is plain noise
    decay: float  # p: above 0 frees the later frames
    shared: float  # rho: how much of the noise all frames share


@dataclass(frozen=True)
class Control:
    """One ControlNet over RGB: `plain` reads a picture a frame, `sparse` (SparseCtrl) the first frame's latent."""

    part: str
    kind: ControlKind = "plain"
    image: ControlImage = "reference"
    scale: float = 1.0


@dataclass(frozen=True)
class Guide:
    """How the reference image speaks: through cross-attention, through ControlNets whose residuals are added, and by
    its latents beside the noise, where `Preset.beside` says that the UNets read them."""

    image_scale: float
    controls: tuple[Control, ...]
    latents: bool = True


@dataclass(frozen=True)
class Windows:
    """How a clip is cut: at most `length` frames are denoised together, neighbours share `overlap` and are blended."""

    length: int
    overlap: int


@dataclass(frozen=True)
class Sizes:
    """(width, height) of each stage for one final size."""

    t2i: tuple[int, int]
    i2v: tuple[int, int]
    v2v: tuple[int, int]
    strength: float | None = None  # of V2V at this size, where it is another than the preset's; 0: nothing is redrawn


_PIPELINES: Mapping[StageName, str] = {"t2i": "t2i", "i2v": "i2v_pipeline", "v2v": "v2v_pipeline"}


@dataclass(frozen=True)
class Preset:
    """One row of the table."""

    name: str
    dtype: DTypeName
    parts: Mapping[str, Part]
    sizes: Mapping[str, Sizes]  # final "WxH" -> sizes; the first is the default
    keyframes: Mapping[str, int]  # seconds, as the wire says it -> keyframes; the first is the default
    keyframe_fps: float
    vfi_factor: int
    t2i: Denoising
    i2v: Denoising
    v2v: Denoising
    prior: Prior
    i2v_guide: Guide
    v2v_guide: Guide
    strength: float
    i2v_windows: Windows  # fused at every step, in one replica
    v2v_windows: Windows  # denoised independently, on any replica, and cross-faded
    speeds: Mapping[StageName, Speed] = field(default_factory=lambda: MappingProxyType({}))  # of others: exact
    loras: tuple[Lora, ...] = ()
    motion: bool = True
    image_mode: ImageMode = "single_frame"
    beside: bool = False  # the UNets read the reference's latents beside the noise (`stages.model.network.reference`)
    share_spatial: bool = True  # I2V and V2V hold the spatial layers once where they share a process
    bf16: bool = False  # I2V and V2V multiply in bfloat16 on a CPU that can: 1.8 times as fast; weights stay float32
    gan: bool = False  # VFI uses its GAN beside the flow model; the shipped one gains too little for its time
    max_steps: int = 150
    negative_prompt: str = ""  # of a request that brings none
    prompt_style: str = "{prompt}"  # wraps every prompt before the text encoder sees it
    reads: int = 0  # tokens of a prompt that its text encoders see; 0: more than any prompt has
    vocabulary: str = ""  # file of `stages.words` inside `stages/weights`; empty: the text encoder knows the language

    @property
    def default_size(self) -> str:
        return next(iter(self.sizes))

    @property
    def default_seconds(self) -> str:
        return next(iter(self.keyframes))

    @property
    def built_in(self) -> bool:
        """Whether I2V and V2V are networks of ours, for which one number of steps and one guidance mean the same."""
        return not {"i2v_pipeline", "v2v_pipeline"} & set(self.parts)

    def speed(self, stage: StageName) -> Speed:
        """What the stage gives up for time or memory.

        Raises:
            SpeedError: what computes there does not have a knob of it.
        """
        found = self.speeds.get(stage, EXACT)
        part = _PIPELINES.get(stage, "")
        judge(found, stage, part if part in self.parts else None)
        return found

    @property
    def video_unet(self) -> str:
        """The part whose spatial layers I2V and V2V have: their own where there is one, else T2I's."""
        return "unet_video" if "unet_video" in self.parts else "unet"


@dataclass(frozen=True)
class T2IParams:
    prompt: str
    negative_prompt: str
    size: tuple[int, int]  # (width, height)
    denoising: Denoising


@dataclass(frozen=True)
class I2VParams:
    prompt: str
    negative_prompt: str
    size: tuple[int, int]
    frames: int
    fps: float
    denoising: Denoising
    prior: Prior
    guide: Guide
    windows: Windows
    motion: bool = True  # False: every frame is a picture of its own
    image_mode: ImageMode = "single_frame"  # what a single frame means to the motion module


@dataclass(frozen=True)
class V2VParams:
    prompt: str
    negative_prompt: str
    size: tuple[int, int]
    denoising: Denoising
    strength: float  # 0..1: how much of the schedule is run again over the upscaled keyframes; 0: they stay as they are
    guide: Guide
    windows: Windows
    motion: bool = True
    image_mode: ImageMode = "single_frame"
    part: int = 0  # which of the windows this call computes


@dataclass(frozen=True)
class VFIParams:
    factor: int  # frames a gap becomes: 3 puts two new ones between two neighbours
    gan: bool = True
    drop: int = 0  # frames left out at the end of the video, at most `factor`


StageParams = T2IParams | I2VParams | V2VParams | VFIParams


@dataclass(frozen=True)
class Plan:
    """The parameters of every stage for one request."""

    t2i: T2IParams
    i2v: I2VParams
    v2v: V2VParams
    vfi: VFIParams
    note: str = ""  # what the user should know of how the prompt was read

    def __getitem__(self, stage: StageName) -> StageParams:
        params: dict[StageName, StageParams] = {"t2i": self.t2i, "i2v": self.i2v, "v2v": self.v2v, "vfi": self.vfi}
        return params[stage]

    @property
    def frames(self) -> int:
        """Frames of the final video: F -> factor * (F - 1) + 1, without those that are dropped."""
        return self.vfi.factor * (self.i2v.frames - 1) + 1 - self.vfi.drop

    @property
    def fps(self) -> float:
        return self.i2v.fps * self.vfi.factor


@dataclass(frozen=True)
class Given:
    """What is begun with in the place of a prompt's picture: the facts of a file, as it is shown."""

    kind: Literal["picture", "video"]
    enters: StageName  # the first stage that runs
    size: tuple[int, int]  # (width, height)
    frames: int = 1
    fps: float = 0.0


MECHANISMS = ("motion", "appearance", "control", "beside", "prior", "gan", "sharing")


def without(preset: Preset, names: Sequence[str]) -> Preset:
    """The preset with some of its `MECHANISMS` switched off, for comparing.

    Raises:
        RequestError: a name that is none of them.
    """
    unknown = [name for name in names if name not in MECHANISMS]
    if unknown:
        raise RequestError(
            "without", f"There is no mechanism {unknown[0]!r} to switch off; choose from: {', '.join(MECHANISMS)}."
        )

    def guide(given: Guide) -> Guide:
        return Guide(
            image_scale=0.0 if "appearance" in names else given.image_scale,
            controls=() if "control" in names else given.controls,
            latents=given.latents and "beside" not in names,
        )

    return replace(
        preset,
        motion=preset.motion and "motion" not in names,
        i2v_guide=guide(preset.i2v_guide),
        v2v_guide=guide(preset.v2v_guide),
        prior=replace(preset.prior, weight=0.0) if "prior" in names else preset.prior,
        gan=preset.gan and "gan" not in names,
        share_spatial=preset.share_spatial and "sharing" not in names,
    )


def with_speeds(preset: Preset, told: Mapping[StageName, Mapping[str, Any]], where: str = "speed of {}") -> Preset:
    """The preset with other knobs at single stages (`stages.speed.changed`); `where` names a stage's in messages.

    Raises:
        SpeedError: an unknown knob or value, a contradiction, or one that the stage does not have.
    """
    speeds = dict(preset.speeds)
    for stage, knobs in told.items():
        speeds[stage] = changed(speeds.get(stage, EXACT), knobs, where.format(stage))
    made = replace(preset, speeds=MappingProxyType(speeds))
    for stage in told:
        made.speed(stage)
    return made
