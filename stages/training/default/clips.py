"""I2V of the next default model: `python -m stages.training.default.clips [--steps N] [--from newest]`.

One UNet for T2I, I2V and V2V. Its spatial layers go on from T2I's average, with a first layer that is widened by zeros:
it reads the reference's latents beside the noise of every frame. A motion module is new. Both learn on the clips of the
shelf, and on T2I's pictures, which have no reference and pass the motion module by, so that the UNet still draws them.
A quarter of the clips are windows that begin later than the reference, as V2V's do.

Resumable: a checkpoint every `EVERY` steps; what T2I had when the run began is kept in `start`. Every `SAMPLE_EVERY`
steps `sheet-*.png` shows pictures of the averaged weights and what I2V makes of them, a row a prompt.
"""

import argparse
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers import AutoencoderKL, MotionAdapter, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from stages.base import InputError, ignore_progress
from stages.i2v import I2V
from stages.model.network import vae as codec
from stages.model.network.network import VideoNetwork, inflate
from stages.model.network.text import TextEncoder
from stages.presets import TINY
from stages.settings import Guide, I2VParams
from stages.training.default.autoencoder import widen_norms
from stages.training.default.pictures import GROUPS, HEADS, TRIED, sample
from stages.training.default.shelf import FRAMES, ClipShelf, load_vae, read_scenes
from stages.training.loop.loop import Options, Schedule
from stages.training.loop.muon import Muon
from stages.training.scenes.fetch import cache_folder
from stages.training.scenes.moving import FPS
from stages.training.scenes.sentences import Scene, write_caption
from stages.training.video.batches import Batch
from stages.training.video.noising import Noising
from stages.training.video.recipe import VideoRecipe, train_video
from stages.training.video.trainee import Dropping, Target, Trainee, spatial_of
from stages.types import Image

__all__ = ["ClipSource", "PictureSource", "build", "build_motion", "main", "widened"]

TARGETS: tuple[Target, ...] = ("motion", "spatial")
MAX_FRAMES = 32
WINDOW = 10  # frames, as V2V's windows have
CLIP_BATCH, PICTURE_BATCH = 2, 16
EVERY, SAMPLE_EVERY = 100, 500
_IMAGE_RATIO = 0.3  # of the steps
_LATER = 0.25  # of the batches of clips are windows that begin after the reference
_SIDE_PX = 256
_SHOWN = (0, 3, 6, 9, 12, 15)  # frames, in a sheet
_PARTS = ("tokenizer", "text_encoder", "unet")


def widened(spatial: UNet2DConditionModel) -> UNet2DConditionModel:
    """`spatial` with a first layer that reads 2C + 1 channels (`stages.model.network.reference`), the new ones with
    zeros: it says what it said."""
    config = dict(spatial.config)
    channels = int(config["in_channels"])
    config["in_channels"] = 2 * channels + 1
    made: UNet2DConditionModel = UNet2DConditionModel.from_config(config)
    state = spatial.state_dict()
    first = state["conv_in.weight"]
    state["conv_in.weight"] = torch.cat([first, first.new_zeros(len(first), channels + 1, *first.shape[2:])], 1)
    made.load_state_dict(state)
    return made


def build_motion(widths: tuple[int, ...], heads: int = HEADS, groups: int = GROUPS) -> MotionAdapter:
    """A motion module for a UNet of one layer a block, whose output is zero at first."""
    motion = MotionAdapter(
        block_out_channels=widths,
        motion_layers_per_block=1,
        motion_num_attention_heads=heads,
        motion_norm_num_groups=groups,
        motion_max_seq_length=MAX_FRAMES,
        use_motion_mid_block=False,
    )
    for name, module in motion.named_modules():
        if name.endswith("proj_out") and isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return motion


def build(
    spatial: UNet2DConditionModel, motion: MotionAdapter, text: CLIPTextModel, tokenizer: Any, vae: AutoencoderKL
) -> Trainee:
    """What learns, around T2I's UNet: no ControlNet, no appearance encoder."""
    unet = inflate(widened(spatial), motion)
    widen_norms(unet)
    encoder = TextEncoder(tokenizer, text.requires_grad_(False).eval())
    network = VideoNetwork(unet, vae, encoder, None, {}, int(motion.config.motion_max_seq_length))
    return Trainee(network, [], "bypass", Dropping(text=0.05, picture=0.05, both=0.05, noise=0.1))


class ClipSource:
    """Clips of a shelf that may still be growing."""

    def __init__(self, shelf: ClipShelf) -> None:
        self._shelf = shelf

    def draw(self, count: int, rng: random.Random) -> Batch:
        """Whole clips, or in a quarter of the batches windows of them."""
        self._shelf.refresh()
        drawn = [self._shelf.draw(rng) for _ in range(count)]
        clips = torch.from_numpy(np.stack([latents for latents, _ in drawn])).float()
        begin, length = 0, clips.shape[1]
        if length > WINDOW and rng.random() < _LATER:
            begin, length = rng.randint(1, length - WINDOW), WINDOW
        captions = tuple(write_caption(scene, rng) for _, scene in drawn)
        seen = clips[:, begin : begin + length]
        return Batch(seen, torch.empty(0), captions, anchors=clips[:, 0], first=begin == 0)


class PictureSource:
    """T2I's pictures, (N, C, h, w) and what they show."""

    def __init__(self, parts: list[Any], scenes: list[Scene]) -> None:
        self._parts, self._scenes = parts, scenes

    @classmethod
    def open(cls, folder: Path) -> "PictureSource":
        """The shelf that `stages.training.default.pictures` filled."""
        files = sorted(folder.glob("*[0-9].npy"))
        scenes = [scene for file in files for scene in read_scenes(file.with_suffix(".jsonl"))]
        return cls([np.load(file, mmap_mode="r") for file in files], scenes)

    def draw(self, count: int, rng: random.Random) -> Batch:
        """As clips of one frame, without a reference."""
        each = len(self._parts[0])
        chosen = [rng.randrange(len(self._scenes)) for _ in range(count)]
        latents = np.stack([self._parts[index // each][index % each] for index in chosen])
        captions = tuple(write_caption(self._scenes[index], rng) for index in chosen)
        return Batch(torch.from_numpy(latents).float()[:, None], torch.empty(0), captions, alone=True)


def observer(trainee: Trainee, work: Path, prompts: tuple[str, ...] = TRIED[:6]) -> Callable[[int], None]:
    """Draws, animates, shows and saves at a step."""
    network = trainee.network

    def observe(step: int) -> None:
        rows, text = [], network.text
        painter = nn.ModuleDict({"text": text.model, "unet": spatial_of(network.unet)}).eval()
        pictures = codec.decode(network.vae, sample(painter, text.tokenizer, list(prompts), 7))
        for prompt, picture in zip(prompts, pictures, strict=True):
            params = I2VParams(
                prompt, "", (_SIDE_PX, _SIDE_PX), FRAMES, FPS, TINY.i2v, TINY.prior, Guide(0.0, ()), TINY.i2v_windows
            )
            made = I2V(network)(Image(picture), params=params, seed=7, report=ignore_progress).clip.frames
            rows.append(np.concatenate([picture, *made[list(_SHOWN)]], 1))
        PIL.Image.fromarray(np.concatenate(rows)).save(work / f"sheet-{step:06d}.png")
        trainee.save(TARGETS, work / "newest", {"spatial": "unet"}, torch.float16)

    return observe


def keep_start(pictures: Path, work: Path, which: str) -> Path:
    """The weights that the run began with, copied from T2I's at its beginning: T2I may still go on.

    Raises:
        InputError: T2I has none of that name yet.
    """
    kept = work / "start"
    if not kept.is_dir():
        given = pictures / which
        if not (given / "unet").is_dir():
            raise InputError(f"T2I has no weights in {given} yet; wait for them, or begin with `--from newest`.")
        draft = kept.with_suffix(".tmp")
        for name in _PARTS:
            shutil.copytree((pictures if name == "tokenizer" else given) / name, draft / name, dirs_exist_ok=True)
        draft.rename(kept)
    return kept


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.training.default.clips", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="data and results")
    parser.add_argument(
        "--from", dest="start", choices=("finished", "newest"), default="finished", help="T2I's weights"
    )
    parser.add_argument("--steps", type=int, default=8000, help="length of the run; the rate falls in its last part")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate before it falls")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(3)
    work: Path = args.cache / "clips"
    work.mkdir(parents=True, exist_ok=True)
    start = keep_start(args.cache / "pictures", work, args.start)
    spatial: UNet2DConditionModel = UNet2DConditionModel.from_pretrained(start / "unet").float()
    text = CLIPTextModel.from_pretrained(start / "text_encoder", dtype=torch.float32)
    vae = load_vae(args.cache / "autoencoder" / "finished" / "vae")
    motion = build_motion(tuple(spatial.config.block_out_channels))
    trainee = build(spatial, motion, text, CLIPTokenizer.from_pretrained(start / "tokenizer"), vae)
    (work / "RUNNING").write_text(f"{os.getpid()}\n")
    train_video(
        trainee,
        VideoRecipe(
            "clips",
            TARGETS,
            ClipSource(ClipShelf(work / "shelf")),
            CLIP_BATCH,
            PictureSource.open(args.cache / "pictures" / "shelf"),
            PICTURE_BATCH,
            _IMAGE_RATIO,
        ),
        Noising(TINY.i2v, TINY.prior),
        Schedule(args.steps, args.rate, warmup=300, decay=0.4, ema=0.999, every=EVERY),
        work,
        options=Options(precision="bf16", sample=observer(trainee, work), sample_every=SAMPLE_EVERY, optimizer=Muon),
    )
    trainee.save(TARGETS, work / "finished", {"spatial": "unet"}, torch.float16)
    (work / "RUNNING").unlink()


if __name__ == "__main__":
    main()
