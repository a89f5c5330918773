"""A study on a `Served` that is ready for raters, whose links a browser opens."""

import time
from collections.abc import Callable, Iterator, Sequence
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


def ready_study(served: Served, pictures: Pictures = frames, names: Sequence[str] = SYSTEMS, **asked: Any) -> Study:
    """Of these systems, each with a finished job for every prompt; by itself one question, two pairs and no checks."""
    systems = []
    for row, name in enumerate(names):
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
        **dict.fromkeys(("training", "identical", "swapped", "spoiled"), 0),
        "seed": 7,
        **asked,
    }
    answer = httpx.post(f"{served.url}/v1/studies", json=body)
    assert answer.status_code == 200, answer.text
    end = time.monotonic() + 120
    while (study := Study.model_validate(answer.json())).state == "preparing":
        assert time.monotonic() < end, "waited 120 s for the study"
        time.sleep(0.05)
        answer = httpx.get(f"{served.url}/v1/studies/{study.id}")
    assert study.state == "ready", study.error
    return study


def new_link(served: Served, study: Study, **asked: Any) -> RaterLink:
    answer = httpx.post(f"{served.url}/v1/studies/{study.id}/links", json={"count": 1, **asked})
    assert answer.status_code == 200, answer.text
    return RaterLink.model_validate(answer.json()["data"][0])


def crowd(served: Served, study: Study, raters: int) -> None:
    """All the votes of so many new raters, who say left to what is odd and same to what is even, but one all right."""
    for number in range(raters):
        token = str(new_link(served, study).url).partition("#")[2]
        with httpx.Client(base_url=served.url, headers={"Authorization": f"Bearer {token}"}) as http:
            standing = http.get("/v1/rate").json()
            while trial := standing["next"]:
                choice = "right" if number == 0 else ("same", "left")[trial["number"] % 2]
                choices = {criterion.name: choice for criterion in study.criteria}
                answer = http.post(
                    "/v1/rate/votes", json={"trial": trial["id"], "choices": choices, "watched_s": 2.0 + number}
                )
                assert answer.status_code == 200, answer.text
                standing = answer.json()


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
    page.route("**/left", lambda route: route.fulfill(body=b"no video", content_type="video/mp4"))
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_role("alert")).to_contain_text("cannot play")
    page.unroute("**/left")
    yield "cannot play"
    page.get_by_role("button", name="Try again").click()
    page.route("**/right", lambda route: route.abort())
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_role("alert")).to_contain_text("cannot be fetched")
    page.unroute("**/right")
    yield "no videos"
    yield from played(page)
    yield "practice"
    page.locator("[data-choice=left]").dblclick()
    expect(page.get_by_text("Question 2 of 3", exact=True)).to_be_visible()
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
            page.get_by_role("button", name="Take a break").click()
            expect(page.get_by_text("One answer more is not saved yet.")).to_be_visible()
            yield "a break"
            page.unroute("**/v1/rate/votes")
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


def owner_looks(served: Served, page: Page, pictures: Pictures = frames) -> Iterator[str]:
    """The name of a state of an owner's views of studies while the page is in it."""
    page.goto("/#/studies")
    expect(page.get_by_text("There is none yet")).to_be_visible()
    yield "no study"
    names = ("tiny, 14 steps", "tiny, 6 steps", "tiny, 14 steps, without V2V")
    study = ready_study(served, pictures, names, criteria=None, raters=12, identical=1, min_watch_s=1)
    page.goto("/?again#/studies")
    page.get_by_role("link", name=study.title).click()
    expect(page.get_by_text("too few votes").first).to_be_visible()
    yield "no votes"
    page.get_by_label("Links (of 12 that are free)").fill("2")
    page.get_by_role("button", name="Make the links").click()
    expect(page.locator(".raters li")).to_have_count(2)
    crowd(served, study, 8)
    page.goto("/#/studies")
    expect(page.get_by_text("10 of 12 raters have a link")).to_be_visible()
    yield "studies"
    page.get_by_role("link", name=study.title).click()
    expect(page.get_by_role("heading", name="Ranking")).to_be_visible()
    yield "results"
    for summary in page.locator("summary").all():
        summary.click()
    page.get_by_role("button", name="Revoke", exact=True).first.click()
    yield "results, open"
    page.get_by_role("button", name="Revoke the link of rater").click()
    expect(page.locator(".raters")).to_contain_text("revoked")
    yield "revoked"
    page.goto("/#/study/study_nope")
    expect(page.locator("h1")).to_have_text("There is no such study")
    yield "no such study"
