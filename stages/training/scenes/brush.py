"""A canvas under a sky of a given time of day, and the strokes that places are painted with.

It is twice as large as the picture, so that edges are smooth once it is reduced. Knows nothing of which places there
are.
"""

import math
import random

import numpy as np
import PIL.Image
import PIL.ImageDraw

SIZE_PX = 256
SIDE = 2 * SIZE_PX
Colour = tuple[int, int, int]
BRIGHT: tuple[Colour, ...] = (
    (232, 74, 74),
    (250, 180, 60),
    (72, 170, 110),
    (80, 130, 220),
    (170, 96, 200),
    (240, 130, 170),
)

# top of the sky, horizon, light that everything on the ground is multiplied with
_SKIES: dict[str, tuple[Colour, Colour, tuple[float, float, float]]] = {
    "day": ((88, 164, 238), (206, 233, 252), (1.0, 1.0, 1.0)),
    "dusk": ((92, 66, 140), (255, 158, 92), (0.86, 0.66, 0.66)),
    "night": ((10, 14, 44), (38, 52, 104), (0.32, 0.38, 0.6)),
}


class Brush:
    """A canvas with the light of one time of day; y runs from 0 (top) to 1 (bottom)."""

    def __init__(self, time: str, rng: random.Random) -> None:
        self.rng = rng
        self.time = time
        top, horizon, self.light = _SKIES[time]
        ramp = np.linspace(0, 1, SIDE)[:, None, None] ** 0.8
        jitter = np.array([rng.uniform(-8, 8) for _ in range(3)])
        sky = np.array(top) * (1 - ramp) + np.array(horizon) * ramp + jitter
        pixels = np.broadcast_to(sky, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
        self.image = PIL.Image.fromarray(pixels.copy())
        self.draw = PIL.ImageDraw.Draw(self.image)
        self._heaven()

    def lit(self, colour: Colour, gain: float = 1.0) -> Colour:
        r, g, b = (int(min(255, c * k * gain)) for c, k in zip(colour, self.light, strict=True))
        return r, g, b

    def disc(self, x: float, y: float, radius: float, colour: Colour, squash: float = 1.0) -> None:
        box = ((x - radius) * SIDE, (y - radius * squash) * SIDE, (x + radius) * SIDE, (y + radius * squash) * SIDE)
        self.draw.ellipse(box, fill=colour)

    def polygon(self, points: list[tuple[float, float]], colour: Colour) -> None:
        self.draw.polygon([(x * SIDE, y * SIDE) for x, y in points], fill=colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        self.draw.rectangle((left * SIDE, top * SIDE, right * SIDE, bottom * SIDE), fill=colour)

    def cushion(self, left: float, top: float, right: float, bottom: float, round_px: int, colour: Colour) -> None:
        box = (left * SIDE, top * SIDE, right * SIDE, bottom * SIDE)
        self.draw.rounded_rectangle(box, round_px, colour)

    def fade(self, top: float, bottom: float, above: Colour, below: Colour) -> None:
        """A band from one colour to another, as it is in any light."""
        rows = max(1, round((bottom - top) * SIDE))
        for row in range(rows):
            k = row / rows
            r, g, b = (round(a * (1 - k) + z * k) for a, z in zip(above, below, strict=True))
            y = top * SIDE + row
            self.draw.line((0, y, SIDE, y), fill=(r, g, b))

    def ridge(self, base: float, height: float, colour: Colour, roughness: float, peaks: float) -> None:
        """A filled outline of hills from `base` up to `base - height`."""
        phase = [self.rng.uniform(0, 6.28) for _ in range(3)]
        points = [(0.0, 1.0)]
        for step in range(65):
            x = step / 64
            wave = math.sin(peaks * 6.28 * x + phase[0]) + roughness * math.sin(2.7 * peaks * 6.28 * x + phase[1])
            points.append((x, base - height * (0.5 + wave / (2 + 2 * roughness))))
        self.polygon([*points, (1.0, 1.0)], colour)

    def ground(self, horizon: float, near: Colour, far: Colour) -> None:
        rows = 40
        for row in range(rows):
            k = row / (rows - 1)
            r, g, b = (int(f * (1 - k) + n * k) for f, n in zip(far, near, strict=True))
            y = horizon + (1 - horizon) * k
            self.draw.rectangle((0, y * SIDE, SIDE, SIDE), fill=self.lit((r, g, b)))

    def _heaven(self) -> None:
        rng = self.rng
        if self.time == "night":
            for _ in range(rng.randint(30, 60)):
                self.disc(rng.random(), rng.random() * 0.55, rng.uniform(0.002, 0.005), (235, 238, 255))
            x, y, radius = rng.uniform(0.12, 0.88), rng.uniform(0.1, 0.22), rng.uniform(0.05, 0.075)
            self.disc(x, y, radius, (244, 240, 214))
            self.disc(x + radius * 0.45, y - radius * 0.2, radius * 0.9, (20, 26, 62))
        elif self.time == "dusk":
            x, y = rng.uniform(0.15, 0.85), rng.uniform(0.38, 0.5)
            self.disc(x, y, 0.1, (255, 190, 110))
            self.disc(x, y, 0.075, (255, 224, 150))
        else:
            for _ in range(rng.randint(2, 4)):
                x, y, size = rng.random(), rng.uniform(0.06, 0.3), rng.uniform(0.04, 0.075)
                for offset in (-1.2, -0.4, 0.5, 1.3):
                    self.disc(
                        x + offset * size, y - (0.35 * size if abs(offset) < 1 else 0), size, (250, 252, 255), 0.7
                    )
