"""What the sync and the async client share, as pure functions: requests, error mapping, retries, poll cadence.

Takes arguments and answers, gives requests, results, errors and seconds. Knows nothing of sockets, files or clocks:
time and chance are arguments. What happens in which order stands in `_flows.py`.
"""

import email.utils
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from . import __version__
from ._uploads import File
from .errors import (
    APIConnectionError,
    APITimeoutError,
    InvalidArgumentError,
    MagicVideoError,
    OutputError,
    UnexpectedResponseError,
    status_error,
)
from .schema import ErrorBody, Order, Variant, VideoList

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 5.0
MAX_PAGE = 100
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
    params: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, Any] | None = None
    form: Mapping[str, str] | None = None  # fields that go beside `files`
    files: Mapping[str, File] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    safe: bool = True
    sink: Callable[[Reply], Chunk] | None = None

    @property
    def body(self) -> dict[str, Any]:
        """What it carries, as arguments for httpx."""
        if not self.files:
            return {"json": self.json}
        files = {name: (file.name, file.data, file.media_type) for name, file in self.files.items()}
        return {"data": dict(self.form or {}), "files": files}


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


def base_url_of(given: str | None) -> str:
    """The address to use: as given, else `MAGICVIDEO_URL`, else this machine."""
    text = given if given is not None else os.environ.get("MAGICVIDEO_URL") or DEFAULT_URL
    try:
        url = httpx.URL(text.strip())
    except httpx.InvalidURL as error:
        raise InvalidArgumentError(f"{text!r} is not a URL ({error}); give one like {DEFAULT_URL}.") from None
    usable = url.scheme in ("http", "https") and url.host and (url.port is None or 0 < url.port < 65536)
    if not usable or url.query or url.fragment or url.userinfo:
        raise InvalidArgumentError(
            f"{text!r} is not a server's address: it must look like {DEFAULT_URL}, "
            "without user, query or fragment; a key goes into api_key."
        )
    bare = str(url).rstrip("/")
    if bare.endswith("/v1"):
        raise InvalidArgumentError(f"{text!r} must not end in /v1, the client adds it; give {bare[:-3]}.")
    return bare


def headers_of(api_key: str | None) -> dict[str, str]:
    """Headers of every request; the key is the one given, else `MAGICVIDEO_API_KEY`."""
    key = api_key if api_key is not None else os.environ.get("MAGICVIDEO_API_KEY")
    headers = {"accept": "application/json", "user-agent": f"magicvideo-client/{__version__}"}
    if key:
        if not key.isascii() or not key.isprintable() or " " in key:
            raise InvalidArgumentError("The API key holds spaces, line ends or non-ASCII signs; copy it again.")
        headers["authorization"] = f"Bearer {key}"
    return headers


def timeout_of(timeout_s: float) -> httpx.Timeout:
    if not timeout_s > 0:
        raise InvalidArgumentError(f"timeout_s is {timeout_s:g}; it must be above 0.")
    return httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S))


def retries_of(max_retries: int) -> RetryPolicy:
    if max_retries < 0:
        raise InvalidArgumentError(f"max_retries is {max_retries}; it must be 0 or more.")
    return RetryPolicy(max_retries)


def retrieve_request(video_id: str) -> Request:
    return Request("GET", _video_path(video_id))


def content_request(video_id: str, variant: Variant, candidate: int | None = None) -> Request:
    """`GET /v1/videos/{id}/content`; `candidate` says which of T2I's pictures, else the one that was chosen."""
    if variant not in get_args(Variant):
        raise InvalidArgumentError(f"variant is {variant!r}; it must be one of: {', '.join(get_args(Variant))}.")
    if candidate is not None and (variant != "keyframe" or candidate < 0):
        raise InvalidArgumentError(
            f"candidate is {candidate} with the variant {variant!r}; it counts the pictures of 'keyframe' from 0."
        )
    asked: dict[str, str] = {} if variant == "video" else {"variant": variant}
    asked |= {} if candidate is None else {"candidate": str(candidate)}
    # Bytes must arrive as they are stored, else a range would count something else than what is on the disk.
    headers = {"accept": "*/*", "accept-encoding": "identity"}
    return Request("GET", f"{_video_path(video_id)}/content", params=asked, headers=headers)


def cancel_request(video_id: str) -> Request:
    return Request("POST", _video_path(video_id) + "/cancel")


def delete_request(video_id: str) -> Request:
    # Not safe to repeat: after a lost answer the second attempt would say that there is no such video.
    return Request("DELETE", _video_path(video_id), safe=False)


def list_request(after: str | None, limit: int | None, order: Order | None) -> Request:
    if limit is not None and not 1 <= limit <= MAX_PAGE:
        raise InvalidArgumentError(f"limit is {limit}; it must be between 1 and {MAX_PAGE}.")
    if order not in (None, "asc", "desc"):
        raise InvalidArgumentError(f'order is {order!r}; it must be "asc" or "desc".')
    _check_text("after", after)
    asked = {"after": after, "limit": None if limit is None else str(limit), "order": order}
    return Request("GET", "/v1/videos", params={name: value for name, value in asked.items() if value is not None})


def health_request() -> Request:
    return Request("GET", "/healthz")


def next_page(page: VideoList) -> str | None:
    """What to ask for next (`after=`), or None after the last page."""
    if not page.has_more:
        return None
    after = page.last_id or (page.data[-1].id if page.data else None)
    if after is None:
        raise UnexpectedResponseError("The server says that there are more videos but names none.", status=200)
    return after


def output_path(path: str | os.PathLike[str]) -> Path:
    """`path`, if a file can be written there.

    Raises:
        OutputError: it is a folder, or the folder it should lie in is missing or not writable.
    """
    target = Path(path)
    if target.is_dir():
        raise OutputError(f"{target} is a folder; name a file in it, like {target / 'video.mp4'}.", path=target)
    if not target.parent.is_dir():
        raise OutputError(f"There is no folder {target.parent} for {target.name}; make it first.", path=target)
    if not os.access(target.parent, os.W_OK):
        raise OutputError(f"The folder {target.parent} is not writable for you; choose another.", path=target)
    return target


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


def _video_path(video_id: str) -> str:
    if not isinstance(video_id, str) or video_id.strip() in ("", ".", ".."):
        raise InvalidArgumentError(f"{video_id!r} is not the id of a video; create() and list() give ids.")
    _check_text("the id", video_id)
    return f"/v1/videos/{quote(video_id, safe='')}"


def _check_text(name: str, value: object) -> None:
    """Bytes of another encoding reach Python as lone surrogates, which cannot be sent as UTF-8."""
    if isinstance(value, str) and any("\ud800" <= sign <= "\udfff" for sign in value):
        raise InvalidArgumentError(f"{name} holds signs that are not UTF-8: {value!r}; save or type it as UTF-8.")


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
