"""Files by address, from a real server: allowed hosts alone, never into a private network, bounded."""

import asyncio
import gzip
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from deployments.errors import ApiError, BodyTooLargeError, ConfigError, InvalidRequestError, UploadsFullError
from deployments.intake.fetching import Fetcher
from deployments.jobs.values import Limits
from deployments.settings.application import AppArgs, IngressArgs
from deployments.settings.inputs import FetchArgs
from deployments.settings.reading import parse_args
from tests.deployments.api.test_creating import PNG
from tests.deployments.rig import Rig, error_of

MAX_BYTES = 100_000
HERE = ("127.0.0.1/32",)  # what the operator of these tests allows
DEADLINE_S = 120.0


class Shop(ThreadingHTTPServer):
    """Serves a picture, and what nobody should swallow."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str]] = []  # path, host
        self.go = threading.Event()
        self.sent = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.server_port}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: Shop

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["host"]))
        place = urlsplit(self.path)
        with suppress(OSError):
            getattr(self, f"_{place.path.strip('/')}")(**{name: v[0] for name, v in parse_qs(place.query).items()})

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in {"content-length": str(len(body)), **named}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _fox(self, **_: str) -> None:
        self._answer(200, PNG, content_type="image/png")

    def _to(self, url: str = "?") -> None:
        self._answer(302, location=url)

    def _missing(self, **_: str) -> None:
        self._answer(404, b"no")

    def _packed(self) -> None:
        self._answer(200, gzip.compress(bytes(2**20)), content_encoding="gzip")

    def _announced(self) -> None:
        self._answer(200, b"x", content_length="9" * 15)

    def _endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(bytes(1024))
            self.server.sent += 1024

    def _dripping(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not self.server.go.wait(0.01):
            self.wfile.write(b"x-more: 1\r\n")

    def _held(self) -> None:
        self.server.go.wait(DEADLINE_S)
        self._fox()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def shop() -> Iterator[Shop]:
    with Shop() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))  # else its end takes half a second
        thread.start()
        yield server
        server.go.set()
        server.shutdown()
        thread.join()


def fetcher(*hosts: str, networks: tuple[str, ...] = HERE, **more: Any) -> Fetcher:
    return Fetcher(FetchArgs(hosts=hosts, networks=networks, **more), MAX_BYTES)


async def got(by: Fetcher, url: str) -> bytes:
    with await by.fetch(url, "input_reference", "a") as file:
        return file.read()


async def refused(by: Fetcher, url: str, kind: type[ApiError] = InvalidRequestError) -> str:
    with pytest.raises(kind) as caught:
        await got(by, url)
    assert caught.value.param == "input_reference"
    return caught.value.message


async def test_a_file_comes_from_a_host_that_is_allowed_also_by_a_redirect(shop: Shop) -> None:
    by = fetcher(f"127.0.0.1:{shop.server_port}")
    assert await got(by, shop.url("/fox?key=a%20b#part")) == PNG
    assert shop.asked == [("/fox?key=a%20b", f"127.0.0.1:{shop.server_port}")]
    assert await got(by, shop.url(f"/to?url={quote(shop.url('/fox'))}")) == PNG
    assert await got(by, shop.url("/to?url=/fox")) == PNG


async def test_nothing_is_fetched_until_the_operator_allows_a_host(shop: Shop) -> None:
    assert "in fetching.hosts" in await refused(fetcher(), shop.url("/fox"))
    said = await refused(fetcher("assets.example.com", "*.example.org"), shop.url("/fox"))
    assert f"127.0.0.1:{shop.server_port} is none of the hosts" in said
    assert "(assets.example.com, *.example.org)" in said
    assert "127.0.0.1" in await refused(fetcher("127.0.0.1"), shop.url("/fox"))  # another port
    assert shop.asked == []


@pytest.mark.parametrize(
    "url",
    ["https://", "ftp://127.0.0.1/a", "http://[", "http://user:key@127.0.0.1/a", "http://a b/", f"http://{'a' * 2000}"],
)
async def test_what_is_no_plain_address_is_refused(url: str) -> None:
    said = await refused(fetcher("*"), url)
    assert "must be like https://example.com/fox.png" in said
    assert "key" not in said


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0.0.0.0", "[::ffff:127.0.0.1]"])
async def test_a_private_address_is_never_connected_to(shop: Shop, host: str) -> None:
    assert "not a public one" in await refused(fetcher(f"*:{shop.server_port}", networks=()), shop.url("/fox", host))
    assert shop.asked == []


async def test_every_redirect_is_judged_again(shop: Shop) -> None:
    port = shop.server_port
    by = fetcher(f"*:{port}")
    for there, said in (
        (shop.url("/fox", "127.0.0.2"), "127.0.0.2, which is not a public one"),
        ("http://169.254.169.254/latest/meta-data", "169.254.169.254:80 is none of the hosts"),
        (shop.url("/fox", "169.254.169.254"), "169.254.169.254, which is not a public one"),
        ("file:///etc/passwd", "must be like https://example.com/fox.png"),
    ):
        assert said in await refused(by, shop.url(f"/to?url={quote(there)}"))
    assert "more than 3 times" in await refused(by, shop.url("/to"))
    assert {path.partition("?")[0] for path, _ in shop.asked} == {"/to"}


async def test_a_name_that_changes_its_mind_changes_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, real = [], socket.getaddrinfo

    def rebinding(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "rebind.example":
            return real(host, port, *args, **kwargs)
        asked.append(host)
        return real("127.0.0.1" if len(asked) == 1 else "10.0.0.1", port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    by = fetcher(f"rebind.example:{shop.server_port}")
    assert await got(by, shop.url("/fox", "rebind.example")) == PNG
    assert (len(asked), shop.asked) == (1, [("/fox", f"rebind.example:{shop.server_port}")])
    assert "10.0.0.1, which is not a public one" in await refused(by, shop.url("/fox", "rebind.example"))


async def test_bytes_have_a_limit_whatever_is_announced(shop: Shop) -> None:
    by = fetcher(f"*:{shop.server_port}")
    assert f"{'9' * 15} bytes and the limit is {MAX_BYTES}" in await refused(
        by, shop.url("/announced"), BodyTooLargeError
    )
    assert f"the limit is {MAX_BYTES}" in await refused(by, shop.url("/endless"), BodyTooLargeError)
    assert shop.sent < 16 * 2**20  # what sockets hold
    assert "as gzip; it must be sent as it is" in await refused(by, shop.url("/packed"))


async def test_a_server_that_gives_no_file_is_told_with_its_status_and_no_more_than_its_name(shop: Shop) -> None:
    by = fetcher(f"*:{shop.server_port}", "*:1")
    said = await refused(by, shop.url("/missing?signature=secret"))
    assert (f"127.0.0.1:{shop.server_port} answers 404" in said, "secret" in said) == (True, False)
    said = await refused(by, "http://127.0.0.1:1/a?signature=secret")
    assert ("cannot be fetched from http://127.0.0.1:1" in said, "secret" in said) == (True, False)


async def test_time_has_a_limit_and_few_come_at_once(shop: Shop) -> None:
    assert "within 0.2 s" in await refused(fetcher(f"*:{shop.server_port}", limit_s=0.2), shop.url("/dripping"))
    by = fetcher(f"*:{shop.server_port}", at_once=2)
    first = asyncio.create_task(got(by, shop.url("/held")))
    async with asyncio.timeout(DEADLINE_S):
        while len(shop.asked) < 2:
            await asyncio.sleep(0.01)
        with pytest.raises(UploadsFullError):
            await got(by, shop.url("/fox"))
        with await by.fetch(shop.url("/fox"), "input_reference", "another tenant") as file:
            assert file.read() == PNG
        shop.go.set()
        assert await first == PNG


async def test_a_job_begins_from_a_file_by_its_address(rig: Rig, shop: Shop) -> None:
    url = shop.url("/fox")
    assert "in fetching.hosts" in error_of(await _post(rig, url), 400).message
    rig.app = rig.served(AppArgs(fetching=FetchArgs(hosts=(f"*:{shop.server_port}",), networks=HERE)))
    by_form = await rig.client().post(
        "/v1/videos", files={"prompt": (None, "a fox"), "input_reference[image_url]": (None, url)}
    )
    for answer in (await _post(rig, url), by_form):
        assert answer.status_code == 200, answer.text
        source = rig.journal.get(answer.json()["id"]).request.source
        assert source is not None
        assert (source.width, b"".join(rig.store.read(source.key, 0, len(PNG)))) == (40, PNG)
    error = error_of(await _post(rig, shop.url("/packed")), 400)
    assert (error.param, error.code) == ("input_reference", "invalid_field")
    assert len(list(rig.folder.glob("artifacts/uploads/*/*"))) == 2


async def test_nothing_is_fetched_for_a_job_that_limits_forbid(rig: Rig, shop: Shop) -> None:
    fetching = FetchArgs(hosts=(f"*:{shop.server_port}",), networks=HERE)
    ingress = IngressArgs(max_queued_jobs=2)
    rig.app = rig.served(AppArgs(fetching=fetching, ingress=ingress, limits=Limits(max_priority=3, per_minute=1)))
    url = shop.url("/fox")
    assert error_of(await _post(rig, url, priority=4), 403).code == "priority_not_allowed"
    assert shop.asked == []
    keyed = {"idempotency-key": "once"}
    made = await _post(rig, url, headers=keyed)
    assert (made.status_code, len(shop.asked)) == (200, 1), made.text
    assert error_of(await _post(rig, url), 429).code == "rate_limited"
    assert len(shop.asked) == 1
    assert (await _post(rig, url, headers=keyed)).json()["id"] == made.json()["id"]  # it is there already
    rig.app = rig.served(AppArgs(fetching=fetching, ingress=ingress, limits=Limits(max_queued=1)))
    assert error_of(await _post(rig, url), 429).code == "tenant_queue_full"
    rig.app = rig.served(AppArgs(fetching=fetching, ingress=ingress, limits=Limits(max_bytes=1)))
    assert error_of(await _post(rig, url), 403).code == "tenant_storage_full"
    rig.app = rig.served(AppArgs(fetching=fetching, ingress=ingress))
    assert (await _post(rig, url)).status_code == 200
    assert error_of(await _post(rig, url), 429).code == "queue_full"
    assert len(shop.asked) == 3  # for those that were made, and the one that asked again


async def _post(rig: Rig, url: str, headers: dict[str, str] | None = None, **body: Any) -> Any:
    said = {"prompt": "a fox", "seed": 1, "input_reference": {"image_url": url}, **body}
    return await rig.client().post("/v1/videos", json=said, headers=headers)


@pytest.mark.parametrize(
    ("fetching", "said"),
    [
        ({"hosts": ["https://example.com"]}, "is no host; it must be like"),
        ({"hosts": ["example.com/a"]}, "is no host"),
        ({"hosts": ["exa*ple.com"]}, "is no host"),
        ({"networks": ["10.1.0.0/99"]}, "it must be like"),
    ],
)
def test_a_list_that_names_nothing_is_refused(fetching: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_args({"fetching": fetching})
