"""Where finished videos are kept: a folder, or any store that fsspec speaks (`s3://bucket/prefix`, `gs://...`).

On a disk a file is written to a temporary name, synced and moved, so that no reader ever sees half of one, nor does a
power cut leave one that a row of the journal names. Keys are made by the
server (`videos/<job id>/<fence>.mp4`) and checked again here: a client's text never becomes part of a path. With more
than one node the URL must name a store that all of them reach.

Takes bytes and local files, gives sizes, digests and ranges of bytes. Knows nothing of Ray, HTTP or jobs.
"""

import errno
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import fsspec

from deployments.errors import StoreAwayError
from deployments.files.direct import write_direct

_KEY = re.compile(r"[a-z0-9_]+(/[A-Za-z0-9_-]+)*/[A-Za-z0-9_-]+\.[a-z0-9]{2,5}(\.[0-9a-f]{32}\.partial)?")
_CHUNK_BYTES = 256 * 1024


class ArtifactError(Exception):
    """A key that is none of ours, or a file that is not there."""


class CheckpointError(Exception):
    """An output that is gone, damaged, or of a type that nobody keeps."""


@dataclass(frozen=True)
class Artifact:
    """One kept file."""

    key: str
    size_bytes: int
    sha256: str
    media_type: str = "video/mp4"


_CLIENTS = ("botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "azure", "adlfs")  # of stores, by their packages


@contextmanager
def reaching(what: str, *through: type[Exception]) -> Iterator[None]:
    """What a disk or a store's client raises in here becomes one sentence, all but `through`.

    Raises:
        StoreAwayError: it is full, cannot be reached or refuses.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, (*through, StoreAwayError)):
            raise
        if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in _CLIENTS:
            raise
        said = " ".join(str(error).split()) or type(error).__name__
        raise StoreAwayError(f"{what} cannot be used: {said[:200]}.") from error


def free_bytes(place: Path) -> int:
    """Of the disk on which `place` is, or will be."""
    return shutil.disk_usage(next(found for found in (place, *place.absolute().parents) if found.exists())).free


def is_full(error: BaseException | None) -> bool:
    """Whether it says that a disk, or with `StoreAwayError` the store's, has no room."""
    cause = error.__cause__ if isinstance(error, StoreAwayError) else error
    return getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT)


class ArtifactStore:
    """Files under one URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._fs: Any
        self._root: str
        self._fs, self._root = fsspec.core.url_to_fs(url)
        self._local = "file" in (self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,))

    def put_file(self, source: Path, key: str, media_type: str = "video/mp4") -> Artifact:
        """Keep a copy of `source` under `key`, whole or not at all.

        Raises:
            ArtifactError: the key is malformed.
            StoreAwayError: the store is full or cannot be reached.
        """
        target = self._path(key)
        partial = self._partial(target)
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._make_folder(target)
        try:
            with self._writing():
                self._fs.put_file(str(source), partial)
                self._settle(partial, target)
        except BaseException:
            self._forget(partial)
            raise
        return Artifact(key, source.stat().st_size, digest, media_type)

    def put_bytes(self, data: bytes, key: str, media_type: str) -> Artifact:
        """Keep `data` under `key`, whole or not at all.

        Raises:
            ArtifactError: the key is malformed.
            StoreAwayError: the store is full or cannot be reached.
        """
        target = self._path(key)
        partial = self._partial(target)
        self._make_folder(target)
        try:
            with self._writing():
                with self._fs.open(partial, "wb") as file:
                    file.write(data)
                self._settle(partial, target)
        except BaseException:
            self._forget(partial)
            raise
        return Artifact(key, len(data), hashlib.sha256(data).hexdigest(), media_type)

    def put_pieces(self, pieces: Sequence[memoryview], key: str, media_type: str) -> Artifact:
        """As `put_bytes`, of pieces that follow each other; a large file costs little CPU on a disk."""
        if not self._local:
            return self.put_bytes(b"".join(pieces), key, media_type)
        target = self._path(key)
        partial = self._partial(target)
        self._make_folder(target)
        try:
            with self._writing():
                size, sha256 = write_direct(Path(partial), pieces)
                self._settle(partial, target)
        except BaseException:
            self._forget(partial)
            raise
        return Artifact(key, size, sha256, media_type)

    def size(self, key: str) -> int:
        """Bytes of a file.

        Raises:
            ArtifactError: it is not there.
            StoreAwayError: the store cannot be reached.
        """
        try:
            with self._reading():
                return int(self._fs.size(self._path(key)))
        except FileNotFoundError as error:
            raise ArtifactError(f"Artifact {key} is not in {self.url}; was it deleted by hand?") from error

    def free_bytes(self) -> int | None:
        """Of the disk that files are written to; None of an object store."""
        return free_bytes(Path(self._root)) if self._local else None

    def exists(self, key: str) -> bool:
        return bool(self._fs.exists(self._path(key)))

    def delete(self, key: str) -> None:
        """Forget a file; one that is not there is no error."""
        path = self._path(key)
        if self._fs.exists(path):
            self._fs.rm_file(path)

    def files(self, folder: str) -> Iterator[tuple[str, float]]:
        """Every file below a folder: its key, and when it was written, in seconds since the epoch; halves too."""
        self._fs.invalidate_cache()
        for path, info in self._fs.find(f"{self._root}/{folder}", detail=True).items():
            key = path.removeprefix(f"{self._root}/")
            written_at = info.get("mtime", info.get("LastModified", info.get("updated")))
            if _KEY.fullmatch(key) and written_at is not None:
                yield key, written_at.timestamp() if isinstance(written_at, datetime) else float(written_at)

    def abort_uploads(self, before: float) -> int:
        """Forget what S3 holds, unlisted, of uploads that began earlier and never ended; gives how many."""
        if not hasattr(self._fs, "list_multipart_uploads"):
            return 0
        bucket, _, prefix = f"{self._root}/".partition("/")
        found = [
            {"Bucket": bucket, "Key": one["Key"], "UploadId": one["UploadId"]}
            for one in self._fs.list_multipart_uploads(bucket)
            if one["Key"].startswith(prefix) and _KEY.fullmatch(one["Key"].removeprefix(prefix))
            if one["Initiated"].timestamp() < before
        ]
        for one in found:
            self._fs.call_s3("abort_multipart_upload", **one)
        return len(found)

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        """Bytes `start` to `end` (exclusive) in pieces of at most 256 KiB.

        Raises:
            ArtifactError: the file is not there, or shorter than `end`.
            StoreAwayError: the store cannot be reached.
        """
        try:
            with self._reading(), self._fs.open(self._path(key), "rb") as file:
                file.seek(start)
                left = end - start
                while left > 0:
                    piece: bytes = file.read(min(left, _CHUNK_BYTES))
                    if not piece:
                        raise ArtifactError(f"Artifact {key} ended {left} bytes before byte {end}.")
                    left -= len(piece)
                    yield piece
        except FileNotFoundError as error:
            raise ArtifactError(f"Artifact {key} is not in {self.url}; was it deleted by hand?") from error

    def _writing(self) -> AbstractContextManager[None]:
        return reaching(f"The artifact store {self.url}")

    def _reading(self) -> AbstractContextManager[None]:
        return reaching(f"The artifact store {self.url}", FileNotFoundError)

    def _partial(self, target: str) -> str:
        """Where a file grows: on a disk elsewhere; an object store shows nothing before it is whole."""
        return f"{target}.{uuid.uuid4().hex}.partial" if self._local else target

    def _settle(self, partial: str, target: str) -> None:
        """On a disk: the bytes, then the name, then the folders that may be new survive a power cut from here on."""
        if not self._local:
            return
        _sync(partial)
        os.replace(partial, target)
        folder = Path(target).parent
        while folder.is_relative_to(self._root):
            _sync(folder)
            folder = folder.parent

    def _make_folder(self, target: str) -> None:
        if self._local:
            with self._writing():
                self._fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)

    def _forget(self, partial: str) -> None:
        if self._local and self._fs.exists(partial):
            self._fs.rm_file(partial)

    def _path(self, key: str) -> str:
        if not _KEY.fullmatch(key):
            raise ArtifactError(f"{key!r} is not an artifact key; keys look like 'videos/<job id>/<fence>.mp4'.")
        return f"{self._root}/{key}"


def _sync(path: str | Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
