"""What studies raise on purpose, below `deployments.errors.ApiError`, and the HTTP status it becomes.

ApiError
├── StudyNotFoundError   404  not_found_error
├── LinkNotFoundError    404  not_found_error   of a rater
├── TrialNotFoundError   404  not_found_error   it is none of this rater's
├── StudyStateError      409  conflict_error    a study, a rater or a trial that is not so far, or is beyond it
├── StudyVideoGoneError  410  not_found_error
└── LacksPackagesError   501  server_error      the extra `study` is not installed
"""

from collections.abc import Iterator
from contextlib import contextmanager

from deployments.errors import ApiError


class StudyNotFoundError(ApiError):
    """No study has that id, or it was deleted."""

    status = 404
    type = "not_found_error"

    def __init__(self, study_id: str, why: str = "") -> None:
        super().__init__(
            why or f"No study has the id {study_id!r}; GET /v1/studies lists those there are.",
            param="study_id",
            code="study_not_found",
        )


class LinkNotFoundError(ApiError):
    """A rater's link that the study does not have."""

    status = 404
    type = "not_found_error"

    def __init__(self, study_id: str, link_id: str) -> None:
        super().__init__(
            f"Study {study_id} has no link {link_id!r}; GET its links for those there are.",
            param="link_id",
            code="link_not_found",
        )


class TrialNotFoundError(ApiError):
    """A trial that is none of this rater's."""

    status = 404
    type = "not_found_error"

    def __init__(self, trial: str) -> None:
        super().__init__(
            f"{trial[:80]!r} is none of your trials; open your link again and go on from there.",
            param="trial",
            code="trial_not_found",
        )


class StudyStateError(ApiError):
    """What a study, a rater or a trial is not ready for, or beyond."""

    status = 409
    type = "conflict_error"


class StudyVideoGoneError(ApiError):
    """The file of a video that a study shows is lost."""

    status = 410
    type = "not_found_error"

    def __init__(self) -> None:
        super().__init__(
            "A video of this pair is lost; tell whoever sent you the link.", param="trial", code="study_video_gone"
        )


class LacksPackagesError(ApiError):
    """Statistics need packages that this server was installed without."""

    status = 501

    def __init__(self, name: str) -> None:
        super().__init__(
            f"This server lacks the package {name}, which statistics of studies need; install the extra `study`, as "
            "in pip install 'magicvideo[study]'. Votes are kept meanwhile.",
            code="packages_missing",
        )


@contextmanager
def needing_packages() -> Iterator[None]:
    """Raises:
    LacksPackagesError: something that is imported in here is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise LacksPackagesError(error.name or "of statistics") from error
