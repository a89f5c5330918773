"""How good the tiny weights are: `python -m stages.training.tiny.measure [--seeds 2]`.

Sharpness is the PSNR of the VAE on fresh scenes. Following the prompt is judged without any other model: a picture
drawn for a prompt is compared with composed pictures of every subject, in the same place at the same time of day, in
every position and several poses, and is right where the nearest one shows the prompt's subject; places and times are
judged alike. Chance is 1/64, 1/10 and 1/3. `--sheet` keeps what was drawn for twelve prompts as a picture.
"""

import json
import random
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray

from client._shell.ending import Parser
from client._shell.outputs import judge_output, written
from stages.base import ignore_progress
from stages.commands import positive, reports_errors
from stages.model.network import vae as codec
from stages.model.network.pictures import resize_frames
from stages.model.weights.loading import load_module
from stages.presets import TINY, plan
from stages.t2i import T2I
from stages.training.scenes.captions import PLACES, SUBJECTS, TIMES, Scene, plain_caption
from stages.training.scenes.data import Scenes
from stages.training.scenes.fetch import cache_folder
from stages.types import UInt8

_SMALL = (64, 64)  # what is compared: shapes and colours, not texture
_DRAWS = 24  # composed pictures a candidate

SHEET = (
    Scene("fox", "snowy forest", "dusk"),
    Scene("rabbit", "meadow", "day"),
    Scene("cat", "city", "night"),
    Scene("whale", "beach", "dusk"),
    Scene("rocket", "mountains", "night"),
    Scene("robot", "desert", "day"),
    Scene("penguin", "snowy forest", "day"),
    Scene("sailboat", "beach", "day"),
    Scene("car", "city", "dusk"),
    Scene("tiger", "meadow", "dusk"),
    Scene("butterfly", "meadow", "day"),
    Scene("ghost", "city", "night"),
)


def run(words: list[str]) -> int:
    """The command; prints one JSON object."""
    parser = Parser(prog="python -m stages.training.tiny.measure", description=__doc__)
    parser.add_argument("--cache", type=Path, default=cache_folder())
    parser.add_argument("--seeds", type=positive, default=2, help="pictures a subject, place and time")
    parser.add_argument("--sheet", type=Path, help="write the twelve prompts' pictures there")
    args = parser.parse_args(words)
    if args.sheet:
        judge_output(args.sheet, (".png", ".jpg", ".webp"))
    scenes, stage = Scenes(args.cache), T2I.load(TINY, "cpu")
    figures = {**sharpness(scenes), **following(scenes, stage, args.seeds)}
    if args.sheet:
        pictures = [draw(stage, scene, 7) for scene in SHEET]
        rows = [np.concatenate(pictures[first : first + 4], 1) for first in range(0, len(pictures), 4)]
        with written(args.sheet) as draft:
            PIL.Image.fromarray(np.concatenate(rows)).save(draft)
    print(json.dumps(figures))
    return 0


def sharpness(scenes: Scenes, count: int = 32) -> dict[str, float]:
    """PSNR in dB of encoding and decoding, at both sizes of the pipeline."""
    import diffusers

    vae = load_module(TINY, "vae", diffusers.AutoencoderKL, "cpu", torch.float32)
    rng = random.Random("sharpness")
    pictures = np.concatenate([scenes.sample(1, rng)[0] for _ in range(count)])
    figures = {}
    for name, size in (("psnr_high", (256, 256)), ("psnr_low", TINY.sizes[TINY.default_size].i2v)):
        true = resize_frames(pictures, size)
        made = codec.decode(vae, codec.encode(vae, codec.to_tensor(true)))
        errors = ((true.astype(np.float64) - made) ** 2).mean((1, 2, 3))
        figures[name] = round(float((10 * np.log10(255**2 / errors)).mean()), 2)
    return figures


def following(scenes: Scenes, stage: T2I, seeds: int) -> dict[str, float]:
    """Share of drawn pictures whose nearest candidate is the prompt's."""
    rng = random.Random("following")
    asked = [
        Scene(subject, rng.choice(list(PLACES)), rng.choice(list(TIMES))) for subject in SUBJECTS for _ in range(seeds)
    ]
    right = {"subject": 0, "place": 0, "time": 0}
    for number, scene in enumerate(asked):
        made = _features(draw(stage, scene, number)[None])[0]
        axes: dict[str, list[Scene]] = {
            "subject": [Scene(subject, scene.place, scene.time) for subject in SUBJECTS],
            "place": [Scene(scene.subject, place, scene.time) for place in PLACES],
            "time": [Scene(scene.subject, scene.place, time) for time in TIMES],
        }
        for axis, candidates in axes.items():
            nearest = min(candidates, key=lambda candidate: _distance(scenes, candidate, made))
            right[axis] += nearest == scene
    return {f"{axis}_accuracy": round(count / len(asked), 3) for axis, count in right.items()}


def draw(stage: T2I, scene: Scene, seed: int) -> UInt8:
    """(256, 256, 3) uint8 for the plain caption of `scene`."""
    image = stage(params=plan(TINY, plain_caption(scene)).t2i, seed=seed, report=ignore_progress)
    return image.pixels


def _features(pictures: UInt8) -> NDArray[np.float32]:
    return resize_frames(pictures, _SMALL).astype(np.float32)


def _distance(scenes: Scenes, scene: Scene, made: NDArray[np.float32]) -> float:
    rng = random.Random("candidates")
    shown = np.concatenate([scenes.clip(scene, 1, rng) for _ in range(_DRAWS)])
    return float(((_features(shown) - made) ** 2).mean((1, 2, 3)).min())


main = reports_errors(run)

if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
