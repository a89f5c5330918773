"""What the client does, step by step, written once: each verb is a generator that asks for effects and gives a result.

A flow yields `Request` (gets a `Reply` back, or an `httpx.RequestError` thrown in), `Pause` or `Notify`; the sync and
the async client perform these and nothing else. Order, retries, polling and resumption are therefore the same in both.
Knows no sockets and no event loop; files stand in `download.py`.
"""

import itertools
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from pydantic import ValidationError

from ..errors import (
    APIConnectionError,
    InvalidArgumentError,
    RateLimitError,
    ServerError,
    VideoFailedError,
    WaitTimeoutError,
)
from ..schema import TERMINAL, Health, Video
from .requests import health_request, retrieve_request
from .shared import (
    ModelT,
    Reply,
    Request,
    RetryPolicy,
    connection_error,
    error_of,
    parse,
    poll_after_s,
)

OUTAGE_S = 60.0  # a wait outlives a server that is away for so long: the job goes on, a proxy restarts in about 20 s

T = TypeVar("T")
Listener = Callable[[Video], Any]


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class Notify:
    listener: Listener
    video: Video


Effect = Request | Pause | Notify
Flow = Generator[Effect, Any, T]


@dataclass(frozen=True)
class Context:
    """What a flow needs from outside: the address, the policy, and the sources of time and chance."""

    url: str
    policy: RetryPolicy
    clock: Callable[[], float]  # seconds, monotonic
    now: Callable[[], float]  # seconds, Unix time
    chance: Callable[[], float]  # [0, 1)


def send(context: Context, request: Request) -> Flow[Reply]:
    """A 2xx reply, sent again as the policy says.

    Raises:
        APIStatusError: the server refused, and still did at the last attempt.
        APIConnectionError: there was no answer.
    """
    for attempt in itertools.count():
        try:
            reply: Reply = yield request
        except httpx.RequestError as failure:
            delay = context.policy.after_failure(request, failure, attempt, chance=context.chance())
            if delay is None:
                raise connection_error(request, failure, context.url) from failure
        else:
            if reply.ok:
                return reply
            delay = context.policy.after_reply(request, reply, attempt, chance=context.chance(), now_s=context.now())
            if delay is None:
                raise error_of(reply, context.url, context.now())
        yield Pause(delay)
    raise AssertionError("unreachable: the loop has no end")


def call(context: Context, request: Request, model: type[ModelT]) -> Flow[ModelT]:
    """The answer to `request` as `model`."""
    reply = yield from send(context, request)
    return parse(reply, model, context.url)


def health(context: Context) -> Flow[Health]:
    """How the server is right now: never retried, and a 503 with a report is a report."""
    try:
        reply: Reply = yield health_request()
    except httpx.RequestError as failure:
        raise connection_error(health_request(), failure, context.url) from failure
    if reply.status == 503:
        try:
            return Health.model_validate_json(reply.body)
        except ValidationError:
            raise error_of(reply, context.url, context.now()) from None
    return parse(reply, Health, context.url)


def wait(
    context: Context, video_id: str, timeout_s: float | None, listener: Listener | None, last: Video | None = None
) -> Flow[Video]:
    """Poll until the job ends or pauses. `last` is its state where it is known; every answer goes to `listener`.

    Raises:
        VideoFailedError: the job failed.
        WaitTimeoutError: it is not finished after `timeout_s`.
    """
    if timeout_s is not None and (math.isnan(timeout_s) or timeout_s < 0):
        raise InvalidArgumentError(f"timeout_s is {timeout_s:g}; it must be 0 or more, or None to wait for ever.")
    started = answered = context.clock()
    for polls in itertools.count():
        try:
            reply = yield from send(context, retrieve_request(video_id))
        except (APIConnectionError, RateLimitError, ServerError):
            if last is None or context.clock() - answered >= OUTAGE_S:
                raise
            delay = context.policy.max_s
        else:
            answered = context.clock()
            last = parse(reply, Video, context.url)
            if listener is not None:
                yield Notify(listener, last)
            if last.status in TERMINAL:
                if last.status == "failed":
                    raise VideoFailedError(last)
                return last
            if last.paused_after is not None:
                return last  # nothing will happen until somebody lets it go on
            delay = poll_after_s(reply.headers, polls)
        if timeout_s is not None:
            left = timeout_s - (context.clock() - started)
            if left <= 0:
                raise WaitTimeoutError(last, timeout_s)
            delay = min(delay, left)
        yield Pause(delay)
    raise AssertionError("unreachable: the loop has no end")
