"""Everything the server raises on purpose, and the HTTP status it becomes.

DeploymentError
├── StartError               the server cannot start; its message is what the operator reads
│   ├── ConfigError          serve_config.yaml or the environment asks for something impossible
│   └── MissingPoolError     no node carries a stage's labels, or too few do
├── ApiError                 answers one HTTP request
│   ├── InvalidRequestError  400  invalid_request_error   a field, a header or the body
│   ├── AuthenticationError  401  invalid_request_error   no API key, or one that is not valid
│   ├── CrossSiteError       403  permission_error        another site's page uses a browser's session
│   ├── NotAllowedError      403  permission_error        the tenant's limits do not allow it
│   ├── VideoNotFoundError   404  not_found_error
│   ├── UploadNotFoundError  404  not_found_error
│   ├── ModelNotFoundError   404  not_found_error
│   ├── BodyTooSlowError     408  invalid_request_error
│   ├── VideoNotReadyError   409  conflict_error          content of a job that is not completed
│   ├── VideoEndedError      409  conflict_error          a cancel that came too late
│   ├── NotPausedError       409  conflict_error          `continue` of a job that does not wait for it
│   ├── OutputsGoneError     409  conflict_error          a remix of a job whose outputs are not kept (any more)
│   ├── IdempotencyError     409  conflict_error          the key was used with another body
│   ├── VideoGoneError       410  not_found_error         its files were kept for a time, which is over, or are lost
│   ├── BodyTooLargeError    413  invalid_request_error
│   ├── RangeError           416  invalid_request_error
│   ├── RateLimitError       429  rate_limit_error        with Retry-After: a limit, or a deadline out of reach
│   │   ├── QueueFullError   429  rate_limit_error        of all tenants together
│   │   └── UploadsFullError 503  server_error            as many large bodies come in as may
│   ├── StorageFullError     507  server_error            a disk has no room; what deletes still works
│   ├── SyncTimeoutError     504  server_error            POST /v1/videos/sync would wait no longer; the job goes on
│   ├── DatabaseAwayError    503  server_error            the journal's database does not answer; with Retry-After
│   └── UnavailableError     503  server_error            with Retry-After: what the request needs does not answer
└── JobFailure               ends one job; becomes `Video.error`
    ├── StageFailedError     code stage_failed            the stage raised
    ├── StageTimeoutError    code stage_timeout           it took longer than its limit
    ├── InputGoneError       code input_gone              what an earlier stage gave, or a user sent, is gone
    ├── ReplicaLostError     code replica_lost            its replica died more often than it is retried
    ├── TooManyClaimsError   code too_many_recoveries     the server went down under this job again and again
    ├── PauseExpiredError    code pause_expired           nobody had it continue in time
    └── DeadlineError        code deadline_exceeded       it still waited when its deadline passed

Two stand apart. `LeaseLostError` stops an executor whose job was taken over, and is never shown to a client.
`StoreAwayError`: the artifact store is full, away or refuses; a job waits for it, a request is answered with 503.
This module knows nothing of FastAPI or Ray.
"""

import math
from collections.abc import Sequence

from client.schema import ErrorBody, ErrorDetail

RETRY_AFTER_S = 5  # of a request whose dependency does not answer


class DeploymentError(Exception):
    """Base of the tree above."""


class StartError(DeploymentError):
    """The server cannot start."""


class ConfigError(StartError):
    """An argument that cannot be served."""


class MissingPoolError(StartError):
    """A stage has no pool to run in."""


class ApiError(DeploymentError):
    """One HTTP request that is answered with an error."""

    status = 500
    type = "server_error"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.headers: dict[str, str] = {}

    def body(self) -> ErrorBody:
        message = self.message.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be answered
        param = self.param and self.param.encode("utf-8", "replace").decode()
        return ErrorBody(error=ErrorDetail(message=message, type=self.type, param=param, code=self.code))


class InvalidRequestError(ApiError):
    """A field, a header or the body that cannot be served."""

    status = 400
    type = "invalid_request_error"


class AuthenticationError(ApiError):
    """No API key came, or one that is not valid. Type and code are those of OpenAI."""

    status = 401
    type = "invalid_request_error"

    def __init__(self, message: str) -> None:
        super().__init__(message, param="Authorization", code="invalid_api_key")
        self.headers["WWW-Authenticate"] = 'Bearer realm="magicvideo"'


class CrossSiteError(ApiError):
    """A page of another site wants to change something with what a browser keeps for this one."""

    status = 403
    type = "permission_error"


class NotAllowedError(ApiError):
    """Something that this API key's tenant may not ask for, or a link that is over."""

    status = 403
    type = "permission_error"


class VideoNotFoundError(ApiError):
    """No job has that id."""

    status = 404
    type = "not_found_error"

    def __init__(self, video_id: str) -> None:
        super().__init__(
            f"No video has the id {video_id!r}; GET /v1/videos lists those there are.",
            param="video_id",
            code="video_not_found",
        )


class UploadNotFoundError(ApiError):
    """No file of `POST /v1/files` has that id."""

    status = 404
    type = "not_found_error"

    def __init__(self, upload_id: str) -> None:
        super().__init__(
            f"No file has the id {upload_id!r}; POST /v1/files sends one, GET /v1/files lists those there are.",
            param="file_id",
            code="file_not_found",
        )


class ModelNotFoundError(ApiError):
    """This server runs no model of that name."""

    status = 404
    type = "not_found_error"

    def __init__(self, name: str, names: Sequence[str]) -> None:
        super().__init__(f"This server runs {', '.join(names)}, not {name!r}.", param="model", code="model_not_found")


class VideoNotReadyError(ApiError):
    """Content was asked of a job that has none (yet)."""

    status = 409
    type = "conflict_error"


class VideoGoneError(ApiError):
    """Content was asked of a job whose video is gone for good."""

    status = 410
    type = "not_found_error"

    def __init__(self, video_id: str, why: str) -> None:
        super().__init__(
            f"The content of video {video_id} is gone: {why}; make it again, with the same seed for the same video.",
            param="video_id",
            code="video_gone",
        )


class VideoEndedError(ApiError):
    """A cancel of a job that has already ended otherwise."""

    status = 409
    type = "conflict_error"

    def __init__(self, video_id: str, status: str) -> None:
        super().__init__(
            f"Video {video_id} is {status}; only an unfinished one can be cancelled. DELETE removes it.",
            param="video_id",
            code="video_ended",
        )


class NotPausedError(ApiError):
    """`continue` of a job that does not wait for it."""

    status = 409
    type = "conflict_error"

    def __init__(self, video_id: str, state: str) -> None:
        super().__init__(
            f"Video {video_id} is {state}, not paused; only a job with pause_after waits to be continued.",
            param="video_id",
            code="video_not_paused",
        )


class OutputsGoneError(ApiError):
    """A job that is to be remixed does not have the outputs of the stages before."""

    status = 409
    type = "conflict_error"

    def __init__(self, video_id: str, stage: str, found: int, wanted: int) -> None:
        super().__init__(
            f"Video {video_id} has {found} of the {wanted} outputs of {stage} that are needed; they are kept from the "
            "end of a stage until keeper.ttl_s after the job's end. Begin at an earlier stage.",
            param="from_stage",
            code="outputs_gone",
        )


class IdempotencyError(ApiError):
    """An `Idempotency-Key` that was used with another body."""

    status = 409
    type = "conflict_error"


class BodyTooLargeError(ApiError):
    """More bytes than any request needs."""

    status = 413
    type = "invalid_request_error"


class BodyTooSlowError(ApiError):
    """A body that took too long to come."""

    status = 408
    type = "invalid_request_error"

    def __init__(self, limit_s: float) -> None:
        super().__init__(
            f"The body did not come within {limit_s:g} s, the limit; send it again, smaller or faster.",
            code="body_too_slow",
        )


class RangeError(ApiError):
    """A Range that the content does not have."""

    status = 416
    type = "invalid_request_error"

    def __init__(self, wanted: str, size: int) -> None:
        super().__init__(
            f"Range {wanted!r} does not lie within the {size} bytes of this video.", param="Range", code="invalid_range"
        )
        self.headers["Content-Range"] = f"bytes */{size}"


class RateLimitError(ApiError):
    """A request that may be sent again after `retry_after_s`, rounded up to whole seconds."""

    status = 429
    type = "rate_limit_error"

    def __init__(self, message: str, retry_after_s: float, *, code: str, param: str | None = None) -> None:
        whole_s = max(1, math.ceil(retry_after_s))
        super().__init__(f"{message}; try again in {whole_s} s.", param=param, code=code)
        self.headers["Retry-After"] = str(whole_s)


class DatabaseAwayError(ApiError):
    """The journal's database does not answer, or refuses to write."""

    status = 503
    retry_after_s = 5

    def __init__(self) -> None:
        super().__init__(
            f"The journal's database does not answer; nothing was lost, try again in {self.retry_after_s} s.",
            code="database_away",
        )
        self.headers["Retry-After"] = str(self.retry_after_s)


class StorageFullError(ApiError):
    """The disk of the journal, of the artifacts or of uploads has no room. `about` names it."""

    status = 507

    def __init__(self, about: str) -> None:
        super().__init__(
            f"The disk of {about} is full, so nothing new is taken in; delete videos, or have the operator make room.",
            code="storage_full",
        )


class SyncTimeoutError(ApiError):
    """A job that did not end while its client waited for the bytes; it goes on."""

    status = 504

    def __init__(self, video_id: str, limit_s: float) -> None:
        super().__init__(
            f"Video {video_id} has not ended within {limit_s:g} s and goes on; ask GET /v1/videos/{video_id} until its "
            "status is completed, then its /content.",
            code="sync_timeout",
        )
        self.headers["Location"] = video_id  # beside /v1/videos/sync


class QueueFullError(RateLimitError):
    """The journal holds as many waiting jobs as it may."""

    def __init__(self, waiting: int, limit: int, retry_after_s: int) -> None:
        super().__init__(f"{waiting} videos are waiting and the limit is {limit}", retry_after_s, code="queue_full")


class UploadsFullError(RateLimitError):
    """As many large bodies are under way as may be, of all or of one tenant."""

    status = 503
    type = "server_error"

    def __init__(self, under_way: int, limit: int) -> None:
        super().__init__(
            f"{under_way} large bodies are coming in and the limit is {limit}", RETRY_AFTER_S, code="uploads_full"
        )


class UnavailableError(ApiError):
    """What a request needs (`about`) has not answered within `waited_s`, or refuses. What was asked may be done yet."""

    status = 503

    def __init__(self, about: str, waited_s: float | None = None) -> None:
        what = "cannot be used now" if waited_s is None else f"has not answered for {waited_s:g} s"
        super().__init__(
            f"{about} {what}; try again in {RETRY_AFTER_S} s, a POST with the same Idempotency-Key.",
            code="unavailable",
        )
        self.headers["Retry-After"] = str(RETRY_AFTER_S)


class JobFailure(DeploymentError):  # noqa: N818 - the tree's node, its leaves end in Error
    """The end of one job; `code` and the message become `Video.error`."""

    code = "server_error"


class StageFailedError(JobFailure):
    """A stage raised."""

    code = "stage_failed"


class StageTimeoutError(JobFailure):
    """A stage took longer than its limit."""

    code = "stage_timeout"


class InputGoneError(JobFailure):
    """What an earlier stage gave, or what a user sent, cannot be read, and this job does not run that stage."""

    code = "input_gone"


class ReplicaLostError(JobFailure):
    """A stage's replica died more often than it is retried, or an output died with its node."""

    code = "replica_lost"


class TooManyClaimsError(JobFailure):
    """The server went down under this job again and again."""

    code = "too_many_recoveries"


class DeadlineError(JobFailure):
    """The job still waited when its deadline passed."""

    code = "deadline_exceeded"


class PauseExpiredError(JobFailure):
    """The job was paused for longer than a pause is kept."""

    code = "pause_expired"


class LeaseLostError(Exception):
    """Another executor has taken this job over; stop and write nothing."""


class StoreAwayError(OSError):
    """The artifact store is full, cannot be reached or refuses; what it keeps may well be there."""
