"""Pictures and clips with captions: an animated subject composed over a painted background.

`Scenes` draws them from a seed, so that any number of distinct samples is there without a file on disk. It gives
(T, 256, 256, 3) uint8 clips at 8 frames/s and the caption; single pictures are clips of one frame. Knows nothing of
models.
"""

import random
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageFilter

from stages.training.backgrounds import SIZE_PX, paint
from stages.training.captions import PLACES, SUBJECTS, TIMES, Scene, all_scenes, write_caption
from stages.training.fetch import load_subjects
from stages.types import UInt8

STRIDE = 3  # source frames (24 a second) a keyframe (8 a second)
_VARIANTS = 8  # backgrounds of each place and time kept ready

# Where a subject stands. Steps of 32 pixels are whole latents at both sizes of the pipeline, so that a subject has one
# code wherever it stands; with free positions four times the training left blots where subjects should be.
_SIDE_PX = 160
_LEFT_PX = (16, 48, 80)
_TOP_PX = 64
_FLYING_TOP_PX = 32
_FLYING = {"rocket", "helicopter", "butterfly", "ghost"}


class Scenes:
    """An endless, seeded supply of composed clips."""

    def __init__(self, cache: Path) -> None:
        self.subjects = load_subjects(SUBJECTS, cache)
        file = cache / "backgrounds.npz"
        if file.exists():
            self._backgrounds: dict[str, UInt8] = dict(np.load(file).items())
        else:
            self._backgrounds = {
                f"{place}/{time}": np.stack([paint(place, time, seed) for seed in range(_VARIANTS)])
                for place in PLACES
                for time in TIMES
            }
            np.savez(file, allow_pickle=False, **self._backgrounds)
        self.training = [scene for scene in all_scenes() if not scene.held_out]

    def clip(self, scene: Scene, frames: int, rng: random.Random) -> UInt8:
        """(frames, 256, 256, 3) uint8: `scene` from a random moment of its animation."""
        canvas = rng.choice(self._backgrounds[f"{scene.place}/{scene.time}"])
        animation = self.subjects[scene.subject]
        side, x = _SIDE_PX, rng.choice(_LEFT_PX)
        y = _FLYING_TOP_PX if scene.subject in _FLYING else _TOP_PX
        start = rng.randrange(len(animation))
        scenery = PIL.Image.fromarray(np.ascontiguousarray(canvas))
        if scene.subject not in _FLYING:
            _shadow(scenery, x, y + side, side)
        out = np.empty((frames, SIZE_PX, SIZE_PX, 3), np.uint8)
        for index in range(frames):
            sprite = animation[(start + STRIDE * index) % len(animation)]
            picture = scenery.copy()
            layer = PIL.Image.fromarray(np.ascontiguousarray(sprite)).resize(
                (side, side), PIL.Image.Resampling.BILINEAR
            )
            picture.paste(layer, (x, y), layer)
            out[index] = np.asarray(picture)
        return out

    def sample(self, frames: int, rng: random.Random) -> tuple[UInt8, str, Scene]:
        """A random training clip, its caption and what it shows."""
        scene = rng.choice(self.training)
        return self.clip(scene, frames, rng), write_caption(scene, rng), scene


def _shadow(scenery: PIL.Image.Image, x: int, foot: int, side: int) -> None:
    """Darken the ground under a subject; in place."""
    mask = PIL.Image.new("L", scenery.size, 0)
    height = max(4, side // 12)
    ellipse = PIL.Image.new("L", (round(side * 0.8), height), 0)
    yy, xx = np.mgrid[-1 : 1 : ellipse.size[1] * 1j, -1 : 1 : ellipse.size[0] * 1j]
    soft = (110 * np.clip(1 - (xx**2 + yy**2), 0, 1) ** 0.7).astype(np.uint8)
    mask.paste(PIL.Image.fromarray(soft), (x + round(side * 0.1), foot - height // 2 - side // 32))
    scenery.paste(PIL.Image.new("RGB", scenery.size, (0, 0, 0)), (0, 0), mask)
