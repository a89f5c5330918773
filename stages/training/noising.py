"""The training side of diffusion: noise a clean latent to a random time, and what the network should say about it.

Takes a preset's `Denoising`, so that training and sampling share one noise schedule. Knows nothing of networks.
"""

import torch
from torch import Tensor

from stages.model.sampler import TRAIN_STEPS, build_scheduler
from stages.presets import Denoising


class Noising:
    """One noise schedule with velocity targets."""

    def __init__(self, denoising: Denoising) -> None:
        if denoising.prediction_type != "v_prediction":
            raise ValueError(f"Training here predicts velocity, the preset says {denoising.prediction_type!r}.")
        products: Tensor = build_scheduler(denoising).alphas_cumprod
        self._signal = products.sqrt()
        self._noise = (1 - products).sqrt()

    def draw_times(self, count: int, low: int = 0, high: int = TRAIN_STEPS) -> Tensor:
        """(count,) times in low..high, spread evenly over the batch."""
        places = (torch.rand(()) + torch.arange(count) / count) % 1
        return (low + places * (high - low)).long()[torch.randperm(count)]

    def __call__(self, clean: Tensor, times: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """(noised latents, velocity), both shaped as `clean` (N, ...); `times` is (N,)."""
        shape = (-1, *([1] * (clean.ndim - 1)))
        signal, spread = self._signal[times].view(shape), self._noise[times].view(shape)
        return signal * clean + spread * noise, signal * noise - spread * clean
