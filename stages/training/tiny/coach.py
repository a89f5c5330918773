"""Human feedback in small, for the tiny weights: a coach that says whether a picture shows what its caption asks for.

The coach is a classifier like the judges of `judges.py`, but never one of them: other weights, other backgrounds, other
clips. So what is measured afterwards is not what was trained against. `train_feedback` runs ReFL (`recipe_refl`) with
its log-probabilities as the reward. Knows nothing of motion.
"""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from torch.nn import functional as F

from stages.model.network.text import TextEncoder
from stages.presets import TINY
from stages.training.feedback.refl import ReFL, train_refl
from stages.training.feedback.spatial import SpatialTrainee, base_noise
from stages.training.loop.loop import Schedule
from stages.training.scenes.captions import SUBJECTS, Scene, write_caption
from stages.training.scenes.data import Scenes
from stages.training.tiny.judges import (
    PICTURE_PX,
    PictureJudge,
    lesson,
    load_half,
    number_of,
    save_half,
    teach_pictures,
)

COACH_VARIANTS = range(3000, 3016)
WEIGHTS: dict[str, float] = {"subject": 1.0, "place": 0.5, "style": 0.5, "time": 0.25}  # of the axes in the reward
_CAPTIONS = 4000


class CoachReward:
    """(N, 3, H, W) in about -1..1 and their captions -> (N,) weighted log-probability of what they ask for, below 0."""

    def __init__(self, coach: PictureJudge, asked: Mapping[str, Scene]) -> None:
        self._coach = coach.eval().requires_grad_(False)
        self._asked = asked

    def __call__(self, pictures: Tensor, prompts: Sequence[str]) -> Tensor:
        size = (PICTURE_PX, PICTURE_PX)
        small = F.interpolate(pictures.clamp(-1, 1), size, mode="bilinear", antialias=True, align_corners=False)
        logits = self._coach(small)
        scenes = [self._asked[prompt] for prompt in prompts]
        total = torch.zeros(len(pictures))
        for axis, weight in WEIGHTS.items():
            wanted = torch.tensor([number_of(scene, axis) for scene in scenes])
            total = total - weight * F.cross_entropy(logits[axis], wanted, reduction="none")
        return total / sum(WEIGHTS.values())


def obtain_coach(cache: Path, *, pictures: int = 12_000, steps: int = 3000) -> PictureJudge:
    """The coach kept under `cache`, trained first if there is none."""
    file = cache / f"judges-{len(SUBJECTS)}" / "coach.safetensors"
    if not file.exists():
        known = lesson(Scenes(cache, COACH_VARIANTS), pictures, "coach", frames=1)
        made = teach_pictures(known, "coach", steps, file.parent / "train", seed=6)
        save_half(made, file)
    coach = PictureJudge()
    load_half(coach, file)
    return coach


def train_feedback(
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    text: TextEncoder,
    coach: PictureJudge,
    scenes: Sequence[Scene],
    schedule: Schedule,
    work: Path,
) -> None:
    """Teach the UNet, in place, to draw what the coach recognises; `scenes` may be asked for."""
    rng = random.Random("feedback")
    asked = {write_caption(scene, rng): scene for scene in rng.choices(scenes, k=_CAPTIONS)}
    trainee = SpatialTrainee(unet, vae.requires_grad_(False), text)
    recipe = ReFL(TINY.sizes[TINY.default_size].t2i, batch=6, steps=20, first=12, scale=1.0, margin=0.0)
    train_refl(trainee, CoachReward(coach, asked), list(asked), recipe, base_noise(TINY), schedule, work)
