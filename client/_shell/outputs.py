"""A file that a user names, written as curl would: beside it and renamed when it is whole, so that a run which fails or
is stopped leaves yesterday's file untouched.

    -, /dev/stdout, /dev/fd/3   written to, once all is there
    a device, a named pipe      written into, never replaced
    a link                      followed; what it names is replaced, and keeps its mode and owner
    a file in a locked folder,  or one that is mounted or has a second name: written into, once all is there

`judge_output` says before any work begins whether that can be done. Knows nothing of what is written.
"""

import errno
import os
import re
import shutil
import stat
import sys
import tempfile
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import OutputError

__all__ = ["OutputError", "StrPath", "flowing", "is_stdout", "judge_folder", "judge_output", "lead_to_one", "written"]
__all__ += ["numbered"]

StrPath = str | os.PathLike[str]
_STREAMS = {"-": 1, "/dev/stdout": 1, "/dev/stderr": 2}
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def judge_output(path: StrPath, kinds: Collection[str] = ()) -> Path:
    """`path`, if it can be written; a file's suffix must be one of `kinds`, where some are given.

    Raises:
        OutputError: it is a folder, lies in none or in a locked one, ends otherwise, or is a terminal.
    """
    place = _place(Path(path))
    named = place.named
    if place.file is not None and kinds and named.suffix.lower() not in kinds:
        found = f"ends in {named.suffix}" if named.suffix else "has no suffix"
        raise OutputError(
            f"{named} {found}, and what is written is {' or '.join(sorted(kinds))}; name it like "
            f"{named.with_suffix(sorted(kinds)[0]).name}.",
            path=named,
        )
    with _telling(named):
        place.draft().unlink()
    return named


def judge_folder(path: StrPath) -> Path:
    """`path`, if it is a folder that files can be put into, or one that can be made.

    Raises:
        OutputError: it is a file, or it or the folder above it is locked.
    """
    named = folder = Path(path)
    with _telling(named):
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if not folder.is_dir():
            raise OutputError(f"{folder} is a file, so there can be no folder {named}; choose another.", path=named)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"The folder {folder} is not writable for you; choose another.", path=named)
    return named


def is_stdout(path: StrPath) -> bool:
    """Whether what is written there goes to standard output, under whichever of its names."""
    return _stream(os.fspath(path)) == 1


def lead_to_one(path: StrPath, other: StrPath) -> bool:
    """Whether two names, links followed, are of one file, device or stream."""
    first, second = (_stream(os.fspath(each)) or os.path.realpath(each) for each in (path, other))
    return first == second


def numbered(path: Path, number: int) -> Path:
    """The place of one of several files: `a-2.png` of `a.png`; a stream, device or pipe takes them all.

    Raises:
        OutputError: as `judge_output`.
    """
    return path.with_name(f"{path.stem}-{number}{path.suffix}") if _place(path).file is not None else path


@contextmanager
def written(path: StrPath) -> Iterator[Path]:
    """A file to write, which takes the place of `path` at the end; on an exception, nothing does.

    Raises:
        OutputError: as `judge_output`, or the disk is full.
    """
    place = _place(Path(path))
    with _telling(place.named):
        draft = place.draft()
    try:
        with _telling(place.named, draft):
            yield draft
            place.publish(draft)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def flowing(path: StrPath) -> Iterator[BinaryIO]:
    """For what is watched while it is made: a pipe or device takes every byte at once, a file is `written`.

    Raises:
        OutputError: as `written`.
    """
    place = _place(Path(path))
    if place.file is None:
        with _telling(place.named, place.named), place.opened() as out:
            yield out
    else:
        with written(path) as draft, draft.open("wb") as file:
            yield file


@dataclass(frozen=True)
class _Place:
    """Where a name leads: to a file, links followed, or (None) to something that is written into."""

    named: Path
    file: Path | None
    stream: int | None = None  # a descriptor of this process

    def draft(self) -> Path:
        """A new, empty file: beside the file, or with the temporary ones where that folder is locked."""
        file = self.file
        beside = file is not None and os.access(file.parent, os.W_OK | os.X_OK)
        folder = file.parent if file is not None and beside else Path(tempfile.gettempdir())
        name = f".{self.named.stem[:40]}.{uuid.uuid4().hex[:8]}.part{self.named.suffix[:10]}"
        os.close(os.open(folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        return folder / name

    def publish(self, draft: Path) -> None:
        """Bring the bytes to the disk, and give them their name."""
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        if self.file is not None:
            before = self.file.stat() if self.file.exists() else None
            if before is None or before.st_nlink == 1:
                with suppress(OSError):  # a mounted file, another disk: it is written into
                    if before is not None:
                        _become(draft, before)
                    draft.replace(self.file)
                    return
        with draft.open("rb") as file, self.opened() as out:
            shutil.copyfileobj(file, out)
            out.flush()

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        if self.stream == 1:
            sys.stdout.flush()
            yield sys.stdout.buffer
            sys.stdout.flush()
        elif self.stream is not None:
            with os.fdopen(os.dup(self.stream), "wb") as out:
                yield out
        else:
            with (self.file or self.named).open("wb") as out:
                yield out


def _become(draft: Path, before: os.stat_result) -> None:
    with suppress(OSError):  # the owner is root's to give
        os.chown(draft, before.st_uid, before.st_gid)
    draft.chmod(stat.S_IMODE(before.st_mode))


def _place(named: Path) -> _Place:
    """Raises: OutputError, where nothing can be written."""
    stream = _stream(str(named))
    with _telling(named):
        return _find(named) if stream is None else _check_stream(_Place(named, None, stream))


def _find(named: Path) -> _Place:
    file = Path(os.path.realpath(named))
    if file.is_dir():
        raise OutputError(f"{named} is a folder; name a file in it, like {named / 'video.mp4'}.", path=named)
    if file.is_symlink():
        raise OutputError(f"{named} is a link that leads to itself; choose another place.", path=named)
    mode = file.stat().st_mode if file.exists() else stat.S_IFREG
    if stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
        kind = "disk" if stat.S_ISBLK(mode) else "socket"
        raise OutputError(f"{named} is a {kind}, which is not written into; choose another place.", path=named)
    if not file.parent.is_dir():
        parent = file.parent if named.is_symlink() else named.parent
        raise OutputError(f"There is no folder {parent} for {file.name}; make it first.", path=named)
    if file.exists() and not os.access(file, os.W_OK):
        raise OutputError(f"{named} is not writable for you; choose another place.", path=named)
    if not file.exists() and not os.access(file.parent, os.W_OK | os.X_OK):
        raise OutputError(f"The folder {file.parent} is not writable for you; choose another.", path=named)
    return _Place(named, file if stat.S_ISREG(mode) else None)


def _stream(text: str) -> int | None:
    found = re.fullmatch(r"/(?:dev|proc/self)/fd/(\d+)", text)
    return int(found[1]) if found else _STREAMS.get(text)


def _check_stream(place: _Place) -> _Place:
    assert place.stream is not None
    try:
        terminal = sys.stdout.isatty() if place.stream == 1 else os.isatty(place.stream)
        if place.stream != 1:
            os.fstat(place.stream)
    except (OSError, OverflowError) as error:
        raise OutputError(f"{place.named} is not open; choose another place.", path=place.named) from error
    if terminal:
        raise OutputError(
            f"{place.named} is a terminal, which cannot show this; send it to a file or a program: -o - > FILE.",
            path=place.named,
        )
    return place


@contextmanager
def _telling(named: Path, draft: Path | None = None) -> Iterator[Any]:
    """An error of the disk as a sentence; with `draft`, only one that is about that file."""
    try:
        yield
    except (OutputError, BrokenPipeError):
        raise
    except OSError as error:
        if draft is not None and error.errno not in _DISK and error.filename not in (str(draft), str(named)):
            raise
        raise OutputError(
            f"Cannot write {named}: {error.strerror or error}; free the space or choose another place.", path=named
        ) from error
