"""Every animated emoji as sprites in one memory-mapped file: what pictures are composed from at training speed.

Source: the archives of `fetch`. Decoded once; kept as (N, 256, 256, 4) uint8 with colours multiplied by alpha, so that
scaling needs no care and composing is one product. Says which subjects no training may see. Knows nothing of places,
styles or models.
"""

import io
import json
import tarfile
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import PIL.Image
from rich.console import Console
from rich.progress import track

from stages.training.scenes.fetch import fetch_archives
from stages.types import UInt8

__all__ = ["SIDE_PX", "Sprite", "SpriteStore", "build_store", "open_store", "premultiplied", "published"]

SIDE_PX = 256
HELD_OUT_EVERY = 20  # of the subjects
_TAKEN = (0, 10, 20, 30)  # source frames, 42 ms each; shorter animations are read round
_SKIN_TONES = frozenset(range(0x1F3FB, 0x1F400))


@dataclass(frozen=True, slots=True)
class Sprite:
    """One animation: `count` frames of the store from `first` on."""

    code: str  # code points as in the file name, "1f98a"
    first: int
    count: int

    @property
    def points(self) -> tuple[int, ...]:
        """The code points without skin tones and variation selectors: who is meant, whatever the skin."""
        return tuple(
            point for part in self.code.split("-") if (point := int(part, 16)) not in _SKIN_TONES and point != 0xFE0F
        )

    @property
    def name(self) -> str:
        """What Unicode calls it, in lower case."""
        return " ".join(unicodedata.name(chr(point), "").lower() for point in self.points if point != 0x200D).strip()


@dataclass(frozen=True)
class SpriteStore:
    """The file and what is where in it."""

    frames: UInt8  # (N, 256, 256, 4), colours multiplied by alpha
    sprites: tuple[Sprite, ...]

    def split(self) -> tuple[list[Sprite], list[Sprite]]:
        """Those to train on, and those held out: every `HELD_OUT_EVERY`th subject in all its skins."""
        subjects = {points: number for number, points in enumerate(sorted({s.points for s in self.sprites}))}
        held = [s for s in self.sprites if subjects[s.points] % HELD_OUT_EVERY == 0]
        return [s for s in self.sprites if subjects[s.points] % HELD_OUT_EVERY], held


def open_store(cache: Path) -> SpriteStore:
    """The store under `cache`, made on first use: about 2.2 GB, a few minutes, and 730 MB to fetch."""
    folder = cache / "sprites"
    if not (folder / "index.json").exists():
        build_store(cache, folder)
    rows = json.loads((folder / "index.json").read_text())
    return SpriteStore(np.load(folder / "frames.npy", mmap_mode="r"), tuple(Sprite(**row) for row in rows))


def build_store(cache: Path, folder: Path, taken: tuple[int, ...] = _TAKEN) -> None:
    """Decode frames `taken` of every animation into `folder`; stills among the archives are passed over."""
    folder.mkdir(parents=True, exist_ok=True)
    draft, sprites, written = folder / "frames.tmp", list[Sprite](), 0
    with draft.open("wb") as file:
        for code, webp in track(published(cache), description="sprites", console=Console(stderr=True)):
            frames = _decode(webp, taken)
            if len(frames) == 0:
                continue
            file.write(frames.tobytes())
            sprites.append(Sprite(code, written, len(frames)))
            written += len(frames)
    raw = np.memmap(draft, np.uint8, "r", shape=(written, SIDE_PX, SIDE_PX, 4))
    whole = folder / "frames.tmp.npy"
    np.lib.format.open_memmap(whole, "w+", np.uint8, raw.shape)[:] = raw
    draft.unlink()
    whole.replace(folder / "frames.npy")
    index = folder / "index.tmp"
    index.write_text(json.dumps([asdict(sprite) for sprite in sprites]))
    index.replace(folder / "index.json")


def published(cache: Path) -> Iterator[tuple[str, bytes]]:
    """(code points, file) of every picture in the archives."""
    for path in fetch_archives(cache / "data"):
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.name.endswith(".webp") else None
                if file is not None:
                    yield Path(member.name).stem, file.read()


def _decode(webp: bytes, taken: tuple[int, ...]) -> UInt8:
    """Frames `taken` as (T, 256, 256, 4), colours multiplied by alpha; none of a still."""
    picture = PIL.Image.open(io.BytesIO(webp))
    count = int(getattr(picture, "n_frames", 1))
    if count < 2 or picture.size != (SIDE_PX, SIDE_PX):
        return np.empty((0, SIDE_PX, SIDE_PX, 4), np.uint8)
    frames = []
    for index in sorted({number % count for number in taken}):
        picture.seek(index)
        frames.append(premultiplied(np.asarray(picture.convert("RGBA"))))
    return np.stack(frames)


def premultiplied(frame: UInt8) -> UInt8:
    """(H, W, 4) with its colours multiplied by alpha."""
    alpha = frame[..., 3:].astype(np.uint16)
    colours = (frame[..., :3] * alpha + 127) // 255
    return np.concatenate([colours.astype(np.uint8), frame[..., 3:]], -1)
