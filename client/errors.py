"""Everything the client raises on purpose: one clear sentence, the values, and the next step.

    MagicVideoError
    ├── InvalidArgumentError      refused here, before anything was sent (also a ValueError)
    ├── APIConnectionError        no server at the address, or the connection broke (also a ConnectionError)
    │   └── APITimeoutError       the server did not answer in time (also a TimeoutError)
    ├── UnexpectedResponseError   an answer that does not follow the contract: no MagicVideo server, or another version
    ├── APIStatusError            the server refused: .status .message .type .param .code .retry_after_s
    │   ├── BadRequestError       400, 413, 415, 422
    │   ├── AuthenticationError   401, 403
    │   ├── NotFoundError         404
    │   ├── ConflictError         409: not ready yet, not paused, ended, or an idempotency key used otherwise
    │   ├── RateLimitError        429
    │   └── ServerError           5xx
    ├── VideoFailedError          the job ended as failed: .video
    ├── WaitTimeoutError          the job goes on, but the wait is over: .video (also a TimeoutError)
    └── OutputError               the local file cannot be written: .path (also an OSError)

All of them can be pickled, so that they survive a process pool or a Ray task. Imports nothing at run time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from .schema import Video


def _rebuild(kind: type[MagicVideoError], args: tuple[Any, ...], state: dict[str, Any]) -> MagicVideoError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class MagicVideoError(Exception):
    """Base of everything in this module."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class InvalidArgumentError(MagicVideoError, ValueError):
    """An argument that cannot be sent; nothing was sent."""


class APIConnectionError(MagicVideoError, ConnectionError):
    """The server could not be reached, or the connection broke. `url` is the base URL."""

    def __init__(self, message: str, *, url: str) -> None:
        super().__init__(message)
        self.url = url


class APITimeoutError(APIConnectionError, TimeoutError):
    """The server was reached and did not answer within `timeout_s`."""


class UnexpectedResponseError(MagicVideoError):
    """The answer does not follow the contract. `status` is its HTTP status."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class APIStatusError(MagicVideoError):
    """The server answered with an error. `message` is the server's own sentence, `param` names the offending field."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        type: str,  # noqa: A002 - the wire's word
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.type = type
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s


class BadRequestError(APIStatusError):
    """400, 413, 415, 422: the request cannot be served as it is; `param` names the field."""


class AuthenticationError(APIStatusError):
    """401, 403: the key is missing, wrong, or not allowed to do this."""


class NotFoundError(APIStatusError):
    """404: there is no such video."""


class ConflictError(APIStatusError):
    """409: the job's state does not allow it; `code` says more: "video_not_ready" for content that is not there."""


class RateLimitError(APIStatusError):
    """429: too much is queued or running; `retry_after_s` says when to come back, where the server knows."""


class ServerError(APIStatusError):
    """5xx: the server, or a proxy before it, failed."""


class VideoFailedError(MagicVideoError):
    """The job ended as failed. `video.error` has the code ("cancelled" for a cancelled job) and the reason."""

    def __init__(self, video: Video) -> None:
        reason = f"{video.error.message} ({video.error.code})" if video.error else "The server gives no reason."
        super().__init__(f"Video {video.id} failed: {reason}")
        self.video = video


class WaitTimeoutError(MagicVideoError, TimeoutError):
    """The job is not finished yet and goes on; wait again with the same id. `video` is its last known state."""

    def __init__(self, video: Video, timeout_s: float) -> None:
        super().__init__(
            f"Video {video.id} is {video.status} at {video.progress} % after waiting {timeout_s:g} s; "
            "the job goes on, so wait again with the same id."
        )
        self.video = video
        self.timeout_s = timeout_s


class OutputError(MagicVideoError, OSError):
    """The file cannot be written there; nothing is left under its name that was not there before."""

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message)
        self.path = path


def status_error(status: int) -> type[APIStatusError]:
    """The class for an HTTP status."""
    if status >= 500:
        return ServerError
    if status in (400, 413, 415, 422):
        return BadRequestError
    if status in (401, 403):
        return AuthenticationError
    return {404: NotFoundError, 409: ConflictError, 429: RateLimitError}.get(status, APIStatusError)
