"""The base UNet while human feedback trains it: whole, or at a low rank.

Takes the parts `unet`, `vae` and the text encoder of a preset, as the stages load them; the UNet is the spatial
backbone of I2V and V2V unless they have one of their own, and of T2I where a preset draws with it. Gives latents'
predictions with gradients, and saves the part `unet`, with the low-rank change beside it. Knows nothing of rewards or
preferences.
"""

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn

from stages.model.network import vae as codec
from stages.model.network.text import Text, TextEncoder, beside_time, read
from stages.model.weights.loading import load_module
from stages.presets import Preset
from stages.settings import Denoising
from stages.training.video.lora import Lora, add_lora
from stages.training.video.trainee import save_part


class SpatialTrainee:
    """A UNet that learns, and the frozen parts around it."""

    def __init__(self, unet: UNet2DConditionModel, vae: AutoencoderKL, text: TextEncoder, rank: int = 0) -> None:
        self.unet, self.vae, self.text = unet, vae, text
        self.lora: Lora | None = add_lora(unet, rank) if rank else None
        if not rank:
            unet.requires_grad_(True)

    @classmethod
    def load(cls, preset: Preset, device: str, rank: int = 0) -> Self:
        """`rank` 0 trains the whole UNet.

        Raises:
            WeightsError: a part is missing or broken.
            InputError: a rank that cannot be.
        """
        return cls(
            load_module(preset, "unet", UNet2DConditionModel, device, torch.float32),
            load_module(preset, "vae", AutoencoderKL, device, torch.float32),
            TextEncoder.load(preset, device, torch.float32),
            rank,
        )

    def all_modules(self) -> nn.ModuleDict:
        return nn.ModuleDict({"unet": self.unet})

    def reference(self) -> Any:
        """The UNet as it is before training, to be called under `as_before`: itself at a low rank, else a copy."""
        return self.unet if self.lora is not None else copy.deepcopy(self.unet).requires_grad_(False).eval()

    def as_before(self) -> AbstractContextManager[None]:
        return self.lora.off() if self.lora is not None else nullcontext()

    @torch.no_grad()
    def read(self, prompts: Sequence[str]) -> Text:
        """What the text encoder, which does not learn, makes of them."""
        return read(self.text.model, self.text.tokenizer, prompts)

    def say(self, unet: Any, noised: Tensor, times: Tensor, text: Text) -> Tensor:
        """What `unet`, this one or its reference, says about latents (B, C, h, w)."""
        height, width = (side * codec.reduction(self.vae) for side in noised.shape[2:])
        added = beside_time(unet, text.pooled, (width, height))
        said: Tensor = unet(noised, times, text.states, added_cond_kwargs=added).sample
        return said

    def draw_pictures(self, latents: Tensor) -> Tensor:
        """(B, 3, H, W) in about -1..1 from scaled latents; with gradients."""
        return codec.decode_raw(self.vae, latents.to(self.vae.dtype) / self.vae.config.scaling_factor)

    def save(self, out: Path, dtype: torch.dtype) -> list[str]:
        """Write the part `unet`, and `lora` where there is one; ends the training."""
        written = ["unet"]
        if self.lora is not None:
            self.lora.save(out / "lora", dtype)
            self.lora.merge()
            self.lora = None
            written.append("lora")
        save_part(self.unet, out / "unet", dtype)
        return written


def base_noise(preset: Preset) -> Denoising:
    """The noise schedule of the base UNet without a motion module: public adapters ask for another one than SD1.5."""
    return replace(preset.i2v, scheduler="ddim", beta_schedule="scaled_linear")
