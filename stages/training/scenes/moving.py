"""Clips of scenes: animated subjects that move, over places that a camera follows, in weather and style.

Gives (T, 256, 256, 3) uint8 at 8 frames/s for a `sentences.Scene`, drawn from a seed. The first frame is a picture as
`composing` draws it: nothing has moved yet. Who walks or runs looks left, as emoji do, so it goes left as far as there
is room, and the camera goes with it for the rest. Knows nothing of models.
"""

import math
import random
from dataclasses import dataclass

import numpy as np
import PIL.Image
import PIL.ImageDraw
from numpy.typing import NDArray

from stages.training.scenes.animations import Animations
from stages.training.scenes.backgrounds import SIZE_PX
from stages.training.scenes.composing import WHOLE, Placed, background_of, paste, place, resized, tinted
from stages.training.scenes.crops import darken
from stages.training.scenes.sentences import COLOURS, Scene, subjects
from stages.training.scenes.styles import apply_style
from stages.types import UInt8

__all__ = ["FPS", "Clips"]

FPS = 8.0
_SPEEDS_PX_S = {"walking": 44.0, "running": 92.0}
_STRIDES_S = {"walking": 2.0, "running": 2.67}  # bobs a second
_ON_SCREEN = 0.6  # of the speed, at most: the rest is the camera's
_SECONDS = 2.0  # in which who walks may come to the edge
_ZOOM_S = 0.16
_TURN_S = 2.0  # once around
_THIN = 0.1  # of the width, of who is seen from the side
_PAD = 32  # pixels around a sprite that is rocked
_SIDE = 256


@dataclass(frozen=True)
class Pose:
    """How a subject differs from how it stood in the first frame; lengths in parts of its side."""

    across: float = 0.0
    up: float = 0.0
    wide: float = 1.0  # negative: seen from the other side
    tall: float = 1.0
    rocked: float = 0.0  # degrees, around its foot


@dataclass(frozen=True)
class Course:
    """How one subject and the camera move; what is left open was drawn once."""

    motion: str
    way: int  # -1: to the left
    screen_px_s: float
    camera_px_s: float
    phase: float  # of who does the same beside another
    side: int

    def pose(self, time_s: float) -> Pose:
        """At `time_s`; nothing has moved at 0."""
        wave, rise = math.sin, 2 * math.pi
        across = self.way * self.screen_px_s * time_s / self.side
        if self.motion in _SPEEDS_PX_S:
            fast = self.motion == "running"
            step = math.pi * _STRIDES_S[self.motion] * time_s
            return Pose(across, (0.055 if fast else 0.025) * abs(wave(step)), rocked=(4 if fast else 2.5) * wave(step))
        if self.motion == "jumping":
            at = time_s % 1.0
            landed = max(0.0, 1 - at / 0.2) if time_s >= 0.5 else 0.0
            pushed = 0.12 * landed - 0.05 * wave(math.pi * at)
            return Pose(up=0.3 * 4 * at * (1 - at), wide=1 + pushed, tall=1 - pushed)
        if self.motion == "floating":
            lift, sway = wave(rise * 0.45 * time_s), wave(rise * 0.3 * time_s)
            return Pose(0.05 * self.way * sway, 0.09 * lift, rocked=3 * self.way * sway)
        if self.motion == "dancing":
            beat = rise * time_s
            return Pose(0.04 * self.way * wave(beat), 0.05 * abs(wave(beat)), rocked=11 * self.way * wave(beat))
        if self.motion == "spinning":
            wide = math.cos(rise * time_s / _TURN_S)
            return Pose(wide=math.copysign(max(_THIN, abs(wide)), wide))
        return Pose()


class Clips:
    """Draws them; `backgrounds` as `crops.open_backgrounds` has them."""

    def __init__(self, animations: Animations, backgrounds: UInt8) -> None:
        self._animations, self._backgrounds = animations, backgrounds

    def draw(self, scene: Scene, frames: int, rng: random.Random) -> UInt8:
        """(frames, 256, 256, 3)."""
        canvas = background_of(self._backgrounds, scene, rng)
        endless = np.concatenate([canvas, canvas[:, ::-1]], 1)  # what the camera comes to is what it came from
        placed = place(scene, rng)
        way, phase = _way(scene, placed[0], rng), rng.choice((0.0, 0.0, 0.25))
        courses = [_course(scene, one, way, len(placed), number * phase) for number, one in enumerate(placed)]
        sprites = [self._sprites(one, scene.colour, frames, rng) for one in placed]
        weather = Weather(scene.weather, rng)
        made = np.empty((frames, SIZE_PX, SIZE_PX, 3), np.uint8)
        for index in range(frames):
            time_s = index / FPS
            moved = round(courses[0].way * courses[0].camera_px_s * time_s) % endless.shape[1]
            picture = np.roll(endless, -moved, 1)[:, :SIZE_PX].astype(np.uint16)
            for one, course, frame in zip(placed, courses, sprites, strict=True):
                _put(picture, one, course.pose(max(0.0, time_s - course.phase)), frame[index])
            made[index] = weather.over(_zoomed(picture.astype(np.uint8), scene, time_s), time_s)
        return apply_style(scene.style, made)

    def _sprites(self, one: Placed, colour: str, frames: int, rng: random.Random) -> UInt8:
        """(frames, 256, 256, 4); a colour is found for all frames at once, else it flickers."""
        clip = self._animations.clip(subjects()[one.name].code, frames, rng)
        if colour:
            long = clip.reshape(-1, _SIDE, 4).astype(np.uint16)
            clip = clip.copy()
            clip[..., :3] = tinted(long[..., :3], long[..., 3:], COLOURS[colour]).reshape(*clip.shape[:3], 3)
        return clip


def _way(scene: Scene, first: Placed, rng: random.Random) -> int:
    if scene.motion not in _SPEEDS_PX_S:
        return rng.choice((-1, 1))
    looks = subjects()[first.name].kind in ("animal", "vehicle", "person")
    return -1 if looks or first.left + first.side // 2 >= SIZE_PX // 2 else 1


def _course(scene: Scene, one: Placed, way: int, count: int, phase: float) -> Course:
    speed = _SPEEDS_PX_S.get(scene.motion, 0.0)
    room = one.left if way < 0 else SIZE_PX - one.left - one.side
    screen = min(_ON_SCREEN * speed, max(0.0, room + one.side / 10) / _SECONDS) if count == 1 else 0.0
    return Course(scene.motion, way, screen, speed - screen, phase, one.side)


def _put(picture: NDArray[np.uint16], one: Placed, pose: Pose, sprite: UInt8) -> None:
    """Draw a subject and its shadow; in place."""
    pad = _PAD if pose.rocked else 0
    if pad:
        sprite = _rocked(np.pad(sprite, ((pad, pad), (pad, pad), (0, 0))), pose.rocked, (_SIDE // 2 + pad, _SIDE + pad))
    if pose.wide < 0:
        sprite = sprite[:, ::-1]
    scale = one.side / _SIDE
    width, height = (round(len(sprite) * scale * gain) for gain in (abs(pose.wide), pose.tall))
    middle = one.left + one.side / 2 + pose.across * one.side
    foot = one.top + one.side - pose.up * one.side
    if not one.flies:
        small = 1 - 0.5 * min(1.0, pose.up / 0.3)
        darken(picture, WHOLE, round(middle), one.top + one.side - one.side // 32, round(one.side * small))
    left, top = round(middle - width / 2), round(foot + pad * scale * pose.tall) - height
    paste(picture, resized(sprite, (max(1, width), height)), left, top)


def _rocked(sprite: UInt8, degrees: float, around: tuple[int, int]) -> UInt8:
    height, width = sprite.shape[:2]
    whole = PIL.Image.frombuffer("RGBa", (width, height), np.ascontiguousarray(sprite), "raw", "RGBa", 0, 1)
    turned: UInt8 = np.array(whole.rotate(degrees, PIL.Image.Resampling.BICUBIC, center=around))
    turned[..., :3] = np.minimum(turned[..., :3], turned[..., 3:])
    return turned


def _zoomed(picture: UInt8, scene: Scene, time_s: float) -> UInt8:
    if scene.motion != "zoom" or not time_s:
        return picture
    inset = SIZE_PX / 2 * (1 - 1 / (1 + _ZOOM_S * time_s))
    box = (inset, inset, SIZE_PX - inset, SIZE_PX - inset)
    whole = PIL.Image.fromarray(picture)
    return np.asarray(whole.resize((SIZE_PX, SIZE_PX), PIL.Image.Resampling.BICUBIC, box=box))


class Weather:
    """As `crops.weathered` draws it, but it falls."""

    def __init__(self, kind: str, rng: random.Random) -> None:
        self._kind = kind
        self._fog = rng.uniform(0.1, 0.6), rng.uniform(0.1, 0.6)
        self._grey = rng.randint(190, 240)
        count = rng.randint(20, 120) if kind in ("snow", "rain") else 0
        self._drops = [
            (rng.uniform(0, SIZE_PX), rng.uniform(0, SIZE_PX), rng.uniform(0.8, 3.2), rng.uniform(0, 2 * math.pi))
            for _ in range(count)
        ]

    def over(self, picture: UInt8, time_s: float) -> UInt8:
        """`picture` (H, W, 3) in it."""
        if self._kind == "none":
            return picture
        if self._kind == "fog":
            share = np.linspace(self._fog[0], self._fog[1], len(picture), dtype=np.float32)[:, None, None]
            misty: UInt8 = (picture * (1 - share) + share * self._grey).astype(np.uint8)
            return misty
        whole = PIL.Image.fromarray(picture)
        draw = PIL.ImageDraw.Draw(whole, "RGBA")
        for x, y, size, phase in self._drops:
            if self._kind == "snow":
                across = x + 5 * (math.sin(2 * time_s + phase) - math.sin(phase))
                down = (y + (24 + 12 * size) * time_s + 4) % (SIZE_PX + 8) - 4
                draw.ellipse((across - size, down - size, across + size, down + size), fill=(255, 255, 255, 235))
            else:
                fallen = (110 + 40 * size) * time_s
                across = (x - fallen / 3.75) % SIZE_PX
                down = (y + fallen + 20) % (SIZE_PX + 40) - 20
                line = (across, down, across - 1.6 * size, down + 6 * size)
                draw.line(line, fill=(214, 226, 240, 150), width=1)
        return np.asarray(whole)
