"""The RGB ControlNet: what the reference picture (or each keyframe) looks like, added into the UNet's features.

`plain` reads RGB: the same picture for all frames, or one a frame. `sparse` (SparseCtrl-RGB, arXiv 2311.16933) reads
the reference's latent at frame 0 and spreads it by its own motion layers. The condition is embedded once a request,
not once a step. Gives residuals as UNetMotionModel takes them: a tuple for the way down and one for the middle.
"""

from collections.abc import Callable
from typing import Any, Self

import torch
from diffusers import AutoencoderKL, ControlNetModel, SparseControlNetModel
from torch import Tensor, nn

from stages.model import vae as codec
from stages.model.loading import load_module
from stages.model.pictures import resize_frames
from stages.presets import ControlKind, Preset
from stages.types import UInt8

Residuals = tuple[tuple[Tensor, ...], Tensor]
ControlFn = Callable[[Tensor, Tensor, Tensor], Residuals]  # latents (B, C, F, h, w), time, text (B·F, L, C)


class PlainControl:
    """A ControlNetModel whose condition embedding is taken out of the step."""

    def __init__(self, model: ControlNetModel) -> None:
        self.model = model
        self.embedding: nn.Module = model.controlnet_cond_embedding
        model.controlnet_cond_embedding = nn.Identity()

    @classmethod
    def load(cls, preset: Preset, part: str, device: str, dtype: torch.dtype) -> Self:
        """Raises: WeightsError."""
        return cls(load_module(preset, part, ControlNetModel, device, dtype))

    @torch.no_grad()
    def prepare(self, pictures: UInt8, size: tuple[int, int], frames: int, scale: float) -> ControlFn:
        """A function of the step for 1 or `frames` pictures (N, H, W, 3) at the (width, height) of the video."""
        rgb = codec.to_tensor(resize_frames(pictures, size), self.model.device, self.model.dtype)
        embedded = self.embedding((rgb + 1) / 2).expand(frames, -1, -1, -1)  # ControlNets read RGB in 0..1

        def residuals(latents: Tensor, time: Tensor, text: Tensor) -> Residuals:
            flat = latents.transpose(1, 2).flatten(0, 1)
            condition = embedded.repeat(len(latents), 1, 1, 1)
            down, mid = self.model(flat, time, text, condition, conditioning_scale=scale, return_dict=False)
            return tuple(down), mid

        return residuals


class SparseControl:
    """A SparseControlNetModel over the latent of the first frame."""

    def __init__(self, model: SparseControlNetModel, vae: AutoencoderKL) -> None:
        self.model = model
        self._vae = vae

    @classmethod
    def load(cls, preset: Preset, part: str, vae: AutoencoderKL, device: str, dtype: torch.dtype) -> Self:
        """Raises: WeightsError."""
        return cls(load_module(preset, part, SparseControlNetModel, device, dtype), vae)

    @torch.no_grad()
    def prepare(self, pictures: UInt8, size: tuple[int, int], frames: int, scale: float) -> ControlFn:
        """A function of the step for the first of `pictures`."""
        rgb = codec.to_tensor(resize_frames(pictures[:1], size), self.model.device, self._vae.dtype)
        latent = codec.encode(self._vae, rgb).to(self.model.dtype)
        condition = latent.new_zeros((1, latent.shape[1], frames, *latent.shape[2:]))
        condition[:, :, 0] = latent
        mask = latent.new_zeros((1, 1, frames, *latent.shape[2:]))
        mask[:, :, 0] = 1

        def residuals(latents: Tensor, time: Tensor, text: Tensor) -> Residuals:
            count = len(latents)
            down, mid = self.model(
                latents,
                time,
                encoder_hidden_states=text,
                controlnet_cond=condition.repeat(count, 1, 1, 1, 1),
                conditioning_mask=mask.repeat(count, 1, 1, 1, 1),
                conditioning_scale=scale,
                return_dict=False,
            )
            return tuple(down), mid

        return residuals


Control = PlainControl | SparseControl


def load_control(
    preset: Preset, part: str, kind: ControlKind, vae: AutoencoderKL, device: str, dtype: torch.dtype
) -> Control | None:
    """The ControlNet of that kind; None for "none".

    Raises:
        WeightsError: the part is missing or broken.
    """
    if kind == "none":
        return None
    if kind == "sparse":
        return SparseControl.load(preset, part, vae, device, dtype)
    return PlainControl.load(preset, part, device, dtype)


def control_parameters(control: Any) -> nn.ModuleDict:
    """Everything of a plain control that is trained or saved, the embedding included."""
    return nn.ModuleDict({"model": control.model, "embedding": control.embedding})
