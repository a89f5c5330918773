"""The page in every state: open to everybody (axe-core finds nothing), narrow enough for a phone, and small."""

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, expect

from deployments.api.page import reached, read_parts
from deployments.tenants.keys import KeyBook
from tests.browser import chromium, needs_chromium, opened
from tests.deployments.api.looks import PHONE, faults, looks
from tests.deployments.api.served import Served

pytestmark = pytest.mark.slow

BUDGET_BYTES = 150_000  # of all that the page is made of, as it is on disk
RATE_BYTES = 65_000  # of all that a rater's page loads


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def test_the_page_is_small_and_its_files_too() -> None:
    parts = read_parts()
    rates = reached(parts, "rate.html")
    assert sum(len(parts[name].body) for name in parts.keys() - (rates - reached(parts, "index.html"))) <= BUDGET_BYTES
    assert sum(len(parts[name].body) for name in rates) <= RATE_BYTES
    assert {name for name, part in parts.items() if part.body.count(b"\n") > 400} == set()


@needs_chromium
def test_nobody_is_left_out_in_any_state(served: Served, browser: Browser) -> None:
    with opened(browser, served.url, reduced_motion="reduce", **PHONE) as page:
        found = faults(page, looks(served, page))
    assert not found, "\n".join(found)


@needs_chromium
def test_nobody_is_left_out_at_the_door(served: Served, browser: Browser) -> None:
    KeyBook(served.journal.database).create("ours")
    with opened(browser, served.url, allowed=("401",)) as page:
        expect(page.get_by_label("API key")).to_be_visible()
        assert Axe().run(page).response["violations"] == []
