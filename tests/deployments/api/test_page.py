"""The page on the real HTTP application in a real browser, without Ray: what the pipeline would do is done here."""

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser, FilePayload, expect

from client import Client
from cluster.server_process import free_port
from deployments.api.page import WEB, read_parts
from deployments.tenants.keys import KeyBook
from stages.presets import MAX_SEED
from tests.browser import chromium, needs_chromium, opened
from tests.deployments.api.served import Served
from tests.e2e.rig import wait_for

pytestmark = pytest.mark.slow

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
EVIL = 'a fox <img src=x onerror="document.title=1"><script>document.title=1</script>'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def test_the_page_and_its_parts_are_served_once(tmp_path: Path) -> None:
    client = TestClient(Served(tmp_path).app, client=("127.0.0.1", 1))
    first = client.get("/")
    assert (first.status_code, first.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(rule.split(" ", 1) for rule in first.headers["content-security-policy"].split("; "))
    assert (policy["default-src"], policy["script-src"], policy["style-src"]) == ("'none'", "'self'", "'self'")
    assert {name for name, value in policy.items() if "blob:" in value} == {"img-src", "media-src"}
    again = client.get("/", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    rated = client.get("/rate")
    assert rated.headers["content-security-policy"] == first.headers["content-security-policy"]
    named = set(re.findall(r"\bassets/([\w.]+)", first.text + rated.text))
    for name in named:
        assert client.get(f"/assets/{name}").status_code == 200
    for name in ("index.html", "rate.html", "nothing.js", "..%2Fauth.py"):
        assert client.get(f"/assets/{name}").status_code == 404


@pytest.mark.parametrize(("page", "first"), [("/", "main.js"), ("/rate", "rate.js")])
def test_every_module_is_named_before_one_asks_for_it(tmp_path: Path, page: str, first: str) -> None:
    client = TestClient(Served(tmp_path).app, client=("127.0.0.1", 1))
    named = re.findall(r"<assets/([\w.]+)>; rel=modulepreload", client.get(page).headers["link"])
    parts, found, left = read_parts(), set[str](), {first}
    while left:
        found |= left
        left = {name for one in left for name in re.findall(r'from "\./([\w.]+)"', parts[one].body.decode())} - found
    assert sorted(named) == sorted(found)


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
        assert page.title().startswith("Queued · a fox <img")
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
        page.get_by_label("Steps", exact=True).fill("100000")
        page.get_by_role("button", name="Make the video").click()
        expect(page.get_by_role("alert")).to_contain_text("100000")
        expect(page.get_by_label("Steps", exact=True)).to_be_focused()
        expect(page.get_by_label("What should happen")).to_have_value("a fox")
        page.get_by_label("Steps", exact=True).fill("")
        page.get_by_label("What should happen").fill("a wolf in a city")
        page.get_by_role("button", name="Make the video").click()
        expect(page.get_by_role("alert")).to_contain_text("Like 'wolf' it knows 'fox' and 'dog'.")
        expect(page.get_by_label("What should happen")).to_have_value("a wolf in a city")
        page.get_by_label("What should happen").fill("a fox")
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
def test_an_unknown_address_and_an_unknown_video(served: Served, browser: Browser) -> None:
    with opened(browser, served.url, allowed=("404",)) as page:
        page.goto("/#/video/video_nope")
        expect(page.locator("h1")).to_have_text("There is no such video")
        page.goto("/#/elsewhere")
        expect(page.locator("h1")).to_have_text("There is no such page")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def nginx(folder: Path, upstream: str) -> Iterator[str]:
    """The address of a real proxy that serves `upstream` below /films/, as its users write it."""
    port = free_port()
    lines = f"""
        daemon off; pid {folder}/pid; error_log stderr; worker_processes 1; user root;
        events {{}}
        http {{
          access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
          uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
          server {{
            listen 127.0.0.1:{port};
            location /films/ {{ proxy_pass {upstream}/; proxy_set_header Host $http_host;
                               proxy_set_header X-Forwarded-For $remote_addr; }}
          }}
        }}"""
    config = folder / "nginx.conf"
    config.write_text(lines)
    assert NGINX is not None
    with subprocess.Popen([NGINX, "-c", str(config)]) as running:
        try:
            wait_for("nginx", lambda: listens(port))
            yield f"http://127.0.0.1:{port}"
        finally:
            running.terminate()


@needs_chromium
@pytest.mark.skipif(NGINX is None, reason="no nginx here; `apt-get install nginx-light` brings it")
def test_all_of_it_works_below_a_prefix(served: Served, browser: Browser, tmp_path: Path) -> None:
    _, key = KeyBook(served.journal.database).create("ours")
    with nginx(tmp_path, served.url) as proxy, opened(browser, proxy, allowed=("401",), start="/films/") as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.get_by_label("API key").fill(key)
        page.keyboard.press("Enter")
        expect(page.get_by_text("Nothing yet")).to_be_visible()
        page.get_by_label("What should happen").fill("a fox")
        page.get_by_role("button", name="Make the video").click()
        expect(page.locator(".status")).to_contain_text("Queued")
        page.get_by_role("link", name="Pools").click()
        expect(page.locator(".pool.v2v")).to_be_visible()
        page.reload()
        expect(page.locator("#health")).to_have_text("Preset tiny")
        page.get_by_role("link", name="MagicVideo").click()
        page.locator(".tile").click()
        expect(page.locator(".status")).to_contain_text("Queued")
        wait_for("its events", lambda: any("/events" in url for url in asked))
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("API key")).to_be_visible()
        with Client(f"{proxy}/films", api_key=key) as client:
            assert [video.prompt for video in client.videos.list().data] == ["a fox"]
    assert all(url.startswith(f"{proxy}/films/") for url in asked), asked


@needs_chromium
def test_a_seed_beyond_what_javascript_counts_is_kept(served: Served, browser: Browser) -> None:
    with opened(browser, served.url, allowed=("400",)) as page:
        page.get_by_text("Options", exact=True).click()
        for seed in (2**53 + 1, MAX_SEED):
            page.get_by_label("What should happen").fill('a fox "seed":9007199254740993')
            page.get_by_label("Seed", exact=True).fill(str(seed))
            page.get_by_role("button", name="Make the video").click()
            expect(page.get_by_text(f"seed {seed}, ")).to_be_visible()
            assert [job.request.seed for job in served.journal.page(limit=1)[0]] == [seed]
            page.goto("/")
            page.get_by_text("Options", exact=True).click()
        for wrong, says in ((str(MAX_SEED + 1), f"between 0 and {MAX_SEED}"), ("-1", "between 0"), ("007", "'007'")):
            page.get_by_label("What should happen").fill("a fox")
            page.get_by_label("Seed", exact=True).fill(wrong)
            page.get_by_role("button", name="Make the video").click()
            expect(page.get_by_role("alert").first).to_contain_text(says)
            expect(page.get_by_label("Seed", exact=True)).to_be_focused()


@needs_chromium
def test_seeds_survive_the_page_whatever_stands_beside_them(served: Served, browser: Browser) -> None:
    texts = st.text() | st.sampled_from(['"seed":1', '\\"seed":"2"', "seed", '{"seed": 3}', "\\"])
    with opened(browser, served.url) as page:

        @settings(max_examples=100, deadline=None)
        @given(st.integers(0, MAX_SEED), texts)
        def survives(seed: int, text: str) -> None:
            body = {"prompt": text, "seed": seed, "data": [{"seed": seed, "note": text}]}
            circle = "async (said) => { const { read, written } = await import('./assets/api.js');"
            circle += " const found = read(said); return [found.prompt, found.seed, written(found)]; }"
            prompt, shown, again = page.evaluate(circle, json.dumps(body))
            assert (prompt, shown, json.loads(again)) == (text, str(seed), body)

        survives()


@needs_chromium
def test_a_job_that_ends_with_a_picture_gives_one_picture(served: Served, browser: Browser) -> None:
    made = httpx.post(f"{served.url}/v1/videos", json={"prompt": "a fox", "seed": 7, "until": "t2i"}).json()
    with opened(browser, served.url) as page:
        page.goto(f"/#/video/{made['id']}")
        expect(page.get_by_text("seed 7, 256 × 256, one picture, tiny")).to_be_visible()
        expect(page.get_by_text("null")).to_have_count(0)


@needs_chromium
def test_what_a_field_shows_is_never_left_out(served: Served, browser: Browser) -> None:
    with opened(browser, served.url, allowed=("400",)) as page:
        page.get_by_label("What should happen").fill("a fox")
        page.get_by_text("Options", exact=True).click()
        page.get_by_label("Steps", exact=True).press_sequentially("1e")
        page.get_by_role("button", name="Make the video").click()
        expect(page.get_by_role("alert").first).to_have_text("Steps: this is no number.")
        expect(page.get_by_label("Steps", exact=True)).to_be_focused()
        page.get_by_label("Steps", exact=True).fill("")
        empty = FilePayload(name="empty.png", mimeType="image/png", buffer=b"")
        page.get_by_label("Begin with this picture").set_input_files(empty)
        page.get_by_role("button", name="Make the video").click()
        expect(page.get_by_role("alert").first).to_contain_text("input_reference is empty")
    assert served.journal.counts() == {}
