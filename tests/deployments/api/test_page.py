"""The page on the real HTTP application in a real browser, without Ray: what the pipeline would do is done here."""

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from playwright.sync_api import Browser, expect

from client.schema import Health, JobError, StageState
from cluster.server_process import free_port
from deployments.api.ingress import create_app
from deployments.api.page import WEB, read_parts
from deployments.files.keeper import Keeper
from deployments.files.store import ArtifactStore
from deployments.jobs.values import Claim, Update
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from deployments.settings.application import AppArgs
from deployments.tenants.keys import KeyBook
from tests.browser import chromium, needs_chromium, opened

EVIL = '<img src=x onerror="document.title=1"><script>document.title=1</script>'


class Served:
    """The application on a port of its own, and its journal."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(Database(f"sqlite:///{folder}/jobs.sqlite"))
        self.leases = Leases(self.journal.database)
        self.store = ArtifactStore(f"file://{folder}/artifacts")
        self.app: FastAPI = create_app(
            AppArgs(), self.journal, self.store, nudge=self.nudge, health=self.health, show=Keeper(self.store.url).show
        )
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._server = uvicorn.Server(uvicorn.Config(self.app, port=port, log_level="warning", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run)

    async def nudge(self) -> None:
        """Nobody listens."""

    @staticmethod
    def health() -> Health:
        return Health(status="ok", model="tiny", version="1", stages={"t2i": 1})

    def start(self) -> None:
        self._thread.start()
        end = time.monotonic() + 30
        while not self._server.started:
            assert time.monotonic() < end, "waited 30 s for the server"
            time.sleep(0.02)

    def stop(self) -> None:
        self._server.should_exit = True
        self._server.force_exit = True  # open event streams end with it
        self._thread.join()
        self.journal.database.close()

    def create(self, prompt: str) -> str:
        answer = httpx.post(f"{self.url}/v1/videos", json={"prompt": prompt, "seed": 7})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def claim(self) -> Claim:
        claimed = self.leases.claim("test", 60.0)
        assert claimed is not None
        return claimed[0]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    running = Served(tmp_path)
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def test_the_page_and_its_parts_are_served_once(tmp_path: Path) -> None:
    client = TestClient(Served(tmp_path).app, client=("127.0.0.1", 1))
    first = client.get("/")
    assert (first.status_code, first.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in first.headers["content-security-policy"]
    again = client.get("/", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    named = set(re.findall(r"/assets/([\w.]+)", first.text))
    for name in named:
        assert client.get(f"/assets/{name}").status_code == 200
    for name in ("index.html", "nothing.js", "..%2Fauth.py"):
        assert client.get(f"/assets/{name}").status_code == 404


def test_nothing_is_loaded_from_elsewhere_and_no_text_becomes_markup() -> None:
    parts = read_parts()
    assert {path.name for path in WEB.iterdir()} == set(parts)
    for name, part in parts.items():
        text = part.body.decode()
        assert not re.search(r"https?://(?!www\.w3\.org/)", text), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text), name


@needs_chromium
def test_what_a_user_wrote_is_text(served: Served, browser: Browser) -> None:
    served.create(EVIL)
    with opened(browser, served.url) as page:
        expect(page.locator(".tile .caption")).to_have_text(EVIL)
        page.locator(".tile").click()
        expect(page.locator("h1")).to_have_text(EVIL)
        assert page.title() == "Video - MagicVideo"
        assert page.locator("main img, main script").count() == 0


@needs_chromium
def test_the_description_is_a_page_that_loads_nothing_from_elsewhere(served: Served, browser: Browser) -> None:
    with opened(browser, served.url) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto("/docs")
        expect(page.get_by_role("heading", name="POST /v1/videos", exact=True)).to_be_visible()
        assert page.get_by_text("input_reference", exact=True).count() > 0
        assert asked
        assert all(url.startswith(served.url) for url in asked)


@needs_chromium
def test_a_refused_prompt_says_why_and_loses_nothing(served: Served, browser: Browser) -> None:
    with opened(browser, served.url, allowed=("400",)) as page:
        page.get_by_label("What should happen").fill("a fox")
        page.get_by_text("Options", exact=True).click()
        page.get_by_label("Steps").fill("100000")
        page.get_by_role("button", name="Make the video").click()
        expect(page.get_by_role("alert")).to_contain_text("100000")
        expect(page.get_by_label("Steps")).to_be_focused()
        expect(page.get_by_label("What should happen")).to_have_value("a fox")
        page.get_by_label("Steps").fill("")
        page.get_by_label("What should happen").focus()
        page.keyboard.press("Control+Enter")
        expect(page.locator("h1")).to_have_text("a fox")
    assert served.journal.counts() == {"queued": 1}


@needs_chromium
def test_a_key_is_asked_for_once_and_kept_in_a_cookie(served: Served, browser: Browser) -> None:
    _, key = KeyBook(served.journal.database).create("ours")
    with opened(browser, served.url, allowed=("401",)) as page:
        page.get_by_label("API key").fill("mv_wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("#key-error")).to_contain_text("not valid")
        page.get_by_label("API key").fill(key)
        page.keyboard.press("Enter")
        expect(page.get_by_label("API key")).to_be_hidden()
        expect(page.get_by_text("Nothing yet")).to_be_visible()
        page.reload()
        expect(page.get_by_text("Nothing yet")).to_be_visible()
        assert page.evaluate("document.cookie") == ""
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("API key")).to_be_visible()


@needs_chromium
def test_a_failed_job_says_why_and_offers_to_be_remixed(served: Served, browser: Browser) -> None:
    video_id = served.create("a fox")
    with opened(browser, served.url) as page:
        page.goto(f"/#/video/{video_id}")
        expect(page.locator(".status")).to_contain_text("Queued")
        claim = served.claim()
        running = StageState(name="t2i", status="running", progress=40)
        served.leases.record([Update(claim, (running,), (("started", {}), ("stage_started", {"stage": "t2i"})))])
        expect(page.locator(".stage.t2i .state")).to_have_text("40 %")
        broken = JobError(code="stage_failed", message="The lens is cracked.")
        served.leases.finish(Update(claim), "failed", error=broken)
        expect(page.get_by_role("alert").first).to_have_text("The lens is cracked.")
        expect(page.get_by_role("button", name="Remix")).to_be_visible()
        expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


@needs_chromium
def test_an_unknown_address_and_an_unknown_video(served: Served, browser: Browser) -> None:
    with opened(browser, served.url, allowed=("404",)) as page:
        page.goto("/#/video/video_nope")
        expect(page.locator("h1")).to_have_text("There is no such video")
        page.goto("/#/elsewhere")
        expect(page.locator("h1")).to_have_text("There is no such page")
