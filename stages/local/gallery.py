"""The README's pictures, made anew by `make gallery`: `python -m stages.local.gallery [FOLDER]`.

Four prompts, seed 7, the tiny preset, whole videos. `gallery.png` shows six frames of each, a prompt a row;
`gallery.webp` plays all four side by side. Nothing is chosen among several tries.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
import PIL.Image
from rich.progress import track

from client._shell.ending import Parser
from client._shell.outputs import judge_folder, judge_output, written
from stages.base import ignore_progress
from stages.commands import errors, reports_errors
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


def run(words: list[str]) -> int:
    """Make and write both."""
    parser = Parser(prog="python -m stages.local.gallery", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=WEIGHTS, help="where both go (%(default)s)")
    folder: Path = parser.parse_args(words).folder
    judge_folder(folder).mkdir(parents=True, exist_ok=True)
    pictures = [judge_output(folder / name) for name in ("gallery.png", "gallery.webp")]
    warnings.filterwarnings("ignore", module="diffusers|transformers|huggingface_hub")
    pipeline = LocalPipeline.load(TINY)
    videos = [film(pipeline, prompt) for prompt in track(PROMPTS, "videos", console=errors)]
    with written(pictures[0]) as draft:
        sheet(videos).save(draft, optimize=True)
    first, *rest = moving(videos)
    duration_ms = round(1000 / (TINY.keyframe_fps * TINY.vfi_factor))
    with written(pictures[1]) as draft:
        first.save(draft, save_all=True, append_images=rest, duration=duration_ms, loop=0, quality=70, method=5)
    for path in pictures:
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
    return 0


main = reports_errors(run)

if __name__ == "__main__":
    sys.exit(main())
