"""Schedulers, and noise that does not depend on where it is drawn.

Takes a preset's `Denoising`; gives a scheduler of diffusers, its timesteps and seeded noise. Knows nothing of networks.
"""

from typing import Any

import diffusers
import torch
from torch import Tensor

from stages.base import derive_seed
from stages.presets import Denoising, SchedulerName

TRAIN_STEPS = 1000

_CLASSES: dict[SchedulerName, str] = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "lcm": "LCMScheduler",
}


def build_scheduler(denoising: Denoising) -> Any:
    """A fresh scheduler, its timesteps not yet set; schedulers keep state, so each call of a stage has its own."""
    options: dict[str, Any] = {
        "num_train_timesteps": TRAIN_STEPS,
        "beta_start": denoising.beta_start,
        "beta_end": denoising.beta_end,
        "beta_schedule": denoising.beta_schedule,
        "prediction_type": denoising.prediction_type,
        "timestep_spacing": denoising.timestep_spacing,
        "rescale_betas_zero_snr": denoising.zero_terminal_snr,
        "steps_offset": 1 if denoising.timestep_spacing == "leading" else 0,
    }
    if denoising.scheduler in ("ddim", "lcm"):
        options |= {"clip_sample": False, "set_alpha_to_one": False}
    return getattr(diffusers, _CLASSES[denoising.scheduler])(**options)


def draw_noise(shape: tuple[int, ...], seed: int, *names: str | int) -> Tensor:
    """Standard normal float32 on the CPU, from a generator of its own for (seed, names)."""
    generator = torch.Generator("cpu").manual_seed(derive_seed(seed, *names))
    return torch.randn(shape, generator=generator)


def draws_noise(scheduler: Any) -> bool:
    """Whether its steps draw noise, for which they are then given a generator (LCM)."""
    return type(scheduler).__name__ == "LCMScheduler"


def tail_timesteps(scheduler: Any, strength: float) -> Tensor:
    """The last `strength` of the timesteps that are set: what is left after renoising.

    As many as the pipelines of diffusers leave, which round down; but at least one.
    """
    timesteps: Tensor = scheduler.timesteps
    count = min(len(timesteps), max(1, int(len(timesteps) * strength)))
    order = int(getattr(scheduler, "order", 1))
    first = len(timesteps) - count
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first * order)
    return timesteps[first:]
