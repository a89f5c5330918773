"""The recipe of the video network: I2V on clips and pictures jointly, V2V's motion module, a ControlNet, appearance.

One recipe, four uses. I2V learns on clips and on pictures, which are clips of one frame (or pass the motion module by).
The spatial layers begin as T2I's; they may learn with the rest, and those of a small UNet have to before it moves. V2V
goes on from there at the high resolution and teaches its own copy of the motion module, at the times that renoising
reaches. The reference is the clip's first frame.
Takes a `Trainee` and sources of batches, of the tiny model or of a user; gives a trained `Trainee`.
"""

import random
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from stages.base import InputError
from stages.model.sampling.sampler import TRAIN_STEPS
from stages.training.loop.loop import Options, Schedule, train
from stages.training.video.batches import Source
from stages.training.video.noising import Noising
from stages.training.video.trainee import Target, Trainee


@dataclass(frozen=True)
class VideoRecipe:
    """What one run teaches, on what."""

    name: str
    targets: tuple[Target, ...]
    clips: Source
    clip_batch: int
    pictures: Source | None = None
    picture_batch: int = 1
    image_ratio: float = 0.0  # of the batches that are pictures
    highest: int = TRAIN_STEPS  # time; V2V never sees the noise above its strength


def train_video(
    trainee: Trainee,
    recipe: VideoRecipe,
    noising: Noising,
    schedule: Schedule,
    work: Path,
    *,
    seed: int = 0,
    options: Options | None = None,
) -> None:
    """Train the recipe's targets; on return they hold their averages.

    Raises:
        InputError: an image ratio that the data or the parts cannot use.
    """
    if not 0 <= recipe.image_ratio <= 1:
        raise InputError(f"The image ratio is {recipe.image_ratio:g}; it must be between 0 and 1.")
    if recipe.image_ratio and recipe.pictures is None:
        raise InputError(f"The image ratio is {recipe.image_ratio:g} and there are no pictures; use 0 or add some.")
    if recipe.image_ratio and trainee.image_mode == "bypass" and set(recipe.targets) == {"motion"}:
        raise InputError(
            "The image mode bypass switches the motion module off for pictures, and only the motion module learns: "
            "pictures would teach nothing. Use the image mode single_frame, or the image ratio 0."
        )
    trainee.choose(recipe.targets)

    def loss_of(step: int, rng: random.Random) -> Tensor:
        still = recipe.pictures if recipe.image_ratio and rng.random() < recipe.image_ratio else None
        source, count = (still, recipe.picture_batch) if still else (recipe.clips, recipe.clip_batch)
        batch = source.draw(count, rng)
        return trainee.loss(batch, noising.draw_times(len(batch), high=recipe.highest), noising, rng)

    train(recipe.name, trainee.all_modules(), loss_of, schedule, work, seed=seed, options=options)


def reached_by(strength: float) -> int:
    """The highest time that V2V's renoising reaches, with a margin."""
    return min(TRAIN_STEPS, round(TRAIN_STEPS * strength) + 100)
