"""The README's pictures, made anew by `make gallery`: `python -m stages.local.gallery [FOLDER]`.

Four prompts, seed 7, the tiny preset, whole videos. `gallery.png` shows six frames of each, a prompt a row;
`gallery.webp` plays all four side by side. Nothing is chosen among several tries.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
import PIL.Image
from rich.console import Console
from rich.progress import track

from stages.base import ignore_progress
from stages.local.pipeline import LocalPipeline
from stages.presets import TINY, WEIGHTS, plan
from stages.types import UInt8

PROMPTS = (
    "a fox walking through a snowy forest at dusk",
    "a robot jumping in a city at night",
    "a fat rabbit on a green meadow with flowers, oil painting style",
    "a helicopter floating below snowy peaks, pencil sketch",
)
SEED, SHOWN, TILE_PX, MOVING_PX = 7, 6, 192, 224


def film(pipeline: LocalPipeline, prompt: str) -> UInt8:
    """(T, H, W, 3)."""
    clips = pipeline.run(plan(TINY, prompt, seed=SEED), SEED, lambda _: ignore_progress)
    return np.concatenate([clip.frames for clip in clips])


def sheet(videos: list[UInt8]) -> PIL.Image.Image:
    """A row a video."""
    rows = [shrink(video[np.linspace(0, len(video) - 1, SHOWN).round().astype(int)], TILE_PX) for video in videos]
    return PIL.Image.fromarray(np.concatenate([np.concatenate(list(row), 1) for row in rows]))


def moving(videos: list[UInt8]) -> list[PIL.Image.Image]:
    """Frames of all videos, side by side."""
    small = [shrink(video, MOVING_PX) for video in videos]
    return [PIL.Image.fromarray(np.concatenate(together, 1)) for together in zip(*small, strict=True)]


def shrink(frames: UInt8, side: int) -> UInt8:
    pictures = [PIL.Image.fromarray(frame).resize((side, side), PIL.Image.Resampling.LANCZOS) for frame in frames]
    return np.stack([np.asarray(picture) for picture in pictures])


def main(folder: Path = WEIGHTS) -> None:
    """Make and write both."""
    warnings.filterwarnings("ignore", module="diffusers|transformers|huggingface_hub")
    pipeline = LocalPipeline.load(TINY)
    videos = [film(pipeline, prompt) for prompt in track(PROMPTS, "videos", console=Console(stderr=True))]
    folder.mkdir(parents=True, exist_ok=True)
    sheet(videos).save(folder / "gallery.png", optimize=True)
    first, *rest = moving(videos)
    duration_ms = round(1000 / (TINY.keyframe_fps * TINY.vfi_factor))
    first.save(
        folder / "gallery.webp", save_all=True, append_images=rest, duration=duration_ms, loop=0, quality=70, method=5
    )
    for name in ("gallery.png", "gallery.webp"):
        print(f"{folder / name}: {(folder / name).stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(*(Path(word) for word in sys.argv[1:2]))
