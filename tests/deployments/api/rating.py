"""A study on a `Served` that is ready for raters, whose links a browser opens."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
from playwright.sync_api import Page, expect

from client.schema_studies import RaterLink, Study
from stages.types import UInt8
from tests.deployments.api.making import SECOND, Making, frames
from tests.deployments.api.served import Served

Pictures = Callable[[int, int], UInt8]
"""(count, hue) to frames."""
SYSTEMS = ("secret-fourteen", "secret-six")
PROMPTS = ("a fox at dusk", "an owl at night")
OVERALL = [{"name": "overall", "question": "Which video is better?"}]
SIDES = {"left": "Left is better", "same": "Same", "right": "Right is better"}


def ready_study(served: Served, pictures: Pictures = frames, **asked: Any) -> Study:
    """Of two systems, each with a finished job for every prompt; by itself one question, two pairs and no checks."""
    systems = []
    for row, name in enumerate(SYSTEMS):
        videos = []
        for column, prompt in enumerate(PROMPTS):
            job = Making(served, prompt, seconds="1")
            job.chunk(0, pictures(SECOND, 60 * row + 20 * column))
            job.finish()
            videos.append({"prompt": prompt, "video_id": job.id})
        systems.append({"name": name, "videos": videos})
    body = {
        "systems": systems,
        "criteria": OVERALL,
        "raters": 2,
        "min_watch_s": 0.3,
        **dict.fromkeys(("training", "identical", "swapped"), 0),
        "seed": 7,
        **asked,
    }
    answer = httpx.post(f"{served.url}/v1/studies", json=body)
    assert answer.status_code == 200, answer.text
    end = time.monotonic() + 60
    while (study := Study.model_validate(answer.json())).state == "preparing":
        assert time.monotonic() < end, "waited 60 s for the study"
        time.sleep(0.05)
        answer = httpx.get(f"{served.url}/v1/studies/{study.id}")
    assert study.state == "ready", study.error
    return study


def new_link(served: Served, study: Study, **asked: Any) -> RaterLink:
    answer = httpx.post(f"{served.url}/v1/studies/{study.id}/links", json={"count": 1, **asked})
    assert answer.status_code == 200, answer.text
    return RaterLink.model_validate(answer.json()["data"][0])


def begun(page: Page, name: str = "Begin") -> None:
    """Into the first pair."""
    page.get_by_role("button", name=name, exact=True).click()
    answerable(page)


def answerable(page: Page) -> None:
    """Until both videos have played for as long as the study wants."""
    expect(page.locator("[data-choice=left]")).to_have_attribute("aria-disabled", "false")


def played(page: Page) -> Iterator[str]:
    """Until both have played, which they do when they are told to where less motion is asked for."""
    expect(page.locator(".loading")).to_have_count(0)
    play = page.get_by_role("button", name="Play", exact=True)
    if play.count():
        yield "stands still"
        play.click()
    answerable(page)


def rating_looks(served: Served, page: Page, pictures: Pictures = frames) -> Iterator[str]:
    """The name of a state of a rater's page while it is in it."""
    said = "Look at both videos to their end. Judge what you see, not what may have been meant."
    study = ready_study(served, pictures, criteria=None, training=1, instructions=said, show_prompt=True, min_watch_s=1)
    link, gone = new_link(served, study), new_link(served, study)
    expect(page.get_by_role("alert")).to_be_visible()
    yield "no link"
    page.goto(link.url or "")
    expect(page.get_by_role("button", name="Begin")).to_be_visible()
    yield "welcome"
    page.route("**/right", lambda route: route.abort(), times=1)
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_role("alert")).to_contain_text("cannot be fetched")
    yield "no videos"
    yield from played(page)
    yield "practice"
    page.locator("[data-choice=left]").click()
    expect(page.get_by_text("Question 2 of 3")).to_be_visible()
    yield "second question"
    page.locator("[data-choice=same]").click()
    page.locator("[data-choice=right]").click()
    expect(page.get_by_role("button", name="Next pair")).to_be_visible()
    yield "practised"
    page.get_by_role("button", name="Next pair").click()
    page.route("**/v1/rate/votes", lambda route: route.fulfill(status=503, headers={"Retry-After": "600"}))
    for number in range(2):
        list(played(page))
        for choice in ("left", "same", "right"):
            page.locator(f"[data-choice={choice}]").click()
        if number == 0:
            expect(page.get_by_role("alert")).to_contain_text("not saved yet")
            yield "not saved"
            page.unroute("**/v1/rate/votes")
            page.get_by_role("button", name="Take a break").click()
            expect(page.locator("h1")).to_have_text("A break")
            yield "a break"
            page.get_by_role("button", name="Go on").click()
            expect(page.locator("h1")).to_have_text("Welcome back")
            yield "welcome back"
            page.get_by_role("button", name="Go on").click()
    expect(page.locator("h1")).to_have_text("Thank you")
    yield "thank you"
    httpx.delete(f"{served.url}/v1/studies/{study.id}/links/{gone.id}")
    page.goto("about:blank")
    page.goto(gone.url or "")
    expect(page.locator("h1")).to_have_text("This link was withdrawn")
    yield "withdrawn"
