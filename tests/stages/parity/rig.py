"""One set of random modules, run by our loop and by a pipeline of diffusers.

Three levels, narrow, with attention at the coarsest, so that latents of 75 and 131 positions take seconds. `Rig.ours`
denoises with `stages.model.sampling.denoise`, on either of its two paths: "once", where repeated work is done once, and
"forward", by the modules' own `forward`, which is taken where a module has a hook (offloading). `Rig.pipeline` puts the
same modules into a class of diffusers. The pipelines draw a sample from the VAE's posterior where we take its mean;
`MeanVAE` makes both the mean.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import PIL.Image
import torch
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from diffusers import AutoencoderKL, ControlNetModel, MotionAdapter, SparseControlNetModel, UNet2DConditionModel
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor

from stages.base import ignore_progress
from stages.model.network.appearance import Appearance, split_adapter
from stages.model.network.control import PlainControl, SparseControl, prepare_hints
from stages.model.network.network import VideoNetwork, inflate
from stages.model.network.text import TextEncoder
from stages.model.sampling.denoise import Conditions, condition, denoise
from stages.model.sampling.sampler import build_scheduler
from stages.presets import PAPER, Control, Denoising, SchedulerName
from stages.types import UInt8
from tests.stages import random_parts as parts

SCHEDULERS: tuple[SchedulerName, ...] = ("ddim", "euler", "dpmpp_2m", "lcm")
WIDTHS = (16, 16, 32)
DOWN = ("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D")
UP = ("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D")
PATHS = ("once", "forward")
ROUNDING = 2e-5  # of the largest number: what another order of additions may change, where a test says so
PROMPT, NEGATIVE = "a fox", "blur"
GUIDANCE = 5.0
SMALL = (40, 40)  # pixels: 5 latents


class MeanVAE(AutoencoderKL):  # type: ignore[misc]
    """Its posterior has no width."""

    def encode(self, x: Tensor, return_dict: bool = True) -> Any:
        wide = super().encode(x).latent_dist
        return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(wide.parameters, deterministic=True))


def mean_vae(vae: AutoencoderKL) -> MeanVAE:
    """With the weights of `vae`."""
    made = MeanVAE.from_config(vae.config)
    made.load_state_dict(vae.state_dict())
    quiet: MeanVAE = made.eval().requires_grad_(False)
    return quiet


def make_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=WIDTHS, layers_per_block=1, down_block_types=DOWN, up_block_types=UP,
        cross_attention_dim=parts.TEXT, attention_head_dim=4, norm_num_groups=8,
    )  # fmt: skip


def make_motion() -> MotionAdapter:
    return MotionAdapter(
        block_out_channels=WIDTHS, motion_layers_per_block=1, motion_num_attention_heads=2, motion_norm_num_groups=8
    )


def make_sparse() -> SparseControlNetModel:
    sparse = SparseControlNetModel(
        in_channels=4, conditioning_channels=4, block_out_channels=WIDTHS, layers_per_block=1,
        down_block_types=("DownBlockMotion", "DownBlockMotion", "CrossAttnDownBlockMotion"),
        cross_attention_dim=parts.TEXT, attention_head_dim=4, norm_num_groups=8, motion_num_attention_heads=2,
        use_simplified_condition_embedding=True,
    )  # fmt: skip
    parts.wake(sparse)
    return sparse


def make_adapter(unet: Any, *, by_patches: bool) -> dict[str, Tensor]:
    """The published file of an adapter for `unet`: one global embedding, or patches that are resampled."""
    made = parts.patch_adapter() if by_patches else parts.global_adapter()
    file = {name: tensor for name, tensor in made.items() if name.startswith("image_proj.")}
    layers = [name for name in unet.attn_processors if "attn2" in name and "motion_modules" not in name]
    for position, name in enumerate(layers):
        width = unet.get_submodule(name.removesuffix(".processor")).to_q.out_features
        for kind in ("k", "v"):
            file[f"ip_adapter.{2 * position + 1}.to_{kind}_ip.weight"] = torch.randn(width, parts.TEXT) * 0.2
    return file


@dataclass(frozen=True)
class Rig:
    """`network` is what our loop runs; `bare` is its UNet without the appearance encoder; `nets` are its ControlNets
    as they were published."""

    network: VideoNetwork
    spatial: UNet2DConditionModel
    bare: Any
    nets: Mapping[str, Any]

    def guide(
        self,
        reference: UInt8,
        frames: int,
        *,
        prompt: str = PROMPT,
        image_scale: float = 1.0,
        controls: Sequence[Control] = (),
        pictures: Mapping[str, UInt8] | None = None,
        size: tuple[int, int] = SMALL,
        guidance: float = GUIDANCE,
    ) -> Conditions:
        said = (NEGATIVE, prompt)
        given = condition(self.network, said, reference, size, guidance=guidance, image_scale=image_scale)
        shown = pictures or {"reference": reference[None]}
        return replace(given, hints=prepare_hints(self.network.controls, controls, shown, size, frames))

    def ours(
        self,
        noise: Tensor,
        given: Conditions,
        denoising: Denoising,
        timesteps: int | None = None,
        path: str = "once",
        **options: Any,
    ) -> Tensor:
        """From unscaled noise, or with latents that are noised already over the last `timesteps` of the schedule."""
        scheduler = build_scheduler(denoising)
        scheduler.set_timesteps(denoising.steps)
        start = noise * scheduler.init_noise_sigma if timesteps is None else noise
        left = scheduler.timesteps if timesteps is None else scheduler.timesteps[-timesteps:]
        draws = torch.Generator().manual_seed(5)
        with hooked(self.network.unet) if path == "forward" else nullcontext():
            return denoise(self.network, start, scheduler, left, given, ignore_progress, generator=draws, **options)

    def pipeline(
        self, kind: Any, denoising: Denoising, *nets: str, bare: bool = False, image_scale: float = 1.0
    ) -> Any:
        """A pipeline of diffusers over the same modules; call it before `ours` sets another scale."""
        options: dict[str, Any] = {"motion_adapter": None, "unet": self.bare if bare else self.network.unet}
        if nets:
            models = [self.nets[name] for name in nets]
            options["controlnet"] = models if len(models) > 1 else models[0]
        assert self.network.appearance is not None
        made = kind(
            vae=self.network.vae, text_encoder=self.network.text.model, tokenizer=self.network.text.tokenizer,
            image_encoder=self.network.appearance.encoder, scheduler=build_scheduler(denoising), **options,
        )  # fmt: skip
        made.set_progress_bar_config(disable=True)
        if not bare:
            made.set_ip_adapter_scale(image_scale)
        return made


@contextmanager
def hooked(module: Any) -> Iterator[None]:
    """With a hook that does nothing, as offloading puts one."""
    add_hook_to_module(module, ModelHook())
    try:
        yield
    finally:
        remove_hook_from_module(module)


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest, over the largest number of theirs: random networks let latents grow."""
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1))


def assert_equal(ours: Tensor, theirs: Tensor, path: str) -> None:
    """Bit for bit by the modules' own `forward`; where work is done once, up to the order of additions."""
    apart = difference(ours, theirs)
    assert torch.equal(ours, theirs) if path == "forward" else apart < ROUNDING, f"{apart:.2g} apart"


def make_rig(*, by_patches: bool = False) -> Rig:
    torch.manual_seed(0)
    spatial, vae = make_unet().eval(), mean_vae(parts.make_vae())
    bare = inflate(spatial, make_motion()).eval()
    unet = copy.deepcopy(bare)
    appearance = Appearance(parts.make_image_encoder().eval(), split_adapter(make_adapter(unet, by_patches=by_patches)))
    appearance.install(unet)
    plain, tile = (parts.make_control(spatial).eval() for _ in range(2))
    sparse = make_sparse().eval()
    network = VideoNetwork(
        unet=unet,
        vae=vae,
        text=TextEncoder(parts.make_tokenizer(), parts.make_text().eval()),
        appearance=appearance,
        controls={
            "plain": PlainControl(copy.deepcopy(plain)),
            "tile": PlainControl(copy.deepcopy(tile)),
            "sparse": SparseControl(sparse, vae),
        },
        max_frames=32,
    )
    nets: dict[str, ControlNetModel | SparseControlNetModel] = {"plain": plain, "tile": tile, "sparse": sparse}
    return Rig(network, spatial, bare, nets)


def settings(scheduler: SchedulerName, steps: int = 3) -> Denoising:
    return replace(PAPER.i2v, scheduler=scheduler, steps=steps, guidance=GUIDANCE)


def call(denoising: Denoising, size: tuple[int, int] = SMALL, **options: Any) -> dict[str, Any]:
    """What every pipeline is called with."""
    return {
        "prompt": PROMPT, "negative_prompt": NEGATIVE, "width": size[0], "height": size[1],
        "num_inference_steps": denoising.steps, "guidance_scale": denoising.guidance, "output_type": "latent",
        "generator": torch.Generator().manual_seed(5), **options,
    }  # fmt: skip


def draw(frames: int, latents: int = 5, seed: int = 7) -> Tensor:
    """(1, 4, F, h, w) standard normal."""
    return torch.randn((1, 4, frames, latents, latents), generator=torch.Generator().manual_seed(seed))


def picture(size: tuple[int, int] = SMALL, seed: int = 1) -> UInt8:
    """(H, W, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)


def images(pictures: UInt8) -> list[PIL.Image.Image]:
    return [PIL.Image.fromarray(picture) for picture in pictures]
