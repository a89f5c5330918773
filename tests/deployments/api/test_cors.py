"""Pages of other sites: refused unless the operator lists their origin; then preflights, answers and errors say so."""

import pytest

from deployments.errors import ConfigError
from deployments.settings.application import AppArgs, IngressArgs
from deployments.settings.reading import parse_args
from tests.deployments.rig import BODY, Rig, error_of

STUDIO, OTHER = "https://studio.example", "https://other.example"
ARGS = AppArgs(ingress=IngressArgs(cors_origins=(STUDIO,)))
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}


async def test_a_listed_page_is_let_in_before_it_shows_a_key(rig: Rig) -> None:
    rig.app = rig.served(ARGS)
    studio = rig.tenant("studio", origin=STUDIO)
    page = rig.client("203.0.113.9", origin=STUDIO)
    for path in ("/v1/videos", "/v1/videos/video_x", "/v1/files"):
        answer = await page.options(path, headers=PREFLIGHT)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, STUDIO)
        assert {"authorization", "content-type"} <= set(answer.headers["access-control-allow-headers"].split(","))
        assert "DELETE" in answer.headers["access-control-allow-methods"]
    refused = await page.get("/v1/videos")
    assert (error_of(refused, 401).code, refused.headers["access-control-allow-origin"]) == ("invalid_api_key", STUDIO)
    made = await studio.post("/v1/videos", json=BODY)
    assert (made.status_code, made.headers["access-control-allow-origin"]) == (200, STUDIO)
    assert "openai-poll-after-ms" in made.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in made.headers
    assert "Origin" in made.headers["vary"]


async def test_a_listed_page_reads_errors_that_nobody_foresaw(rig: Rig) -> None:
    rig.app = rig.served(ARGS)
    page = rig.client(origin=STUDIO)

    async def broken() -> None:
        raise RuntimeError("a fault of ours")

    rig.app.add_api_route("/broken", broken)
    for path, status in (("/broken", 500), ("/v1/nothing", 404), ("/v1/videos?limit=x", 400), ("/v1/%00", 400)):
        answer = await page.get(path)
        error_of(answer, status)
        assert answer.headers["access-control-allow-origin"] == STUDIO
        assert answer.headers["x-content-type-options"] == "nosniff"
    answer = await page.head("/broken")
    assert (answer.status_code, answer.content) == (500, b"")


async def test_another_page_is_not(rig: Rig) -> None:
    for args in (ARGS, AppArgs()):
        rig.app = rig.served(args)
        page = rig.client(origin=OTHER)
        assert "access-control-allow-origin" not in (await page.options("/v1/videos", headers=PREFLIGHT)).headers
        assert "access-control-allow-origin" not in (await page.get("/v1/videos")).headers
        assert error_of(await page.post("/v1/videos", json=BODY), 403).code == "cross_site"
    listed = rig.client(origin=STUDIO)
    assert (
        error_of(await listed.post("/v1/videos", json=BODY), 403).code == "cross_site"
    )  # of a server without the list


async def test_a_listed_page_may_use_a_server_without_keys_on_its_own_machine(rig: Rig) -> None:
    rig.app = rig.served(ARGS)
    headers = {"origin": STUDIO, "sec_fetch_site": "cross-site"}
    assert (await rig.client(**headers).post("/v1/videos", json=BODY)).status_code == 200
    error_of(await rig.client("203.0.113.9", **headers).post("/v1/videos", json=BODY), 401)


async def test_a_session_stays_with_the_servers_own_page(rig: Rig) -> None:
    rig.app = rig.served(ARGS)
    cookie = f"mv_session={rig.keys.create('studio')[1]}"
    page = rig.client("203.0.113.9", cookie=cookie, origin=STUDIO, sec_fetch_site="cross-site")
    assert error_of(await page.post("/v1/videos", json=BODY), 403).code == "cross_site"


@pytest.mark.parametrize("origin", ["*", "studio.example", "https://studio.example/", "https://*.example", "null"])
def test_what_is_no_origin_is_refused_with_a_sentence(origin: str) -> None:
    with pytest.raises(ConfigError, match="is no origin; name each one"):
        parse_args({"ingress": {"cors_origins": [origin]}})
