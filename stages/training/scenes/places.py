"""Fifteen more places: woods, water, a market, other worlds, and rooms, as painters that are given a brush.

Each draws everything from the brush's generator, so that another seed is another view of the place. Knows nothing of
subjects or captions.
"""

import math
from collections.abc import Callable

from stages.training.scenes.brush import BRIGHT, Brush, Colour
from stages.training.scenes.indoors import ROOMS

__all__ = ["MORE_PLACES"]

_NEON: tuple[Colour, ...] = ((255, 60, 170), (60, 230, 255), (180, 90, 255), (255, 220, 80), (90, 255, 160))


def _tree(brush: Brush, x: float, base: float, height: float, crown: Colour) -> None:
    """A trunk under a crown of discs, lighter on top."""
    thick = height * 0.07
    brush.box(x - thick, base - height * 0.5, x + thick, base, brush.lit((104, 76, 54)))
    for dx, dy, size in ((-0.2, 0.52, 0.2), (0.2, 0.54, 0.2), (0.0, 0.6, 0.24)):
        brush.disc(x + dx * height, base - dy * height, size * height, brush.lit(crown, 0.86))
    for dx, dy, size in ((-0.12, 0.68, 0.17), (0.12, 0.72, 0.15)):
        brush.disc(x + dx * height, base - dy * height, size * height, brush.lit(crown))


def _wood(brush: Brush, crowns: tuple[Colour, ...], near: Colour, far: Colour, haze: Colour) -> None:
    rng = brush.rng
    horizon = rng.uniform(0.56, 0.64)
    for row in range(2):
        for k in range(9):
            size = rng.uniform(0.09, 0.15)
            brush.disc(
                (k + rng.random()) / 9, horizon - 0.02 - 0.07 * (1 - row), size, brush.lit(haze, 0.9 + 0.1 * row)
            )
    brush.ground(horizon, near, far)
    path = rng.uniform(0.35, 0.65)
    brush.polygon(
        [(path - 0.02, horizon), (path + 0.02, horizon), (path + 0.24, 1), (path - 0.24, 1)], brush.lit((188, 158, 112))
    )
    spots = sorted((rng.uniform(horizon, horizon + 0.14), rng.random()) for _ in range(rng.randint(7, 10)))
    for base, x in spots:
        if abs(x - path) > 0.08:
            _tree(brush, x, base, rng.uniform(0.34, 0.5) * (0.8 + base - horizon), rng.choice(crowns))


def _forest(brush: Brush) -> None:
    _wood(brush, ((58, 132, 70), (78, 154, 74), (46, 112, 72)), (88, 140, 66), (120, 168, 92), (150, 190, 160))
    for _ in range(brush.rng.randint(4, 9)):  # mushrooms
        x, y = brush.rng.random(), brush.rng.uniform(0.8, 0.97)
        brush.box(x - 0.006, y - 0.018, x + 0.006, y, brush.lit((240, 230, 210)))
        brush.disc(x, y - 0.02, 0.017, brush.lit((206, 60, 50)), 0.6)


def _autumn_forest(brush: Brush) -> None:
    _wood(brush, ((226, 128, 44), (236, 176, 60), (190, 72, 48)), (176, 132, 66), (202, 164, 92), (228, 196, 140))
    for _ in range(brush.rng.randint(30, 60)):
        x, y = brush.rng.random(), brush.rng.uniform(0.7, 0.99)
        brush.disc(x, y, 0.009, brush.lit(brush.rng.choice(((220, 96, 40), (240, 180, 50), (170, 60, 44)))), 0.6)


def _river(brush: Brush) -> None:
    rng = brush.rng
    horizon, fall = rng.uniform(0.46, 0.52), rng.uniform(0.3, 0.7)
    cliff = horizon - rng.uniform(0.2, 0.28)
    brush.ridge(horizon + 0.02, 0.32, brush.lit((96, 150, 104)), 0.4, rng.uniform(1, 2))
    brush.polygon(
        [(0, horizon + 0.03), (0, cliff + 0.06), (fall - 0.2, cliff), (fall + 0.2, cliff + 0.02), (1, cliff + 0.08),
         (1, horizon + 0.03)], brush.lit((122, 114, 106)),
    )  # fmt: skip
    brush.ground(horizon, (96, 164, 80), (124, 184, 92))
    water, foam = brush.lit((92, 176, 214)), brush.lit((232, 246, 252))
    brush.polygon([(fall - 0.07, cliff), (fall + 0.07, cliff), (fall + 0.09, horizon), (fall - 0.09, horizon)], water)
    for k in range(5):
        x = fall - 0.06 + 0.03 * k
        brush.box(x - 0.004, cliff, x + 0.004, horizon, foam)
    bend = rng.uniform(-0.2, 0.2)
    brush.polygon([(fall - 0.1, horizon), (fall + 0.1, horizon), (fall + bend + 0.3, 1), (fall + bend - 0.3, 1)], water)
    for _ in range(7):
        brush.disc(fall + rng.uniform(-0.1, 0.1), horizon + rng.uniform(-0.01, 0.02), 0.03, foam, 0.5)
        y = rng.uniform(horizon + 0.1, 0.97)
        x = fall + bend * (y - horizon) / (1 - horizon) + rng.uniform(-0.1, 0.1)
        brush.disc(x, y, rng.uniform(0.02, 0.06), brush.lit((150, 210, 236)), 0.12)
        side = rng.choice((-1, 1)) * rng.uniform(0.24, 0.5)
        brush.disc(fall + side, y, rng.uniform(0.015, 0.04), brush.lit((140, 138, 140)), 0.6)


def _underwater(brush: Brush) -> None:
    rng = brush.rng
    deep = {
        "day": ((96, 200, 226), (16, 84, 150)),
        "dusk": ((110, 130, 190), (40, 50, 110)),
        "night": ((24, 60, 110), (6, 16, 44)),
    }
    brush.fade(0, 1, *deep[brush.time])
    for _ in range(4):  # rays
        x, lean, wide = rng.random(), rng.uniform(-0.2, 0.2), rng.uniform(0.02, 0.06)
        top = deep[brush.time][0]
        ray = (min(255, top[0] + 22), min(255, top[1] + 16), min(255, top[2] + 10))
        brush.polygon([(x - wide, 0), (x + wide, 0), (x + lean + wide * 0.3, 0.5), (x + lean - wide * 0.3, 0.5)], ray)
    floor = rng.uniform(0.78, 0.84)
    brush.ridge(floor + 0.06, 0.1, brush.lit((222, 200, 150)), 0.3, rng.uniform(0.8, 1.6))
    for _ in range(rng.randint(5, 8)):  # corals
        x, base, size = rng.random(), rng.uniform(floor + 0.03, 0.98), rng.uniform(0.03, 0.07)
        colour = brush.lit(rng.choice(((238, 96, 110), (250, 150, 70), (190, 110, 220), (250, 200, 90))))
        for k in range(5):
            angle = math.pi * (0.15 + 0.175 * k)
            tip = (x + size * 1.4 * math.cos(angle), base - size * 1.8 * math.sin(angle))
            brush.polygon([(x - 0.012, base), tip, (x + 0.012, base)], colour)
            brush.disc(*tip, size * 0.22, colour)
    for _ in range(rng.randint(4, 7)):  # weed
        x, base, tall, phase = rng.random(), rng.uniform(floor + 0.05, 1), rng.uniform(0.15, 0.32), rng.uniform(0, 6)
        edge = [(x + 0.014 * math.sin(k + phase), base - tall * k / 8) for k in range(9)]
        back = [(a + 0.014 * (1 - k / 9), b) for k, (a, b) in reversed(list(enumerate(edge)))]
        brush.polygon([*edge, *back], brush.lit((52, 140, 92)))
    for _ in range(rng.randint(8, 16)):
        x, y, size = rng.random(), rng.uniform(0.05, floor), rng.uniform(0.005, 0.014)
        brush.disc(x, y, size, (206, 238, 248))
        brush.disc(x, y, size * 0.7, deep[brush.time][0])


def _stars(brush: Brush, bottom: float) -> None:
    for _ in range(brush.rng.randint(50, 90)):
        size = brush.rng.uniform(0.002, 0.005)
        brush.disc(brush.rng.random(), brush.rng.uniform(0, bottom), size, (236, 238, 255))


def _planet(brush: Brush, x: float, y: float, size: float, colour: Colour, ring: bool) -> None:
    dark: Colour = (round(colour[0] * 0.72), round(colour[1] * 0.72), round(colour[2] * 0.78))
    if ring:
        brush.disc(x, y, size * 1.8, (214, 190, 150), 0.28)
        brush.disc(x, y, size * 1.45, dark, 0.26)
    brush.disc(x, y, size, dark)
    brush.disc(x - size * 0.14, y - size * 0.12, size * 0.84, colour)
    brush.disc(x - size * 0.3, y - size * 0.35, size * 0.2, (min(255, colour[0] + 30), min(255, colour[1] + 30), 255))


def _space(brush: Brush) -> None:
    rng = brush.rng
    tint = {"day": (34, 26, 78), "dusk": (66, 24, 70), "night": (8, 8, 30)}[brush.time]
    brush.fade(0, 1, (10, 10, 34), (tint[0], tint[1], tint[2]))
    for _ in range(rng.randint(3, 5)):  # a nebula, layer over layer
        x, y, size = rng.random(), rng.random(), rng.uniform(0.1, 0.2)
        for k in range(6):
            mix = 0.1 + 0.05 * k
            r, g, b = (round(low + mix * (high - low)) for low, high in zip(tint, (150, 80, 190), strict=True))
            brush.disc(x, y, size * (1 - k / 7), (r, g, b), 0.5)
    _stars(brush, 1.0)
    for k in range(rng.randint(2, 4)):
        _planet(brush, rng.random(), rng.uniform(0.05, 0.95), rng.uniform(0.04, 0.15), rng.choice(BRIGHT), k == 0)


def _moon(brush: Brush) -> None:
    rng = brush.rng
    brush.fade(0, 1, (6, 6, 22), (24, 22, 56))
    _stars(brush, 0.6)
    _planet(brush, rng.uniform(0.15, 0.85), rng.uniform(0.12, 0.26), rng.uniform(0.07, 0.11), (80, 150, 230), False)
    light = {"day": 1.0, "dusk": 0.8, "night": 0.6}[brush.time]
    grey = [round(level * light) for level in (196, 168, 140, 214)]
    horizon = rng.uniform(0.58, 0.66)
    brush.ridge(horizon + 0.02, 0.1, (grey[1], grey[1], grey[1] + 6), 0.5, rng.uniform(1, 3))
    brush.box(0, horizon, 1, 1, (grey[0], grey[0], grey[0] + 6))
    for _ in range(rng.randint(8, 14)):
        x, y = rng.random(), rng.uniform(horizon + 0.02, 0.98)
        size = 0.02 + 0.16 * (y - horizon) * rng.random()
        brush.disc(x, y, size, (grey[3], grey[3], grey[3] + 6), 0.36)
        brush.disc(x, y + size * 0.06, size * 0.84, (grey[2], grey[2], grey[2] + 8), 0.34)


def _fantasy(brush: Brush) -> None:
    rng = brush.rng
    horizon = rng.uniform(0.6, 0.66)
    for _ in range(rng.randint(2, 3)):  # islands in the sky
        x, y, size = rng.random(), rng.uniform(0.14, 0.36), rng.uniform(0.07, 0.13)
        brush.polygon([(x - size, y), (x + size, y), (x + size * 0.3, y + size), (x - size * 0.2, y + size * 1.2)],
                      brush.lit((150, 112, 150)))  # fmt: skip
        brush.disc(x, y, size, brush.lit((120, 206, 150)), 0.3)
        _tree(brush, x, y, size * 1.4, rng.choice(((250, 150, 200), (170, 140, 240))))
    brush.ridge(horizon, 0.2, brush.lit((150, 120, 206)), 0.3, rng.uniform(1, 2))
    brush.ridge(horizon + 0.03, 0.12, brush.lit((120, 160, 210)), 0.3, rng.uniform(1.5, 2.5))
    brush.ground(horizon + 0.02, (96, 196, 160), (140, 214, 170))
    for _ in range(rng.randint(5, 8)):  # giant mushrooms and crystals
        x, base, size = rng.random(), rng.uniform(horizon + 0.04, 0.95), rng.uniform(0.04, 0.09)
        if rng.random() < 0.55:
            brush.box(x - size * 0.18, base - size, x + size * 0.18, base, brush.lit((246, 232, 214)))
            brush.disc(
                x,
                base - size,
                size * 0.8,
                brush.lit(rng.choice(((236, 84, 130), (120, 96, 220), (250, 150, 80)))),
                0.62,
            )
            for dx in (-0.4, 0.05, 0.42):
                brush.disc(x + dx * size, base - size * 1.1, size * 0.12, brush.lit((255, 244, 236)))
        else:
            colour: Colour = rng.choice(((110, 220, 240), (230, 140, 250), (150, 240, 190)))
            for dx, tall in ((-0.3, 1.0), (0.3, 1.2), (0, 1.8)):
                x0, top = x + dx * size, base - tall * size
                brush.polygon(
                    [(x0 - size * 0.2, base), (x0 - size * 0.2, top), (x0, top - size * 0.3), (x0, base)], colour
                )
                brush.polygon([(x0, base), (x0, top - size * 0.3), (x0 + size * 0.2, top), (x0 + size * 0.2, base)],
                              brush.lit(colour, 0.8))  # fmt: skip


def _market(brush: Brush) -> None:
    rng = brush.rng
    horizon = rng.uniform(0.62, 0.68)
    x = rng.uniform(-0.1, 0)
    while x < 1:  # houses behind
        width, top = rng.uniform(0.16, 0.26), horizon - rng.uniform(0.3, 0.42)
        brush.box(
            x, top, x + width, horizon, brush.lit(rng.choice(((224, 190, 150), (208, 160, 130), (190, 176, 160))))
        )
        brush.polygon([(x - 0.01, top), (x + width / 2, top - 0.07), (x + width + 0.01, top)], brush.lit((160, 84, 66)))
        pane: Colour = brush.lit((120, 160, 190)) if brush.time == "day" else (255, 224, 140)
        for k in range(2):
            left = x + width * (0.2 + 0.4 * k)
            brush.box(left, top + 0.04, left + width * 0.2, top + 0.1, pane)
        x += width
    brush.ground(horizon, (176, 160, 140), (198, 182, 158))
    for k in range(10):
        y = horizon + (1 - horizon) * (k / 10) ** 1.5
        brush.box(0, y, 1, y + 0.003, brush.lit((160, 144, 124)))
    x = rng.uniform(-0.12, 0.0)
    while x < 1:  # stalls
        width, base, colour = rng.uniform(0.2, 0.26), horizon + 0.06, brush.lit(rng.choice(BRIGHT))
        top = base - rng.uniform(0.24, 0.28)
        for post in (x + 0.012, x + width - 0.012):
            brush.box(post - 0.006, top, post + 0.006, base, brush.lit((120, 88, 60)))
        brush.box(x, base - 0.08, x + width, base, brush.lit((164, 118, 76)))
        for k in range(7):
            brush.disc(x + width * (k + 0.5) / 7, base - 0.085, 0.016, brush.lit(rng.choice(BRIGHT)))
        for k in range(6):
            left = x + width * k / 6
            stripe = colour if k % 2 else brush.lit((250, 244, 234))
            upper, lower = top - 0.03, top + 0.05
            edge = [(left + width / 12, upper), (left + width / 4, upper), (left + width / 6, lower), (left, lower)]
            brush.polygon(edge, stripe)
            brush.disc(left + width / 12, top + 0.05, width / 12, stripe)
        x += width + rng.uniform(0.04, 0.12)
    sag, start = rng.uniform(0.04, 0.08), rng.uniform(0.2, 0.26)
    for k in range(17):  # a string of lamps
        y = start + sag * (1 - ((k / 16) * 4 % 2 - 1) ** 2)
        brush.disc(k / 16, y, 0.012, (255, 226, 130) if brush.time != "day" else brush.lit(BRIGHT[k % len(BRIGHT)]))


def _neon_street(brush: Brush) -> None:
    rng = brush.rng
    dark = {"day": 1.0, "dusk": 0.66, "night": 0.4}[brush.time]
    above, below = {"day": ((130, 140, 200), (226, 170, 210)), "dusk": ((70, 30, 100), (240, 110, 130)),
                    "night": ((20, 12, 40), (80, 28, 110))}[brush.time]  # fmt: skip
    brush.fade(0, 0.75, above, below)
    horizon = rng.uniform(0.66, 0.72)
    for layer in range(2):
        x = rng.uniform(-0.1, 0)
        while x < 1:
            width, top = rng.uniform(0.1, 0.18), rng.uniform(0.04, 0.3) + 0.14 * layer
            shade = round((70 - 26 * layer) * dark)
            brush.box(x, top, x + width, horizon, (shade, round(shade * 0.8), shade + 30))
            glow = rng.choice(_NEON)
            for row in range(int((horizon - top) / 0.045)):
                if rng.random() < 0.55:
                    left = x + width * rng.choice((0.12, 0.4, 0.68))
                    brush.box(left, top + 0.02 + 0.045 * row, left + width * 0.2, top + 0.04 + 0.045 * row, glow)
            if layer and rng.random() < 0.7:  # a sign
                tall, sign = rng.uniform(0.12, 0.2), rng.choice(_NEON)
                brush.box(x + width * 0.78, top + 0.05, x + width * 1.02, top + 0.05 + tall, (24, 18, 44))
                for k in range(4):
                    y = top + 0.065 + tall * k / 4.6
                    brush.box(x + width * 0.84, y, x + width * 0.96, y + tall * 0.1, sign)
            x += width + rng.uniform(0, 0.02)
    brush.fade(horizon, 1, (44, 34, 74), (22, 18, 44))
    for _ in range(14):  # what the wet street shows
        x, y = rng.random(), rng.uniform(horizon + 0.02, 0.97)
        glow = rng.choice(_NEON)
        brush.disc(x, y, rng.uniform(0.02, 0.07), (glow[0] // 2 + 16, glow[1] // 2 + 12, glow[2] // 2 + 24), 0.12)


def _arctic(brush: Brush) -> None:
    rng = brush.rng
    horizon = rng.uniform(0.5, 0.58)
    if brush.time == "night":  # northern lights
        for k in range(3):
            phase, colour = rng.uniform(0, 6), ((70, 220, 160), (110, 200, 190), (150, 120, 220))[k]
            y = 0.1 + 0.09 * k
            edge = [(i / 32, y + 0.03 * math.sin(i / 4 + phase)) for i in range(33)]
            dim: Colour = (colour[0] // 3, colour[1] // 3 + 14, colour[2] // 3 + 22)
            brush.polygon([*edge, *((a, b + 0.1) for a, b in reversed(edge))], dim)
            brush.polygon(
                [*edge, *((a, b + 0.03) for a, b in reversed(edge))], (colour[0] // 2, colour[1] // 2 + 20, 120)
            )
    brush.box(0, horizon, 1, 1, brush.lit((70, 140, 190)))
    for _ in range(rng.randint(3, 5)):  # icebergs
        x, size = rng.random(), rng.uniform(0.08, 0.17)
        points = [(x - size, horizon + 0.02), (x - size * 0.5, horizon - size * rng.uniform(0.7, 1.1)),
                  (x + size * 0.1, horizon - size * rng.uniform(0.5, 1.3)), (x + size, horizon + 0.02)]  # fmt: skip
        brush.polygon(points, brush.lit((222, 240, 250)))
        brush.polygon([points[2], points[3], (x + size * 0.2, horizon + 0.02)], brush.lit((170, 206, 230)))
    shore = rng.uniform(0.68, 0.74)
    edge = [(k / 32, shore + 0.016 * math.sin(k / 3)) for k in range(33)]
    brush.polygon([(0, 1), *edge, (1, 1)], brush.lit((240, 248, 255)))
    for _ in range(8):
        x, y = rng.random(), rng.uniform(shore + 0.05, 0.98)
        brush.disc(x, y, rng.uniform(0.04, 0.12), brush.lit((222, 234, 246)), 0.14)
        brush.disc(rng.random(), rng.uniform(horizon + 0.03, shore - 0.02), 0.04, brush.lit((226, 242, 252)), 0.25)


def _village(brush: Brush) -> None:
    rng = brush.rng
    horizon = rng.uniform(0.6, 0.66)
    brush.ridge(horizon, 0.16, brush.lit((132, 176, 120)), 0.3, rng.uniform(1, 2))
    brush.ground(horizon, (126, 180, 92), (150, 196, 108))
    for _ in range(rng.randint(2, 4)):
        _tree(brush, rng.random(), horizon + 0.01, rng.uniform(0.16, 0.24), (88, 158, 82))
    x = rng.uniform(-0.06, 0.04)
    while x < 0.95:  # cottages
        width, base = rng.uniform(0.2, 0.28), horizon + rng.uniform(0.01, 0.06)
        wall, roof = base - rng.uniform(0.13, 0.17), rng.choice(((196, 92, 70), (120, 96, 130), (90, 116, 150)))
        brush.box(x + width * 0.72, wall - 0.11, x + width * 0.8, wall, brush.lit((150, 104, 88)))
        brush.box(x, wall, x + width, base, brush.lit(rng.choice(((246, 232, 204), (238, 206, 178), (222, 228, 230)))))
        brush.polygon([(x - 0.02, wall), (x + width / 2, wall - 0.12), (x + width + 0.02, wall)], brush.lit(roof))
        brush.box(x + width * 0.42, base - 0.09, x + width * 0.58, base, brush.lit((132, 84, 56)))
        pane: Colour = brush.lit((150, 196, 222)) if brush.time == "day" else (255, 222, 130)
        for left in (0.12, 0.68):
            brush.box(x + width * left, wall + 0.03, x + width * (left + 0.2), wall + 0.08, brush.lit((250, 250, 246)))
            brush.box(x + width * (left + 0.02), wall + 0.035, x + width * (left + 0.18), wall + 0.075, pane)
        x += width + rng.uniform(0.05, 0.16)
    path = rng.uniform(0.3, 0.7)
    brush.polygon([(path - 0.03, horizon + 0.07), (path + 0.03, horizon + 0.07), (path + 0.2, 1), (path - 0.2, 1)],
                  brush.lit((214, 190, 146)))  # fmt: skip


MORE_PLACES: dict[str, Callable[[Brush], None]] = {
    "forest": _forest,
    "autumn forest": _autumn_forest,
    "river": _river,
    "underwater": _underwater,
    "space": _space,
    "moon": _moon,
    "fantasy landscape": _fantasy,
    "market": _market,
    "neon street": _neon_street,
    "arctic": _arctic,
    "village": _village,
    **ROOMS,
}
