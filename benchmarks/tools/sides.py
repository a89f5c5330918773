"""Two ways to denoise with one set of weights: diffusers' pipeline, and ours; both timed at every `scheduler.step`.

Takes a `Case`: a network and what guides it. `mid_case` makes one of random parameters, about 150 million, shaped like
SD1.5 with its motion module, appearance encoder and one ControlNet, `tiny_case` one of the committed weights. Gives
`Times`. The text is encoded before the clock starts; whatever else a request needs is inside.
"""

import copy
import time
from dataclasses import dataclass, replace
from typing import Any

import diffusers
import numpy as np
import PIL.Image
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor

from stages.base import ignore_progress
from stages.model.network.appearance import Appearance
from stages.model.network.control import ControlNet, PlainControl, SparseControl, prepare_hints
from stages.model.network.network import VideoNetwork, inflate
from stages.model.sampling.denoise import Conditions, denoise, predict
from stages.presets import TINY, Control, Guide
from stages.settings import ControlKind
from stages.types import UInt8

GUIDANCE = 5.0
TEXT, WORDS, EMBEDDING = 512, 77, 512
ATTENTION = ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D")
SCHEDULE = {"beta_schedule": "linear", "clip_sample": False, "steps_offset": 1}

_NOTHING: Any = None  # the parts that turn text and pictures into tokens: the cases bring tokens


def clock() -> float:
    """Seconds: with one thread those that the process computed, which other work on the machine hardly moves."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


class TimedScheduler(diffusers.DDIMScheduler):  # type: ignore[misc]
    """DDIM that notes when each step was taken, and what came out."""

    def start(self) -> None:
        self.marks: list[float] = [clock()]
        self.taken: list[Tensor] = []

    def step(self, *args: Any, **options: Any) -> Any:
        made = super().step(*args, **options)
        self.marks.append(clock())
        self.taken.append(made[0] if isinstance(made, tuple) else made.prev_sample)
        return made


class MeanVAE(diffusers.AutoencoderKL):  # type: ignore[misc]
    """Its posterior has no width: the pipeline of SparseCtrl draws from it where we take the mean."""

    def encode(self, x: Tensor, return_dict: bool = True) -> Any:
        wide = super().encode(x).latent_dist
        return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(wide.parameters, deterministic=True))


@dataclass(frozen=True)
class Times:
    """Seconds of each step, the first with all that is done once a request; and the latents after each."""

    steps_s: tuple[float, ...]
    latents: tuple[Tensor, ...]


@dataclass(frozen=True)
class Case:
    """One network and one request for it, of `frames` frames of `side` latents."""

    network: VideoNetwork
    kind: ControlKind
    text: Tensor  # (2, L, C): negative, positive
    image: list[Tensor]  # one (2, 1, D)
    picture: UInt8  # (H, W, 3)
    noise: Tensor  # (1, C, F, h, w)

    @property
    def size(self) -> tuple[int, int]:
        return self.picture.shape[1], self.picture.shape[0]

    def cast(self, dtype: torch.dtype) -> "Case":
        """The same with a copy of the denoising network, and what enters it, in `dtype`."""
        network = copy.deepcopy(self.network)
        cast_denoisers(network, dtype)
        image = [tensor.to(dtype) for tensor in self.image]
        return replace(self, network=network, text=self.text.to(dtype), image=image, noise=self.noise.to(dtype))


def cast_denoisers(network: VideoNetwork, dtype: torch.dtype) -> None:
    """UNet and ControlNets of `network` in `dtype`; VAE and encoders stay as they are."""
    network.unet.to(dtype)
    for control in network.controls.values():
        control.model.to(dtype)
        if isinstance(control, PlainControl):
            control.embedding.to(dtype)
    network.dtype = dtype


def guide(case: Case) -> Conditions:
    """What guides the case, its picture read by the ControlNet."""
    hints = prepare_hints(
        case.network.controls,
        [Control("control", kind=case.kind)],
        {"reference": case.picture[None]},
        case.size,
        case.noise.shape[2],
    )
    return Conditions(case.text, case.image, hints, GUIDANCE, 1.0)


@torch.no_grad()
def answer(case: Case) -> Tensor:
    """What the network says about the noise, by the modules' own `forward`."""
    return predict(case.network, case.noise, torch.tensor(500), guide(case)).float()


def ours(case: Case, steps: int, *, reuse_every: int = 1) -> Times:
    """`stages.model.sampling.denoise` over the case."""
    scheduler = TimedScheduler(**SCHEDULE)
    scheduler.set_timesteps(steps)
    scheduler.start()
    denoise(
        case.network, case.noise, scheduler, scheduler.timesteps, guide(case), ignore_progress, reuse_every=reuse_every
    )
    return _times(scheduler)


def theirs(case: Case, steps: int) -> Times:
    """The pipeline of diffusers over the same modules."""
    control = case.network.controls["control"]
    if isinstance(control, PlainControl):
        control.model.controlnet_cond_embedding = control.embedding
    made = diffusers.AnimateDiffControlNetPipeline if case.kind == "plain" else _SPARSE
    scheduler = TimedScheduler(**SCHEDULE)
    pipeline = made(
        vae=case.network.vae, text_encoder=None, tokenizer=None, unet=case.network.unet, motion_adapter=None,
        controlnet=control.model, scheduler=scheduler,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    frames = case.noise.shape[2]
    negative, positive = case.text.chunk(2)
    scheduler.start()
    pipeline(
        prompt_embeds=positive, negative_prompt_embeds=negative, num_frames=frames, width=case.size[0],
        height=case.size[1], num_inference_steps=steps, guidance_scale=GUIDANCE, latents=case.noise,
        ip_adapter_image_embeds=case.image, output_type="latent",
        conditioning_frames=[PIL.Image.fromarray(case.picture)] * (frames if case.kind == "plain" else 1),
    )  # fmt: skip
    if isinstance(control, PlainControl):
        control.model.controlnet_cond_embedding = torch.nn.Identity()
    return _times(scheduler)


_SPARSE = diffusers.AnimateDiffSparseControlNetPipeline


def _times(scheduler: TimedScheduler) -> Times:
    steps = np.diff(scheduler.marks)
    return Times(tuple(float(step) for step in steps), tuple(scheduler.taken))


def tiny_case(frames: int, width: int) -> Case:
    """The committed weights at `width` pixels."""
    network = VideoNetwork.load(TINY, "cpu", motion="motion", guide=Guide(1.0, (Control("control"),)))
    assert network.appearance is not None
    picture = np.random.default_rng(1).integers(0, 256, (width, width, 3)).astype(np.uint8)
    text, image = network.text.encode(("", "a fox in the snow")).states, network.appearance.encode(picture)
    channels, side = network.channels, width // network.reduction
    return Case(network, "plain", text, image, picture, _draw(1, channels, frames, side, side))


def mid_case(kind: ControlKind, frames: int, side: int, widths: tuple[int, ...]) -> Case:
    """Random weights; `side` latents of eight pixels each."""
    torch.manual_seed(0)
    spatial = diffusers.UNet2DConditionModel(
        sample_size=side, block_out_channels=widths, down_block_types=ATTENTION,
        up_block_types=tuple(block.replace("Down", "Up") for block in reversed(ATTENTION)),
        cross_attention_dim=TEXT, attention_head_dim=8,
    )  # fmt: skip
    unet = inflate(spatial, diffusers.MotionAdapter(block_out_channels=widths))
    Appearance(_NOTHING, _adapter(unet)).install(unet)
    vae = MeanVAE(
        block_out_channels=[8] * 4, down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4, latent_channels=4, norm_num_groups=4, layers_per_block=1,
    )  # fmt: skip
    network = VideoNetwork(
        unet=unet.eval().requires_grad_(False),
        vae=vae.eval().requires_grad_(False),
        text=_NOTHING,
        appearance=_NOTHING,
        controls={"control": _control(kind, spatial, vae, widths)},
        max_frames=32,
    )
    picture = np.random.default_rng(1).integers(0, 256, (8 * side, 8 * side, 3)).astype(np.uint8)
    return Case(
        network, kind, _draw(2, WORDS, TEXT), [_draw(2, 1, EMBEDDING)], picture, _draw(1, 4, frames, side, side)
    )


def parameters(case: Case) -> int:
    """Of UNet, motion module and ControlNet."""
    return sum(p.numel() for module in case.network.denoisers for p in module.parameters())


def _draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def _control(kind: ControlKind, spatial: Any, vae: Any, widths: tuple[int, ...]) -> ControlNet:
    model: Any
    if kind == "plain":
        model = diffusers.ControlNetModel.from_unet(spatial)
    else:
        model = diffusers.SparseControlNetModel(
            in_channels=4, conditioning_channels=4, block_out_channels=widths, cross_attention_dim=TEXT,
            down_block_types=tuple(block.replace("2D", "Motion") for block in ATTENTION), attention_head_dim=8,
            use_simplified_condition_embedding=True,
        )  # fmt: skip
    embedding = model.controlnet_cond_embedding
    silent = (model.controlnet_down_blocks, model.controlnet_mid_block, getattr(embedding, "conv_out", embedding))
    for module in silent:  # zeros in a fresh one
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    model.eval().requires_grad_(False)
    return PlainControl(model) if kind == "plain" else SparseControl(model, vae)


def _adapter(unet: Any) -> dict[str, dict[str, Tensor]]:
    """Random weights of the global form of the appearance encoder."""
    attention: dict[str, Tensor] = {}
    layers = [name for name in unet.attn_processors if name.endswith("attn2.processor") and "motion" not in name]
    for index, name in enumerate(layers):
        width = unet.get_submodule(name.removesuffix(".processor")).inner_dim
        for part in ("to_k_ip", "to_v_ip"):
            attention[f"{2 * index + 1}.{part}.weight"] = 0.05 * torch.randn(width, TEXT)
    image = {
        "proj.weight": 0.05 * torch.randn(4 * TEXT, EMBEDDING),
        "proj.bias": torch.zeros(4 * TEXT),
        "norm.weight": torch.ones(TEXT),
        "norm.bias": torch.zeros(TEXT),
    }
    return {"image_proj": image, "ip_adapter": attention}
