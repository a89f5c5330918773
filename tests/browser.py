"""Debian's Chromium in the hands of a test, driven by Playwright; every complaint of the page fails the test."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; `make browser` installs Debian's")
_FLAGS = [
    f"--{name}"
    for name in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "mute-audio",
    )
]


@contextmanager
def chromium() -> Iterator[Browser]:
    expect.set_options(timeout=120_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(
    browser: Browser, url: str, allowed: tuple[str, ...] = (), start: str = "/", **context: Any
) -> Iterator[Page]:
    """A page of a profile of its own. At the end nothing may stand in its console but what holds one of `allowed`."""
    with browser.new_context(base_url=url, **context) as profile:
        page = profile.new_page()
        page.set_default_timeout(120_000)
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
        page.goto(start)
        yield page
        page.close()
    left = [line for line in complaints if not any(part in line for part in allowed)]
    assert not left, left
