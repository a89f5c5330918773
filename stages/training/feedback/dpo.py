"""Human feedback by preference: Diffusion-DPO (arXiv 2311.12908), on the base UNet.

Of two pictures of one caption one is better. Both are noised alike; the network learns to be more right about the
better one, and less about the worse one, than it was before training:

    margin = (error_worse - error_better) - (the same of the reference)      loss = -log sigmoid(beta · margin)

Takes pairs as latents. Knows nothing of files.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from stages.base import InputError
from stages.model.network.text import Text
from stages.settings import Denoising
from stages.training.feedback.spatial import SpatialTrainee
from stages.training.loop.loop import Options, Schedule, train
from stages.training.video.batches import Batch
from stages.training.video.noising import Noising

BETA = 2500.0  # the published 5000, whose formula halves it


class PairSource(Protocol):
    """An endless supply of pairs."""

    def draw(self, count: int, rng: random.Random) -> tuple[Batch, Batch]:
        """The better ones and the worse ones: clips of one frame, the same captions."""


def train_dpo(
    trainee: SpatialTrainee,
    pairs: PairSource,
    noise: Denoising,
    schedule: Schedule,
    work: Path,
    *,
    batch: int = 4,
    beta: float = BETA,
    seed: int = 0,
    options: Options | None = None,
) -> None:
    """Train; the log has the mean margin and the share of pairs in whose favour it is.

    Raises:
        InputError: a beta that is not above 0.
    """
    if not beta > 0:
        raise InputError(f"DPO's beta is {beta:g}; it must be above 0, 1000 to 2500 are usual.")
    noising, reference = Noising(noise), trainee.reference()

    def loss_of(step: int, rng: random.Random) -> tuple[Tensor, dict[str, float]]:
        better, worse = pairs.draw(batch, rng)
        clean = (better.latents[:, 0], worse.latents[:, 0])
        times, drawn = noising.draw_times(batch), torch.randn_like(clean[0])
        margins = margin(trainee, reference, *clean, better.captions, times, drawn, noising)
        figures = {"margin": float(margins.detach().mean()), "accuracy": float((margins > 0).float().mean())}
        return -F.logsigmoid(beta * margins).mean(), figures

    train("dpo", trainee.all_modules(), loss_of, schedule, work, seed=seed, options=options)


def margin(
    trainee: SpatialTrainee,
    reference: Any,
    better: Tensor,
    worse: Tensor,
    captions: Sequence[str],
    times: Tensor,
    noise: Tensor,
    noising: Noising,
) -> Tensor:
    """(B,): by how much training has moved the network in favour of the better latents (B, C, h, w); 0 before it."""
    told = trainee.read(captions)
    text = Text(told.states.repeat(2, 1, 1), told.pooled.repeat(2, 1))
    noised, target = noising(torch.cat([better, worse]), times.repeat(2), noise.repeat(2, 1, 1, 1))
    both = times.repeat(2).to(noised.device)
    with torch.no_grad(), trainee.as_before():
        before = _error(trainee.say(reference, noised, both, text), target)
    now = _error(trainee.say(trainee.unet, noised, both, text), target)
    better_now, worse_now = now.chunk(2)
    better_before, worse_before = before.chunk(2)
    return (worse_now - better_now) - (worse_before - better_before)


def _error(said: Tensor, target: Tensor) -> Tensor:
    return ((said.float() - target) ** 2).mean((1, 2, 3))
