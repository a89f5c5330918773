"""What the sync and the async client share, as pure functions: error mapping, retries, poll cadence.

Takes requests and answers, gives results, errors and seconds. Knows nothing of sockets, files or clocks:
time and chance are arguments. What happens in which order stands in `flows.py`.
"""

import email.utils
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, Literal, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from ..errors import (
    APIConnectionError,
    APITimeoutError,
    MagicVideoError,
    UnexpectedResponseError,
    status_error,
)
from ..schema import ErrorBody, VideoList
from .uploads import File

MAX_RETRY_AFTER_S = 60.0  # a server that asks for more gets its error handed to the caller at once
MAX_POLL_S = 60.0

ModelT = TypeVar("ModelT", bound=BaseModel)
Chunk = Callable[[bytes], None]


@dataclass(frozen=True)
class Reply:
    """An answer: `body` is empty where a sink took it."""

    status: int
    headers: httpx.Headers
    body: bytes = b""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True)
class Request:
    """What to send. `safe`: sending it twice does no harm. `sink(head)` gives what takes the body of a 2xx."""

    method: Literal["GET", "POST", "DELETE"]
    path: str
    params: Mapping[str, str | list[str]] = field(default_factory=dict)
    json: Mapping[str, Any] | None = None
    form: Mapping[str, str] | None = None  # fields that go beside `files`
    files: Mapping[str, File] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    safe: bool = True
    timeout: httpx.Timeout | None = None  # of this one, where it is not the client's
    sink: Callable[[Reply], Chunk] | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """All of it but the address, as arguments for httpx."""
        body: dict[str, Any] = {"json": self.json}
        if self.files:
            files = {name: (file.name, file.data, file.media_type) for name, file in self.files.items()}
            body = {"data": dict(self.form or {}), "files": files}
        if self.timeout is not None:
            body["timeout"] = self.timeout
        return {"params": self.params or None, "headers": dict(self.headers), **body}


@dataclass(frozen=True)
class RetryPolicy:
    """When to send a request again, and after how long. Pure: chance and the time of day are arguments."""

    max_retries: int = 2
    base_s: float = 0.5
    max_s: float = 8.0

    def after_reply(self, request: Request, reply: Reply, attempt: int, *, chance: float, now_s: float) -> float | None:
        """Seconds until the next attempt, or None to give up. `attempt` counts from 0, `chance` is in [0, 1)."""
        again = reply.status in (408, 429) or reply.status >= 500 if request.safe else reply.status in (429, 503)
        if not again or attempt >= self.max_retries:
            return None
        wanted = retry_after_s(reply.headers, now_s)
        if wanted is None:
            return self.backoff_s(attempt, chance)
        return wanted if wanted <= MAX_RETRY_AFTER_S else None

    def after_failure(
        self, request: Request, failure: httpx.RequestError, attempt: int, *, chance: float
    ) -> float | None:
        """The same after a broken connection. What is not safe is sent again only if it surely was never sent."""
        if attempt >= self.max_retries or not isinstance(failure, httpx.TransportError):
            return None
        return self.backoff_s(attempt, chance) if request.safe or never_sent(failure) else None

    def backoff_s(self, attempt: int, chance: float) -> float:
        """Doubles from `base_s` to `max_s`; up to a quarter is taken off by chance, so that clients spread out."""
        return float(min(self.base_s * 2**attempt, self.max_s) * (1.0 - 0.25 * chance))


def never_sent(failure: httpx.RequestError) -> bool:
    return isinstance(failure, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)


def retry_after_s(headers: httpx.Headers, now_s: float) -> float | None:
    """`Retry-After` in seconds, from a number or a date. `now_s` is Unix time. None where absent or unreadable."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            date = email.utils.parsedate_to_datetime(text)
        except ValueError:
            return None
        seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now_s
    return max(0.0, seconds) if math.isfinite(seconds) else None


def poll_after_s(headers: httpx.Headers, polls: int) -> float:
    """Seconds until the next poll: what the server asks for (`openai-poll-after-ms`), else 0.5 s growing to 5 s."""
    try:
        asked = float(headers["openai-poll-after-ms"]) / 1000
    except (KeyError, ValueError):
        asked = math.nan
    if math.isfinite(asked) and asked >= 0:
        return min(asked, MAX_POLL_S)
    return min(0.5 * 1.25 ** min(polls, 20), 5.0)


def next_page(page: VideoList) -> str | None:
    """What to ask for next (`after=`), or None after the last page."""
    if not page.has_more:
        return None
    after = page.last_id or (page.data[-1].id if page.data else None)
    if after is None:
        raise UnexpectedResponseError("The server says that there are more videos but names none.", status=200)
    return after


def parse(reply: Reply, model: type[ModelT], url: str) -> ModelT:
    """The body of a 2xx as `model`, or the error that the status stands for."""
    if not reply.ok:
        raise error_of(reply, url)
    try:
        return model.model_validate_json(reply.body)
    except ValidationError as error:
        raise UnexpectedResponseError(
            f"The answer of {url} is not a {model.__name__} ({_first_problem(error)}); "
            "is that a MagicVideo server of this version?",
            status=reply.status,
        ) from None


def error_of(reply: Reply, url: str, now_s: float | None = None) -> MagicVideoError:
    """The exception for an answer that is not 2xx."""
    if 300 <= reply.status < 400:
        target = reply.headers.get("location", "nowhere")
        return UnexpectedResponseError(
            f"{url} redirects to {target}; pass that server's address instead.", status=reply.status
        )
    wait = retry_after_s(reply.headers, now_s) if now_s is not None else None
    kind = status_error(reply.status)
    try:
        detail = ErrorBody.model_validate_json(reply.body).error
    except ValidationError:
        text = " ".join(reply.body.decode("utf-8", "replace").split())[:200]
        message = f"{url} answered {reply.status} without an error of its contract: {text or 'an empty body'}"
        return kind(message, status=reply.status, type="unknown", retry_after_s=wait)
    return kind(
        detail.message,
        status=reply.status,
        type=detail.type,
        param=detail.param,
        code=detail.code,
        retry_after_s=wait,
    )


def connection_error(request: Request, failure: httpx.RequestError, url: str) -> APIConnectionError:
    """The exception for a request that got no answer."""
    reason = " ".join(str(failure).split()) or type(failure).__name__
    if never_sent(failure):
        return APIConnectionError(
            f"No server answers at {url} ({reason}); start one with `make serve`, or pass the right address "
            "(--url, base_url= or MAGICVIDEO_URL).",
            url=url,
        )
    kind, what = APIConnectionError, "broke off"
    if isinstance(failure, httpx.TimeoutException):
        kind, what = APITimeoutError, "timed out"
    message = f"{request.method} {url}{request.path} {what} ({reason})"
    if key := request.headers.get("idempotency-key"):
        advice = f"the server may have taken the job: look with list, or send it again with idempotency_key={key!r}."
    elif request.safe:
        advice = "try again, or look at the server's log."
    else:
        advice = "the server may have done it: look with status or list."
    return kind(f"{message}; {advice}", url=url)


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
