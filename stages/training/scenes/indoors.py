"""Places inside: walls in the light of their time of day, furniture, a stage. Painters as in `places`."""

from collections.abc import Callable

from stages.training.scenes.brush import BRIGHT, Brush, Colour

__all__ = ["ROOMS"]

_BOOKS: tuple[Colour, ...] = (
    (168, 60, 52),
    (54, 96, 140),
    (66, 120, 84),
    (208, 160, 70),
    (120, 78, 130),
    (230, 220, 200),
)


def _wall(brush: Brush, colour: Colour, floor: float, boards: Colour) -> None:
    """A room: a wall in the light of its time of day, a skirting, a floor of boards."""
    r, g, b = {"day": (1.0, 1.0, 1.0), "dusk": (1.0, 0.84, 0.72), "night": (0.56, 0.52, 0.62)}[brush.time]
    brush.box(0, 0, 1, floor, (round(colour[0] * r), round(colour[1] * g), round(colour[2] * b)))
    brush.box(0, floor, 1, 1, brush.lit(boards))
    brush.box(0, floor - 0.018, 1, floor, brush.lit((250, 244, 234)))
    for k in range(-6, 7):
        brush.polygon([(0.5 + k * 0.1, floor), (0.504 + k * 0.1, floor), (0.508 + k * 0.26, 1), (0.5 + k * 0.26, 1)],
                      brush.lit(boards, 0.86))  # fmt: skip


def _window(brush: Brush, left: float, top: float, width: float, height: float) -> None:
    outside: Colour = {"day": (160, 214, 246), "dusk": (250, 170, 120), "night": (26, 34, 78)}[brush.time]
    brush.box(left - 0.015, top - 0.015, left + width + 0.015, top + height + 0.015, brush.lit((252, 248, 240)))
    brush.box(left, top, left + width, top + height, outside)
    brush.disc(left + width * 0.7, top + height * 0.3, width * 0.1, (255, 246, 214))
    brush.box(left + width / 2 - 0.005, top, left + width / 2 + 0.005, top + height, brush.lit((252, 248, 240)))
    brush.box(left, top + height / 2 - 0.005, left + width, top + height / 2 + 0.005, brush.lit((252, 248, 240)))


def _living_room(brush: Brush) -> None:
    rng = brush.rng
    floor = rng.uniform(0.68, 0.74)
    _wall(brush, rng.choice(((236, 214, 184), (190, 214, 206), (214, 196, 224))), floor, (190, 140, 94))
    side = rng.random() < 0.5
    _window(brush, 0.1 if side else 0.62, rng.uniform(0.12, 0.18), 0.28, 0.3)
    x, cloth = 0.6 if side else 0.12, brush.lit(rng.choice(BRIGHT))
    brush.box(x, 0.16, x + 0.12, 0.3, brush.lit((120, 84, 60)))  # a picture
    brush.box(x + 0.012, 0.172, x + 0.108, 0.288, brush.lit(rng.choice(BRIGHT)))
    left = rng.uniform(0.3, 0.45)
    brush.cushion(left, floor - 0.2, left + 0.5, floor + 0.02, 24, cloth)  # a sofa
    brush.cushion(left + 0.04, floor - 0.09, left + 0.46, floor, 12, brush.lit((250, 236, 220)))
    for arm in (left - 0.03, left + 0.45):
        brush.cushion(arm, floor - 0.12, arm + 0.08, floor + 0.03, 16, cloth)
    lamp = left - 0.12
    brush.box(lamp - 0.005, floor - 0.34, lamp + 0.005, floor + 0.02, brush.lit((90, 80, 76)))
    shade: Colour = (255, 232, 160) if brush.time != "day" else brush.lit((244, 222, 170))
    brush.polygon([(lamp - 0.035, floor - 0.42), (lamp + 0.035, floor - 0.42), (lamp + 0.065, floor - 0.32),
                   (lamp - 0.065, floor - 0.32)], shade)  # fmt: skip
    brush.disc(0.5, 0.9, 0.34, brush.lit(rng.choice(BRIGHT), 0.9), 0.2)
    brush.disc(0.5, 0.9, 0.27, brush.lit((246, 230, 206)), 0.19)


def _library(brush: Brush) -> None:
    rng = brush.rng
    floor = rng.uniform(0.7, 0.76)
    _wall(brush, (206, 176, 140), floor, (150, 96, 62))
    wood = brush.lit((122, 78, 50))
    gap = rng.uniform(0.3, 0.55)
    for left, right in ((0.02, gap), (gap + 0.14, 0.98)):
        brush.box(left, 0.06, right, floor, wood)
        for shelf in range(5):
            top = 0.08 + shelf * (floor - 0.08) / 5
            bottom = top + (floor - 0.08) / 5 - 0.015
            brush.box(left + 0.012, top, right - 0.012, bottom, brush.lit((86, 54, 38)))
            x = left + 0.016
            while x < right - 0.035:
                thick = rng.uniform(0.012, 0.026)
                if rng.random() < 0.92:
                    tall = (bottom - top) * rng.uniform(0.65, 0.95)
                    brush.box(x, bottom - tall, x + thick, bottom, brush.lit(rng.choice(_BOOKS)))
                    brush.box(x, bottom - tall * 0.8, x + thick, bottom - tall * 0.74, brush.lit((236, 206, 130)))
                x += thick + 0.003
    _window(brush, gap + 0.03, 0.14, 0.08, 0.3)
    brush.disc(0.5, 0.92, 0.36, brush.lit((150, 60, 60)), 0.2)
    brush.disc(0.5, 0.92, 0.3, brush.lit((206, 160, 96)), 0.19)


def _kitchen(brush: Brush) -> None:
    rng = brush.rng
    floor = rng.uniform(0.76, 0.8)
    _wall(brush, rng.choice(((238, 232, 214), (206, 228, 226), (246, 222, 196))), floor, (206, 190, 168))
    for row in range(3):  # tiles
        for column in range(12):
            tone = 0.97 if (row + column) % 2 else 1.0
            brush.box(column / 12 + 0.003, 0.4 + row * 0.055, (column + 1) / 12 - 0.003, 0.45 + row * 0.055,
                      brush.lit((232, 240, 244), tone))  # fmt: skip
    doors = brush.lit(rng.choice(((110, 160, 150), (222, 120, 96), (96, 130, 176))))
    _window(brush, 0.37, 0.08, 0.26, 0.26)
    for left in (0.02, 0.18, 0.67, 0.83):
        brush.box(left, 0.08, left + 0.15, 0.34, doors)
        brush.box(left + 0.12, 0.26, left + 0.13, 0.31, brush.lit((244, 226, 170)))
    brush.box(0, 0.57, 1, 0.6, brush.lit((236, 226, 210)))
    for k in range(6):
        brush.box(k / 6 + 0.006, 0.6, (k + 1) / 6 - 0.006, floor - 0.01, doors)
        brush.box(k / 6 + 0.05, 0.63, k / 6 + 0.11, 0.638, brush.lit((244, 226, 170)))
    for _ in range(rng.randint(3, 5)):  # pots and fruit
        x, size = rng.uniform(0.05, 0.95), rng.uniform(0.025, 0.04)
        brush.box(x - size, 0.57 - size * 1.4, x + size, 0.57, brush.lit(rng.choice(BRIGHT)))
        brush.box(x - size * 1.15, 0.57 - size * 1.55, x + size * 1.15, 0.57 - size * 1.3, brush.lit((90, 90, 100)))


def _stage(brush: Brush) -> None:
    rng = brush.rng
    floor = rng.uniform(0.72, 0.78)
    back = {"day": (126, 70, 110), "dusk": (96, 40, 84), "night": (46, 24, 66)}[brush.time]
    brush.fade(
        0, floor, (round(back[0] * 0.5), round(back[1] * 0.5), round(back[2] * 0.6)), (back[0], back[1], back[2])
    )
    for _ in range(rng.randint(3, 4)):  # beams of light
        x, foot, wide, glow = rng.uniform(0.1, 0.9), rng.uniform(0.2, 0.8), rng.uniform(0.1, 0.16), rng.choice(BRIGHT)
        beam: Colour = ((back[0] + glow[0]) // 2, (back[1] + glow[1]) // 2, (back[2] + glow[2]) // 2)
        brush.polygon([(x - 0.01, 0.05), (x + 0.01, 0.05), (foot + wide, floor), (foot - wide, floor)], beam)
        brush.box(x - 0.022, 0.02, x + 0.022, 0.06, (40, 36, 48))
    brush.box(0, floor, 1, 1, brush.lit((150, 100, 70)))
    for k in range(8):
        brush.box(0, floor + 0.035 * k, 1, floor + 0.035 * k + 0.003, brush.lit((124, 80, 56)))
    red = (178, 44, 56) if brush.time != "night" else (120, 30, 50)
    for side in (0, 1):
        for k in range(4):
            x = 0.045 * k if side == 0 else 1 - 0.045 * (k + 1)
            tone = 1.0 if k % 2 else 0.82
            brush.box(x, 0, x + 0.046, floor + 0.02, (round(red[0] * tone), round(red[1] * tone), round(red[2] * tone)))
    for k in range(8):
        brush.disc((k + 0.5) / 8, 0, 0.075, red if k % 2 else (red[0] - 30, red[1] - 8, red[2] - 8), 0.8)


ROOMS: dict[str, Callable[[Brush], None]] = {
    "living room": _living_room,
    "library": _library,
    "kitchen": _kitchen,
    "stage": _stage,
}
