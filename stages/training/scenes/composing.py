"""Pictures of scenes: sprites over painted places, in weather and style; what T2I and the first frames are trained on.

Gives (256, 256, 3) uint8 for a `sentences.Scene`, drawn from a seed. Subjects stand on steps of 16 pixels, two latents,
so that few of their codes differ. Knows nothing of models.
"""

import random
from dataclasses import dataclass

import numpy as np
import PIL.Image
import PIL.ImageOps
from numpy.typing import NDArray

from stages.training.scenes.backgrounds import PAINTED, SIZE_PX
from stages.training.scenes.captions import TIMES
from stages.training.scenes.crops import VARIANTS, darken, weathered
from stages.training.scenes.sentences import COLOURS, Scene, subjects
from stages.training.scenes.sprites import Sprite, SpriteStore
from stages.training.scenes.styles import apply_style
from stages.types import UInt8

STEP_PX = 16
_SIDES = {1: (160, 160, 176, 144), 2: (112,), 3: (96, 80)}
WHOLE = (0, 0, SIZE_PX, SIZE_PX)
AIRBORNE = frozenset({"floating"})
FLYING = frozenset({
    "rocket", "helicopter", "butterfly", "ghost", "bee", "ladybug", "airplane", "ufo", "small airplane", "parachute",
    "comet", "shooting star", "cloud", "star", "rainbow", "moon with a face", "planet", "sun", "fly", "mosquito",
    "bat", "droplet", "snowflake", "musical notes", "cloud with rain", "cloud with snow", "cloud with lightning",
    "sun behind rain cloud", "cable car", "aerial tramway", "suspension railway",
})  # fmt: skip


@dataclass(frozen=True)
class Placed:
    """One subject in a picture, in pixels; `side` of the square that its sprite fills."""

    name: str
    left: int
    top: int
    side: int
    flies: bool


def place(scene: Scene, rng: random.Random) -> list[Placed]:
    """Where the subjects of `scene` stand in a picture, or when a clip begins."""
    count = len(scene.subjects)
    side = rng.choice(_SIDES[count])
    free = SIZE_PX - count * side
    gap = free // (count + 1) // STEP_PX * STEP_PX
    room = max(0, (free - gap * (count - 1)) // STEP_PX)
    left = rng.randint(1, max(1, room - 1)) * STEP_PX if count == 1 else rng.randint(0, room) * STEP_PX
    placed = []
    for number, name in enumerate(scene.subjects):
        flies = scene.motion in AIRBORNE or name in FLYING
        ground = (SIZE_PX - 32 - side) // STEP_PX * STEP_PX + rng.choice((0, STEP_PX))
        top = max(0, ground - rng.choice((32, 48))) if flies else ground
        placed.append(Placed(name, left + number * (side + gap), top, side, flies))
    return placed


def background_of(backgrounds: UInt8, scene: Scene, rng: random.Random) -> UInt8:
    """(256, 256, 3): one of those of `scene`'s place and time, perhaps mirrored; in the order of `open_backgrounds`."""
    at = (list(PAINTED).index(scene.place) * len(TIMES) + list(TIMES).index(scene.time)) * VARIANTS
    canvas: UInt8 = backgrounds[at + rng.randrange(VARIANTS)]
    return canvas[:, ::-1] if rng.random() < 0.5 else canvas


class Pictures:
    """Draws them; `backgrounds` from `open_backgrounds`."""

    def __init__(self, store: SpriteStore, backgrounds: UInt8) -> None:
        self._frames, self._backgrounds = store.frames, backgrounds
        by_code = dict[str, list[Sprite]]()
        for sprite in store.sprites:
            by_code.setdefault("-".join(f"{point:x}" for point in sprite.points), []).append(sprite)
        self._skins = {name: by_code.get(subject.code, []) for name, subject in subjects().items()}

    def draw(self, scene: Scene, rng: random.Random) -> UInt8:
        """(256, 256, 3)."""
        made = np.array(background_of(self._backgrounds, scene, rng), np.uint16)
        for one in place(scene, rng):
            if not one.flies:
                darken(made, WHOLE, one.left + one.side // 2, one.top + one.side - one.side // 32, one.side)
            self._paste(made, one, scene.colour, rng)
        drawn = weathered(made.astype(np.uint8), scene.weather, rng)
        styled: UInt8 = apply_style(scene.style, drawn[None])[0]
        return styled

    def _paste(self, made: NDArray[np.uint16], one: Placed, colour: str, rng: random.Random) -> None:
        sprite = rng.choice(self._skins[one.name])
        frame = self._frames[sprite.first + rng.randrange(sprite.count)]
        small = resized(frame, (one.side, one.side))
        if colour:
            small = np.concatenate([tinted(small[..., :3], small[..., 3:], COLOURS[colour]), small[..., 3:]], -1)
        paste(made, small, one.left, one.top)


def resized(sprite: UInt8, size: tuple[int, int]) -> NDArray[np.uint16]:
    """A sprite (H, W, 4), colours multiplied by alpha, at `size` (width, height)."""
    height, width = sprite.shape[:2]
    whole = PIL.Image.frombuffer("RGBa", (width, height), np.ascontiguousarray(sprite), "raw", "RGBa", 0, 1)
    small: NDArray[np.uint16] = np.asarray(whole.resize(size, PIL.Image.Resampling.LANCZOS)).astype(np.uint16)
    small[..., :3] = np.minimum(small[..., :3], small[..., 3:])
    return small


def paste(made: NDArray[np.uint16], sprite: NDArray[np.uint16], left: int, top: int) -> None:
    """Put a sprite (h, w, 4) into `made` (H, W, 3), where it is inside; in place."""
    rows, columns = (
        slice(max(0, at), max(0, min(whole, at + side)))
        for at, side, whole in zip((top, left), sprite.shape, made.shape, strict=False)
    )
    shown = sprite[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    below = made[rows, columns]
    made[rows, columns] = np.minimum(shown[..., :3] + (below * (255 - shown[..., 3:]) + 127) // 255, 255)


def tinted(colours: NDArray[np.uint16], alpha: NDArray[np.uint16], colour: tuple[int, int, int]) -> NDArray[np.uint16]:
    """`colours` (multiplied by alpha) in shades of `colour`; darkest parts, as eyes, stay as they are."""
    opaque = np.maximum(alpha, 1)
    straight = np.minimum(colours * 255 // opaque, 255).astype(np.uint8)
    grey = PIL.ImageOps.autocontrast(PIL.Image.fromarray(straight).convert("L"), cutoff=2, mask=None)
    dark = tuple(part * 2 // 5 for part in colour)
    light = tuple(part + (255 - part) * 3 // 5 for part in colour)
    painted = np.asarray(PIL.ImageOps.colorize(grey, dark, light, mid=colour), np.float32)
    value = straight.astype(np.float32).mean(-1, keepdims=True)
    share = 0.85 * np.clip((value - 30) / 50, 0, 1)
    mixed = straight * (1 - share) + painted * share
    made: NDArray[np.uint16] = (mixed * alpha / 255).astype(np.uint16)
    return made
