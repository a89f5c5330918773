"""The animations of the subjects that can be asked for, as published; decoded when they are shown.

`sprites` keeps a few frames of every animated emoji ready, which is what single pictures need. A clip needs all frames
of one: decoding them takes 30 ms, keeping them would take a hundred times the place. Knows nothing of scenes.
"""

import io
import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import PIL.Image
from rich.console import Console
from rich.progress import track

from stages.training.scenes.sprites import SIDE_PX, Sprite, premultiplied, published
from stages.types import UInt8

__all__ = ["Animations", "open_animations"]

STRIDE = 3  # source frames, 42 ms each, a frame of a clip


class Animations:
    """By the code points of a subject without skin tones: the files of all its skins."""

    def __init__(self, files: Iterable[tuple[str, bytes | Path]]) -> None:
        self._files = dict[str, list[bytes | Path]]()
        for code, file in files:
            self._files.setdefault(plain_code(code), []).append(file)

    def clip(self, code: str, frames: int, rng: random.Random) -> UInt8:
        """(frames, 256, 256, 4), colours multiplied by alpha: one skin of it from a random moment on, read round."""
        file = rng.choice(self._files[code])
        picture = PIL.Image.open(io.BytesIO(file) if isinstance(file, bytes) else file)
        count = int(getattr(picture, "n_frames", 1))
        start = rng.randrange(count)
        wanted = [(start + STRIDE * index) % count for index in range(frames)]
        shown = dict[int, UInt8]()
        for index in sorted(set(wanted)):  # a file is read forwards
            picture.seek(index)
            shown[index] = premultiplied(np.asarray(picture.convert("RGBA")))
        return np.stack([shown[index] for index in wanted])


def plain_code(code: str) -> str:
    """ "1f44b-1f3fb" -> "1f44b": without skin tones and variation selectors."""
    return "-".join(f"{point:x}" for point in Sprite(code, 0, 0).points)


def open_animations(cache: Path, codes: Iterable[str]) -> Animations:
    """Those of the subjects `codes` under `cache`, unpacked on first use: 0.6 GB, and 730 MB to fetch."""
    folder = cache / "animations"
    if not folder.is_dir():
        draft, wanted = folder.with_suffix(".tmp"), set(codes)
        draft.mkdir(parents=True, exist_ok=True)
        for code, webp in track(published(cache), description="animations", console=Console(stderr=True)):
            if plain_code(code) in wanted and _moves(webp):
                (draft / f"{code}.webp").write_bytes(webp)
        draft.rename(folder)
    return Animations((file.stem, file) for file in sorted(folder.glob("*.webp")))


def _moves(webp: bytes) -> bool:
    picture = PIL.Image.open(io.BytesIO(webp))
    return int(getattr(picture, "n_frames", 1)) > 1 and picture.size == (SIDE_PX, SIDE_PX)
