"""Every verb of both clients against a real server on localhost: results, errors, and what is never done twice."""

from typing import Any

import certifi
import pydantic
import pytest

from client import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    Health,
    InvalidArgumentError,
    MagicVideoError,
    NotFoundError,
    RateLimitError,
    ServerError,
    UnexpectedResponseError,
    Video,
)
from cluster.server_process import free_port
from tests.client.rig import MakeClient, Timeline
from tests.client.wire import Fault, Wire


def test_create_sends_what_was_given_and_nothing_else(api: Any, wire: Wire) -> None:
    video = api.videos.create(
        "a fox", seed=7, size="256x256", seconds=2, steps=10, guidance=3.5, negative_prompt="rain"
    )
    assert wire.said == {
        "prompt": "a fox",
        "seed": 7,
        "size": "256x256",
        "seconds": "2",
        "steps": 10,
        "guidance": 3.5,
        "negative_prompt": "rain",
    }
    assert (video.status, video.seed, [stage.name for stage in video.stages]) == (
        "queued",
        7,
        ["t2i", "i2v", "v2v", "vfi"],
    )
    api.videos.create("a fox")
    assert wire.said == {"prompt": "a fox"}


def test_results_are_frozen(api: Any) -> None:
    video: Video = api.videos.create("a fox")
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        video.progress = 50
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        video.stages[0].progress = 50


def test_every_create_has_its_own_idempotency_key(api: Any, wire: Wire) -> None:
    ids = {api.videos.create("a fox").id for _ in range(3)}
    keys = {request.headers["idempotency-key"] for request in wire.seen}
    assert len(ids) == len(keys) == 3
    assert (
        api.videos.create("a fox", idempotency_key="mine").id == api.videos.create("a fox", idempotency_key="mine").id
    )


def test_retrieve_and_unknown_id(api: Any, wire: Wire) -> None:
    known = wire.finished()
    assert api.videos.retrieve(known).status == "completed"
    with pytest.raises(NotFoundError, match=r"'a b\?c#d%20'") as caught:
        api.videos.retrieve("a b?c#d%20")
    assert (caught.value.status, caught.value.code) == (404, "video_not_found")


def test_list_pages_and_iterate_walks_all_of_them(api: Any, wire: Wire) -> None:
    ids = [wire.add(f"a fox, {number}") for number in range(7)]
    page = api.videos.list(limit=3)
    assert [video.id for video in page.data] == ids[::-1][:3]
    assert page.has_more
    assert page.last_id == ids[4]
    assert [video.id for video in api.videos.list(after=page.last_id, limit=3).data] == ids[::-1][3:6]
    wire.seen.clear()
    assert [video.id for video in api.videos.iterate(page_size=3, order="asc")] == ids
    assert wire.count("GET /v1/videos$") == 3


def test_iterate_over_nothing(api: Any) -> None:
    assert list(api.videos.iterate()) == []


def test_health(api: Any, wire: Wire) -> None:
    assert api.health().stages == {"t2i": 1, "i2v": 1, "v2v": 1, "vfi": 1}
    wire.health = Health(status="degraded", model="tiny", version="0.1.0", problems=["v2v has no replica"])
    assert api.health().problems == ["v2v has no replica"]
    wire.faults = [Fault("/healthz", status=503, body=b"<html>no upstream</html>")]
    with pytest.raises(ServerError, match="no upstream"):
        api.health()
    assert wire.count("/healthz") == 3


def test_the_key_is_sent_and_a_wrong_one_is_named(make: MakeClient, wire: Wire) -> None:
    key = wire.lock()
    assert make(wire.url, api_key=key).videos.create("a fox").status == "queued"
    with pytest.raises(AuthenticationError, match="The API key is not valid"):
        make(wire.url, api_key="wrong").videos.create("a fox")
    with pytest.raises(AuthenticationError, match="This server needs an API key"):
        make(wire.url).videos.create("a fox")


def test_the_environment_gives_address_and_key(make: MakeClient, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGICVIDEO_URL", wire.url + "/")
    monkeypatch.setenv("MAGICVIDEO_API_KEY", wire.lock())
    assert make(None).videos.create("a fox").status == "queued"


def test_a_refused_request_names_the_field(api: Any, wire: Wire) -> None:
    with pytest.raises(BadRequestError, match="prompt is empty") as caught:
        api.videos.create("  ")
    assert (caught.value.status, caught.value.param, caught.value.type) == (400, "prompt", "invalid_request_error")
    assert wire.jobs == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequestError),
        (403, AuthenticationError),
        (404, NotFoundError),
        (409, ConflictError),
        (418, APIStatusError),
        (422, BadRequestError),
        (429, RateLimitError),
        (500, ServerError),
        (504, ServerError),
    ],
)
def test_every_status_has_its_error(make: MakeClient, wire: Wire, status: int, kind: type[APIStatusError]) -> None:
    wire.faults = [Fault("GET", status=status, headers={"retry-after": "9"})]
    with pytest.raises(kind, match="refused on purpose") as caught:
        make(wire.url, max_retries=0).videos.retrieve("video_0001")
    assert type(caught.value) is kind
    assert caught.value.retry_after_s == 9


def test_an_answer_outside_the_contract_is_said_so(make: MakeClient, wire: Wire) -> None:
    api = make(wire.url, max_retries=0)
    wire.faults = [
        Fault("GET", status=502, body=b"<h1>Bad  Gateway</h1>"),
        Fault("GET", status=200, body=b"<h1>Welcome</h1>"),
        Fault("GET", status=307, headers={"location": "https://elsewhere/v1/videos"}),
        Fault("GET", status=200, body=b'{"object":"list","data":[],"has_more":true}'),
    ]
    with pytest.raises(ServerError, match="answered 502 without an error of its contract: <h1>Bad Gateway</h1>"):
        api.videos.retrieve("x")
    with pytest.raises(UnexpectedResponseError, match=r"not a Video .*is that a MagicVideo server"):
        api.videos.retrieve("x")
    with pytest.raises(UnexpectedResponseError, match="redirects to https://elsewhere"):
        api.videos.list()
    with pytest.raises(UnexpectedResponseError, match="more videos but names none"):
        list(api.videos.iterate())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": 5}, "prompt: Input should be a valid string"),
        ({"prompt": "a\ud800"}, "prompt holds signs that are not UTF-8"),
        ({"prompt": "a fox", "seed": "many"}, "seed: .*integer"),
        ({"prompt": "a fox", "guidance": float("nan")}, "guidance is nan"),
        ({"prompt": "a fox", "idempotency_key": "schlüssel"}, "printable ASCII"),
    ],
)
def test_what_cannot_be_sent_is_refused_here(api: Any, wire: Wire, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        api.videos.create(**arguments)
    assert wire.seen == []


def test_bad_ids_limits_and_orders_are_refused_here(api: Any, wire: Wire) -> None:
    with pytest.raises(InvalidArgumentError, match=r"'\.\.' is not the id"):
        api.videos.retrieve("..")
    with pytest.raises(InvalidArgumentError, match="the id holds signs that are not UTF-8"):
        api.videos.retrieve("video_\udcff")
    with pytest.raises(InvalidArgumentError, match="limit is 101; it must be between 1 and 100"):
        api.videos.list(limit=101)
    with pytest.raises(InvalidArgumentError, match='order is \'up\'; it must be "asc" or "desc"'):
        api.videos.list(order="up")
    with pytest.raises(InvalidArgumentError, match="timeout_s is -1"):
        api.videos.wait("video_0001", timeout_s=-1)
    assert wire.seen == []


def test_no_server_is_one_clear_sentence(make: MakeClient, timeline: Timeline) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(APIConnectionError, match=f"No server answers at {url} .*`make serve`.*--url") as caught:
        make(url).videos.create("a fox")
    assert caught.value.url == url
    assert isinstance(caught.value, ConnectionError)
    assert len(timeline.pauses) == 2


def test_a_server_that_starts_late_is_found_by_the_retry(make: MakeClient) -> None:
    late = Wire(free_port())
    try:
        api = make(late.url, sleep=lambda seconds: late.start())
        assert api.videos.create("a fox").status == "queued"
        assert len(late.jobs) == 1
    finally:
        late.stop()


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_reading_is_retried(api: Any, wire: Wire, timeline: Timeline, status: int) -> None:
    known = wire.finished()
    wire.faults = [Fault("GET", status=status)] * 2
    assert api.videos.retrieve(known).status == "completed"
    assert [0.375 <= timeline.pauses[0] <= 0.5, 0.75 <= timeline.pauses[1] <= 1.0] == [True, True]


def test_retries_end(api: Any, wire: Wire, timeline: Timeline) -> None:
    wire.faults = [Fault("GET", status=500)] * 9
    with pytest.raises(ServerError):
        api.videos.retrieve("video_0001")
    assert wire.count("GET") == 3
    assert len(timeline.pauses) == 2


def test_retry_after_is_obeyed_and_the_key_stays(api: Any, wire: Wire, timeline: Timeline) -> None:
    wire.faults = [Fault("POST", status=429, headers={"retry-after": "3"}), Fault("POST", status=503)]
    api.videos.create("a fox")
    assert timeline.pauses[0] == 3.0
    assert len({request.headers["idempotency-key"] for request in wire.seen}) == 1
    assert wire.count("POST") == 3
    assert len(wire.jobs) == 1


def test_a_long_retry_after_is_the_callers_to_decide(api: Any, wire: Wire, timeline: Timeline) -> None:
    wire.faults = [Fault("POST", status=429, headers={"retry-after": "600"})]
    with pytest.raises(RateLimitError) as caught:
        api.videos.create("a fox")
    assert caught.value.retry_after_s == 600
    assert timeline.pauses == []


@pytest.mark.parametrize("status", [400, 401, 409, 413, 422])
def test_a_refusal_of_create_is_final(api: Any, wire: Wire, status: int) -> None:
    wire.faults = [Fault("POST", status=status)]
    with pytest.raises(APIStatusError):
        api.videos.create("a fox")
    assert wire.count("POST") == 1


def test_a_lost_answer_to_create_is_asked_for_again_under_the_same_key(api: Any, wire: Wire) -> None:
    wire.faults = [Fault("POST", cut_after=20), Fault("POST", cut_after=20)]
    assert api.videos.create("a fox").id == wire.last.id
    assert wire.count("POST") == 3
    assert len({request.headers["idempotency-key"] for request in wire.seen}) == 1
    assert len(wire.jobs) == 1


def test_when_no_answer_to_create_arrives_the_error_names_the_key(api: Any, wire: Wire) -> None:
    wire.faults = [Fault("POST", cut_after=20)] * 3
    with pytest.raises(APIConnectionError, match=r"may have taken the job.*idempotency_key='[0-9a-f]{32}'") as caught:
        api.videos.create("a fox")
    assert wire.count("POST") == 3
    assert len(wire.jobs) == 1
    key = str(caught.value).split("idempotency_key='")[1].split("'")[0]
    assert api.videos.create("a fox", idempotency_key=key).id == wire.last.id
    assert len(wire.jobs) == 1


def test_cancel_stops_the_job_and_keeps_it(api: Any, wire: Wire) -> None:
    running = wire.add("an owl")
    for _ in range(2):  # twice is no error
        video = api.videos.cancel(running)
        assert (video.status, video.error.code) == ("failed", "cancelled")
    assert api.videos.retrieve(running).error.code == "cancelled"
    with pytest.raises(ConflictError):
        api.videos.cancel(wire.finished())
    with pytest.raises(NotFoundError, match="nobody"):
        api.videos.cancel("nobody")


def test_delete_removes_the_job(api: Any, wire: Wire) -> None:
    known = wire.finished()
    gone = api.videos.delete(known)
    assert (gone.id, gone.object, gone.deleted) == (known, "video.deleted", True)
    with pytest.raises(NotFoundError, match=known):
        api.videos.retrieve(known)
    with pytest.raises(NotFoundError, match=known):
        api.videos.delete(known)


@pytest.mark.parametrize("fault", [Fault("DELETE", cut_after=5), Fault("DELETE", status=500)])
def test_delete_is_not_repeated_where_it_may_have_worked(api: Any, wire: Wire, fault: Fault) -> None:
    known = wire.finished()
    wire.faults = [fault]
    with pytest.raises((APIConnectionError, ServerError)):
        api.videos.delete(known)
    assert wire.count("DELETE") == 1


def test_a_lost_answer_to_delete_says_where_to_look(api: Any, wire: Wire) -> None:
    known = wire.finished()
    wire.faults = [Fault("DELETE", cut_after=5)]
    with pytest.raises(APIConnectionError, match="may have done it: look with status or list"):
        api.videos.delete(known)
    assert wire.jobs == []


def test_delete_is_repeated_when_the_server_asks_for_it(api: Any, wire: Wire, timeline: Timeline) -> None:
    known = wire.finished()
    wire.faults = [Fault("DELETE", status=503, headers={"retry-after": "2"})]
    assert api.videos.delete(known).deleted
    assert timeline.pauses == [2.0]


def test_a_lost_answer_to_a_read_is_asked_for_again(api: Any, wire: Wire) -> None:
    known = wire.finished()
    wire.faults = [Fault("GET", cut_after=20)]
    assert api.videos.retrieve(known).id == known
    assert wire.count("GET") == 2


def test_a_silent_server_times_out(make: MakeClient, wire: Wire) -> None:
    wire.faults = [Fault("GET"), Fault("POST")]
    api = make(wire.url, timeout_s=0.2, max_retries=0)
    with pytest.raises(APITimeoutError, match=r"GET .*/v1/videos/x timed out") as caught:
        api.videos.retrieve("x")
    assert isinstance(caught.value, TimeoutError)
    with pytest.raises(APITimeoutError, match="may have taken the job"):
        api.videos.create("a fox")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("127.0.0.1:8000", "is not a (server's address|URL)"),
        ("ftp://host", "must look like"),
        ("http://", "must look like"),
        ("http://user:secret@host", "a key goes into api_key"),
        ("http://host:99999", "is not a"),
    ],
)
def test_bad_addresses(make: MakeClient, url: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        make(url)


def test_an_address_may_end_in_v1_as_other_clients_want_it(make: MakeClient) -> None:
    for url in ("http://host:8000", "http://host:8000/", "http://host:8000/v1", "http://host:8000/v1/"):
        assert make(url).base_url == "http://host:8000"
    assert make("https://host/films/v1").base_url == "https://host/films"


def test_a_server_on_this_machine_is_asked_without_loading_certificates(
    make: MakeClient, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(certifi, "where", lambda: "/missing")
    assert make(wire.url).health().status == "ok"
    with pytest.raises(InvalidArgumentError, match="cannot be used"):
        make("https://server.example")


def test_bad_settings(make: MakeClient) -> None:
    with pytest.raises(InvalidArgumentError, match="timeout_s is 0"):
        make("http://host", timeout_s=0)
    with pytest.raises(InvalidArgumentError, match="max_retries is -1"):
        make("http://host", max_retries=-1)
    with pytest.raises(InvalidArgumentError, match="API key holds spaces") as caught:
        make("http://host", api_key="secret\n")
    assert "secret" not in str(caught.value)
    assert isinstance(caught.value, MagicVideoError)
