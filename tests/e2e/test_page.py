"""The web page in a real browser on the real server: what a user sees while a video is made, and can do with it."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Page, expect

from tests.browser import chromium, needs_chromium, opened
from tests.e2e.rig import Rig, slowly, wait_for

pytestmark = [pytest.mark.slow, needs_chromium]

STREAM = "document.querySelector('.frame video[data-kind=stream]:not(.coming)')"
PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def ask_for(page: Page, prompt: str) -> str:
    """The id of a video of that prompt, made through the form."""
    page.get_by_label("What should happen").fill(prompt)
    page.get_by_role("button", name="Make the video").click()
    page.wait_for_url("**/#/video/*")
    return urlsplit(page.url).fragment.rsplit("/", 1)[1]


def test_a_video_is_made_watched_remixed_and_deleted(rig: Rig, browser: Browser) -> None:
    # What is not yet there, or there no longer, is refused by the server and not shown by the page
    with opened(browser, rig.url, allowed=("404", "409")) as page:
        for _ in range(3):  # a busy machine may look only when the video is done
            video_id = ask_for(page, "a fox in the snow")
            expect(page.locator(".stage.v2v .state")).to_contain_text("%")
            wait_for("a frame that moves", lambda: page.evaluate(f"{STREAM}?.currentTime > 0"))
            if in_time := rig.retrieve(video_id).status == "in_progress":
                break
            page.goto("/")
        assert in_time
        page.evaluate(f"{STREAM}.seen = 'the same element'")
        expect(page.locator(".status")).to_have_text("Done.")
        wait_for("the whole", lambda: page.evaluate(f"{STREAM}.loop"))
        assert page.evaluate(f"{STREAM}.seen") == "the same element"
        assert [stage.get_attribute("data-status") for stage in page.locator(".stage").all()] == ["completed"] * 4
        with page.expect_download() as download:
            page.get_by_role("link", name="Download").click()
        assert Path(download.value.path()).read_bytes() == rig.http.get(f"/v1/videos/{video_id}/content").content

        page.get_by_role("button", name="Remix").click()
        page.locator("form [name=from_stage]").select_option("v2v")
        page.get_by_role("button", name="Make the remix").click()
        expect(page.locator(".stage.t2i .state")).to_have_text("reused")
        expect(page.locator(".status")).to_have_text("Done.")
        page.get_by_role("button", name="Delete").click()
        page.get_by_role("button", name="Delete it").click()
        page.wait_for_url("**/#/")
        expect(page.locator(".tile").first).to_be_visible()
    assert rig.http.get(f"/v1/videos/{video_id}").status_code == 200  # the remix is gone, its source is not


def test_a_job_is_cancelled_after_a_second_word(rig: Rig, browser: Browser) -> None:
    cut = ("409", "ERR_INCOMPLETE_CHUNKED_ENCODING")  # its stream may end before the page has closed it
    before = [rig.create(seed=seed).id for seed in range(300, 306)]  # so that it is not done before all is clicked
    with opened(browser, rig.url, allowed=cut) as page:
        video_id = ask_for(page, "a bear")
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="No", exact=True).click()
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="Stop it").click()
        expect(page.locator(".status")).to_have_text("Cancelled.")
    for other in before:
        rig.http.delete(f"/v1/videos/{other}")
    ended = rig.ended(video_id)
    assert ended.error is not None
    assert ended.error.code == "cancelled"


def test_one_of_the_candidates_is_chosen_by_keyboard_on_a_phone(rig: Rig, browser: Browser) -> None:
    with opened(browser, rig.url, allowed=("404", "409"), viewport=PHONE, color_scheme="dark") as page:
        page.get_by_label("What should happen").fill("an owl")
        page.get_by_text("Options", exact=True).focus()
        page.keyboard.press("Enter")
        page.get_by_label("Approve the picture first").select_option("3")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        page.get_by_role("button", name="Make the video").focus()
        page.keyboard.press("Enter")
        pictures = page.get_by_role("button", name="Go on with picture")
        expect(pictures).to_have_count(3)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        pictures.nth(1).focus()
        page.keyboard.press("Enter")
        expect(page.locator(".status")).to_have_text("Done.")
        video_id = urlsplit(page.url).fragment.rsplit("/", 1)[1]
        assert ("continued", 1) in [(event.kind, event.data.get("candidate")) for event in rig.events(video_id)]
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_a_video_begins_with_an_uploaded_picture(rig: Rig, browser: Browser, tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (256, 256), (30, 120, 200)).save(picture, "PNG")
    with opened(browser, rig.url, allowed=("404", "409")) as page:
        page.get_by_text("Options", exact=True).click()
        blue = FilePayload(name="blue.png", mimeType="image/png", buffer=picture.getvalue())
        page.get_by_label("Begin with this picture").set_input_files(blue)
        ask_for(page, "a whale")
        expect(page.locator(".stage.t2i .state")).to_have_text("given by you")
        expect(page.locator(".status")).to_have_text("Done.")


def test_a_broken_event_stream_is_mended_by_asking(rig: Rig, browser: Browser) -> None:
    with opened(browser, rig.url, allowed=("ERR_", "404", "409")) as page:
        page.route("**/events*", lambda route: route.abort())
        ask_for(page, "a horse")
        expect(page.locator(".status")).to_have_text("Done.")


def test_the_pools_are_shown_as_they_work(rig: Rig, browser: Browser) -> None:
    with opened(browser, rig.url) as page:
        page.get_by_role("link", name="Pools").click()
        video_id = rig.create(prompt="a snail", **slowly("v2v")).id
        wait_for("v2v at work", lambda: rig.running(video_id, "v2v"))
        shown = page.locator(".pool.v2v dd")
        expect(shown.nth(0)).to_have_text("1 busy, 0 free")
        expect(shown.nth(1)).to_contain_text("1 computing")
        rig.ended(video_id)
        expect(shown.nth(1)).to_contain_text("0 computing")
        expect(page.locator(".pool.v2v svg")).to_have_attribute("aria-label", re.compile("waiting calls 0 now"))
        wait_for("what its replica holds", lambda: "MB" in shown.nth(4).inner_text())  # Ray tells it every ten seconds
