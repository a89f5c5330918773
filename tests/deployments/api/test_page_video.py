"""The page of one video in a real browser, without Ray: it plays while it is made, is chosen, fails, is made again."""

import ast
import re
import subprocess
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from client import Client
from deployments.replicas.turns import packed
from tests.browser import chromium, needs_chromium, opened
from tests.deployments.api.making import FPS, SECOND, SIDE, Making, frames
from tests.deployments.api.served import Served
from tests.e2e.rig import wait_for

pytestmark = [needs_chromium, pytest.mark.slow]
STREAM = "document.querySelector('.frame video[data-kind=stream]:not(.coming)')"
NO_MEDIA_SOURCE = "delete window.MediaSource; delete window.ManagedMediaSource;"
SECOND_S = SECOND / FPS


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def at(page: Page) -> float:
    """Where the video stands that plays while it is made; 0 while nothing of it is on the screen."""
    return float(page.evaluate(f"{STREAM}?.currentTime ?? 0"))


def test_it_plays_while_it_is_made_and_loads_nothing_again(served: Served, browser: Browser) -> None:
    job = Making(served)
    with opened(browser, served.url) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"/#/video/{job.id}")
        job.stage("t2i", 100)
        job.picture()
        expect(page.get_by_alt_text("The reference picture")).to_be_visible()
        job.stage("i2v", 100)
        job.preview()
        expect(page.get_by_label("Preview in low resolution")).to_be_visible()
        job.stage("vfi")
        job.chunk(0)
        wait_for("a frame that moves", lambda: at(page) > 0.1)
        assert served.journal.get(job.id).state == "running"  # it waits for the test: nothing more is made meanwhile
        expect(page.locator(".hero figcaption")).to_contain_text("The first 1.0 s of 1.9 s")
        page.evaluate(f"{STREAM}.seen = 'the same element'")
        before = at(page)
        wait_for("it begins again, as there is no more", lambda: at(page) < before)
        job.chunk(1)
        wait_for("what was made since", lambda: at(page) > SECOND_S + 0.1)
        job.finish()
        expect(page.locator(".status")).to_have_text("Done.")
        wait_for("the whole", lambda: page.evaluate(f"{STREAM}.loop"))
        assert page.evaluate(f"{STREAM}.duration") == pytest.approx(2 * SECOND_S, abs=0.01)
        wait_for("it plays on", lambda: at(page) > SECOND_S + 0.1)
        assert page.evaluate(f"{STREAM}.seen") == "the same element"
        assert page.locator(".frame video").count() == 1
    whole = [url for url in asked if url.endswith(("/content", "/stream"))]
    assert [url.rpartition("/")[2] for url in whole] == ["stream"]


def test_that_it_stopped_for_an_urgent_job_is_told_until_it_goes_on(served: Served, browser: Browser) -> None:
    job = Making(served)
    paused = "Paused for an urgent job; continues in about 40 s."
    with opened(browser, served.url) as page:
        page.goto(f"/#/video/{job.id}")
        job.stage("i2v", 40)
        job.say(("stage_yielded", {"stage": "i2v", "index": 0, "step": 4, "total": 10}), paused_for=paused)
        expect(page.locator(".note")).to_have_text(paused)
        job.say(("stage_resumed", {"stage": "i2v", "index": 0, "step": 4, "total": 10}))
        expect(page.locator(".note")).to_be_hidden()
    job.finish()


def test_where_a_browser_cannot_play_it_so_the_whole_is_shown_at_the_end(served: Served, browser: Browser) -> None:
    job = Making(served)
    with opened(browser, served.url) as page:
        page.add_init_script(NO_MEDIA_SOURCE)
        page.goto(f"/?again#/video/{job.id}")
        job.stage("vfi")
        job.chunk(0)
        job.chunk(1)
        job.finish()
        expect(page.locator(".status")).to_have_text("Done.")
        wait_for(
            "the whole", lambda: page.evaluate("document.querySelector('video[data-kind=content]')?.currentTime > 0")
        )


def test_one_of_the_pictures_is_chosen_once_with_a_key(served: Served, browser: Browser) -> None:
    job = Making(served, pause_after="t2i", candidates=3)
    for number in range(3):
        job.picture(number=number)
    job.stage("t2i", 100)
    job.pause("t2i")
    with opened(browser, served.url) as page:
        page.goto(f"/#/video/{job.id}")
        choices = page.get_by_role("button", name="Go on with picture")
        expect(choices).to_have_count(3)
        expect(page.get_by_text("The picture it begins with")).to_have_count(0)
        assert "null" not in page.locator("main").inner_text()
        box = choices.first.bounding_box()
        assert box is not None
        assert box["width"] > 300
        page.keyboard.press("2")
        expect(page.locator(".status")).to_contain_text("Queued")
        expect(page.locator(".approval")).to_be_hidden()
        page.keyboard.press("3")
        job.go_on()
        job.stage("t2i", 100, origin="restored")
        expect(page.locator(".stage.t2i .state")).to_have_text("chosen by you")
        expect(page.get_by_alt_text("The reference picture")).to_be_visible()
    events = served.journal.events(job.id)
    assert [event.data for event in events if event.kind == "continued"] == [{"stage": "t2i", "candidate": 1}]


@pytest.mark.parametrize("code", ["stage_failed", "replica_lost", "made_up"])
def test_a_failed_job_says_why_in_the_pages_words_and_is_tried_again(
    served: Served, browser: Browser, code: str
) -> None:
    job = Making(served)
    with opened(browser, served.url) as page:
        page.goto(f"/#/video/{job.id}")
        expect(page.locator(".status")).to_contain_text("of all")
        job.stage("t2i", 40)
        expect(page.locator(".stage.t2i .state")).to_have_text("40 %")
        job.fail(code, "RuntimeError: The lens is cracked.")
        said = page.locator(".failed").get_by_role("alert")
        expect(said).to_contain_text(re.compile("[Tt]ry"))
        expect(said).not_to_contain_text("RuntimeError")
        page.get_by_text("What the server said").click()
        expect(page.get_by_text("The lens is cracked.")).to_be_visible()
        expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
        page.get_by_role("button", name="Try again").click()
        expect(page.locator(".status")).to_contain_text("Queued")
    newest = served.journal.page(limit=1)[0][0]
    assert (newest.parent_id, newest.request.seed) == (job.id, 7)


def test_what_is_copied_makes_the_same_video(served: Served, browser: Browser) -> None:
    prompt = 'a fox: it\'s "red", $HOME, `ls` \\ é'
    asked = {"seconds": "1", "steps": 3, "guidance": 2.5, "factor": 4, "negative_prompt": "rain"}
    job = Making(served, prompt, **asked)
    job.chunk(0)
    job.finish()
    same = served.journal.get(job.id).request
    with opened(browser, served.url) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.goto(f"/#/video/{job.id}")
        for name in ("Link", "Seed", "curl", "Python"):
            page.get_by_text("Copy", exact=True).click()
            page.get_by_role("button", name=name, exact=True).click()
            expect(page.locator("#said")).to_have_text(f"Copied: {name.lower()}.")
            copied = page.evaluate("navigator.clipboard.readText()")
            if name == "curl":
                subprocess.run(["sh", "-c", copied], check=True, capture_output=True, timeout=120)
            elif name == "Python":
                made_by(copied, served)
            else:
                assert copied == {"Link": f"{served.url}/#/video/{job.id}", "Seed": "7"}[name]
    made = served.journal.page(limit=2)[0]
    assert job.id not in {one.id for one in made}
    assert [one.request for one in made] == [same, same]


def test_steps_are_seen_where_the_picture_will_be(served: Served, browser: Browser) -> None:
    job = Making(served)
    with opened(browser, served.url) as page:
        page.goto(f"/#/video/{job.id}")
        job.stage("t2i", 30)
        served.glimpses[job.id] = packed(frames(1)[0])
        shown = page.get_by_alt_text("The picture while it is drawn")
        expect(shown).to_be_visible()
        assert shown.evaluate("image => image.naturalWidth") == SIDE
        served.glimpses.clear()
        job.stage("t2i", 100)
        job.picture()
        expect(page.get_by_alt_text("The reference picture")).to_be_visible()
        expect(shown).to_have_count(0)
        served.glimpses[job.id] = packed(frames(1, 90)[0])
        job.stage("i2v", 30)
        expect(page.get_by_alt_text("The motion while it is worked out")).to_be_visible()
        job.stage("i2v", 100)
        job.preview()
        expect(page.get_by_label("Preview in low resolution")).to_be_visible()
        expect(page.locator(".glimpse")).to_have_count(0)
        job.fail("stage_failed", "The lens is cracked.")


def test_what_is_copied_of_a_remix_makes_the_same_remix(served: Served, browser: Browser) -> None:
    job = Making(served)
    job.finish()
    remix = httpx.post(f"{served.url}/v1/videos/{job.id}/remix", json={"from_stage": "v2v", "steps": 2}).json()["id"]
    child = Making.of(served, remix)
    child.finish()
    with opened(browser, served.url) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.goto(f"/#/video/{child.id}")
        page.get_by_text("Copy", exact=True).click()
        page.get_by_role("button", name="Python", exact=True).click()
        expect(page.locator("#said")).to_have_text("Copied: python.")
        made_by(page.evaluate("navigator.clipboard.readText()"), served)
    made = served.journal.page(limit=1)[0][0]
    assert (made.parent_id, made.request) == (child.id, served.journal.get(child.id).request)


def made_by(program: str, served: Served) -> None:
    """Run what makes the job in a copied program, without waiting for the end of it."""
    calls = [node for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Call)]
    call = next(call for call in calls if getattr(call.func, "attr", "") in ("create", "remix"))
    with Client(served.url) as client:
        eval(ast.unparse(call), {"client": client})


def test_a_remix_is_seen_beside_its_parent(served: Served, browser: Browser) -> None:
    first = Making(served)
    first.chunk(0)
    first.finish()
    with opened(browser, served.url) as page:
        page.goto(f"/#/video/{first.id}")
        page.get_by_role("button", name="Same again").click()
        expect(page.locator(".status")).to_contain_text("Queued")
        again = Making.of(served, page.url.rpartition("/")[2])
        again.chunk(0, frames(SECOND, 90))
        again.finish()
        expect(page.locator(".status")).to_have_text("Done.")
        page.get_by_role("button", name="Side by side").click()
        both = page.locator(".sides video")
        expect(both).to_have_count(2)
        wait_for("both to play", lambda: all(both.nth(n).evaluate("media => media.currentTime > 0") for n in range(2)))
        both.first.evaluate("media => media.pause()")
        wait_for("both to stand", lambda: all(both.nth(n).evaluate("media => media.paused") for n in range(2)))
    assert served.journal.get(again.id).request.seed != 7


def test_the_end_is_told_to_who_looks_elsewhere(served: Served, browser: Browser) -> None:
    job = Making(served)
    with opened(browser, served.url) as page:
        page.add_init_script("""
            window.told = [];
            window.Notification = class { constructor(...said) { told.push(said[0]); }
              static permission = 'granted'; static requestPermission() { return Promise.resolve('granted'); } };
            Object.defineProperty(document, 'hidden', { get: () => window.away ?? false });
        """)
        page.goto(f"/?again#/video/{job.id}")
        page.get_by_role("button", name="Tell me when it is done").click()
        expect(page.get_by_role("button", name="You will be told")).to_be_visible()
        expect(page).to_have_title("0 % · a fox - MagicVideo")
        page.evaluate("window.away = true")
        job.chunk(0)
        job.finish()
        expect(page).to_have_title("✓ · a fox - MagicVideo")
        assert page.evaluate("told") == ["Your video is done"]
