"""The tiny weights from nothing: every recipe in turn, on composed scenes.

Data, shelves and resumable checkpoints are kept under a cache folder; started again, it goes on where it stopped. One
dial, `effort`, multiplies the length of every recipe. Gives the folder of the weights.
"""

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextModel

from stages.presets import TINY
from stages.training import recipe_t2i, recipe_vae, recipe_video
from stages.training.captions import SUBJECTS
from stages.training.data import Scenes
from stages.training.latents import fill_shelf
from stages.training.loop import Schedule
from stages.training.tokens import build_tokenizer

TARGET = Path(__file__).resolve().parent.parent / "weights" / "tiny"


def train_all(cache: Path, effort: float) -> Path:
    """Every recipe in turn; those whose result exists are passed over. Gives the folder of the weights."""
    home = cache / f"tiny-{len(SUBJECTS)}"  # another vocabulary begins anew
    weights, work, shelves = home / "weights", home / "train", home / "shelves"
    low, high = TINY.sizes[TINY.default_size].i2v, TINY.sizes[TINY.default_size].v2v
    frames = TINY.keyframes[TINY.default_seconds]

    def schedule(steps: int, rate: float) -> Schedule:
        return Schedule(max(20, round(steps * effort)), rate)

    def count(clips: int) -> int:
        return max(100, round(clips * min(1.0, effort)))

    scenes = Scenes(cache)
    draft = work / "draft"
    if not (draft / "vae").is_dir():
        recipe_vae.run(scenes, low, schedule(7000, 1.5e-3), work, draft)
    vae = AutoencoderKL.from_pretrained(draft / "vae").float().eval().to(memory_format=torch.channels_last)
    tokenizer = build_tokenizer(weights / "tokenizer")
    pictures_high = fill_shelf(scenes, vae, high, 1, count(30000), shelves / f"pictures-{high[0]}", references=False)
    pictures_low = fill_shelf(scenes, vae, low, 1, count(15000), shelves / f"pictures-{low[0]}", longest_s=2.0)
    if not (weights / "unet").is_dir():
        recipe_t2i.run(tokenizer, pictures_high, pictures_low, schedule(30000, 8e-4), work, weights)
    text = CLIPTextModel.from_pretrained(weights / "text_encoder", dtype=torch.float32)
    if not (weights / "motion").is_dir():
        clips = fill_shelf(scenes, vae, low, frames, count(6000), shelves / f"clips-{low[0]}")
        guided = fill_shelf(scenes, vae, high, 1, count(4000), shelves / f"guided-{high[0]}", longest_s=1.0)
        trainee = recipe_video.build(weights, text, tokenizer, vae)
        recipe_video.train_i2v(trainee, clips, (pictures_low, guided), schedule(7000, 6e-4), work, weights)
    if not (weights / "motion_v2v").is_dir():
        clips = fill_shelf(
            scenes, vae, high, TINY.v2v_windows.length, count(1000), shelves / f"clips-{high[0]}", longest_s=1.0
        )
        trainee = recipe_video.reload(weights, text, tokenizer, vae)
        recipe_video.train_v2v(trainee, clips, schedule(2500, 2e-4), work, weights)
    if not (weights / "vae").is_dir():
        recipe_vae.sharpen(draft, scenes, low, schedule(8000, 1e-3), work, weights)
    return weights
