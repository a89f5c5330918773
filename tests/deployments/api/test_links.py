"""A video's `url`: works without a key on every replica, for that video, for a time, while its tenant has a key."""

import logging
from urllib.parse import urlsplit

import httpx
import pytest

from deployments.bulkheads import Bulkhead
from deployments.errors import NotAllowedError, VideoNotFoundError
from deployments.jobs.values import JobRequest, NewJob
from deployments.journal.journal import Journal
from deployments.settings.application import AppArgs, IngressArgs
from deployments.tenants.keys import KeyBook
from deployments.tenants.links import Links
from tests.deployments.rig import CONTENT, Rig, create, error_of


async def linked(rig: Rig, studio: httpx.AsyncClient) -> tuple[str, str]:
    """A finished video of a tenant: its id and url."""
    video = await create(studio)
    assert video.url is None
    assert rig.finish() == video.id
    said = (await studio.get(f"/v1/videos/{video.id}")).json()
    assert said["url"] in [one["url"] for one in (await studio.get("/v1/videos")).json()["data"]]
    return video.id, str(said["url"])


async def test_a_link_opens_its_video_without_a_key_on_every_replica(rig: Rig) -> None:
    studio = rig.tenant("studio")
    video_id, url = await linked(rig, studio)
    assert url.startswith(f"http://localhost/v1/videos/{video_id}/content?expires=")
    rig.app = rig.served(AppArgs())  # another replica
    browser = rig.client("203.0.113.9", cookie="mv_session=mv_wrong", origin="https://elsewhere.example")
    whole, head = await browser.get(url), await browser.head(url)
    part = await browser.get(url, headers={"range": "bytes=10-19"})
    assert (whole.status_code, whole.content, head.headers["content-length"]) == (200, CONTENT, str(len(CONTENT)))
    assert (part.status_code, part.content) == (206, CONTENT[10:20])


async def test_a_link_opens_nothing_else(rig: Rig) -> None:
    studio, other = rig.tenant("studio"), rig.tenant("other")
    video_id, url = await linked(rig, studio)
    second, _ = await linked(rig, other)
    query, anybody = urlsplit(url).query, rig.client("203.0.113.9")
    expires = query.removeprefix("expires=").partition("&")[0]
    for path in (
        f"{second}/content?{query}",
        f"{video_id}/content?{query.replace(expires, str(int(expires) + 1))}",
        f"{video_id}/content?{query[:-1]}",
        f"{video_id}/content?{query}%C3%A9",
        f"{video_id}/content?signature=",
    ):
        error = error_of(await anybody.get(f"/v1/videos/{path}"), 403)
        assert (error.code, error.param) == ("invalid_link", "signature")
    for path in (f"{video_id}?{query}", f"{video_id}/stream?{query}", f"?{query}", f"{video_id}/content"):
        assert error_of(await anybody.get(f"/v1/videos/{path}"), 401).code == "invalid_api_key"
    for method in ("POST", "DELETE"):
        error_of(await anybody.request(method, f"/v1/videos/{video_id}/content?{query}"), 401)
    assert error_of(await other.get(url), 404).code == "video_not_found"  # a key comes first


async def test_a_link_ends_with_its_video_and_with_the_last_key_of_its_tenant(rig: Rig) -> None:
    studio, anybody = rig.tenant("studio"), rig.client("203.0.113.9")
    gone, its_url = await linked(rig, studio)
    _, url = await linked(rig, studio)
    assert (await studio.delete(f"/v1/videos/{gone}")).status_code == 200
    assert error_of(await anybody.get(its_url), 404).code == "video_not_found"
    assert (await anybody.get(url)).status_code == 200
    [key] = [key for key in rig.keys.all() if key.tenant == "studio"]
    rig.keys.create("other")
    rig.keys.revoke(key.id)
    assert error_of(await anybody.get(url), 404).code == "video_not_found"


async def test_links_that_are_switched_off_open_nothing(rig: Rig) -> None:
    _, url = await linked(rig, rig.tenant("studio"))
    rig.app = rig.served(AppArgs(ingress=IngressArgs(links_s=None)))
    error = error_of(await rig.client("203.0.113.9").get(url), 403)
    assert (error.code, "opens no links" in error.message) == ("invalid_link", True)


async def test_a_link_is_no_way_around_a_server_without_keys(rig: Rig) -> None:
    await rig.finished()
    url = (await rig.http.get("/v1/videos")).json()["data"][0]["url"]
    assert (await rig.http.get(url)).content == CONTENT
    error_of(await rig.client("203.0.113.9").get(url), 401)


@pytest.mark.parametrize(
    ("headers", "begins"),
    [
        ({"host": "studio.example:8443"}, "http://studio.example:8443/v1/"),
        (
            {"x_forwarded_proto": "https", "x_forwarded_host": "s.example", "x_forwarded_prefix": "/films/"},
            "https://s.example/films/v1/",
        ),
        ({"host": "[::1]:8000"}, "http://[::1]:8000/v1/"),
        ({"host": 'a"><script>'}, None),
        ({"x_forwarded_proto": "javascript"}, None),
    ],
)
async def test_a_link_begins_as_the_client_wrote_it(rig: Rig, headers: dict[str, str], begins: str | None) -> None:
    key = f"Bearer {rig.keys.create('studio')[1]}"
    video_id, _ = await linked(rig, rig.client("10.0.0.7", authorization=key))
    url = (await rig.client("10.0.0.7", authorization=key, **headers).get(f"/v1/videos/{video_id}")).json()["url"]
    assert url is None if begins is None else url.startswith(begins)


async def test_the_operator_says_where_links_lead_and_whether_there_are_any(rig: Rig) -> None:
    studio = rig.tenant("studio")
    video_id, _ = await linked(rig, studio)
    rig.app = rig.served(AppArgs(ingress=IngressArgs(public_url="https://videos.example/films")))
    url = (await rig.tenant("studio").get(f"/v1/videos/{video_id}")).json()["url"]
    assert url.startswith(f"https://videos.example/films/v1/videos/{video_id}/content?")
    rig.app = rig.served(AppArgs(ingress=IngressArgs(links_s=None)))
    assert (await rig.tenant("studio").get(f"/v1/videos/{video_id}")).json()["url"] is None


async def test_a_link_is_in_no_log(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    studio, anybody = rig.tenant("studio"), rig.client("203.0.113.9")
    video_id, url = await linked(rig, studio)
    signature = urlsplit(url).query.rpartition("=")[2]
    await anybody.get(url)
    rig.store.delete(rig.journal.get(video_id).result["key"])  # type: ignore[index]
    error_of(await anybody.get(url), 410)
    error_of(await anybody.get(f"{url}x"), 403)
    ours = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert ours
    assert not [record for record in ours if signature in record.getMessage()]


class Clock:
    """Seconds that pass when the test says so."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


async def test_a_link_lasts_its_time_and_replicas_agree_on_one_secret(journal: Journal) -> None:
    request = JobRequest(prompt="a fox", model="tiny", size="256x256", seconds="2", seed=7)
    video_id = journal.submit(NewJob(request, tenant="studio"))[0].id
    KeyBook(journal.database).create("studio")
    clock, at_journal = Clock(), Bulkhead("The journal's database", threads=2, wait_s=30.0)
    one, two = (Links(journal.database, at_journal, lasts_s=3600.0, clock=clock) for _ in range(2))
    sign = await one.signer()
    assert sign is not None
    fields = dict(part.split("=") for part in sign(video_id).split("&"))
    left_s = int(fields["expires"]) - journal.database.time()
    assert 3590 < left_s <= 3600 * 25 / 24 + 1
    assert await two.tenant_of(video_id, **fields) == "studio"
    clock.now_s = left_s - 60
    assert await two.tenant_of(video_id, **fields) == "studio"
    clock.now_s += 120
    with pytest.raises(NotAllowedError, match="has expired"):
        await two.tenant_of(video_id, **fields)
    clock.now_s = 0.0
    journal.request_cancel(video_id)
    journal.delete(video_id)
    with pytest.raises(VideoNotFoundError):
        await two.tenant_of(video_id, **fields)
