"""How soon a browser shows what there is: `python -m benchmarks.page [--quick]`.

Debian's Chromium opens the page of a job on the real application with stand-in stages (0.2, 0.4, 4 and 0.4 s). A reader
of the API follows the same job. The first fragment is there when the journal says so; the first frame is on the screen
when the browser has presented one of the element that plays the stream. Both are times of one machine's clock.

    first_frame_ms_after_fragment  worst of all jobs
    first_frame_ms_median          of them
    end_ms_after_first_frame       how long it had played when the job ended; median
    interactive_ms                 from asking for the page until its form takes a prompt; median of cold profiles
    page_kb                        bytes that come over the wire until then
    largest_kb                     of all files that the page is made of, read from disk

About two minutes; `--quick` takes fewer jobs. Needs Chromium (`make browser`).
"""

import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, Page, Request

from benchmarks.tools.result import parser_of, result
from client import Client
from cluster.server_process import free_port
from deployments.api.page import read_parts
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.server import LocalRay, Server, start, stop
from deployments.settings.application import AppArgs
from deployments.settings.reading import load_config
from deployments.settings.variants import laptop, rehearsal
from stages.replay import ReplayProfile
from stages.types import StageName

PROFILES: dict[StageName, ReplayProfile] = {
    "t2i": ReplayProfile(run_s=0.2, bytes_out=200_000),
    "i2v": ReplayProfile(run_s=0.4, bytes_out=800_000),
    "v2v": ReplayProfile(run_s=4.0, bytes_out=3_000_000),
    "vfi": ReplayProfile(run_s=0.2, bytes_out=20_000_000),
}
DEADLINE_S = 120.0
POLL_S = 0.02
STORE_BYTES = 512 * 2**20

WATCH = """() => {
    window.shown = null;
    const look = () => {
        const media = document.querySelector('.frame video[data-kind=stream]');
        if (!media) { requestAnimationFrame(look); return; }
        media.requestVideoFrameCallback((now, frame) => {
            if (media.currentTime >= 0) window.shown = performance.timeOrigin + frame.presentationTime;
        });
    };
    look();
}"""
READY = "form.prompt button[type=submit]:not(:disabled)"


def main(arguments: list[str] | None = None) -> None:
    options = parser_of("page", __doc__, quick="two jobs, three loads of the page").parse_args(arguments)
    jobs, loads = (2, 3) if options.quick else (12, 15)
    from tests.browser import chromium

    with tempfile.TemporaryDirectory(prefix="magicvideo-bench-") as folder, chromium() as browser:
        args = rehearsal(laptop(load_config(), data_dir=Path(folder)), PROFILES)
        server = start(args, host="127.0.0.1", port=free_port(), where=LocalRay(4, STORE_BYTES))
        try:
            interactive_ms, page_bytes = measure_loads(browser, server, loads)
            first_ms, before_end_ms = measure_streams(browser, server, args, jobs)
        finally:
            stop(server.temp_dir)
    result(
        "page",
        {
            "first_frame_ms_after_fragment": max(first_ms),
            "first_frame_ms_median": statistics.median(first_ms),
            "end_ms_after_first_frame": statistics.median(before_end_ms),
            "interactive_ms": interactive_ms,
            "page_kb": page_bytes / 1000,
            "largest_kb": sum(len(part.body) for part in read_parts().values()) / 1000,
        },
    )


def measure_loads(browser: Browser, server: Server, loads: int) -> tuple[float, int]:
    """(median ms until the form can be used, bytes of what came)."""
    taken_ms, sizes = zip(*(measure_load(browser, server.url) for _ in range(loads)), strict=True)
    print(f"interactive after {statistics.median(taken_ms):.0f} ms, {sizes[-1] / 1000:.0f} kB", flush=True)
    return statistics.median(taken_ms), sizes[-1]


def measure_load(browser: Browser, url: str) -> tuple[float, int]:
    """The same of one profile that knows nothing of the page."""
    with browser.new_context() as profile:
        page, came = profile.new_page(), list[Request]()
        page.on("requestfinished", lambda request: came.append(request))
        began = time.perf_counter()
        page.goto(url, wait_until="commit")
        page.locator(READY).wait_for()
        taken_ms = 1000 * (time.perf_counter() - began)
        page.wait_for_load_state("networkidle")
        return taken_ms, sum(request.sizes()["responseBodySize"] for request in came)


def measure_streams(browser: Browser, server: Server, args: AppArgs, jobs: int) -> tuple[list[float], list[float]]:
    """Of each job: (ms from its first fragment to its first frame, ms from there to its end)."""
    journal = Journal(Database(args.storage.database()))
    first_ms, before_end_ms = [], []
    try:
        with Client(server.url) as client, browser.new_context() as profile:
            page = profile.new_page()
            for seed in range(jobs):
                video = client.videos.create("a fox in a snowy forest at dusk", seed=seed)
                page.goto(f"{server.url}/?{seed}#/video/{video.id}")
                page.evaluate(WATCH)
                client.videos.wait(video.id, timeout_s=DEADLINE_S)
                shown_s = shown(page)
                events = journal.events(video.id)
                there_s = next(e.at for e in events if e.kind == "stage_kept" and e.data["stage"] == "vfi")
                first_ms.append(1000 * (shown_s - there_s))
                before_end_ms.append(1000 * (events[-1].at - shown_s))
                print(
                    f"job {seed}: first frame {first_ms[-1]:.0f} ms after its fragment, "
                    f"{before_end_ms[-1]:.0f} ms before the end",
                    flush=True,
                )
    finally:
        journal.database.close()
    return first_ms, before_end_ms


def shown(page: Page) -> float:
    """When a frame of the stream was on the screen first, in seconds since the epoch."""
    end = time.monotonic() + DEADLINE_S
    while (found := page.evaluate("window.shown")) is None:
        if time.monotonic() > end:
            raise RuntimeError(f"No frame of the stream was shown within {DEADLINE_S:g} s.")
        time.sleep(POLL_S)
    return float(found) / 1000


if __name__ == "__main__":
    main()
