"""The latent noise prior: video denoising starts from noise whose mean leans towards the reference picture.

The paper (arXiv 2401.04468, section 2.2) says that the mean is shifted from zero by the reference's latent; this form,
with an exact marginal and one knob for each choice, is ours:

    c_f = weight · (1 - f / F)^decay · sqrt(abar)          eps_f = sqrt(shared) · eps + sqrt(1 - shared) · eps_f'
    z_f = sigma · (c_f · z_ref + sqrt(1 - c_f²) · eps_f)   abar at the first timestep used, sigma = init_noise_sigma

weight 0 is plain noise; weight 1 with decay 0 is `scheduler.add_noise` of a still video. Knows nothing of networks.
"""

from typing import Any

import torch
from torch import Tensor

from stages.base import InputError
from stages.presets import Prior


def start_latents(reference: Tensor, noise: Tensor, shared: Tensor | None, scheduler: Any, prior: Prior) -> Tensor:
    """The latents that denoising starts from.

    Args:
        reference: (B, C, 1, h, w) the reference's scaled latent.
        noise: (B, C, F, h, w) standard normal, one draw a frame.
        shared: (B, C, 1, h, w) standard normal, the part that all frames have in common; None for none.
        scheduler: with its timesteps set.

    Raises:
        InputError: the prior's weight gives the mean more than the whole variance.
    """
    frames = noise.shape[2]
    if shared is not None and prior.shared > 0:
        noise = prior.shared**0.5 * shared + (1 - prior.shared) ** 0.5 * noise
    if prior.weight == 0:
        return noise * float(scheduler.init_noise_sigma)
    if float(scheduler.init_noise_sigma) != 1.0:  # a sigma-type scheduler: its own noising already holds the mean
        start = scheduler.timesteps[:1].repeat(len(noise))
        faded = prior.weight * fade(frames, prior.decay).to(noise)
        noised: Tensor = scheduler.add_noise(faded * reference.expand_as(noise), noise, start)
        return noised
    product = scheduler.alphas_cumprod[int(scheduler.timesteps[0])].to(noise)
    weight = prior.weight * fade(frames, prior.decay).to(noise)
    mean = weight * product.sqrt()
    if float(mean.max()) > 1:
        raise InputError(
            f"The noise prior's weight {prior.weight:g} makes the mean {float(mean.max()):.2f} of the reference, "
            f"the limit is 1; use a weight of at most {float(1 / product.sqrt()):.1f}."
        )
    start_from: Tensor = mean * reference + (1 - weight**2 * product).sqrt() * noise
    return start_from


def fade(frames: int, decay: float) -> Tensor:
    """(1, 1, F, 1, 1): (1 - f / F)^decay."""
    share: Tensor = (1 - torch.arange(frames) / frames) ** decay
    return share.view(1, 1, frames, 1, 1)
