"""The owner's views of studies in a real browser: links to send, results, everybody let in."""

import csv
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser import chromium, needs_chromium, opened
from tests.deployments.api.looks import PHONE, faults
from tests.deployments.api.rating import SYSTEMS, crowd, owner_looks, ready_study
from tests.deployments.api.served import Served

pytestmark = [needs_chromium, pytest.mark.slow]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def test_links_are_made_copied_and_revoked_and_votes_are_seen(served: Served, browser: Browser) -> None:
    study = ready_study(served, raters=3)
    with opened(browser, served.url, start=f"/#/study/{study.id}", allowed=("403",)) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.get_by_label("Links (of 3 that are free)").fill("1")
        page.get_by_role("button", name="Make the links").click()
        page.get_by_role("button", name="Copy the link of rater 1").click()
        expect(page.locator("#said")).to_have_text("Copied: the link of rater 1.")
        link = page.evaluate("navigator.clipboard.readText()")
        with opened(browser, served.url, start=link) as rater:
            expect(rater.get_by_role("button", name="Begin")).to_be_visible()
        page.get_by_role("button", name="Revoke", exact=True).click()
        page.get_by_role("button", name="Revoke the link of rater 1").click()
        expect(page.locator("#said")).to_contain_text("Revoked")
        expect(page.get_by_label("Links (of 3 that are free)")).to_be_visible()
        page.goto(link)
        expect(page.locator("h1")).to_have_text("This link was withdrawn")
        crowd(served, study, 1)
        page.goto(f"/#/study/{study.id}")
        expect(page.get_by_text("1 vote of 1 rater")).to_have_count(0)
        expect(page.get_by_text("2 votes of 1 rater count.")).to_be_visible()
        expect(page.get_by_text("2 of 2, until")).to_be_visible()
        page.get_by_text("Automatic numbers beside the votes").click()
        page.get_by_role("button", name="Measure warp error").click()
        expect(page.locator("th", has_text="warp_error")).to_have_count(1, timeout=300_000)
        with page.expect_download() as saved:
            page.get_by_role("link", name="CSV").click()
        rows = list(csv.DictReader(saved.value.path().read_text().splitlines()))
        assert len(rows) == 2
        assert set(SYSTEMS) <= {value for row in rows for value in row.values()}
        page.get_by_role("button", name="Delete the study").click()
        page.get_by_role("button", name="Delete it with all votes").click()
        expect(page.get_by_text("There is none yet")).to_be_visible()


def test_nobody_is_left_out_of_the_results(served: Served, browser: Browser) -> None:
    with opened(browser, served.url, allowed=("404",), **PHONE) as page:
        found = faults(page, owner_looks(served, page))
    assert not found, "\n".join(found)
