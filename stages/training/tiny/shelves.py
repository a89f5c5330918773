"""Shelves of encoded clips: what the denoisers train on, made once and kept on disk.

A `Shelf` holds the latents of many clips of one size, what each shows, and its first frame in pixels (the reference
picture). It is written in parts of `PART` clips, so that a stopped run goes on. A `ShelfSource` draws batches from it.
Knows nothing of the denoisers.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from stages.model.network import vae as codec
from stages.model.network.pictures import resize_frames
from stages.training.loop.loop import console
from stages.training.scenes.captions import Scene, all_scenes, write_caption
from stages.training.scenes.data import Scenes
from stages.training.video.batches import Batch
from stages.types import UInt8

PART = 100
Latents = NDArray[np.float16]


@dataclass(frozen=True)
class Shelf:
    """`len(scenes)` clips."""

    latents: Tensor  # (N, T, C, h, w) float16, scaled
    references: Tensor  # (N, 3, H, W) uint8: the first frames; (N, 0) where they were not asked for
    scenes: tuple[Scene, ...]
    softened: Tensor | None = None  # as latents: the clips made small, encoded, decoded and made large again

    def __len__(self) -> int:
        return len(self.scenes)


class ShelfSource:
    """Composed scenes; half of the batches have references that are blurred as a decoder blurs."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def draw(self, count: int, rng: random.Random) -> Batch:
        shelf = self._shelf
        chosen = [rng.randrange(len(shelf)) for _ in range(count)]
        references = shelf.references[chosen].float() / 127.5 - 1
        if rng.random() < 0.5:
            blurred = F.avg_pool2d(F.pad(references, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
            references = references.lerp(blurred, rng.random())
        captions = tuple(write_caption(shelf.scenes[index], rng) for index in chosen)
        softened = None if shelf.softened is None else shelf.softened[chosen].float()
        return Batch(shelf.latents[chosen].float(), references, captions, softened=softened)


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
    part: int = PART,
) -> Shelf:
    """`count` clips of `frames` frames at `size`, from `folder` where they are already there, `part` a file.

    They begin up to `longest_s` after their motion does. References take most of the memory; T2I needs none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for first in range(0, count, part):
        file = folder / f"{first:06d}.npz"
        if not file.exists():
            seed = f"{longest_s}/{size}/{frames}/{first}"
            _write_part(scenes, vae, size, frames, part, file, longest_s, seed, references)
            console.print(f"shelf {folder.name}: {first + part}/{count} clips")
        parts.append(file)
    return _read(parts)


def fill_windows(
    scenes: Scenes, vae: AutoencoderKL, sizes: tuple[tuple[int, int], tuple[int, int]], frames: int, count: int,
    folder: Path, *, length: int, part: int = PART,
) -> Shelf:  # fmt: skip
    """`count` windows of `length` frames, the first or last of clips of `frames`, at the larger of `sizes`.

    With what V2V is given for them: the clip at the smaller size through the VAE. The reference is the clip's first
    frame, wherever the window begins.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{first:06d}.npz" for first in range(0, count, part)]
    numbers = {scene: index for index, scene in enumerate(all_scenes())}
    for number, file in enumerate(files, 1):
        if file.exists():
            continue
        rng, made = random.Random(f"{sizes}/{frames}/{length}/{file.stem}"), []
        for _ in range(part):
            clip, _, scene = scenes.sample(frames, rng)
            begin = rng.choice((0, frames - length))
            made.append((*_window(vae, sizes, clip[begin : begin + length], rng), clip[:1], numbers[scene]))
        draft = file.with_suffix(".tmp.npz")
        np.savez(
            draft,
            latents=np.stack([latents for latents, *_ in made]),
            softened=np.stack([softened for _, softened, *_ in made]),
            references=np.stack([resize_frames(first, sizes[1])[0].transpose(2, 0, 1) for _, _, first, _ in made]),
            scenes=np.array([shown for *_, shown in made]),
        )
        draft.replace(file)
        console.print(f"shelf {folder.name}: {number * part}/{count} windows")
    return _read(files)


def _read(files: Sequence[Path]) -> Shelf:
    """The shelf whose parts are `files`."""
    everything, parts = all_scenes(), [np.load(file) for file in files]
    scenes = tuple(everything[index] for part in parts for index in part["scenes"])
    tensors = {
        key: torch.from_numpy(np.concatenate([part[key] for part in parts]))
        for key in ("latents", "references", "softened")
        if key in parts[0]
    }
    return Shelf(tensors["latents"], tensors["references"], scenes, tensors.get("softened"))


def _window(
    vae: AutoencoderKL, sizes: tuple[tuple[int, int], tuple[int, int]], clip: UInt8, rng: random.Random
) -> tuple[Latents, Latents]:
    """Latents of `clip` at the larger size, and of what the smaller one keeps; I2V is softer still, half are so."""
    low, high = sizes
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        small = codec.to_tensor(resize_frames(clip, low)).contiguous(memory_format=torch.channels_last)
        latents = codec.encode(vae, small).float()
        if rng.random() < 0.5:
            blurred = F.avg_pool2d(F.pad(latents, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
            latents = latents.lerp(blurred, 0.3 * rng.random())
        kept = resize_frames(codec.decode(vae, latents), high)
        both = [codec.encode(vae, codec.to_tensor(frames)) for frames in (resize_frames(clip, high), kept)]
    large, softened = (latents.to(torch.float16).numpy() for latents in both)
    return large, softened


def _write_part(
    scenes: Scenes,
    vae: AutoencoderKL,
    size: tuple[int, int],
    frames: int,
    count: int,
    file: Path,
    longest_s: float,
    seed: str,
    with_references: bool,
) -> None:
    rng = random.Random(seed)
    latents, references, shown = [], [], []
    numbers = {scene: index for index, scene in enumerate(all_scenes())}
    for _ in range(count):
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
