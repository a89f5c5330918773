"""The RGB ControlNets: what the reference picture (or each keyframe) looks like, added into the UNet's features.

`plain` reads RGB: the same picture for all frames (the paper's form), or one a frame (the tile ControlNet of the
hub). `sparse` (SparseCtrl-RGB, arXiv 2311.16933) reads the reference's latent at frame 0 and spreads it by its own
motion layers. Any number of them at once: their residuals are added. What depends on the picture alone is computed
once a request, not once a step. Gives residuals as UNetMotionModel takes them: a tuple for the way down and one for
the middle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np
import torch
from diffusers import AutoencoderKL, ControlNetModel, SparseControlNetModel
from torch import Tensor, nn

from stages.base import InputError
from stages.model.network import fast
from stages.model.network import vae as codec
from stages.model.network.layers import Frames, Tokens
from stages.model.network.pictures import resize_frames
from stages.model.weights.loading import load_module
from stages.presets import Control, Preset
from stages.types import UInt8

Residuals = tuple[tuple[Tensor, ...], Tensor]
FrameResiduals = tuple[tuple[Frames, ...], Frames]


class Hint(Protocol):
    """One ControlNet with its condition, for B requests of F frames."""

    @property
    def model(self) -> Any:
        """The network that makes the residuals."""

    def __call__(self, latents: Tensor, time: Tensor, text: Tensor) -> Residuals:
        """Residuals of one step.

        Args:
            latents: (k·B, C, F, h, w): k copies of the requests in order.
            text: (k·B·F, L, C).
        """

    def residuals(self, latents: Tensor, time: Tensor, tokens: Tokens, copies: int) -> FrameResiduals:
        """The same numbers for `copies` of `latents` (B, C, F, h, w), without repeated work
        (`stages.model.network.fast`).
        """

    def equals(self, other: Any) -> bool:
        """Whether the residuals of both are the same at every step, whatever the latents are."""

    def cut(self, start: int, stop: int) -> "Hint":
        """The same for the frames start..stop alone."""


@dataclass(frozen=True)
class PlainHint:
    """`embedded` is (B, F, C, h, w): what the condition embedding made of the pictures."""

    model: ControlNetModel
    embedded: Tensor
    scale: float

    def __call__(self, latents: Tensor, time: Tensor, text: Tensor) -> Residuals:
        flat = latents.transpose(1, 2).flatten(0, 1)
        condition = self.embedded.repeat(len(latents) // len(self.embedded), 1, 1, 1, 1).flatten(0, 1)
        down, mid = self.model(flat, time, text, condition, conditioning_scale=self.scale, return_dict=False)
        return tuple(down), mid

    def residuals(self, latents: Tensor, time: Tensor, tokens: Tokens, copies: int) -> FrameResiduals:
        return fast.scale(fast.control_plain(self.model, latents, time, self.embedded, tokens, copies), self.scale)

    def equals(self, other: Any) -> bool:
        return False  # it reads the latents

    def cut(self, start: int, stop: int) -> Hint:
        return replace(self, embedded=self.embedded[:, start:stop])


@dataclass(frozen=True)
class SparseHint:
    """`condition` is (B, C, F, h, w), `mask` (B, 1, F, h, w): 1 in the frames that have a picture."""

    model: SparseControlNetModel
    condition: Tensor
    mask: Tensor
    scale: float

    def __call__(self, latents: Tensor, time: Tensor, text: Tensor) -> Residuals:
        copies = len(latents) // len(self.condition)
        down, mid = self.model(
            latents,
            time,
            encoder_hidden_states=text,
            controlnet_cond=self.condition.repeat(copies, 1, 1, 1, 1),
            conditioning_mask=self.mask.repeat(copies, 1, 1, 1, 1),
            conditioning_scale=self.scale,
            return_dict=False,
        )
        return tuple(down), mid

    def residuals(self, latents: Tensor, time: Tensor, tokens: Tokens, copies: int) -> FrameResiduals:
        made = fast.control_sparse(self.model, time, self._read, self._places, tokens, copies)
        return fast.scale(made, self.scale)

    def equals(self, other: Any) -> bool:
        return (
            isinstance(other, SparseHint)
            and (self.model, self.scale) == (other.model, other.scale)
            and torch.equal(self._read, other._read)
        )

    @cached_property
    def _read(self) -> Tensor:
        """(B, C, F, h, w): all that the model sees."""
        return torch.cat([self.condition, self.mask], 1) if self.model.concat_conditioning_mask else self.condition

    @cached_property
    def _places(self) -> tuple[int, ...]:
        """For every frame, which of the different ones it is."""
        different: list[Tensor] = []
        places = []
        for frame in self._read.unbind(2):
            match = (index for index, known in enumerate(different) if torch.equal(known, frame))
            places.append(next(match, len(different)))
            if places[-1] == len(different):
                different.append(frame)
        if len(different) == 1:  # a single row would be rounded otherwise
            places[1:] = [1] * (len(places) - 1)
        return tuple(places)

    def cut(self, start: int, stop: int) -> Hint:
        return replace(self, condition=self.condition[:, :, start:stop], mask=self.mask[:, :, start:stop])


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
    def prepare(self, pictures: UInt8, size: tuple[int, int], frames: int, scale: float) -> PlainHint:
        """For 1 or `frames` pictures (N, H, W, 3) at the (width, height) of the video."""
        weight = next(self.embedding.parameters())
        pixels = torch.from_numpy(np.array(resize_frames(pictures, size))).to(weight.device)
        rgb = (pixels.permute(0, 3, 1, 2).float() / 255).to(weight.dtype)  # ControlNets read RGB in 0..1
        rows = rgb.expand(2, -1, -1, -1) if len(rgb) == 1 else rgb  # a single row is rounded otherwise than several
        embedded = self.embedding(rows)[: len(rgb)]
        return PlainHint(self.model, embedded.expand(frames, -1, -1, -1)[None], scale)


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
    def prepare(self, pictures: UInt8, size: tuple[int, int], frames: int, scale: float) -> SparseHint:
        """For the first of `pictures` (N, H, W, 3)."""
        rgb = codec.to_tensor(resize_frames(pictures[:1], size), self._vae.device, self._vae.dtype)
        latent = codec.encode(self._vae, rgb).to(self.model.dtype)
        condition = latent.new_zeros((1, latent.shape[1], frames, *latent.shape[2:]))
        condition[:, :, 0] = latent
        mask = latent.new_zeros((1, 1, frames, *latent.shape[2:]))
        mask[:, :, 0] = 1
        return SparseHint(self.model, condition, mask, scale)


ControlNet = PlainControl | SparseControl


def load_controls(
    preset: Preset, controls: Sequence[Control], vae: AutoencoderKL, device: str, dtype: torch.dtype
) -> dict[str, ControlNet]:
    """The ControlNet of every part that `controls` names.

    Raises:
        WeightsError: a part is missing or broken.
    """
    return {
        control.part: SparseControl.load(preset, control.part, vae, device, dtype)
        if control.kind == "sparse"
        else PlainControl.load(preset, control.part, device, dtype)
        for control in controls
    }


def prepare_hints(
    loaded: Mapping[str, ControlNet],
    controls: Sequence[Control],
    pictures: Mapping[str, UInt8],
    size: tuple[int, int],
    frames: int,
) -> tuple[Hint, ...]:
    """Every control that is on (its scale is not 0), with its picture: `pictures` by `Control.image`, (N, H, W, 3).

    Raises:
        InputError: a control whose weights were not loaded.
    """
    hints = []
    for control in controls:
        if control.part not in loaded:
            raise InputError(
                f"ControlNet {control.part!r} is not loaded, only {', '.join(loaded) or 'none'}; "
                f"name it in the preset's guide, so that the stage loads it."
            )
        if control.scale:
            hints.append(loaded[control.part].prepare(pictures[control.image], size, frames, control.scale))
    return tuple(hints)


def add_up(hints: Sequence[Hint], latents: Tensor, time: Tensor, text: Tensor) -> tuple[Any, Any]:
    """The residuals of all hints, added; (None, None) for no hint. Arguments as in `Hint`."""
    down: tuple[Tensor, ...] | None = None
    mid: Tensor | None = None
    for hint in hints:
        more_down, more_mid = hint(latents, time, text)
        down = more_down if down is None else tuple(a + b for a, b in zip(down, more_down, strict=True))
        mid = more_mid if mid is None else mid + more_mid
    return down, mid
