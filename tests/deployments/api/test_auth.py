"""Keys and tenants over HTTP: who may ask, and that tenants see nothing of each other."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from client.schema import VideoList
from deployments.api.gate import COOKIE, check_exposure, is_loopback
from deployments.errors import ConfigError, StartError
from deployments.jobs.values import Limits
from deployments.journal.database import Database
from deployments.settings.application import AppArgs, IngressArgs
from deployments.tenants.keys import KeyBook
from tests.deployments.rig import BODY, CONTENT, Rig, create, error_of

ARGS = AppArgs(ingress=IngressArgs(keys_fresh_s=0), limits=Limits(max_queued=50, max_priority=10))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path, ARGS)
    yield made
    await made.close()


def operations(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Every method and path under /v1."""
    for route in app.routes:
        if isinstance(route, APIRoute) and route.path.startswith("/v1"):
            for method in sorted(route.methods or ()):
                yield method, route.path_format


async def test_without_keys_this_machine_is_served_and_no_other(rig: Rig) -> None:
    await create(rig.client())
    await create(rig.client("::1"))
    for stranger in (
        rig.client("10.0.0.7"),
        rig.client(x_forwarded_for="1.2.3.4"),
        rig.client(forwarded="for=1.2.3.4"),
    ):
        error = error_of(await stranger.post("/v1/videos", json=BODY), 401)
        assert error.code == "invalid_api_key"
        assert "python -m deployments keys create --tenant" in error.message
        assert (await stranger.get("/healthz")).status_code == 200
    assert rig.journal.counts() == {"queued": 2}


@pytest.mark.parametrize(
    "header",
    [
        *("Via", "Forwarded", "CDN-Loop", "CF-Connecting-IP", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP"),
        *("True-Client-IP", "Fastly-Client-IP", "Fly-Client-IP", "X-Cluster-Client-IP", "X-Envoy-External-Address"),
        *("X-Original-URL", "X-Amzn-Trace-Id", "X-Azure-ClientIP", "CloudFront-Viewer-Address", "Client-IP"),
    ],
)
async def test_without_keys_whatever_a_proxy_sets_refuses(rig: Rig, header: str) -> None:
    error_of(await rig.client().get("/v1/videos", headers={header: "x"}), 401)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "10.0.0.7", "a@localhost"]
)
async def test_without_keys_a_name_that_was_pointed_here_is_refused(rig: Rig, host: str) -> None:
    done = await rig.finished()
    rebound = rig.client(host=host, origin=f"http://{host}")
    for method, path in (
        ("GET", "/v1/videos"),
        ("GET", f"/v1/videos/{done}/content"),
        ("DELETE", f"/v1/videos/{done}"),
    ):
        assert "localhost" in error_of(await rebound.request(method, path), 401).message
    assert rig.journal.get(done).state == "succeeded"


async def test_without_keys_a_second_name_is_refused(rig: Rig) -> None:
    """Of two a proxy may have gone by the other."""
    for names in (("localhost", "evil.example"), ("evil.example", "localhost")):
        error_of(await rig.client().get("/v1/videos", headers=[("host", name) for name in names]), 401)


@pytest.mark.parametrize("header", ["X-Request-Id", "User-Agent", "X-Stainless-OS", "X-B3-TraceId", "Traceparent"])
async def test_without_keys_what_clients_send_refuses_nothing(rig: Rig, header: str) -> None:
    assert (await rig.client().get("/v1/videos", headers={header: "x"})).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8000", "[::1]:8000", "LOCALHOST"])
async def test_without_keys_this_machines_own_names_are_served(rig: Rig, host: str) -> None:
    assert (await rig.client(host=host).get("/v1/videos")).status_code == 200


NAMES = {
    "video_id": "video_a",
    "file_id": "file_a",
    "model": "tiny",
    "study_id": "study_a",
    "trial": "t1_a",
    "side": "left",
    "link_id": "a",
    "name": "bars",
}


async def test_with_a_key_every_route_needs_one(rig: Rig) -> None:
    rig.keys.create("studio")
    asked = list(operations(rig.app))
    assert ("POST", "/v1/videos") in asked
    asked.append(("GET", "/v1/nothing"))
    for method, path in asked:
        if (method, path) == ("DELETE", "/v1/session"):
            continue
        for client in (
            rig.client(),
            rig.client(authorization="Bearer mv_wrong"),
            rig.client(authorization="Basic eDp5"),
        ):
            answer = await client.request(method, path.format(**NAMES))
            if method == "HEAD":
                assert answer.status_code == 401
                continue
            error = error_of(answer, 401)
            code = "invalid_link" if path.startswith("/v1/rate") else "invalid_api_key"
            assert (error.type, error.code) == ("invalid_request_error", code)
            assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_page_health_and_description_need_no_key(rig: Rig) -> None:
    rig.keys.create("studio")
    stranger = rig.client("10.0.0.7")
    for path in ("/healthz", "/openapi.json", "/docs"):
        assert (await stranger.get(path)).status_code == 200
    for path in ("/", "/assets/page.js"):
        assert (await stranger.get(path)).status_code in (200, 404)
    for path in (
        "/v1/videos/",
        "/healthz/../v1/videos",
        "//v1/videos",
        "/assets/../v1/videos",
        "/assets%2f..%2fv1/videos",
    ):
        assert (await stranger.get(path)).status_code in (401, 404), path


async def test_every_answer_tells_browsers_to_load_frame_and_guess_nothing(rig: Rig) -> None:
    async def broken() -> None:
        raise RuntimeError

    rig.app.add_api_route("/broken", broken)
    done = await rig.finished()
    asked = [("GET", path) for path in ("/", "/docs", "/assets/main.js", "/healthz", "/openapi.json", "/metrics")]
    asked += [("GET", f"/v1/videos/{done}/content"), ("GET", "/nothing"), ("PUT", "/healthz"), ("GET", "/broken")]
    answers = [await rig.client().request(method, path) for method, path in asked]
    answers.append(await rig.client("10.0.0.7").get("/v1/videos"))
    assert {answer.status_code for answer in answers} == {200, 401, 404, 405, 500}
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff", answer.url
        assert answer.headers["referrer-policy"] == "no-referrer", answer.url
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy, answer.url
        assert "frame-ancestors 'none'" in policy, answer.url


def test_the_description_says_which_routes_want_a_key(rig: Rig) -> None:
    described = rig.app.openapi()
    assert described["components"]["securitySchemes"]["session"]["name"] == COOKIE
    assert described["paths"]["/healthz"]["get"]["security"] == []
    assert described["security"] == [{"key": []}, {"session": []}]
    assert "security" not in described["paths"]["/v1/videos"]["post"]


async def test_a_key_works_until_it_is_revoked(rig: Rig) -> None:
    key, text = rig.keys.create("studio")
    client = rig.client("10.0.0.7", authorization=f"bearer {text}")
    video = await create(client)
    assert rig.journal.get(video.id).tenant == "studio"
    rig.keys.create("other")
    rig.keys.revoke(key.id)
    error = error_of(await client.get(f"/v1/videos/{video.id}"), 401)
    assert "revoked" in error.message
    assert text not in error.message


async def test_when_the_last_key_is_revoked_the_server_is_closed_until_it_is_opened(rig: Rig) -> None:
    key, text = rig.keys.create("studio")
    rig.keys.revoke(key.id)
    stranger = rig.client("10.0.0.7", authorization=f"Bearer {text}")
    for client in (stranger, rig.client(authorization=f"Bearer {text}"), rig.client()):
        error_of(await client.get("/v1/videos"), 401)
    rig.keys.open()
    assert (await rig.client().get("/v1/videos")).status_code == 200
    error_of(await stranger.get("/v1/videos"), 401)


async def test_another_tenants_video_does_not_exist(rig: Rig) -> None:
    mine, theirs = rig.tenant("a"), rig.tenant("b")
    running, done = await create(mine, priority=5), await create(mine)
    assert rig.leases.claim("x", 60.0) is not None
    rig.finish()
    asked = [(method, path) for method, path in operations(rig.app) if "{video_id}" in path]
    assert len(asked) >= 4
    for video in (running, done):
        for method, path in asked:
            answer = await theirs.request(method, path.format(video_id=video.id), json={} if method == "POST" else None)
            nobody = await theirs.request(method, path.format(video_id="nobody"), json={} if method == "POST" else None)
            assert (answer.status_code, nobody.status_code) == (404, 404), (method, path)
            assert answer.text.replace(video.id, "nobody") == nobody.text
    assert rig.journal.get(running.id).cancel_requested is False
    assert (await mine.get(f"/v1/videos/{done.id}/content")).content == CONTENT


async def test_pages_show_a_tenants_own_videos(rig: Rig) -> None:
    mine, theirs = rig.tenant("a"), rig.tenant("b")
    ids = [(await create(mine)).id for _ in range(3)]
    other = await create(theirs)
    seen = VideoList.model_validate((await theirs.get("/v1/videos")).json())
    assert ([video.id for video in seen.data], seen.has_more) == ([other.id], False)
    page = VideoList.model_validate((await mine.get("/v1/videos", params={"limit": 2, "order": "asc"})).json())
    assert ([video.id for video in page.data], page.has_more) == (ids[:2], True)
    error_of(await theirs.get("/v1/videos", params={"after": ids[0]}), 404)


async def test_two_keys_of_a_tenant_see_the_same(rig: Rig) -> None:
    video = await create(rig.tenant("a"))
    assert (await rig.tenant("a").get(f"/v1/videos/{video.id}")).status_code == 200


async def test_many_posts_with_one_idempotency_key_make_one_video_for_each_tenant(rig: Rig) -> None:
    clients = [rig.tenant("a", idempotency_key="k"), rig.tenant("b", idempotency_key="k")]
    answers = await asyncio.gather(*(client.post("/v1/videos", json=BODY) for client in clients for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}
    ids = [answer.json()["id"] for answer in answers]
    assert len(set(ids[:10])) == len(set(ids[10:])) == 1
    assert ids[0] != ids[10]
    error_of(await clients[0].post("/v1/videos", json={"prompt": "a cat"}), 409)
    assert rig.journal.counts() == {"queued": 2}


async def test_a_browsers_session_reads_and_changes_from_its_own_page_alone(rig: Rig) -> None:
    text = rig.keys.create("studio")[1]
    browser = rig.client("10.0.0.7")
    begun = await browser.post("/v1/session", headers={"authorization": f"Bearer {text}"})
    assert begun.status_code == 204
    cookie = begun.headers["set-cookie"].lower()
    assert all(word in cookie for word in ("httponly", "samesite=strict"))
    assert "path=" not in cookie, "it is one of /v1 by where it is set, below whatever prefix"
    assert "secure" not in cookie
    own = {"origin": "http://localhost"}
    made = await browser.post("/v1/videos", json=BODY, headers=own)
    assert made.status_code == 200
    path = f"/v1/videos/{made.json()['id']}"
    assert (await browser.get(path)).status_code == 200
    assert (await browser.get(path, headers={"sec-fetch-site": "cross-site"})).status_code == 200
    for headers in (
        {},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", **own},
        {"sec-fetch-site": "same-site", **own},
    ):
        for method, route in (("POST", "/v1/videos"), ("DELETE", path), ("POST", f"{path}/cancel")):
            error = error_of(await browser.request(method, route, headers=headers), 403)
            assert error.code == "cross_site"
    assert (await browser.post(f"{path}/cancel", headers={"sec-fetch-site": "same-origin"})).status_code == 200
    assert (await browser.delete("/v1/session")).status_code == 204
    assert COOKIE not in browser.cookies
    error_of(await browser.get(path), 401)


async def test_a_session_begins_with_a_valid_key_in_the_header(rig: Rig) -> None:
    error = error_of(await rig.client().post("/v1/session"), 400)
    assert error.code == "no_api_keys"
    text = rig.keys.create("studio")[1]
    error_of(await rig.client().post("/v1/session"), 401)
    assert "set-cookie" not in (await rig.client(authorization=f"Bearer {text}x").post("/v1/session")).headers
    by_cookie = rig.client(cookie=f"{COOKIE}={text}", origin="http://localhost")
    assert "begins with a key" in error_of(await by_cookie.post("/v1/session"), 401).message
    secure = await rig.client(scheme="https", authorization=f"Bearer {text}").post("/v1/session")
    assert "secure" in secure.headers["set-cookie"].lower()


async def test_a_bad_key_in_the_header_is_not_saved_by_the_cookie(rig: Rig) -> None:
    text = rig.keys.create("studio")[1]
    both = rig.client(cookie=f"{COOKIE}={text}", authorization="Bearer mv_wrong")
    error_of(await both.get("/v1/videos"), 401)


async def test_without_keys_a_page_of_another_site_changes_nothing(rig: Rig) -> None:
    evil = rig.client(origin="https://evil.example")
    error_of(await evil.post("/v1/videos", data=BODY), 403)
    assert (await rig.client(origin="http://localhost").post("/v1/videos", data=BODY)).status_code == 200


def test_an_address_is_refused_until_there_is_a_key(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/jobs.sqlite"
    check_exposure("127.0.0.1", "sqlite:////proc/nowhere/jobs.sqlite")
    with pytest.raises(
        ConfigError, match=r"Listening on 0\.0\.0\.0 .* `python -m deployments keys create --tenant NAME`"
    ):
        check_exposure("0.0.0.0", url)
    database = Database(url)
    key, _ = KeyBook(database).create("studio")
    check_exposure("0.0.0.0", url)
    KeyBook(database).revoke(key.id)
    check_exposure("0.0.0.0", url)  # it is closed
    KeyBook(database).open()
    with pytest.raises(ConfigError):
        check_exposure("0.0.0.0", url)
    database.close()
    with pytest.raises(StartError, match=r"database sqlite:////proc/nowhere/jobs\.sqlite cannot be used"):
        check_exposure("0.0.0.0", "sqlite:////proc/nowhere/jobs.sqlite")


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        *((host, True) for host in ("127.0.0.1", "127.8.9.1", "::1", "localhost", "::ffff:127.0.0.1")),
        *((host, False) for host in ("0.0.0.0", "::", "", "10.0.0.7", "::ffff:10.0.0.7", "no.such.host.invalid")),
    ],
)
def test_what_only_this_machine_reaches(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone
