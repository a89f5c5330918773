"""Painted backgrounds: places under a sky of a given time of day, drawn from a seed.

Gives (256, 256, 3) uint8 pictures. Knows nothing of subjects or captions; the names of times, and of the first places,
are those of `captions`.
"""

import math
import random
from collections.abc import Callable

import numpy as np
import PIL.Image

from stages.training.scenes.brush import SIDE, SIZE_PX, Brush, Colour
from stages.training.scenes.places import MORE_PLACES
from stages.types import UInt8

__all__ = ["PAINTED", "SIZE_PX", "paint"]


def _pine(brush: Brush, x: float, base: float, height: float) -> None:
    green, snow = brush.lit((38, 92, 74)), brush.lit((238, 244, 252))
    brush.polygon(
        [(x - height * 0.04, base), (x + height * 0.04, base), (x + height * 0.04, base - height * 0.2),
         (x - height * 0.04, base - height * 0.2)],
        brush.lit((94, 66, 48)),
    )  # fmt: skip
    for tier in range(3):
        bottom = base - height * (0.12 + 0.26 * tier)
        half, top = height * (0.3 - 0.07 * tier), bottom - height * 0.38
        brush.polygon([(x - half, bottom), (x + half, bottom), (x, top)], green)
        brush.polygon([(x - half * 0.5, top + height * 0.19), (x + half * 0.5, top + height * 0.19), (x, top)], snow)


def _snowy_forest(brush: Brush) -> None:
    rng = brush.rng
    horizon = rng.uniform(0.55, 0.63)
    brush.ridge(horizon + 0.02, 0.12, brush.lit((150, 176, 196)), 0.6, rng.uniform(2, 4))
    brush.ground(horizon, (246, 250, 255), (214, 226, 240))
    trees = sorted((rng.uniform(horizon, horizon + 0.2), rng.random()) for _ in range(rng.randint(8, 12)))
    for base, x in trees:
        _pine(brush, x, base, rng.uniform(0.3, 0.42) * (0.75 + 1.4 * (base - horizon)))


def _beach(brush: Brush) -> None:
    rng = brush.rng
    horizon, shore = rng.uniform(0.46, 0.54), rng.uniform(0.66, 0.74)
    brush.ground(horizon, (80, 200, 214), (30, 116, 190))
    for _ in range(14):
        x, y = rng.random(), rng.uniform(horizon + 0.02, shore - 0.02)
        brush.disc(x, y, rng.uniform(0.03, 0.09), brush.lit((178, 228, 240)), 0.06)
    phase = rng.uniform(0, 6.28)
    for lift, colour in ((0.018, (244, 250, 252)), (0.0, (240, 212, 150))):
        edge = [(k / 32, shore - lift + 0.014 * math.sin(k / 3 + phase)) for k in range(33)]
        brush.polygon([(0, 1), *edge, (1, 1)], brush.lit(colour))
    if rng.random() < 0.6:
        x = rng.choice((rng.uniform(0.04, 0.14), rng.uniform(0.86, 0.96)))
        lean = 0.05 if x < 0.5 else -0.05
        trunk = [(x - 0.012, 0.8), (x + 0.014, 0.8), (x + lean + 0.01, 0.36), (x + lean - 0.008, 0.36)]
        brush.polygon(trunk, brush.lit((134, 94, 58)))
        for angle in range(0, 360, 60):
            tip = (x + lean + 0.13 * math.cos(math.radians(angle)), 0.36 + 0.06 * math.sin(math.radians(angle)) + 0.03)
            brush.polygon([(x + lean, 0.335), tip, (x + lean, 0.375)], brush.lit((52, 148, 78)))


def _meadow(brush: Brush) -> None:
    rng = brush.rng
    horizon = rng.uniform(0.52, 0.62)
    brush.ridge(horizon + 0.03, 0.14, brush.lit((122, 182, 104)), 0.3, rng.uniform(0.8, 1.6))
    brush.ground(horizon + 0.03, (84, 172, 60), (138, 204, 92))
    petals: list[Colour] = [(250, 230, 70), (250, 120, 150), (255, 255, 255), (170, 120, 230), (240, 80, 70)]
    for _ in range(rng.randint(45, 70)):
        y = rng.uniform(horizon + 0.07, 0.99)
        size = 0.005 + 0.014 * (y - horizon)
        x = rng.random()
        colour = brush.lit(rng.choice(petals))
        for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            brush.disc(x + dx * size, y + dy * size, size * 0.8, colour)
        brush.disc(x, y, size * 0.6, brush.lit((250, 180, 50)))


def _city(brush: Brush) -> None:
    rng = brush.rng
    horizon = rng.uniform(0.68, 0.74)
    windows: Colour = (255, 226, 130) if brush.time != "day" else (196, 224, 244)
    walls: list[Colour] = [(150, 112, 108), (122, 132, 152), (176, 150, 126), (104, 116, 138), (164, 172, 184)]
    for layer, low, high in ((0, 0.3, 0.5), (1, 0.16, 0.36)):
        x = rng.uniform(-0.1, 0)
        while x < 1:
            width, top = rng.uniform(0.11, 0.19), horizon - rng.uniform(low, high)
            wall = brush.lit(rng.choice(walls), 0.75 if layer == 0 else 1.0)
            brush.polygon([(x, horizon), (x, top), (x + width, top), (x + width, horizon)], wall)
            columns, rows = 3, int((horizon - top) / 0.055)
            for row in range(rows):
                for column in range(columns):
                    lit = brush.time != "day" and rng.random() < 0.65
                    pane = windows if lit or brush.time == "day" else brush.lit((70, 80, 104))
                    left = x + width * (0.14 + 0.27 * column)
                    up = top + 0.02 + 0.055 * row
                    brush.polygon(
                        [(left, up), (left + width * 0.17, up), (left + width * 0.17, up + 0.03), (left, up + 0.03)],
                        pane,
                    )
            x += width + rng.uniform(0, 0.03)
    brush.ground(horizon, (92, 94, 102), (124, 126, 134))
    brush.polygon([(0, horizon), (1, horizon), (1, horizon + 0.025), (0, horizon + 0.025)], brush.lit((178, 178, 182)))
    start = rng.uniform(0, 0.2)
    for k in range(-1, 6):
        x = start + 0.2 * k
        brush.polygon([(x, 0.87), (x + 0.1, 0.87), (x + 0.09, 0.89), (x - 0.01, 0.89)], brush.lit((240, 236, 214)))


def _desert(brush: Brush) -> None:
    rng = brush.rng
    horizon = rng.uniform(0.56, 0.64)
    brush.ridge(horizon + 0.03, 0.13, brush.lit((226, 176, 108)), 0.15, rng.uniform(0.8, 1.5))
    brush.ground(horizon + 0.03, (246, 204, 128), (232, 184, 112))
    for _ in range(3):
        y = rng.uniform(horizon + 0.08, 0.95)
        brush.disc(rng.random(), y, rng.uniform(0.2, 0.4), brush.lit((238, 192, 118)), 0.08)
    for _ in range(rng.randint(2, 4)):
        x, base = (
            rng.choice((rng.uniform(0.03, 0.26), rng.uniform(0.74, 0.97))),
            rng.uniform(horizon + 0.03, horizon + 0.16),
        )
        height, thick = rng.uniform(0.16, 0.26), 0.02
        green = brush.lit((64, 142, 84))
        draw = brush.draw
        draw.rounded_rectangle(((x - thick) * SIDE, (base - height) * SIDE, (x + thick) * SIDE, base * SIDE), 10, green)
        for side in (-1, 1):
            arm = base - height * rng.uniform(0.4, 0.65)
            left, right = sorted((x, x + side * 0.06))
            draw.rounded_rectangle((left * SIDE, (arm - 0.012) * SIDE, right * SIDE, (arm + 0.012) * SIDE), 6, green)
            tip = x + side * 0.06
            draw.rounded_rectangle(
                ((tip - 0.012) * SIDE, (arm - 0.07) * SIDE, (tip + 0.012) * SIDE, (arm + 0.012) * SIDE), 6, green
            )


def _mountains(brush: Brush) -> None:
    rng = brush.rng
    horizon = rng.uniform(0.6, 0.66)
    for far, colour in ((True, (136, 150, 184)), (False, (104, 112, 136))):
        for k in range(3):
            x = (k + rng.uniform(0.1, 0.9)) / 3
            height = rng.uniform(0.34, 0.46) if far else rng.uniform(0.2, 0.32)
            half = height * rng.uniform(0.7, 0.95)
            top = horizon - height
            brush.polygon([(x - half, horizon), (x + half, horizon), (x, top)], brush.lit(colour))
            brush.polygon([(x, horizon), (x + half, horizon), (x, top)], brush.lit(colour, 0.85))
            cap, zig = 0.32, 0.05
            brush.polygon(
                [(x, top), (x - half * cap, top + height * cap), (x - half * cap / 3, top + height * (cap - zig)),
                 (x, top + height * (cap + zig)), (x + half * cap / 3, top + height * (cap - zig)),
                 (x + half * cap, top + height * cap)],
                brush.lit((244, 248, 255)),
            )  # fmt: skip
    brush.ground(horizon, (96, 130, 84), (122, 146, 104))
    for _ in range(rng.randint(5, 9)):
        brush.disc(
            rng.random(), rng.uniform(horizon + 0.05, 0.98), rng.uniform(0.015, 0.04), brush.lit((140, 142, 148)), 0.6
        )


def _lake(brush: Brush) -> None:
    rng = brush.rng
    horizon, shore = rng.uniform(0.42, 0.48), rng.uniform(0.74, 0.8)
    brush.ridge(horizon + 0.01, 0.16, brush.lit((70, 118, 96)), 0.4, rng.uniform(1, 2))
    brush.ground(horizon, (96, 150, 196), (60, 108, 158))
    for _ in range(rng.randint(5, 8)):  # hills in the water
        x, width = rng.random(), rng.uniform(0.08, 0.2)
        brush.disc(x, horizon + rng.uniform(0.02, 0.05), width, brush.lit((58, 100, 104)), 0.12)
    for _ in range(10):
        y = rng.uniform(horizon + 0.1, shore - 0.02)
        brush.disc(rng.random(), y, rng.uniform(0.03, 0.1), brush.lit((140, 184, 216)), 0.05)
    phase = rng.uniform(0, 6.28)
    edge = [(k / 32, shore + 0.02 * math.sin(k / 5 + phase)) for k in range(33)]
    brush.polygon([(0, 1), *edge, (1, 1)], brush.lit((104, 142, 74)))
    for _ in range(rng.randint(14, 22)):  # reeds
        x, base = rng.choice((rng.uniform(0, 0.3), rng.uniform(0.7, 1))), rng.uniform(shore, shore + 0.12)
        tall, lean = rng.uniform(0.1, 0.2), rng.uniform(-0.02, 0.02)
        brush.polygon([(x - 0.006, base), (x + 0.006, base), (x + lean, base - tall)], brush.lit((70, 112, 58)))
        brush.disc(x + lean, base - tall, 0.011, brush.lit((122, 82, 50)), 2.4)


def _jungle(brush: Brush) -> None:
    rng = brush.rng
    horizon = rng.uniform(0.6, 0.68)
    brush.polygon([(0, 0.1), (1, 0.1), (1, horizon), (0, horizon)], brush.lit((24, 78, 52)))
    for row, colour in ((0.1, (34, 98, 60)), (0.22, (44, 116, 62)), (0.36, (28, 88, 56))):
        for _ in range(12):
            brush.disc(rng.random(), row + rng.uniform(-0.06, 0.1), rng.uniform(0.07, 0.14), brush.lit(colour), 0.7)
    brush.ground(horizon, (60, 104, 48), (40, 82, 44))
    for _ in range(rng.randint(4, 6)):  # trunks and what hangs from above
        x, width = rng.random(), rng.uniform(0.018, 0.035)
        trunk = [(x - width, horizon + 0.04), (x + width, horizon + 0.04), (x + width * 0.7, 0), (x - width * 0.7, 0)]
        brush.polygon(trunk, brush.lit((96, 72, 48)))
    for _ in range(rng.randint(5, 8)):
        x, length = rng.random(), rng.uniform(0.2, 0.45)
        brush.polygon([(x, 0), (x + 0.012, 0), (x + 0.006, length)], brush.lit((96, 156, 66)))
    for _ in range(rng.randint(7, 10)):  # ferns
        x, y, size = rng.choice((rng.uniform(0, 0.28), rng.uniform(0.72, 1))), rng.uniform(horizon, 0.98), 0.13
        for angle in range(200, 341, 28):
            tip = (x + size * math.cos(math.radians(angle)), y + size * math.sin(math.radians(angle)))
            brush.polygon([(x - 0.012, y), (x + 0.012, y), tip], brush.lit(rng.choice(((70, 150, 60), (52, 128, 58)))))


def _castle(brush: Brush) -> None:
    rng = brush.rng
    horizon = rng.uniform(0.64, 0.7)
    brush.ridge(horizon + 0.02, 0.1, brush.lit((110, 150, 96)), 0.3, rng.uniform(0.8, 1.6))
    stone, dark, roof = brush.lit((168, 160, 152)), brush.lit((84, 78, 78)), brush.lit(rng.choice(_ROOFS))
    left, right, wall = rng.uniform(0.08, 0.16), rng.uniform(0.84, 0.92), horizon - rng.uniform(0.2, 0.26)
    brush.polygon([(left, horizon), (left, wall), (right, wall), (right, horizon)], stone)
    for k in range(12):
        x = left + (right - left) * k / 12
        brush.polygon([(x, wall), (x, wall - 0.03), (x + 0.035, wall - 0.03), (x + 0.035, wall)], stone)
    for x in (left, (left + right) / 2 + rng.uniform(-0.12, 0.12), right):
        width, top = rng.uniform(0.05, 0.07), wall - rng.uniform(0.1, 0.2)
        grey = brush.lit((186, 178, 170))
        brush.polygon([(x - width, horizon), (x - width, top), (x + width, top), (x + width, horizon)], grey)
        brush.polygon([(x - width * 1.25, top), (x + width * 1.25, top), (x, top - 0.14)], roof)
        pane = (255, 226, 130) if brush.time != "day" else dark
        brush.polygon(
            [(x - 0.012, top + 0.1), (x - 0.012, top + 0.05), (x + 0.012, top + 0.05), (x + 0.012, top + 0.1)], pane
        )
    brush.ground(horizon, (116, 158, 84), (134, 168, 98))
    middle = (left + right) / 2
    brush.polygon(
        [(middle - 0.03, horizon), (middle + 0.03, horizon), (middle + 0.2, 1), (middle - 0.2, 1)],
        brush.lit((200, 180, 140)),
    )


_ROOFS: list[Colour] = [(176, 64, 58), (70, 92, 156), (120, 74, 132)]


def _farm(brush: Brush) -> None:
    rng = brush.rng
    horizon = rng.uniform(0.56, 0.62)
    brush.ridge(horizon + 0.02, 0.08, brush.lit((150, 176, 92)), 0.3, rng.uniform(0.8, 1.5))
    brush.ground(horizon, (206, 176, 92), (172, 180, 96))
    for k in range(1, 9):  # furrows
        x = (k - 4.5) / 3
        brush.polygon([(0.5 + x * 0.2, horizon), (0.5 + x, 1), (0.53 + x, 1)], brush.lit((176, 146, 72)))
    side = rng.choice((-1, 1))
    x, width, wall = 0.5 + side * rng.uniform(0.2, 0.28), 0.17, horizon - 0.17
    brush.polygon(
        [
            (x - width, horizon + 0.03),
            (x - width, wall),
            (x, wall - 0.13),
            (x + width, wall),
            (x + width, horizon + 0.03),
        ],
        brush.lit((186, 54, 46)),
    )
    brush.polygon(
        [
            (x - width * 1.1, wall + 0.01),
            (x, wall - 0.15),
            (x + width * 1.1, wall + 0.01),
            (x + width, wall + 0.02),
            (x, wall - 0.11),
            (x - width, wall + 0.02),
        ],
        brush.lit((92, 84, 88)),
    )
    door = [
        (x - 0.06, horizon + 0.03),
        (x - 0.06, horizon - 0.1),
        (x + 0.06, horizon - 0.1),
        (x + 0.06, horizon + 0.03),
    ]
    brush.polygon(door, brush.lit((240, 236, 226)))
    inner = [
        (x - 0.045, horizon + 0.03),
        (x - 0.045, horizon - 0.085),
        (x + 0.045, horizon - 0.085),
        (x + 0.045, horizon + 0.03),
    ]
    brush.polygon(inner, brush.lit((140, 38, 34)))
    fence, rail = brush.lit((224, 212, 190)), rng.uniform(horizon + 0.12, horizon + 0.16)
    for y in (rail, rail + 0.045):
        brush.polygon([(0, y), (1, y), (1, y + 0.014), (0, y + 0.014)], fence)
    for k in range(9):
        x = (k + 0.3) / 9
        brush.polygon([(x, rail - 0.03), (x + 0.02, rail - 0.03), (x + 0.02, rail + 0.1), (x, rail + 0.1)], fence)


_PLACES: dict[str, Callable[[Brush], None]] = {
    "snowy forest": _snowy_forest,
    "beach": _beach,
    "meadow": _meadow,
    "city": _city,
    "desert": _desert,
    "mountains": _mountains,
    "lake": _lake,
    "jungle": _jungle,
    "castle": _castle,
    "farm": _farm,
    **MORE_PLACES,
}
PAINTED = tuple(_PLACES)  # more than prompts can so far ask for


def paint(place: str, time: str, seed: int) -> UInt8:
    """One background, (256, 256, 3) uint8; another seed moves and changes everything in it."""
    brush = Brush(time, random.Random(f"{place}/{time}/{seed}"))
    _PLACES[place](brush)
    return np.asarray(brush.image.resize((SIZE_PX, SIZE_PX), PIL.Image.Resampling.LANCZOS))
