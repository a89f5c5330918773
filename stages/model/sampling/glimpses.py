"""A rough picture of latents while they are denoised, for whoever watches.

Takes what a step has left, the guess at clean latents where the scheduler makes one; gives (h, w, 3) uint8, a pixel a
latent, by one linear map from latents to colours. The map is fitted to what the VAE makes of a few soft pictures, once,
and only for a `report` that has a `glimpse`. Changes nothing of what is computed; draws from no generator of a call.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from stages.base import Report
from stages.model.network import vae as codec
from stages.types import UInt8

_PICTURES, _SIDE = 3, 8  # that the map is fitted to, and their latents a side

Glimpse = Callable[[Callable[[], UInt8]], None]
"""What `report.glimpse` is: told after a step how its picture is made, which it may do."""


class Colours:
    """Of the latents of one VAE."""

    def __init__(self, vae: AutoencoderKL) -> None:
        self._vae = vae
        self._map: Tensor | None = None  # (C + 1, 3)

    def fit(self, report: Report) -> None:
        """Make the map, if this `report` is to show pictures; the VAE has been lent."""
        if self._map is None and glimpse_of(report) is not None:
            self._map = _fitted(self._vae)

    def show(self, report: Report, scheduler: Any, stepped: Any) -> None:
        """Offer a picture of a step that has been taken.

        Args:
            stepped: what the scheduler gave: (1, C, h, w), or (1, C, F, h, w), of which the middle frame is shown.
        """
        glimpse = glimpse_of(report)
        if glimpse is not None and self._map is not None:
            glimpse(partial(_picture, _guess(scheduler, stepped), self._map))


def glimpse_of(report: Report) -> Glimpse | None:
    """What it does with pictures, if anything."""
    return getattr(report, "glimpse", None)


def _guess(scheduler: Any, stepped: Any) -> Tensor:
    """The clean latents as the step sees them; DPM-Solver++ keeps them for its next step, LCM calls them denoised."""
    kept = getattr(scheduler, "model_outputs", None)
    found = [getattr(stepped, name, None) for name in ("pred_original_sample", "denoised")]
    guess: Tensor = next((one for one in found if one is not None), kept[-1] if kept else stepped.prev_sample)
    return guess


@torch.no_grad()
def _picture(latents: Tensor, colours: Tensor) -> UInt8:
    one = latents[0] if latents.dim() == 4 else latents[0, :, latents.shape[2] // 2]
    channels = one.float().cpu().permute(1, 2, 0)
    drawn = channels @ colours[:-1] + colours[-1]
    pixels: UInt8 = codec.to_pixels(drawn.permute(2, 0, 1)[None])[0]
    return pixels


@torch.no_grad()
def _fitted(vae: AutoencoderKL) -> Tensor:
    """(C + 1, 3): least squares from the latents of soft pictures to the mean colour below each."""
    reduction = codec.reduction(vae)
    points = torch.rand((_PICTURES, 3, _SIDE, _SIDE), generator=torch.Generator("cpu").manual_seed(0)) * 2 - 1
    pictures = F.interpolate(points, scale_factor=reduction, mode="bilinear")
    latents = codec.encode(vae, pictures).float().cpu().permute(0, 2, 3, 1).flatten(0, 2)
    means = F.avg_pool2d(pictures, reduction).permute(0, 2, 3, 1).flatten(0, 2)
    fitted: Tensor = torch.linalg.lstsq(torch.cat([latents, torch.ones(len(latents), 1)], 1), means).solution
    return fitted
