"""Bring a video to the disk: resumed where it broke, and under its name once every byte is there (`_shell.outputs`).

Takes the flow's replies, gives the path. Knows nothing of sockets; written once for the sync and the async client.
"""

import itertools
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO

import httpx

from .._shell.outputs import written
from ..errors import OutputError, UnexpectedResponseError
from ..schema import Variant
from .flows import Context, Flow, Pause
from .requests import content_request
from .shared import Chunk, Reply, Request, connection_error, error_of

OnBytes = Callable[[int, int | None], object]  # (bytes on the disk, bytes in all or None where unknown)


class PartFile:
    """The unfinished file: what is there, what is known of the whole, and how to ask for the rest."""

    def __init__(self, file: IO[bytes], target: Path, on_bytes: OnBytes | None) -> None:
        self._file, self._target = file, target
        self.done = 0
        self.total: int | None = None
        self._etag: str | None = None
        self._on_bytes = on_bytes

    def range_headers(self) -> Mapping[str, str]:
        """Headers that ask for what is missing; none at the start."""
        if not self.done:
            return {}
        headers = {"range": f"bytes={self.done}-"}
        return headers | {"if-range": self._etag} if self._etag else headers

    def begin(self, head: Reply) -> Chunk:
        """Take the head of a 2xx; the bytes of its body go to what is returned."""
        kind = head.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind.startswith("text/") or kind == "application/json":
            raise UnexpectedResponseError(f"Asked for a video, the server sent {kind}.", status=head.status)
        if head.headers.get("content-encoding", "identity") != "identity":
            raise UnexpectedResponseError(
                f"Asked for plain bytes, the server sent {head.headers['content-encoding']}.", status=head.status
            )
        if head.status == 206:
            self._check_range(head.headers.get("content-range", ""))
        else:
            self.restart()
            length = head.headers.get("content-length", "")
            self.total = int(length) if length.isdecimal() else None
        etag = head.headers.get("etag", "")
        self._etag = etag if etag.startswith('"') else None
        return self._write

    def restart(self) -> None:
        """Forget what is there: the server no longer has that file, or cannot send parts of it."""
        self.done, self.total, self._etag = 0, None, None
        self._guard(lambda: (self._file.seek(0), self._file.truncate()))

    def _write(self, chunk: bytes) -> None:
        self._guard(lambda: self._file.write(chunk))
        self.done += len(chunk)
        if self._on_bytes is not None:
            self._on_bytes(self.done, self.total)

    def _check_range(self, text: str) -> None:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", text.strip())
        start = int(found[1]) if found else None
        total = int(found[2]) if found and found[2] != "*" else self.total
        if start != self.done or (self.total is not None and total != self.total):
            raise UnexpectedResponseError(
                f"Asked for the bytes from {self.done} of {self.total}, the server sent {text or 'no range'!r}.",
                status=206,
            )
        self.total = total

    def _guard(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as error:
            raise OutputError(
                f"Cannot write {self._target}: {error.strerror or error}; free the space or choose another place.",
                path=self._target,
            ) from error


def download(
    context: Context,
    video_id: str,
    path: str | os.PathLike[str],
    on_bytes: OnBytes | None,
    variant: Variant,
    candidate: int | None = None,
) -> Flow[Path]:
    """The content of a video as a file, or on stdout where the path is "-".

    Raises:
        ConflictError: the video is not ready.
        OutputError: the file cannot be written there.
        APIConnectionError: the connection kept breaking without a new byte.
    """
    plain, target = content_request(video_id, variant, candidate), Path(path)
    with written(target) as draft, draft.open("wb") as file:
        yield from _fetch(context, plain, PartFile(file, target, on_bytes))
    return target


def _fetch(context: Context, plain: Request, part: PartFile) -> Flow[None]:
    attempt = itertools.count()
    while True:
        before = part.done
        request = replace(plain, headers={**plain.headers, **part.range_headers()}, sink=part.begin)
        try:
            reply: Reply = yield request
            if reply.ok and part.total is not None and part.done != part.total:
                raise httpx.RemoteProtocolError(f"the body ended after {part.done} of {part.total} bytes")
        except httpx.RequestError as failure:
            if part.done > before:
                attempt = itertools.count()  # it moves: only breaks in a row without a new byte count
            delay = context.policy.after_failure(request, failure, next(attempt), chance=context.chance())
            if delay is None:
                raise connection_error(request, failure, context.url) from failure
        else:
            if reply.ok:
                return
            if reply.status == 416 and part.done:
                if reply.headers.get("content-range", "").strip() == f"bytes */{part.done}":
                    return  # the break came after the last byte
                part.restart()
            delay = context.policy.after_reply(
                request, reply, next(attempt), chance=context.chance(), now_s=context.now()
            )
            if delay is None:
                raise error_of(reply, context.url, context.now())
        yield Pause(delay)
