"""Shelves of encoded clips: what the denoisers train on, made once and kept on disk.

A `Shelf` holds the latents of many clips of one size, what each shows, and its first frame in pixels (the reference
picture). It is written in parts of `PART` clips, so that a stopped run goes on. Knows nothing of the denoisers.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from stages.model import vae as codec
from stages.model.pictures import resize_frames
from stages.training.captions import Scene, all_scenes
from stages.training.data import Scenes
from stages.training.loop import console

PART = 100


@dataclass(frozen=True)
class Shelf:
    """`len(scenes)` clips."""

    latents: Tensor  # (N, T, C, h, w) float16, scaled
    references: Tensor  # (N, 3, H, W) uint8: the first frames; (N, 0) where they were not asked for
    scenes: tuple[Scene, ...]

    def __len__(self) -> int:
        return len(self.scenes)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return int(self.references.shape[3]), int(self.references.shape[2])


def fill_shelf(
    scenes: Scenes,
    vae: AutoencoderKL,
    size: tuple[int, int],
    frames: int,
    count: int,
    folder: Path,
    *,
    longest_s: float = 0.0,
    references: bool = True,
) -> Shelf:
    """`count` clips of `frames` frames at `size`, from `folder` where they are already there.

    They begin up to `longest_s` after their motion does. References take most of the memory; T2I needs none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for first in range(0, count, PART):
        file = folder / f"{first:06d}.npz"
        if not file.exists():
            seed = f"{longest_s}/{size}/{frames}/{first}"
            _write_part(scenes, vae, size, frames, file, longest_s, seed, references)
            console.print(f"shelf {folder.name}: {first + PART}/{count} clips")
        parts.append(np.load(file))
    everything = all_scenes()
    return Shelf(
        torch.from_numpy(np.concatenate([part["latents"] for part in parts])),
        torch.from_numpy(np.concatenate([part["references"] for part in parts])),
        tuple(everything[index] for part in parts for index in part["scenes"]),
    )


def _write_part(
    scenes: Scenes,
    vae: AutoencoderKL,
    size: tuple[int, int],
    frames: int,
    file: Path,
    longest_s: float,
    seed: str,
    with_references: bool,
) -> None:
    rng = random.Random(seed)
    latents, references, shown = [], [], []
    numbers = {scene: index for index, scene in enumerate(all_scenes())}
    for _ in range(PART):
        clip, _, scene = scenes.sample(frames, rng, longest_s=longest_s)
        small = resize_frames(clip, size)
        pictures = codec.to_tensor(small).contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            latents.append(codec.encode(vae, pictures).to(torch.float16).numpy())
        references.append(
            np.ascontiguousarray(small[0].transpose(2, 0, 1)) if with_references else np.zeros(0, np.uint8)
        )
        shown.append(numbers[scene])
    draft = file.with_suffix(".tmp.npz")
    np.savez(draft, latents=np.stack(latents), references=np.stack(references), scenes=np.array(shown))
    draft.replace(file)
