"""The tiny weights from nothing: every recipe in turn, on composed scenes.

Data, shelves and resumable checkpoints are kept under a cache folder; started again, it goes on where it stopped. One
dial, `effort`, multiplies the length of every recipe. Gives the folder of the weights.
"""

import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel

from stages.model.text import TextEncoder
from stages.presets import TINY
from stages.training import recipe_t2i, recipe_vae, recipe_video
from stages.training.captions import SUBJECTS
from stages.training.coach import obtain_coach, train_feedback
from stages.training.data import Scenes
from stages.training.latents import fill_shelf
from stages.training.loop import Schedule
from stages.training.tokens import build_tokenizer
from stages.training.words import write_words

_CLIPS, _I2V_STEPS, _I2V_RATE = 6000, 5000, 6e-4
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
        recipe_t2i.run(tokenizer, pictures_high, pictures_low, schedule(20000, 8e-4), work, weights)
    text = CLIPTextModel.from_pretrained(weights / "text_encoder", dtype=torch.float32)
    _feedback(cache, TextEncoder(tokenizer, text), vae, scenes, schedule(300, 2e-5), home)
    if not (weights / "motion").is_dir():
        clips = fill_shelf(scenes, vae, low, frames, count(_CLIPS), shelves / f"clips-{low[0]}")
        guided = fill_shelf(scenes, vae, high, 1, count(4000), shelves / f"guided-{high[0]}", longest_s=1.0)
        trainee = recipe_video.build(weights, text, tokenizer, vae)
        recipe_video.train_i2v(trainee, clips, (pictures_low, guided), schedule(_I2V_STEPS, _I2V_RATE), work, weights)
    if not (weights / "motion_v2v").is_dir():
        clips = fill_shelf(
            scenes, vae, high, TINY.v2v_windows.length, count(1000), shelves / f"clips-{high[0]}", longest_s=1.0
        )
        trainee = recipe_video.reload(weights, text, tokenizer, vae)
        recipe_video.train_v2v(trainee, clips, schedule(2000, 2e-4), work, weights)
    if not (weights / "vae").is_dir():
        recipe_vae.sharpen(draft, scenes, low, schedule(6000, 1e-3), work, weights)
    if not (weights / "words.json").exists():
        write_words(cache, weights / "words.json")
    return weights


def _feedback(
    cache: Path, text: TextEncoder, vae: AutoencoderKL, scenes: Scenes, schedule: Schedule, home: Path
) -> None:
    """Between T2I and I2V, so that all stages have one UNet; what it was before is kept as an ablation."""
    unet_folder, after, before = home / "weights" / "unet", home / "train" / "after", home / "ablations" / "feedback"
    if not after.is_dir():
        unet = UNet2DConditionModel.from_pretrained(unet_folder).float()
        train_feedback(unet, vae, text, obtain_coach(cache), scenes.training, schedule, home / "train")
        draft = after.with_suffix(".draft")
        unet.half().save_pretrained(draft, safe_serialization=True)
        draft.replace(after)
    if not before.is_dir():
        draft = before.with_suffix(".draft")
        shutil.copytree(unet_folder, draft / "unet", dirs_exist_ok=True)
        draft.replace(before)
    shutil.copytree(after, unet_folder, dirs_exist_ok=True)


def train_without_pictures(cache: Path, effort: float) -> Path:
    """I2V once more, on clips alone: what `benchmarks.quality` measures joint training against."""
    home = cache / f"tiny-{len(SUBJECTS)}"
    weights, out, shelves = home / "weights", home / "ablations" / "joint-image-training", home / "shelves"
    low, frames = TINY.sizes[TINY.default_size].i2v, TINY.keyframes[TINY.default_seconds]
    if not out.is_dir():
        vae = AutoencoderKL.from_pretrained(home / "train" / "draft" / "vae").float().eval()
        text = CLIPTextModel.from_pretrained(weights / "text_encoder", dtype=torch.float32)
        count = max(100, round(_CLIPS * min(1.0, effort)))
        clips = fill_shelf(Scenes(cache), vae, low, frames, count, shelves / f"clips-{low[0]}")
        trainee = recipe_video.build(weights, text, build_tokenizer(weights / "tokenizer"), vae)
        schedule = Schedule(max(20, round(_I2V_STEPS * effort)), _I2V_RATE)
        recipe_video.train_i2v(trainee, clips, None, schedule, home / "train", out)
    return out
