"""A video while it is made: fragmented mp4, piece by piece as the server finishes it, into a file or a player's pipe.

What is written can be played at once. A stream that breaks is not resumed, as a player has the first half already: the
finished video is what `download` is for. Knows nothing of the format.
"""

import os
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import httpx

from ._shared import Reply, Request, _video_path, connection_error, error_of
from .errors import APITimeoutError, OutputError, UnexpectedResponseError

if TYPE_CHECKING:
    from ._async_client import AsyncClient
    from ._client import Client

SILENCE_S = 600.0
"""How long the server may finish nothing: a stream is silent until the first piece is made."""
Target = str | os.PathLike[str] | IO[bytes]


def stream(client: "Client", video_id: str, silence_s: float) -> Generator[bytes]:
    """The pieces, until the video is complete."""
    request = _request(video_id)
    try:
        with client._http.stream("GET", client.base_url + request.path, **_options(silence_s)) as answer:
            if answer.status_code != 200:
                raise error_of(Reply(answer.status_code, answer.headers, answer.read()), client.base_url, 0.0)
            _check(answer)
            yield from answer.iter_bytes()
    except httpx.TransportError as failure:
        raise _broken(failure, request, client.base_url, silence_s) from failure


async def stream_async(client: "AsyncClient", video_id: str, silence_s: float) -> AsyncGenerator[bytes]:
    """The pieces, until the video is complete."""
    request = _request(video_id)
    try:
        async with client._http.stream("GET", client.base_url + request.path, **_options(silence_s)) as answer:
            if answer.status_code != 200:
                raise error_of(Reply(answer.status_code, answer.headers, await answer.aread()), client.base_url, 0.0)
            _check(answer)
            async for piece in answer.aiter_bytes():
                yield piece
    except httpx.TransportError as failure:
        raise _broken(failure, request, client.base_url, silence_s) from failure


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


def _request(video_id: str) -> Request:
    return Request("GET", f"{_video_path(video_id)}/stream")


def _options(silence_s: float) -> dict[str, Any]:
    return {"timeout": httpx.Timeout(silence_s, connect=5.0)}


def _check(answer: httpx.Response) -> None:
    kind = answer.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "video/mp4":
        raise UnexpectedResponseError(f"Asked for a video, the server sent {kind or 'no type'}.", status=200)


def _broken(failure: httpx.TransportError, request: Request, url: str, silence_s: float) -> Exception:
    if isinstance(failure, httpx.ReadTimeout):
        said = f"The server at {url} made nothing for {silence_s:g} s; the job goes on, look at it later."
        return APITimeoutError(said, url=url)
    return connection_error(request, failure, url)
