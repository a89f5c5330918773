"""Every state that the page can be in, one after the other: for tests of how it looks and whom it leaves out."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import httpx
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Page, expect

from stages.types import UInt8
from tests.deployments.api.making import SECOND, Making, frames
from tests.deployments.api.served import Served

Pictures = Callable[[int, int], UInt8]
"""(count, hue) to frames."""
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"}
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"}


def faults(page: Page, states: Iterable[str]) -> list[str]:
    """What axe-core finds in each state, and what is wider than the window: on a desktop and then on a phone.

    Every state is reached on a `PHONE`, the harder way. It has a mouse here: without one less is shown.
    """
    axe, found = Axe(), []
    for state in states:
        for name, manner in (("desktop", DESKTOP), ("phone", PHONE)):
            page.set_viewport_size(manner["viewport"])
            page.emulate_media(color_scheme=manner["color_scheme"])
            where = f"{name}, {state}"
            broken = axe.run(page).response["violations"]
            found += [f"{where}: {one['id']} at {node['html'][:120]}" for one in broken for node in one["nodes"]]
            wide = page.evaluate("document.documentElement.scrollWidth")
            if wide > manner["viewport"]["width"]:
                found.append(f"{where}: {wide} pixels wide")
    return found


def looks(served: Served, page: Page, pictures: Pictures = frames) -> Iterator[str]:
    """The name of a state while the page is in it."""

    def made(prompt: str, hue: int, parent: str | None = None) -> str:
        job = Making.of(served, parent) if parent else Making(served, prompt)
        job.stage("t2i", 100)
        job.picture(pictures(1, hue)[0])
        job.stage("i2v", 100)
        job.preview(pictures(16, hue))
        job.chunk(0, pictures(SECOND, hue))
        job.chunk(1, pictures(SECOND, hue))
        job.finish()
        return job.id

    def go(address: str) -> None:
        page.goto("/#/elsewhere")
        expect(page.locator("h1")).to_have_text("There is no such page")
        page.goto(f"/#/{address}")

    expect(page.get_by_text("Nothing yet")).to_be_visible()
    yield "home, empty"
    first = made("a fox walking through a snowy forest at dusk", 0)
    made("a robot jumping in a city at night", 30)
    made("a fat rabbit in a meadow, oil painting style", 60)
    again = httpx.post(f"{served.url}/v1/videos/{first}/remix", json={"seed": 8}).json()["id"]
    made("", 90, again)
    broken = Making(served, "an owl standing at a castle at night")
    broken.stage("t2i", 40)
    broken.fail("stage_failed", "RuntimeError: CUDA error: device-side assert triggered")
    chosen = Making(served, "a dragon floating in the desert", pause_after="t2i", candidates=3)
    for number in range(3):
        chosen.picture(pictures(1, 30 * number)[0], number)
    chosen.stage("t2i", 100)
    chosen.pause("t2i")
    running = Making(served, "a whale floating along a beach at dusk")
    running.stage("t2i", 100)
    running.stage("i2v", 60)
    running.picture(pictures(1, 60)[0])
    queued = served.create("a tractor moving across a farm by day, 3d render")
    served.create("a cute penguin hopping in the mountains, pencil sketch style, " + "in a prompt of many lines, " * 4)
    go("")
    expect(page.locator(".tile")).to_have_count(9)
    yield "home"
    page.get_by_text("Options", exact=True).click()
    page.get_by_text("What tiny can draw").click()
    yield "home, options"
    go("")
    page.get_by_role("button", name="Select", exact=True).click()
    page.get_by_role("checkbox").first.check()
    yield "home, choosing"
    go(f"video/{queued}")
    expect(page.locator(".status")).to_contain_text("Queued")
    yield "queued"
    go(f"video/{running.id}")
    expect(page.get_by_alt_text("The reference picture")).to_be_visible()
    yield "running"
    running.stage("i2v", 100)
    running.preview(pictures(16, 60))
    running.stage("v2v", 45)
    running.stage("vfi", 20)
    expect(page.get_by_label("Preview in low resolution")).to_be_visible()
    running.chunk(0, pictures(SECOND, 60))
    expect(page.get_by_label("The video while it is made")).to_be_visible()
    yield "running, plays"
    go(f"video/{chosen.id}")
    expect(page.get_by_role("button", name="Go on with picture")).to_have_count(3)
    yield "choosing"
    go(f"video/{broken.id}")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    yield "failed"
    go(f"video/{again}")
    expect(page.locator("video[data-kind=content]:not(.coming)")).to_be_visible()
    yield "done"
    page.get_by_text("How it was made").click()
    page.get_by_text("Copy", exact=True).click()
    yield "done, copy"
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Side by side").click()
    expect(page.locator(".sides video")).to_have_count(2)
    yield "done, side by side"
    page.get_by_role("button", name="Remix").click()
    yield "done, remix"
    go("pools")
    expect(page.locator(".pool")).to_have_count(4)
    yield "pools"
    page.goto("/#/elsewhere")
    yield "no such page"
    page.goto("/docs")
    expect(page.get_by_role("heading", name="POST /v1/videos", exact=True)).to_be_visible()
    yield "docs"
