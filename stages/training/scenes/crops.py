"""Pictures for the autoencoder: any animated emoji, one to three of them, over places, in weather, in five styles.

Draws crops from a seed at training speed, and the fixed pictures that an autoencoder is measured on, whose subjects and
backgrounds no training sees. Wider than what prompts can ask for, so that the autoencoder stays when the vocabulary
grows. Gives uint8; knows nothing of models.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from stages.training.scenes.backgrounds import PAINTED, SIZE_PX, paint
from stages.training.scenes.captions import TIMES
from stages.training.scenes.sprites import SIDE_PX, Sprite, SpriteStore
from stages.training.scenes.styles import DRAWN, apply_style
from stages.types import UInt8

__all__ = ["VARIANTS", "Backgrounds", "Composer", "darken", "open_backgrounds", "weathered"]

VARIANTS = 24  # painted backgrounds of each place and time that training sees
_ABSTRACT = 240  # gradients under discs and polygons: for pictures that nobody thought of
_HELD_OUT = range(1000, 1002)  # variants that are measured on
_MARGIN_PX = 12  # a style looks so far around a pixel
_WEATHER = ("none",) * 7 + ("rain", "snow", "fog")
_SUBJECTS = (1, 1, 1, 1, 2, 2, 3)
_SCALES = (1.0,) * 7 + (0.5, 0.75, 1.5, 2.0)  # pixels of a crop a pixel of the scene

Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True)
class Backgrounds:
    """Painted places, (N, 256, 256, 3) uint8 each."""

    training: UInt8
    held_out: UInt8


def open_backgrounds(cache: Path) -> Backgrounds:
    """The backgrounds under `cache`, painted on first use."""
    folder, places = cache / f"backgrounds-{len(PAINTED)}", [(place, time) for place in PAINTED for time in TIMES]
    if not folder.is_dir():
        draft = folder.with_suffix(".tmp")
        draft.mkdir(parents=True, exist_ok=True)
        tracked = track(places, description="backgrounds", console=Console(stderr=True))
        painted = [paint(place, time, variant) for place, time in tracked for variant in range(VARIANTS)]
        painted += [_abstract(random.Random(f"abstract/{number}")) for number in range(_ABSTRACT)]
        np.save(draft / "training.npy", np.stack(painted))
        held = [paint(place, time, variant) for place, time in places for variant in _HELD_OUT]
        np.save(draft / "held_out.npy", np.stack(held))
        draft.rename(folder)
    return Backgrounds(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("training", "held_out")))


class Composer:
    """Composes crops and pictures; `sprites` and `backgrounds` say from what."""

    def __init__(self, store: SpriteStore, sprites: Sequence[Sprite], backgrounds: UInt8) -> None:
        self._frames = store.frames
        skins = dict[tuple[int, ...], list[Sprite]]()
        for sprite in sprites:
            skins.setdefault(sprite.points, []).append(sprite)
        self._subjects = list(skins.values())
        self._backgrounds = backgrounds

    def crop(self, side: int, rng: random.Random) -> UInt8:
        """(side, side, 3): a piece of a random scene, now and then enlarged or reduced, in a random style.

        The scene is 256 pixels wide, so of a reduced one `side` must be at most 128.
        """
        scale = rng.choice(_SCALES) if side <= SIZE_PX // 2 else 1.0
        style, seen = rng.choice(DRAWN), min(SIZE_PX, round(side / scale))
        left, top = (rng.randint(0, SIZE_PX - seen) for _ in range(2))
        margin = math.ceil(_MARGIN_PX / scale)
        wide = _around((left, top, left + seen, top + seen), margin)
        scene = self._scene(wide, rng)
        if scale != 1:
            size = (round((wide[2] - wide[0]) * scale), round((wide[3] - wide[1]) * scale))
            scene = np.asarray(PIL.Image.fromarray(scene).resize(size, PIL.Image.Resampling.BICUBIC))
        drawn = apply_style(style, scene[None])[0]
        x, y = (min(round((near - far) * scale), drawn.shape[axis] - side)
                for near, far, axis in ((left, wide[0], 1), (top, wide[1], 0)))  # fmt: skip
        return np.ascontiguousarray(drawn[y : y + side, x : x + side])

    def picture(self, style: str, rng: random.Random) -> UInt8:
        """(256, 256, 3): a whole scene in `style`."""
        drawn: UInt8 = apply_style(style, self._scene((0, 0, SIZE_PX, SIZE_PX), rng)[None])[0]
        return drawn

    def _scene(self, box: Box, rng: random.Random) -> UInt8:
        """What of a random scene is in `box`."""
        canvas = self._backgrounds[rng.randrange(len(self._backgrounds))]
        if rng.random() < 0.5:
            canvas = canvas[:, ::-1]
        made = np.array(canvas[box[1] : box[3], box[0] : box[2]], np.uint16)
        count = rng.choice(_SUBJECTS)
        for _ in range(count):
            side = rng.randint(110, 200) if count == 1 else rng.randint(80, 140)
            left, top = rng.randint(-side // 8, SIZE_PX - side * 7 // 8), rng.randint(16, SIZE_PX - side + 8)
            if rng.random() < 0.6:
                darken(made, box, left + side // 2, top + side - side // 32, side)
            self._paste(made, box, (left, top, left + side, top + side), rng)
        weather = rng.choice(_WEATHER)
        return weathered(made.astype(np.uint8), weather, rng)

    def _paste(self, made: NDArray[np.uint16], box: Box, at: Box, rng: random.Random) -> None:
        """Put a random subject at `at` into `made`, which shows `box`; in place."""
        sprite = rng.choice(rng.choice(self._subjects))
        frame = self._frames[sprite.first + rng.randrange(sprite.count)]
        flipped, turn = rng.random() < 0.5, rng.random()
        shown = (max(at[0], box[0]), max(at[1], box[1]), min(at[2], box[2]), min(at[3], box[3]))
        if shown[0] >= shown[2] or shown[1] >= shown[3]:
            return
        if flipped:
            frame = frame[:, ::-1]
        whole = PIL.Image.frombuffer("RGBa", (SIDE_PX, SIDE_PX), np.ascontiguousarray(frame), "raw", "RGBa", 0, 1)
        gain = SIDE_PX / (at[2] - at[0])
        left, top, right, bottom = ((edge - at[axis % 2]) * gain for axis, edge in enumerate(shown))
        size = (shown[2] - shown[0], shown[3] - shown[1])
        small = np.asarray(whole.resize(size, PIL.Image.Resampling.BILINEAR, (left, top, right, bottom))).astype(
            np.uint16
        )
        colours, alpha = small[..., :3], small[..., 3:]
        if turn < 0.25:
            colours = _turned(colours, alpha, turn * 4)
        rows, columns = slice(shown[1] - box[1], shown[3] - box[1]), slice(shown[0] - box[0], shown[2] - box[0])
        below = made[rows, columns]
        made[rows, columns] = np.minimum(colours + (below * (255 - alpha) + 127) // 255, 255)


def _around(box: Box, margin: int) -> Box:
    return (
        max(0, box[0] - margin), max(0, box[1] - margin), min(SIZE_PX, box[2] + margin), min(SIZE_PX, box[3] + margin)
    )  # fmt: skip


def darken(made: NDArray[np.uint16], box: Box, x: int, y: int, side: int) -> None:
    """A soft shadow on the ground under a subject; in place."""
    yy, xx = np.mgrid[box[1] : box[3], box[0] : box[2]].astype(np.float32)
    inside = 1 - ((xx - x) / (0.4 * side)) ** 2 - ((yy - y) / (0.045 * side)) ** 2
    light = 256 - 110 * inside.clip(0, 1) ** 0.7
    made[:] = (made * light.astype(np.uint16)[..., None]) >> 8


def _turned(colours: NDArray[np.uint16], alpha: NDArray[np.uint16], part: float) -> NDArray[np.uint16]:
    """Another hue: the colours turned around grey by `part` of a circle."""
    angle = 2 * math.pi * part
    cosine, sine = math.cos(angle), math.sin(angle)
    same, left, right = (1 + 2 * cosine) / 3, (1 - cosine) / 3 - sine / 3**0.5, (1 - cosine) / 3 + sine / 3**0.5
    turn = np.array([[same, left, right], [right, same, left], [left, right, same]], np.float32)
    turned = colours.astype(np.float32) @ turn.T
    clipped: NDArray[np.uint16] = np.clip(turned, 0, alpha).astype(np.uint16)
    return clipped


def weathered(scene: UInt8, weather: str, rng: random.Random) -> UInt8:
    if weather == "none":
        return scene
    height, width = scene.shape[:2]
    if weather == "fog":
        share = np.linspace(rng.uniform(0.1, 0.6), rng.uniform(0.1, 0.6), height, dtype=np.float32)[:, None, None]
        return (scene * (1 - share) + share * rng.randint(190, 240)).astype(np.uint8)
    picture = PIL.Image.fromarray(scene)
    draw = PIL.ImageDraw.Draw(picture, "RGBA")
    for _ in range(rng.randint(20, 120) * height * width // SIZE_PX**2):
        x, y, size = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.8, 3.2)
        if weather == "snow":
            draw.ellipse((x - size, y - size, x + size, y + size), fill=(255, 255, 255, 235))
        else:
            draw.line((x, y, x - 1.6 * size, y + 6 * size), fill=(214, 226, 240, 150), width=1)
    return np.asarray(picture)


def _abstract(rng: random.Random) -> UInt8:
    """(256, 256, 3): shapes of random colours over a gradient, drawn at twice the size."""
    side = 2 * SIZE_PX
    ends = np.array([[rng.randrange(256) for _ in range(3)] for _ in range(2)], np.float32)
    ramp = np.linspace(0, 1, side, dtype=np.float32)[:, None, None]
    sky = np.broadcast_to(ends[0] * (1 - ramp) + ends[1] * ramp, (side, side, 3)).astype(np.uint8)
    picture = PIL.Image.fromarray(np.rot90(sky, rng.randrange(2)).copy())
    draw = PIL.ImageDraw.Draw(picture)
    for _ in range(rng.randint(3, 60)):
        x, y, size = rng.uniform(0, side), rng.uniform(0, side), side * rng.uniform(0.004, 0.2)
        colour = (rng.randrange(256), rng.randrange(256), rng.randrange(256))
        kind = rng.randrange(3)
        if kind == 0:
            draw.ellipse((x - size, y - size, x + size, y + size), fill=colour)
        elif kind == 1:
            corners = [(x + rng.uniform(-size, size), y + rng.uniform(-size, size)) for _ in range(rng.randint(3, 6))]
            draw.polygon(corners, fill=colour)
        else:
            width = rng.randint(1, 8)
            draw.line((x, y, x + rng.uniform(-2, 2) * size, y + rng.uniform(-2, 2) * size), fill=colour, width=width)
    return np.asarray(picture.resize((SIZE_PX, SIZE_PX), PIL.Image.Resampling.LANCZOS))
