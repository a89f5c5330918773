"""A video while it is made: fragmented mp4, piece by piece as the server finishes it, into a file or a player's pipe.

What is written can be played at once. A stream that breaks is not resumed, as a player has the first half already: the
finished video is what `download` is for. Knows nothing of the format.
"""

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any

import httpx

from ..errors import APITimeoutError, OutputError, UnexpectedResponseError
from .options import CONNECT_TIMEOUT_S
from .requests import _video_path
from .shared import Reply, Request, connection_error

SILENCE_S = 600.0
"""How long the server may finish nothing: a stream is silent until the first piece is made."""
Target = str | os.PathLike[str] | IO[bytes]


def stream_request(video_id: str, silence_s: float) -> Request:
    """`GET /v1/videos/{id}/stream`."""
    timeout = httpx.Timeout(silence_s, connect=CONNECT_TIMEOUT_S)
    return Request("GET", f"{_video_path(video_id)}/stream", timeout=timeout)


def check_streamed(head: Reply) -> None:
    """Raises:
    UnexpectedResponseError: what comes is no video.
    """
    kind = head.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "video/mp4":
        raise UnexpectedResponseError(f"Asked for a video, the server sent {kind or 'no type'}.", status=head.status)


def stream_error(failure: httpx.TransportError, request: Request, url: str, silence_s: float) -> Exception:
    """The exception for a stream that broke, or that brought nothing for too long."""
    if isinstance(failure, httpx.ReadTimeout):
        said = f"The server at {url} made nothing for {silence_s:g} s; the job goes on, look at it later."
        return APITimeoutError(said, url=url)
    return connection_error(request, failure, url)


class Spout:
    """Where the pieces go: `with Spout(target) as spout: spout.write(piece)`. A file is opened, a pipe is left open."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._path = Path(target) if isinstance(target, (str, os.PathLike)) else None
        self.done = 0

    def __enter__(self) -> "Spout":
        try:
            self._opened: AbstractContextManager[Any]
            self._opened = self._path.open("wb") if self._path else nullcontext(self._target)
            self._file = self._opened.__enter__()
        except OSError as error:
            raise self._unwritable(error) from error
        return self

    def __exit__(self, *exception: Any) -> None:
        self._opened.__exit__(*exception)

    def write(self, piece: bytes) -> None:
        """At once, not when a buffer is full: somebody may be watching."""
        try:
            self._file.write(piece)
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from error
        self.done += len(piece)

    def _unwritable(self, error: OSError) -> OutputError:
        place = self._path or Path(str(getattr(self._target, "name", "the stream")))
        return OutputError(f"Cannot write {place}: {error.strerror or error}; choose another place.", path=place)
