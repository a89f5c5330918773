"""Files that go to the server: from a path, bytes or a `data:` URL to a part of a form.

Reads a file once, into memory, and refuses what is missing, empty, too large or of the other kind before anything is
sent. Whether it can be decoded is the server's to say. No name of a local file is ever sent.
"""

import base64
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from ..errors import InvalidArgumentError
from ..schema import Reference, Video

MAX_UPLOAD_BYTES = 100_000_000  # what a server takes unless its operator says otherwise

Bytes: TypeAlias = bytes | bytearray | memoryview
Picture: TypeAlias = str | os.PathLike[str] | Bytes | Reference
"""A path, the bytes of a picture, or a `data:` URL."""
VideoInput: TypeAlias = str | os.PathLike[str] | Bytes | Reference | Video
"""A path, the bytes of a video, a `data:` URL; or an earlier video: itself, or its id."""

Kind = Literal["picture", "video"]
_KINDS: dict[str, tuple[Kind, str]] = {
    "image/png": ("picture", "png"),
    "image/jpeg": ("picture", "jpg"),
    "image/webp": ("picture", "webp"),
    "video/mp4": ("video", "mp4"),
    "video/webm": ("video", "webm"),
}


@dataclass(frozen=True)
class File:
    """One file of a form."""

    name: str
    media_type: str
    data: bytes = field(repr=False)


def picture_of(given: Picture) -> File:
    """The picture for `input_reference`.

    Raises:
        InvalidArgumentError: there is none, it is empty or too large, or it is a video.
    """
    if isinstance(given, Reference):
        if given.image_url is None:
            raise InvalidArgumentError("input_reference must be a picture: a path, its bytes, or a data: URL.")
        given = given.image_url
    return _file(given, "input_reference", "picture")


def video_of(given: VideoInput) -> File | Reference:
    """The video for `input_video`. A text that names no file and looks like no path is an id.

    Raises:
        InvalidArgumentError: there is none, it is empty or too large, or it is a picture.
    """
    if isinstance(given, Video):
        return Reference(id=given.id)
    if isinstance(given, Reference):
        if given.id is not None:
            return given
        if given.video_url is None:
            raise InvalidArgumentError("input_video must be a video: a path, its bytes, a data: URL, or an id.")
        given = given.video_url
    if isinstance(given, str) and _is_id(given):
        return Reference(id=given)
    return _file(given, "input_video", "video")


def is_file(given: VideoInput) -> bool:
    """Whether it has to be sent, being no earlier video of the server."""
    return isinstance(video_of(given), File)


def _is_id(text: str) -> bool:
    if text.startswith("data:") or any(sign in text for sign in ("/", "\\", ".", "\0")):
        return False
    return text.strip() != "" and not os.path.isfile(text)


def _file(given: str | os.PathLike[str] | Bytes, name: str, wanted: Kind) -> File:
    where = "it"
    if isinstance(given, Bytes):
        data = bytes(given)
    elif isinstance(given, str) and given.startswith("data:"):
        data = _decoded(given, name)
    elif isinstance(given, str | os.PathLike):
        where = repr(os.fspath(given))
        data = _read(Path(given), name)
    else:
        raise InvalidArgumentError(f"{name} is a {type(given).__name__}; give a path, bytes, or a data: URL.")
    if not data:
        raise InvalidArgumentError(f"{name} is empty: {where} has 0 bytes; give a {wanted}.")
    if len(data) > MAX_UPLOAD_BYTES:
        raise InvalidArgumentError(
            f"{name} is larger than {MAX_UPLOAD_BYTES // 1_000_000} MB, the most that a server takes; "
            f"make {where} smaller or shorter."
        )
    media_type = _media_type(data)
    kind, suffix = _KINDS.get(media_type, (wanted, "bin"))
    if kind != wanted:
        other = "input_video" if kind == "video" else "input_reference"
        raise InvalidArgumentError(f"{name} must be a {wanted}, but {where} is a {kind} ({media_type}); use {other}.")
    return File(f"{wanted}.{suffix}", media_type, data)


def _read(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_UPLOAD_BYTES + 1)
    except FileNotFoundError:
        hint = " and no video has such an id" if name == "input_video" else ""
        raise InvalidArgumentError(f"{name}: there is no file {str(path)!r}{hint}; check the path.") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidArgumentError(f"{name}: {str(path)!r} cannot be read ({reason}).") from None


def _decoded(url: str, name: str) -> bytes:
    head, comma, text = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise InvalidArgumentError(f"{name}: a data: URL must look like 'data:image/png;base64,...', not {url[:40]!r}.")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise InvalidArgumentError(f"{name}: the data: URL is not valid base64 ({error}).") from None


def _media_type(data: bytes) -> str:
    """From the first bytes; unknown ones are the server's to judge."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:8] == b"ftyp":
        return "video/mp4"
    return "video/webm" if data.startswith(b"\x1a\x45\xdf\xa3") else "application/octet-stream"
