"""A rater's page in a real browser on the real server: by keys, by touch, elsewhere, without a network."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, Request, Route, expect

from client.schema_studies import RaterLink, Study
from tests.browser import chromium, needs_chromium, opened
from tests.deployments.api import looks
from tests.deployments.api.rating import PROMPTS, SIDES, SYSTEMS, answerable, begun, new_link, rating_looks, ready_study
from tests.deployments.api.served import Served
from tests.e2e.rig import wait_for

pytestmark = [needs_chromium, pytest.mark.slow]
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 740}, "has_touch": True, "is_mobile": True}
BOXES = "[...document.querySelectorAll('.box')].map((box) => box.getBoundingClientRect().toJSON())"
POSITIONS = "[...document.querySelectorAll('.box video')].map((media) => media.currentTime)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def standing_of(served: Served, study: Study) -> list[RaterLink]:
    """How far each rater is."""
    answer = httpx.get(f"{served.url}/v1/studies/{study.id}/links").json()
    return [RaterLink.model_validate(link) for link in answer["data"]]


def chosen(page: Page) -> list[dict[str, Any]]:
    """The votes that the page sends from now on."""
    sent: list[dict[str, Any]] = []

    def look(asked: Request) -> None:
        if asked.url.endswith("/v1/rate/votes"):
            sent.append(json.loads(asked.post_data or "null"))

    page.on("request", look)
    return sent


def test_a_whole_study_by_keys_alone(served: Served, browser: Browser) -> None:
    study = ready_study(served, criteria=None, training=1, identical=1, swapped=1, instructions="Look at the edges.")
    link = new_link(served, study)
    with opened(browser, served.url, start=link.url or "") as page:
        told: list[str] = []
        page.on(
            "response", lambda answer: told.append(answer.text()) if answer.url.endswith(("rate", "votes")) else None
        )
        sent = chosen(page)
        expect(page.get_by_text("Look at the edges.")).to_be_visible()
        expect(page.get_by_text("5 pairs")).to_be_visible()
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Begin")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text("Practice pair 1 of 5")
        page.keyboard.press("1")
        expect(page.locator(".loading")).to_have_count(0)
        page.keyboard.press("Space")
        expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()
        page.keyboard.press("p")
        answerable(page)
        assert sent == []
        page.keyboard.press("r")
        page.locator("[data-choice=left]").focus()
        for _ in range(3):
            page.keyboard.down("Enter")  # it is held
        page.keyboard.up("Enter")
        expect(page.get_by_text("Question 2 of 3", exact=True)).to_be_visible()
        page.keyboard.press("s")
        expect(page.get_by_text("Question 3 of 3", exact=True)).to_be_visible()
        page.keyboard.press("Backspace")
        page.keyboard.press("3")
        page.keyboard.press("b")
        expect(page.locator(".feedback")).to_contain_text("is not counted")
        expect(page.locator(".feedback")).to_contain_text("spoiled on purpose")
        expect(page.get_by_role("button", name="Next pair")).to_be_focused()
        page.keyboard.press("Enter")
        for number in range(2, 6):
            expect(page.locator("h1")).to_have_text(f"Pair {number} of 5")
            answerable(page)
            for key in ("123", "GSB", "123", "gsb")[number - 2]:
                page.keyboard.press(key)
        expect(page.locator("h1")).to_have_text("Thank you")
        seen = page.content() + "".join(told)
        assert not re.search("|".join((*SYSTEMS, *PROMPTS, "video_", "tiny", "training_of", "identical")), seen)
    names = [criterion.name for criterion in study.criteria]
    assert [list(vote["choices"].values()) for vote in sent] == [
        ["left", "right", "right"],
        *[["left", "same", "right"]] * 4,
    ]
    assert all(list(vote["choices"]) == names and vote["watched_s"] >= 0.3 for vote in sent)
    assert [vote["replays"] for vote in sent] == [1, 0, 0, 0, 0]
    assert [(one.done, one.total) for one in standing_of(served, study)] == [(5, 5)]


def test_by_touch_on_a_phone_and_then_elsewhere(served: Served, browser: Browser) -> None:
    study = ready_study(served)
    link = new_link(served, study)
    with opened(browser, served.url, start=link.url or "", **PHONE) as page:
        page.get_by_role("button", name="Begin").tap()
        top, bottom = page.evaluate(BOXES)
        assert (top["left"], top["width"], top["height"]) == (bottom["left"], bottom["width"], bottom["height"])
        assert bottom["top"] >= top["bottom"]
        answerable(page)
        assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
        page.get_by_role("button", name="Bottom is better").tap()
        expect(page.locator("h1")).to_have_text("Pair 2 of 2")
        page.get_by_role("button", name="Take a break").tap()
        expect(page.get_by_text("1 of 2 pairs are rated and saved.")).to_be_visible()
    with opened(browser, served.url, start=link.url or "") as page:
        expect(page.locator("h1")).to_have_text("Welcome back")
        begun(page, "Go on")
        expect(page.locator("h1")).to_have_text("Pair 2 of 2")
        page.get_by_role("button", name=SIDES["left"]).click()
        expect(page.locator("h1")).to_have_text("Thank you")
        page.reload()
        expect(page.locator("h1")).to_have_text("Thank you")
        assert page.evaluate("JSON.stringify(localStorage) + document.cookie").count("rater_") == 0
    assert [(one.done, one.total) for one in standing_of(served, study)] == [(2, 2)]


def test_both_videos_begin_together_and_go_round_together(served: Served, browser: Browser) -> None:
    link = new_link(served, ready_study(served))
    with opened(browser, served.url, start=link.url or "") as page:
        page.add_init_script("localStorage.setItem('no-single-keys', 'yes')")
        page.reload()
        begun(page)
        rounds = page.evaluate(f"""new Promise((resolve) => {{
            const apart = [], starts = []; let before = 0;
            const look = () => {{
                const [left, right] = {POSITIONS};
                apart.push(Math.abs(left - right));
                if (left < before) starts.push(right);
                before = left;
                if (starts.length < 3) requestAnimationFrame(look); else resolve({{ apart, starts }});
            }};
            look();
        }})""")
        assert sorted(rounds["apart"])[int(0.9 * len(rounds["apart"]))] < 0.2
        assert max(rounds["starts"]) < 0.5
        page.get_by_role("button", name="Pause").click()
        standing = page.evaluate(POSITIONS)
        assert abs(standing[0] - standing[1]) < 0.1
        page.keyboard.press("p")
        page.keyboard.press("1")
        assert page.evaluate(POSITIONS) == standing
        expect(page.locator("h1")).to_have_text("Pair 1 of 2")
        page.get_by_role("button", name="Full screen").click()
        wait_for("the whole screen", lambda: page.evaluate("document.fullscreenElement?.className.startsWith('trial')"))
        page.get_by_role("button", name="Same").click()
        expect(page.locator("h1")).to_have_text("Pair 2 of 2")
        assert page.evaluate("Boolean(document.fullscreenElement)")


def test_a_vote_without_a_network_is_kept_and_counts_once(served: Served, browser: Browser) -> None:
    study = ready_study(served, swapped=1)
    link = new_link(served, study)
    with opened(browser, served.url, start=link.url or "", allowed=("ERR_",)) as page:
        sent = chosen(page)
        begun(page)
        page.context.set_offline(True)
        page.keyboard.press("1")
        expect(page.get_by_role("alert")).to_contain_text("not saved yet: The network is away.")
        expect(page.locator("h1")).to_have_text("Pair 1 of 3")
        page.context.set_offline(False)
        expect(page.locator("h1")).to_have_text("Pair 2 of 3")
        answerable(page)

        fate = ["answer lost"]  # of the votes that come now; then they pass

        def network(route: Route) -> None:
            match fate and fate[0]:
                case "answer lost":
                    fate.clear()
                    route.fetch()  # the server has the vote
                    route.abort()
                case "away":
                    route.abort()
                case _:
                    route.continue_()

        page.route("**/v1/rate/votes", network)
        page.keyboard.press("3")
        expect(page.locator("h1")).to_have_text("Pair 3 of 3")
        answerable(page)
        assert sent[-1] == sent[-2]
        fate.append("away")
        page.keyboard.press("2")
        expect(page.get_by_role("alert")).to_contain_text("not saved yet")
        page.get_by_role("button", name="Take a break").click()
        expect(page.get_by_text("2 of 3 pairs are rated and saved.")).to_be_visible()
        assert [one.done for one in standing_of(served, study)] == [2]
        page.goto("about:blank")  # nobody has waited for it
        fate.clear()
        page.goto(link.url or "")
        expect(page.locator("h1")).to_have_text("Thank you")
    assert [one.done for one in standing_of(served, study)] == [3]


def test_what_was_rated_elsewhere_is_not_rated_again(served: Served, browser: Browser) -> None:
    study = ready_study(served)
    link = new_link(served, study)
    with opened(browser, served.url, start=link.url or "", allowed=("409",)) as page:
        begun(page)
        with opened(browser, served.url, start=link.url or "") as other:
            begun(other)
            other.keyboard.press("1")
            expect(other.locator("h1")).to_have_text("Pair 2 of 2")
        page.keyboard.press("3")
        expect(page.locator("#said")).to_contain_text("rated elsewhere")
        expect(page.locator("h1")).to_have_text("Pair 2 of 2")
    assert [one.done for one in standing_of(served, study)] == [1]


def test_nobody_is_left_out_of_a_study(served: Served, browser: Browser) -> None:
    with opened(browser, served.url, start="/rate", allowed=("403", "503", "ERR_"), **looks.PHONE) as page:
        found = looks.faults(page, rating_looks(served, page))
    assert not found, "\n".join(found)


def test_back_and_forward_lead_to_the_pair_that_is_next(served: Served, browser: Browser) -> None:
    study = ready_study(served)
    link = new_link(served, study)
    with opened(browser, served.url) as page:
        page.goto(link.url or "")
        begun(page)
        page.keyboard.press("1")
        expect(page.locator("h1")).to_have_text("Pair 2 of 2")
        page.go_back()
        page.go_forward()
        page.reload()
        expect(page.locator("h1")).to_have_text("Welcome back")
        begun(page, "Go on")
        expect(page.locator("h1")).to_have_text("Pair 2 of 2")
        page.keyboard.press("3")
        expect(page.locator("h1")).to_have_text("Thank you")
    assert [(one.done, one.total) for one in standing_of(served, study)] == [(2, 2)]


def test_a_link_that_opens_nothing_says_why(served: Served, browser: Browser) -> None:
    study = ready_study(served, raters=3)
    good, over, gone = (new_link(served, study, **asked) for asked in ({}, {"days": 1e-6}, {}))
    httpx.delete(f"{served.url}/v1/studies/{study.id}/links/{gone.id}")
    with opened(browser, served.url, start="/rate", allowed=("401", "403", "404")) as page:
        expect(page.locator("h1")).to_have_text("This link is not whole")
        for address, title in (
            (str(good.url)[:-1], "This link is not whole"),
            (str(good.url)[:-4] + "AAAA", "This link is not whole"),
            (over.url, "This link has expired"),
            (gone.url, "This link was withdrawn"),
        ):
            page.goto("about:blank")
            page.goto(address or "")
            expect(page.locator("h1")).to_have_text(title)
            expect(page.get_by_role("alert")).not_to_be_empty()
        page.goto(str(good.url))
        begun(page)
        httpx.delete(f"{served.url}/v1/studies/{study.id}")
        page.keyboard.press("1")
        expect(page.locator("h1")).to_have_text("This study is gone")
