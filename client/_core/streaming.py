"""A video while it is made: fragmented mp4, piece by piece as the server finishes it, into a file or a player's pipe.

What is written can be played at once. A stream that breaks is not resumed, as a player has the first half already: the
finished video is what `download` is for. Knows nothing of the format.
"""

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any

import httpx

from .._shell.outputs import flowing
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
        self._opened: AbstractContextManager[Any] = nullcontext(target)
        self._name, self.done = Path(str(getattr(target, "name", "the stream"))), 0
        if isinstance(target, (str, os.PathLike)):
            self._opened, self._name = flowing(target), Path(target)

    def __enter__(self) -> "Spout":
        self._file = self._opened.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._opened.__exit__(*exception)

    def write(self, piece: bytes) -> None:
        """At once, not when a buffer is full: somebody may be watching."""
        try:
            self._file.write(piece)
            self._file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            said = f"Cannot write {self._name}: {error.strerror or error}; choose another place."
            raise OutputError(said, path=self._name) from error
        self.done += len(piece)
