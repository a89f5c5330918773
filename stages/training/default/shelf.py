"""Encoded clips on disk, which the training of clips reads: `python -m stages.training.default.shelf [--clips N]`.

Written in parts of `PART` clips, each part from a seed of its own, so that filling goes on where it stopped, and may
run beside a training that reads what is there. 52 MB a part. Knows nothing of denoisers.
"""

import argparse
import json
import os
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray

from stages.model.network import vae as codec
from stages.training.default.autoencoder import widen_norms
from stages.training.loop.loop import console
from stages.training.scenes.animations import open_animations
from stages.training.scenes.crops import open_backgrounds
from stages.training.scenes.fetch import cache_folder
from stages.training.scenes.moving import Clips
from stages.training.scenes.sentences import Scene, draw_scene, subjects

__all__ = ["FRAMES", "PART", "ClipShelf", "fill_part", "load_vae", "open_clips", "read_scenes", "write_scenes"]

FRAMES, PART = 16, 100
Latents = NDArray[np.float16]


class ClipShelf:
    """The parts in `folder`: N clips (T, C, h, w), scaled, and what they show; `refresh` finds parts that are new."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts = list[Latents]()
        self._scenes = list[list[Scene]]()
        self.refresh()

    def refresh(self) -> None:
        files = sorted(self._folder.glob("*[0-9].npy"))
        for file in files[len(self._parts) :]:  # written in order
            self._parts.append(np.load(file, mmap_mode="r"))
            self._scenes.append(read_scenes(file.with_suffix(".jsonl")))

    def __len__(self) -> int:
        return sum(map(len, self._scenes))

    def draw(self, rng: random.Random) -> tuple[Latents, Scene]:
        """One clip; read from disk, and nothing else of its part."""
        part = rng.randrange(len(self._parts))
        at = rng.randrange(len(self._scenes[part]))
        return np.array(self._parts[part][at]), self._scenes[part][at]


def read_scenes(file: Path) -> list[Scene]:
    """Those that a part of a shelf shows."""
    rows = map(json.loads, file.read_text().splitlines())
    return [Scene(**{**row, "subjects": tuple(row["subjects"])}) for row in rows]


def write_scenes(scenes: list[Scene], file: Path) -> None:
    """One a line."""
    file.write_text("".join(json.dumps(asdict(scene)) + "\n" for scene in scenes))


def load_vae(folder: Path) -> AutoencoderKL:
    """The finished autoencoder, as training encodes with it."""
    vae: Any = AutoencoderKL.from_pretrained(folder).float().eval().requires_grad_(False)
    vae = vae.to(memory_format=torch.channels_last)
    widen_norms(vae)
    return vae


def open_clips(cache: Path) -> Clips:
    """What clips are drawn from, under `cache`."""
    codes = [subject.code for subject in subjects().values()]
    return Clips(open_animations(cache, codes), open_backgrounds(cache).training)


def fill_part(clips: Clips, vae: AutoencoderKL, file: Path, count: int = PART, frames: int = FRAMES) -> None:
    """`count` clips of scenes that training may see, into `file` (.npy) and the same with .jsonl."""
    rng = random.Random(f"clips/{file.stem}")
    scenes, made = [], list[Latents]()
    for _ in range(count):
        scene = draw_scene(rng)
        pictures = codec.to_tensor(clips.draw(scene, frames, rng)).contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            latents = codec.encode(vae, pictures).float()
        scenes.append(scene)
        made.append(latents.numpy().astype(np.float16))
    write_scenes(scenes, file.with_suffix(".jsonl"))
    draft = file.with_suffix(".tmp")
    with draft.open("wb") as opened:
        np.save(opened, np.stack(made))
    draft.replace(file)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.training.default.shelf", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="data and results")
    parser.add_argument("--clips", type=int, default=8000, help="how many in all")
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder: Path = args.cache / "clips" / "shelf"
    folder.mkdir(parents=True, exist_ok=True)
    running = folder.parent / "FILLING"
    running.write_text(f"{os.getpid()}\n")
    clips, vae = open_clips(args.cache), load_vae(args.cache / "autoencoder" / "finished" / "vae")
    for first in range(0, args.clips, PART):
        file = folder / f"{first:06d}.npy"
        if not file.exists():
            fill_part(clips, vae, file)
            console.print(f"clips: {first + PART}/{args.clips}")
    running.unlink()


if __name__ == "__main__":
    main()
