"""Events of a job as they happen, over a stream that mends itself: what broke goes on behind the last event.

`EventStream` is pure: bytes in, events out, and how long to pause after a break; the loop around it is the client's.
Knows the shape of server-sent events, not what the kinds mean, except which end a job.
"""

import codecs
from typing import Any

import httpx
from pydantic import ValidationError

from ..errors import UnexpectedResponseError
from ..schema import Event
from .flows import OUTAGE_S, Context
from .options import CONNECT_TIMEOUT_S
from .requests import _video_path
from .shared import Reply, Request, connection_error, error_of

QUIET_S = 45.0  # the server says something every 15 s; after so long without a byte the connection is dead
LAST_KINDS = frozenset({"completed", "failed", "cancelled"})


class EventStream:
    """One job's events, over as many connections as it takes."""

    def __init__(self, context: Context, video_id: str, after: int | None) -> None:
        self._context = context
        self._path = f"{_video_path(video_id)}/events"
        self._last = after or 0
        self._breaks = 0
        self._heard = context.clock()
        self._decoder: Any = None
        self._lines: list[str] = []
        self._rest = ""
        self._ended = False

    def is_over(self) -> bool:
        """Whether the job's last event has come."""
        return self._ended

    def open(self) -> Request:
        """What to send for the rest; what was half read is forgotten."""
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._lines, self._rest = [], ""
        behind = {"last-event-id": str(self._last)} if self._last else {}
        timeout = httpx.Timeout(QUIET_S, connect=CONNECT_TIMEOUT_S)
        return Request("GET", self._path, headers={"accept": "text/event-stream", **behind}, timeout=timeout)

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete."""
        self._breaks, self._heard = 0, self._context.clock()
        *lines, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        found = []
        for line in lines:
            if line.strip("\r"):
                self._lines.append(line.strip("\r"))
            elif self._lines:
                found += self._event()
        return found

    def broken(self, failure: httpx.TransportError | None, request: Request) -> float:
        """Seconds to pause before the next connection.

        Raises:
            APIConnectionError: the server has been away for too long.
        """
        if self._context.clock() - self._heard >= OUTAGE_S:
            raise connection_error(request, failure or httpx.RemoteProtocolError("the stream ended"), self._context.url)
        self._breaks += 1
        return self._context.policy.backoff_s(self._breaks - 1, self._context.chance())

    def refused(self, reply: Reply, request: Request) -> float:
        """The same after an answer that is no stream.

        Raises:
            APIStatusError: the server refuses for good.
        """
        if reply.status < 500 and reply.status != 429:
            raise error_of(reply, self._context.url, self._context.now())
        if self._context.clock() - self._heard >= OUTAGE_S:
            raise error_of(reply, self._context.url, self._context.now())
        return self.broken(None, request)

    def _event(self) -> list[Event]:
        data = "\n".join(line[5:].lstrip(" ") for line in self._lines if line.startswith("data:"))
        self._lines = []
        if not data:
            return []
        try:
            event = Event.model_validate_json(data)
        except ValidationError as error:
            raise UnexpectedResponseError(f"An event of the server cannot be read: {error}.", status=200) from error
        self._last = max(self._last, event.id)
        self._ended = event.kind in LAST_KINDS
        return [event]
