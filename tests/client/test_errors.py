"""The exception tree: what is what, what survives a pickle, and the rules for retries as pure functions."""

import pickle

import httpx
import pytest

import client
from client import APIStatusError, MagicVideoError, RateLimitError, Video, VideoFailedError, errors
from client._core.shared import Reply, Request, RetryPolicy, poll_after_s, retry_after_s
from client.schema import JobError

READ, WRITE = Request("GET", "/v1/videos"), Request("DELETE", "/v1/videos/x", safe=False)


def tree() -> list[type[MagicVideoError]]:
    found: list[type[MagicVideoError]] = [MagicVideoError]
    for kind in found:
        found += kind.__subclasses__()
    return found


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = [line.strip("│├└─ ").split()[0] for line in (errors.__doc__ or "").splitlines() if "──" in line]
    assert sorted(drawn) == sorted(kind.__name__ for kind in tree()[1:])


def test_every_error_and_result_is_exported() -> None:
    assert {kind.__name__ for kind in tree()} <= set(client.__all__)
    assert all(getattr(client, name) is not None for name in client.__all__)
    assert dir(client) == sorted(client.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Painter'"):
        _ = client.Painter


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        (errors.InvalidArgumentError, ValueError),
        (errors.APIConnectionError, ConnectionError),
        (errors.APITimeoutError, TimeoutError),
        (errors.WaitTimeoutError, TimeoutError),
        (errors.OutputError, OSError),
    ],
)
def test_errors_are_also_what_python_calls_them(kind: type[Exception], base: type[Exception]) -> None:
    assert issubclass(kind, base)


def test_errors_survive_a_pickle() -> None:
    refused = RateLimitError("full", status=429, type="rate_limit_error", code="queue_full", retry_after_s=3.0)
    copy = pickle.loads(pickle.dumps(refused))
    assert (str(copy), copy.status, copy.code, copy.retry_after_s) == ("full", 429, "queue_full", 3.0)
    video = Video(
        id="video_1",
        model="tiny",
        status="failed",
        progress=9,
        created_at=1,
        prompt="a fox",
        seconds="2",
        size="256x256",
        seed=7,
        error=JobError(code="cancelled", message="Stopped."),
    )
    failed = pickle.loads(pickle.dumps(VideoFailedError(video)))
    assert str(failed) == "Video video_1 failed: Stopped. (cancelled)"
    assert failed.video == video


def test_a_status_without_its_own_class_is_an_api_status_error() -> None:
    assert errors.status_error(418) is APIStatusError
    assert errors.status_error(599) is errors.ServerError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3", 3.0),
        ("0.5", 0.5),
        ("-4", 0.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 40.0),
        ("Thu, 01 Jan 1970 00:00:10 GMT", 0.0),
        ("soon", None),
        ("inf", None),
        ("", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(text: str, seconds: float | None) -> None:
    assert retry_after_s(httpx.Headers({"retry-after": text}), now_s=60.0) == seconds


def test_back_off_doubles_to_its_limit_and_spreads() -> None:
    policy = RetryPolicy(max_retries=10)
    assert [policy.backoff_s(attempt, chance=0.0) for attempt in range(6)] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    assert policy.backoff_s(0, chance=1.0) == 0.375


@pytest.mark.parametrize(
    ("request_", "status", "again"),
    [
        (READ, 408, True),
        (READ, 500, True),
        (READ, 404, False),
        (READ, 409, False),
        (WRITE, 429, True),
        (WRITE, 503, True),
        (WRITE, 500, False),
        (WRITE, 504, False),
    ],
)
def test_which_refusals_are_tried_again(request_: Request, status: int, again: bool) -> None:
    reply = Reply(status, httpx.Headers())
    delay = RetryPolicy().after_reply(request_, reply, 0, chance=0.0, now_s=0.0)
    assert (delay is not None) is again
    assert RetryPolicy(max_retries=0).after_reply(request_, reply, 0, chance=0.0, now_s=0.0) is None


@pytest.mark.parametrize(
    ("failure", "read_again", "write_again"),
    [
        (httpx.ConnectError("refused"), True, True),
        (httpx.ReadTimeout("silent"), True, False),
        (httpx.RemoteProtocolError("cut"), True, False),
        (httpx.TooManyRedirects("round and round"), False, False),
    ],
)
def test_which_breaks_are_tried_again(failure: httpx.RequestError, read_again: bool, write_again: bool) -> None:
    policy = RetryPolicy()
    assert (policy.after_failure(READ, failure, 0, chance=0.0) is not None) is read_again
    assert (policy.after_failure(WRITE, failure, 0, chance=0.0) is not None) is write_again


def test_the_pace_of_polling_has_an_upper_limit() -> None:
    assert poll_after_s(httpx.Headers({"openai-poll-after-ms": "9999999"}), polls=0) == 60.0
