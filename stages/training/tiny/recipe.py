"""The tiny weights from nothing: every recipe in turn, on composed scenes.

Data, shelves and resumable checkpoints are kept under a cache folder; started again, it goes on where it stopped. One
dial, `effort`, multiplies the length of every recipe. Given weights to start from, such as the committed ones, every
recipe goes on from them and is shorter: that is how a set is improved in several sittings. Gives the folder of the
weights.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel

from stages.model.network.text import TextEncoder
from stages.presets import TINY, WEIGHTS
from stages.training.loop.loop import Schedule, load_average
from stages.training.scenes.captions import SUBJECTS
from stages.training.scenes.data import Scenes
from stages.training.tiny import t2i as recipe_t2i
from stages.training.tiny import vae as recipe_vae
from stages.training.tiny import video as tiny_video
from stages.training.tiny.coach import obtain_coach, train_feedback
from stages.training.tiny.shelves import Shelf, fill_shelf, fill_windows
from stages.training.tiny.tokens import build_tokenizer
from stages.training.tiny.words import write_words
from stages.training.video.trainee import save_part

TARGET = WEIGHTS / "tiny"


@dataclass(frozen=True)
class Lengths:
    """Steps of every recipe at effort 1, and how many pictures and clips they see."""

    vae: int
    t2i: int
    sketches: int
    feedback: int
    hint: int
    i2v: int
    v2v: int
    decoder: int
    pictures_high: int
    pictures_low: int
    guided: int  # pictures at the high size with their references
    clips: int
    clips_high: int


FROM_NOTHING = Lengths(
    vae=7000, t2i=20000, sketches=2000, feedback=300, hint=2000, i2v=5000, v2v=2000, decoder=6000,
    pictures_high=30000, pictures_low=15000, guided=4000, clips=6000, clips_high=1000,
)  # fmt: skip
FROM_WEIGHTS = Lengths(
    vae=900, t2i=9500, sketches=1500, feedback=80, hint=900, i2v=3000, v2v=600, decoder=1500,
    pictures_high=6000, pictures_low=8000, guided=1500, clips=1500, clips_high=300,
)  # fmt: skip
_SKETCH_RATE, _HINT_RATE, _I2V_RATE, _V2V_RATE = 3e-4, 2e-3, 6e-4, 4e-4


def train_all(cache: Path, effort: float, start: Path | None = None) -> Path:
    """Every recipe in turn; those whose result exists are passed over. Gives the folder of the weights.

    Args:
        start: a folder of tiny weights to go on from; None for fresh ones.
    """
    home = cache / f"tiny-{len(SUBJECTS)}"  # another vocabulary begins anew
    lengths = FROM_NOTHING if start is None else FROM_WEIGHTS
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
        recipe_vae.run(scenes, low, schedule(lengths.vae, 1.5e-3 if start is None else 8e-4), work, draft, start)
    vae = AutoencoderKL.from_pretrained(draft / "vae").float().eval().to(memory_format=torch.channels_last)
    tokenizer = build_tokenizer(weights / "tokenizer")
    pictures_high = fill_shelf(
        scenes, vae, high, 1, count(lengths.pictures_high), shelves / f"pictures-{high[0]}", references=False
    )
    pictures_low = fill_shelf(
        scenes, vae, low, 1, count(lengths.pictures_low), shelves / f"pictures-{low[0]}", longest_s=2.0
    )
    if not (weights / "unet").is_dir():
        recipe_t2i.run(tokenizer, pictures_high, pictures_low, schedule(lengths.t2i, 8e-4), work, weights, start)
    text = CLIPTextModel.from_pretrained(weights / "text_encoder", dtype=torch.float32)
    _sketch(tokenizer, text, pictures_high, schedule(lengths.sketches, _SKETCH_RATE), home)
    _feedback(cache, TextEncoder(tokenizer, text), vae, scenes, schedule(lengths.feedback, 2e-5), home)
    if not (weights / "motion").is_dir():
        clips = fill_shelf(scenes, vae, low, frames, count(lengths.clips), shelves / f"clips-{low[0]}")
        guided = fill_shelf(scenes, vae, high, 1, count(lengths.guided), shelves / f"guided-{high[0]}", longest_s=1.0)
        trainee = tiny_video.begin(weights, text, tokenizer, vae, start)
        tiny_video.teach_hint(trainee, (pictures_low, guided), schedule(lengths.hint, _HINT_RATE), work)
        tiny_video.train_i2v(trainee, clips, (pictures_low, guided), schedule(lengths.i2v, _I2V_RATE), work, weights)
    if not (weights / "vae").is_dir():
        recipe_vae.sharpen(draft, scenes, low, schedule(lengths.decoder, 1e-3), work, weights)
    if not (weights / "motion_v2v").is_dir():
        clips = fill_windows(
            scenes,
            AutoencoderKL.from_pretrained(weights / "vae").float().eval(),
            (low, high),
            frames,
            count(lengths.clips_high),
            shelves / f"windows-{high[0]}",
            length=TINY.v2v_windows.length,
        )
        trainee = tiny_video.reload(weights, text, tokenizer, vae, TINY.v2v_guide)
        tiny_video.train_v2v(trainee, clips, schedule(lengths.v2v, _V2V_RATE), work, weights)
    if not (weights / "words.json").exists():
        write_words(cache, weights / "words.json")
    return weights


def _sketch(tokenizer: Any, text: CLIPTextModel, pictures: Shelf, schedule: Schedule, home: Path) -> None:
    """T2I's UNet once more, on pencil sketches above all."""
    unet_folder, done = home / "weights" / "unet", home / "train" / "sketched"
    if not done.is_dir():
        unet = UNet2DConditionModel.from_pretrained(unet_folder).float()
        recipe_t2i.train_sketches(tokenizer, text, unet, pictures, schedule, home / "train")
        draft = done.with_suffix(".draft")
        save_part(unet, draft, torch.float16, "unet")
        draft.replace(done)
    shutil.copytree(done, unet_folder, dirs_exist_ok=True)


def _feedback(
    cache: Path, text: TextEncoder, vae: AutoencoderKL, scenes: Scenes, schedule: Schedule, home: Path
) -> None:
    """Between T2I and I2V, which begins with this UNet; what it was before is kept as an ablation."""
    unet_folder, after, before = home / "weights" / "unet", home / "train" / "after", home / "ablations" / "feedback"
    if not after.is_dir():
        unet = UNet2DConditionModel.from_pretrained(unet_folder).float()
        train_feedback(unet, vae, text, obtain_coach(cache), scenes.training, schedule, home / "train")
        draft = after.with_suffix(".draft")
        save_part(unet, draft, torch.float16, "unet")
        draft.replace(after)
    if not before.is_dir():
        draft = before.with_suffix(".draft")
        shutil.copytree(unet_folder, draft / "unet", dirs_exist_ok=True)
        draft.replace(before)
    shutil.copytree(after, unet_folder, dirs_exist_ok=True)


def train_without_pictures(cache: Path, effort: float, start: Path | None = None) -> Path:
    """I2V once more, on clips alone: what `benchmarks.quality` measures joint training against."""
    lengths = FROM_NOTHING if start is None else FROM_WEIGHTS
    home = cache / f"tiny-{len(SUBJECTS)}"
    weights, out, shelves = home / "weights", home / "ablations" / "joint-image-training", home / "shelves"
    low, frames = TINY.sizes[TINY.default_size].i2v, TINY.keyframes[TINY.default_seconds]
    if not out.is_dir():
        vae = AutoencoderKL.from_pretrained(home / "train" / "draft" / "vae").float().eval()
        text = CLIPTextModel.from_pretrained(weights / "text_encoder", dtype=torch.float32)
        count = max(100, round(lengths.clips * min(1.0, effort)))
        clips = fill_shelf(Scenes(cache), vae, low, frames, count, shelves / f"clips-{low[0]}")
        trainee = tiny_video.begin(weights, text, build_tokenizer(weights / "tokenizer"), vae, start)
        load_average("hint", tiny_video.hint_lesson(trainee), home / "train")  # one lesson for both runs
        schedule = Schedule(max(20, round(lengths.i2v * effort)), _I2V_RATE)
        tiny_video.train_i2v(trainee, clips, None, schedule, home / "train", out)
    return out
