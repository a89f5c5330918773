"""Limits of bodies: bytes, time, nesting, keys, how many at once; and what a server's memory does under uploads."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from cluster.server_process import free_port
from deployments.api.bodies import _once
from deployments.errors import InvalidRequestError
from deployments.settings.application import AppArgs, IngressArgs
from tests.deployments.api.test_creating import PNG
from tests.deployments.rig import Rig, error_of

BOUNDARY = b'--b\r\ncontent-disposition: form-data; name="input_reference"; filename="a.png"\r\n\r\n'
FORM = {"content-type": "multipart/form-data; boundary=b"}
JSON = {"content-type": "application/json"}
DEADLINE_S = 120.0


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path, AppArgs(ingress=IngressArgs(max_uploads=4)))
    yield made
    await made.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a":0' + ',"a":0' * 1_000_000 + "}", "more than 4096 keys and values"),
        (json.dumps({"prompt": "a fox", "input_video": {"id": ["x"] * 5000}}), "more than 4096 keys and values"),
        ('{"prompt":' + "[" * 3000 + "]" * 3000 + "}", "nested too deep"),
        ('{"prompt":' + "[" * 900 + "]" * 900 + "}", "nested deeper than 8"),
        ('{"seed":' + '{"a":' * 9 + "1" + "}" * 10, "nested deeper than 8"),
        ('{"seed":' + "9" * 5000 + "}", "not JSON"),
    ],
)
async def test_json_is_bounded_before_it_costs_anything(rig: Rig, text: str, said: str) -> None:
    for path in ("", "/video_x/remix"):
        if len(text) < 1_000_000 or not path:
            error = error_of(await rig.http.post(f"/v1/videos{path}", content=text, headers=JSON), 400)
            assert said in error.message


async def test_a_study_is_bounded_too(rig: Rig) -> None:
    text = json.dumps({str(number): 0 for number in range(250_001)})
    error = error_of(await rig.http.post("/v1/studies", content=text, headers=JSON), 400)
    assert "more than 250000 keys and values" in error.message


async def test_the_longest_prompts_are_no_many_keys(rig: Rig) -> None:
    body = {"prompt": "a fox " + "{[,," * 248, "negative_prompt": ",{[," * 250}
    assert (await rig.http.post("/v1/videos", json=body)).status_code == 200


async def test_a_form_of_many_fields_is_refused(rig: Rig) -> None:
    many = "&".join(f"a{number}=1" for number in range(1000))
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert "more than 64" in error_of(await rig.http.post("/v1/videos", content=many, headers=headers), 400).message
    fields = {f"a{number}": (None, "1") for number in range(1000)}
    assert "is 64" in error_of(await rig.http.post("/v1/videos", files=fields), 400).message


async def test_what_is_announced_as_too_large_is_refused_unread(rig: Rig) -> None:
    read: list[bytes] = []

    async def never() -> AsyncIterator[bytes]:
        read.append(b"{}")
        yield read[0]

    for path, kind in (("", JSON), ("", FORM), ("/video_x/remix", JSON), ("/video_x/cancel", JSON)):
        headers = {**kind, "content-length": "999999999999"}
        error = error_of(await rig.http.post(f"/v1/videos{path}", content=never(), headers=headers), 413)
        assert "999999999999" in error.message
    assert read == []


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_a_body_that_nobody_wants_is_dropped_or_refused_at_a_bound(rig: Rig, method: str) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1024
            yield bytes(1024)

    video = await rig.create()
    path = f"/v1/videos/{video.id}{'/cancel' if method == 'POST' else ''}"
    assert "65536" in error_of(await rig.http.request(method, path, content=endless()), 413).message
    assert sent <= 70_000
    assert (await rig.http.request(method, path, content=b"{}")).status_code == 200


async def test_a_body_that_does_not_come_is_given_up(rig: Rig) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield BOUNDARY
        await asyncio.Event().wait()

    rig.app = rig.served(AppArgs(ingress=IngressArgs(body_limit_s=0.2)))
    for kind in (JSON, FORM):
        error = error_of(await rig.client().post("/v1/videos", content=slow(), headers=kind), 408)
        assert "0.2 s" in error.message


async def test_uploads_at_once_are_bounded_of_a_tenant_and_of_all(tmp_path: Path) -> None:
    rig = Rig(tmp_path, AppArgs(ingress=IngressArgs(max_uploads=4, keys_fresh_s=0)))
    tenants = [rig.tenant(name) for name in ("a", "a", "b", "b")]
    go, begun = asyncio.Event(), asyncio.Semaphore(0)

    async def held() -> AsyncIterator[bytes]:
        yield BOUNDARY
        begun.release()
        await go.wait()
        yield PNG + b'\r\n--b\r\ncontent-disposition: form-data; name="prompt"\r\n\r\na fox\r\n--b--\r\n'

    async def begin(client: httpx.AsyncClient) -> "asyncio.Task[httpx.Response]":
        task = asyncio.create_task(client.post("/v1/videos", content=held(), headers=FORM))
        await begun.acquire()
        return task

    async with asyncio.timeout(DEADLINE_S):
        under_way = [await begin(client) for client in tenants[:2]]
        answer = await tenants[0].post("/v1/videos", content=held(), headers=FORM)
        error = error_of(answer, 503)
        assert (error.code, "2 large bodies" in error.message, answer.headers["retry-after"]) == (
            "uploads_full",
            True,
            "5",
        )
        under_way += [await begin(client) for client in tenants[2:]]
        large = json.dumps({"prompt": "a", "input_reference": {"image_url": "x" * 1_100_000}})
        error_of(await rig.tenant("c").post("/v1/videos", content=large, headers=JSON), 503)
        assert (await rig.tenant("c").post("/v1/videos", json={"prompt": "a fox"})).status_code == 200
        go.set()
        assert {answer.status_code for answer in await asyncio.gather(*under_way)} == {200}
        assert (await tenants[0].post("/v1/videos", content=held(), headers=FORM)).status_code == 200
    await rig.close()


SERVER = """
import sys, uvicorn
from pathlib import Path
from deployments.settings.application import AppArgs
from tests.deployments.rig import Rig
uvicorn.run(Rig(Path(sys.argv[1]), AppArgs()).app, port=int(sys.argv[2]), log_level="warning", lifespan="off")
"""


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[int, str]]:
    """A server in a process of its own: its number and address."""
    port = free_port()
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    running = subprocess.Popen([sys.executable, "-c", SERVER, str(tmp_path), str(port)], env=env)
    url, end = f"http://127.0.0.1:{port}", time.monotonic() + DEADLINE_S
    while True:
        try:
            httpx.get(f"{url}/healthz")
            break
        except httpx.HTTPError:
            assert time.monotonic() < end, "the server did not start"
            time.sleep(0.05)
    yield running.pid, url
    running.kill()
    running.wait()


def memory_mib(pid: int, name: str) -> float:
    """`VmRSS` now, or `VmHWM`, the most there was."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


@pytest.mark.slow
def test_four_large_forms_at_once_do_not_fill_the_memory(process: tuple[int, str], tmp_path: Path) -> None:
    pid, url = process
    before = memory_mib(pid, "VmRSS")
    file = tmp_path / "large.png"
    file.write_bytes(PNG + bytes(95_000_000))

    def post(_: int) -> int:
        with file.open("rb") as opened:
            file_part, prompt = {"input_reference": ("a.png", opened)}, {"prompt": "a fox"}
            return httpx.post(f"{url}/v1/videos", files=file_part, data=prompt, timeout=120.0).status_code

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(post, range(4))) == [200] * 4
    assert memory_mib(pid, "VmHWM") - before < 280
    assert list(tmp_path.glob("tmp*")) == []


@pytest.mark.parametrize("path", ["/v1/videos", "/v1/videos/edits", "/v1/videos/extensions"])
@pytest.mark.parametrize("sign", ["\ud800", "\0"])
async def test_what_no_database_keeps_is_refused_wherever_it_stands(rig: Rig, path: str, sign: str) -> None:
    field = "input_video" if path == "/v1/videos" else "video"
    said = {"\ud800": "half of a surrogate pair", "\0": "the sign NUL"}[sign]
    for value in (sign, {"id": sign}, {"file_id": sign}, {"video_url": sign}):
        body = {"prompt": "a fox", field: value, **({"enter": "v2v"} if field == "input_video" else {})}
        error = error_of(await rig.http.post(path, content=json.dumps(body), headers=JSON), 400)
        assert (error.param, said in error.message) == (field, True)
    for wrong in ('"%s": 1', '"prompt": "a fox", "%s": 1, "%s": 2', '"prompt": "a fox", "%s": {"%s": 1}'):
        written = wrong.replace("%s", json.dumps(sign)[1:-1])
        error_of(await rig.http.post(path, content=f"{{{written}}}", headers=JSON), 400)


@pytest.mark.parametrize("charset", ["utf-7", "unicode_escape", "punycode", "undefined", "\0"])
async def test_a_forms_charset_makes_no_text_that_cannot_be_kept(rig: Rig, charset: str) -> None:
    headers = {"content-type": f"multipart/form-data; boundary=b; charset={charset}"}
    for field, path in ((b"file", "/v1/files"), (b"input_reference", "/v1/videos")):
        name = rb"\ud800+2AA-.png"
        part = b'--b\r\ncontent-disposition: form-data; name="%s"; filename="%s"\r\n\r\n%s\r\n--b--\r\n'
        error = error_of(await rig.http.post(path, content=part % (field, name, PNG), headers=headers), 400)
        assert error.code in ("invalid_form", "invalid_field")


async def test_a_form_holds_no_nul(rig: Rig) -> None:
    part = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a\0.png"\r\n\r\n%s\r\n--b--\r\n'
    assert "the sign NUL" in error_of(await rig.http.post("/v1/files", content=part % PNG, headers=FORM), 400).message
    fields = {"prompt": "a fox", "negative_prompt": "a\0b"}
    assert "the sign NUL" in error_of(await rig.http.post("/v1/videos", data=fields), 400).message


@pytest.mark.parametrize(
    "path", ["/v1/videos/%00", "/v1/files/a%00/content", "/v1/files?purpose=%00", "/v1/videos?after=%00"]
)
async def test_an_address_with_a_nul_is_refused(rig: Rig, path: str) -> None:
    assert "the sign NUL" in error_of(await rig.http.get(path), 400).message
    head = await rig.http.head(path)
    assert (head.status_code, head.content) == (400, b"")


def test_a_repeated_key_is_found_without_comparing_every_two() -> None:
    """Of long keys that begin alike each comparison costs; a body of them held the server for seconds."""

    class Counted(str):
        compared = 0

        def __eq__(self, other: object) -> bool:
            Counted.compared += 1
            return str.__eq__(self, str(other))

        __hash__ = str.__hash__

    keys = [Counted(number) for number in (*range(2000), 1999)]
    with pytest.raises(InvalidRequestError, match="Field '1999' is given twice"):
        _once([(key, 1) for key in keys])
    assert Counted.compared < 10 * len(keys)
