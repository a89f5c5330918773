"""Pictures and clips with captions: an animated subject that moves over a painted background, in a style.

`Scenes` draws them from a seed, so that any number of distinct samples is there without a file on disk. It gives
(T, 256, 256, 3) uint8 clips at 8 frames/s; single pictures are clips of one frame. Five motions: the subject's own
animation alone, walking across, jumping, floating, and a camera that comes closer; the subject is animated in all.
Knows nothing of models.
"""

import math
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
from rich.console import Console
from rich.progress import track

from stages.training.scenes.backgrounds import SIZE_PX, paint
from stages.training.scenes.captions import PLACES, SUBJECTS, TIMES, Scene, all_scenes, write_caption
from stages.training.scenes.fetch import unpack_subjects
from stages.training.scenes.styles import apply_style
from stages.types import UInt8

FPS = 8.0
STRIDE = 3  # source frames (24 a second) a frame of ours
_VARIANTS = 8  # backgrounds of each place and time that training knows; others are drawn when asked for

# Where a subject stands in the first frame. Steps of 32 pixels are whole latents at both sizes of the pipeline, so that
# a subject has one code wherever it stands; with free positions four times the training left blots instead of subjects.
_SIDE_PX = 160
_LEFT_PX = (16, 48, 80)
_GROUND_PX = 64  # top of the subject
_AIR_PX = 32
_FLYING = {"rocket", "helicopter", "butterfly", "ghost", "bee", "ladybug", "airplane", "flying saucer"}

_WALK_PX_S = 40.0
_JUMP_PX, _JUMPS_S = 48.0, 1.0
_JUMP_AT = (1 - 3**-0.5) / 2  # where in a jump a clip begins: a step of 32 pixels above the ground
_FLOAT_PX, _SWAY_PX = 18.0, 8.0
_ZOOM_S = 0.16  # a second


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the subject and the camera are at one time."""

    x: int
    y: int
    height: float = 0.0  # above the ground, in pixels; -1 without a ground
    zoom: float = 1.0


class Scenes:
    """An endless, seeded supply of composed clips; `variants` says which backgrounds."""

    def __init__(self, cache: Path, variants: range = range(_VARIANTS)) -> None:
        self._variants = variants
        self._sprites: dict[str, UInt8] = {}
        self._backgrounds: dict[tuple[str, str, int], UInt8] = {}
        self.training = [scene for scene in all_scenes() if not scene.held_out]
        self._files = unpack_subjects(SUBJECTS, cache)

    def prepare(self) -> None:
        """Scale every subject and paint every background now, and not when it is first asked for."""
        for name in track(SUBJECTS, description="subjects", console=Console(stderr=True)):
            self._sprite(name)
        for place in PLACES:
            for time in TIMES:
                for variant in self._variants:
                    self._background(place, time, variant)

    def clip(self, scene: Scene, frames: int, rng: random.Random, *, after_s: float = 0.0) -> UInt8:
        """(frames, 256, 256, 3) uint8: `scene` from a random moment of its animation, its motion from `after_s` on."""
        scenery = PIL.Image.fromarray(self._background(scene.place, scene.time, rng.choice(self._variants)))
        animation = self._sprite(scene.subject)
        path = _Path(scene, rng)
        start = rng.randrange(len(animation))
        out = np.empty((frames, SIZE_PX, SIZE_PX, 3), np.uint8)
        for index in range(frames):
            pose = path.at(after_s + index / FPS)
            sprite = PIL.Image.fromarray(animation[(start + STRIDE * index) % len(animation)])
            out[index] = np.asarray(_compose(scenery, sprite, pose))
        return apply_style(scene.style, out)

    def sample(self, frames: int, rng: random.Random, *, longest_s: float = 0.0) -> tuple[UInt8, str, Scene]:
        """A random training clip that begins up to `longest_s` after its motion; its caption and what it shows."""
        scene = rng.choice(self.training)
        clip = self.clip(scene, frames, rng, after_s=rng.uniform(0, longest_s))
        return clip, write_caption(scene, rng), scene

    def _sprite(self, name: str) -> UInt8:
        """(T, 160, 160, 4) uint8, straight alpha; every source frame."""
        if name not in self._sprites:
            animation: UInt8 = np.load(self._files[name])["frames"]
            size = (_SIDE_PX, _SIDE_PX)
            frames = [
                PIL.Image.fromarray(np.ascontiguousarray(frame)).resize(size, PIL.Image.Resampling.BILINEAR)
                for frame in animation
            ]
            self._sprites[name] = np.stack([np.asarray(frame) for frame in frames])
        return self._sprites[name]

    def _background(self, place: str, time: str, variant: int) -> UInt8:
        key = (place, time, variant)
        if key not in self._backgrounds:
            self._backgrounds[key] = paint(place, time, variant)
        return self._backgrounds[key]


class _Path:
    """How a scene's subject and camera move; what is left open is drawn once."""

    def __init__(self, scene: Scene, rng: random.Random) -> None:
        self._motion = scene.motion
        self._flies = scene.subject in _FLYING
        ends = (_LEFT_PX[0], _LEFT_PX[-1])
        self._left = rng.choice(ends if scene.motion == "walking" else _LEFT_PX)
        self._way = 1 if self._left == ends[0] else -1
        self._sway = rng.choice((-1, 1))

    def at(self, time_s: float) -> Pose:
        ground = _AIR_PX if self._flies else _GROUND_PX
        none = -1.0 if self._flies else 0.0
        if self._motion == "walking":
            bob = 3 * abs(math.sin(2 * math.pi * time_s))
            return Pose(self._left + round(self._way * _WALK_PX_S * time_s), ground - round(bob), none)
        if self._motion == "jumping":
            phase = (time_s / _JUMPS_S + _JUMP_AT) % 1
            height = _JUMP_PX * 4 * phase * (1 - phase)
            return Pose(self._left, ground - round(height), none if self._flies else height)
        if self._motion == "floating":
            lift = _FLOAT_PX * math.sin(math.pi * time_s)
            sway = self._sway * _SWAY_PX * math.sin(0.7 * math.pi * time_s)
            return Pose(self._left + round(sway), _AIR_PX - round(lift), -1.0)
        zoom = 1 + _ZOOM_S * time_s if self._motion == "zoom" else 1.0
        return Pose(self._left, ground, none, zoom)


def _compose(scenery: PIL.Image.Image, sprite: PIL.Image.Image, pose: Pose) -> PIL.Image.Image:
    picture = scenery.copy()
    if pose.height >= 0:
        _shadow(picture, pose.x, pose.y + round(pose.height) + _SIDE_PX, 1 - 0.4 * min(1.0, pose.height / _JUMP_PX))
    picture.paste(sprite, (pose.x, pose.y), sprite)
    if pose.zoom == 1:
        return picture
    inset = SIZE_PX / 2 * (1 - 1 / pose.zoom)
    box = (inset, inset, SIZE_PX - inset, SIZE_PX - inset)
    return picture.resize((SIZE_PX, SIZE_PX), PIL.Image.Resampling.BICUBIC, box=box)


def _shadow(scenery: PIL.Image.Image, x: int, foot: int, strength: float) -> None:
    """Darken the ground under a subject; in place."""
    mask = PIL.Image.new("L", scenery.size, 0)
    width, height = round(_SIDE_PX * 0.8 * strength), max(4, _SIDE_PX // 12)
    yy, xx = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    soft = (110 * strength * np.clip(1 - (xx**2 + yy**2), 0, 1) ** 0.7).astype(np.uint8)
    mask.paste(PIL.Image.fromarray(soft), (x + (_SIDE_PX - width) // 2, foot - height // 2 - _SIDE_PX // 32))
    scenery.paste(PIL.Image.new("RGB", scenery.size, (0, 0, 0)), (0, 0), mask)
