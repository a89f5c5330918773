"""Human feedback by reward: ReFL (arXiv 2304.05977), on the base UNet.

A picture is drawn for a prompt without gradients until late in the schedule, takes one step with gradients, is decoded
as what the network then believes it to be, and judged: loss = scale · relu(margin - reward). Takes prompts and any
differentiable reward. Knows nothing of files.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from stages.base import InputError
from stages.model.network import vae as codec
from stages.model.sampling.sampler import build_scheduler
from stages.settings import Denoising
from stages.training.feedback.rewards import Reward, ask
from stages.training.feedback.spatial import SpatialTrainee
from stages.training.loop.loop import Options, Schedule, train
from stages.training.video.noising import Noising


@dataclass(frozen=True)
class ReFL:
    """The published numbers; a step without gradients costs a third of one with."""

    size: tuple[int, int]  # (width, height) of the pictures
    batch: int = 4
    steps: int = 40
    first: int = 30  # the step with gradients is drawn from first..steps-1
    scale: float = 1e-3
    margin: float = 2.0  # rewards above it are not pushed further


def train_refl(
    trainee: SpatialTrainee,
    reward: Reward,
    prompts: Sequence[str],
    recipe: ReFL,
    noise: Denoising,
    schedule: Schedule,
    work: Path,
    *,
    seed: int = 0,
    options: Options | None = None,
) -> None:
    """Train; the log has the mean reward.

    Raises:
        InputError: steps or a size that cannot be, or a reward without a gradient.
    """
    if not 0 <= recipe.first < recipe.steps:
        raise InputError(
            f"ReFL's first step with gradients is {recipe.first} of {recipe.steps}; it must be between 0 and "
            f"{recipe.steps - 1}."
        )
    latent = codec.latent_size("ReFL", codec.reduction(trainee.vae), recipe.size)
    shape = (recipe.batch, int(trainee.unet.config.in_channels), *latent)
    noising = Noising(noise)

    def loss_of(step: int, rng: random.Random) -> tuple[Tensor, dict[str, float]]:
        chosen = [rng.choice(prompts) for _ in range(recipe.batch)]
        text = trainee.read(chosen)
        scheduler = build_scheduler(noise)
        scheduler.set_timesteps(recipe.steps, device=text.states.device)
        last = rng.randrange(recipe.first, recipe.steps)
        latents = torch.randn(shape).to(text.states.device)
        with torch.no_grad():
            for t in scheduler.timesteps[:last]:
                said = trainee.say(trainee.unet, scheduler.scale_model_input(latents, t), t, text)
                latents = scheduler.step(said.float(), t, latents).prev_sample
        torch.clear_autocast_cache()  # else the step with gradients meets weights that were cast without
        times = scheduler.timesteps[last].expand(recipe.batch)
        said = trainee.say(trainee.unet, latents, times, text).float()
        pictures = trainee.draw_pictures(noising.clean_from(latents, said, times)).float()
        rewards = ask(reward, pictures, chosen)
        return recipe.scale * F.relu(recipe.margin - rewards).mean(), {"reward": float(rewards.detach().mean())}

    train("refl", trainee.all_modules(), loss_of, schedule, work, seed=seed, options=options)
