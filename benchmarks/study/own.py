"""A study of our own on a running server with the tiny preset: `python -m benchmarks.study.own --url URL`.

14 denoising steps against 6, and with against without V2V, 24 prompts each. Simulated raters vote through their links
as a page would: a video that stands still for most of its time is worse, of others mostly the sharper one is better,
and what is about as sharp is the same. It shows that the whole path works; no human has voted, so it says nothing of
the videos. Writes results and pictures to the folder `--out`. Killed and run again, it goes on where it was.
"""

import argparse
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.console import Console

from benchmarks.tools.prompts import asked
from client import Client
from client._many.study_sets import obtain, understand
from client.schema_studies import QUESTIONS, RaterLink
from stages.measures import pixels
from stages.media.videos import video_frames
from stages.training.scenes.captions import plain_caption

TITLE = "Which video is better?"  # raters read it, so it tells no system
STUDIES = {
    "steps": ("preset=tiny,steps=14", "preset=tiny,steps=6"),
    "v2v": ("preset=tiny,until=v2v", "preset=tiny,until=i2v"),
}
PROMPTS, RATERS = 24, 8
RELIABILITY, ALIKE = 0.85, 0.02  # share of votes that look; part by which sharpness must differ
STILL = 0.15  # grey levels
POLL_S = 0.5

console = Console(stderr=True)


def look(data: bytes) -> tuple[bool, float]:
    """Whether most frames are followed by another one, and how sharp they are."""
    frames = np.stack([shown.pixels() for shown in video_frames(data)])
    steps = np.abs(np.diff(frames.astype(np.float32), axis=0)).mean((1, 2, 3))
    return bool(np.median(steps) > STILL), pixels.sharpness(frames)


def rate(link: RaterLink, seen: dict[bytes, tuple[bool, float]], *, to_a_pair: bool = False) -> bool:
    """One simulated rater, to the end of their trials; or to one that is neither for practice nor a check, if there is
    one.
    """
    base, _, token = (link.url or "").partition("/rate#")
    chance = random.Random(link.id)
    with httpx.Client(base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=60) as person:
        state: dict[str, Any] = person.get("/v1/rate").raise_for_status().json()
        while (trial := state["next"]) is not None:
            left, right = (person.get(trial[side]).raise_for_status().content for side in ("left", "right"))
            for data in (left, right):
                if data not in seen:
                    seen[data] = look(data)
            (left_moves, one), (right_moves, other) = seen[left], seen[right]
            if to_a_pair and not trial["training"] and left != right and left_moves and right_moves:
                return True
            if chance.random() > RELIABILITY:
                choice = chance.choice(state["choices"])
            elif left_moves == right_moves and abs(one - other) <= ALIKE * max(one, other):
                choice = "same"
            else:
                choice = "left" if (left_moves, one) > (right_moves, other) else "right"
            body = {"trial": trial["id"], "choices": {"overall": choice}, "watched_s": state["min_watch_s"]}
            state = person.post("/v1/rate/votes", json=body).raise_for_status().json()
    return False


def show(address: str, path: Path) -> None:
    """A picture of a rater's page, of a rater who has begun."""
    from tests.browser import chromium

    with chromium() as browser:
        page = browser.new_page(viewport={"width": 960, "height": 640})
        page.set_default_timeout(120_000)
        page.goto(address)
        page.get_by_role("button", name="Go on").click()
        page.locator("[data-choice=left][aria-disabled=false]").wait_for()
        page.screenshot(path=path, type="jpeg", quality=80)


def main(arguments: Sequence[str] | None = None) -> None:
    said = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study.own", description=said)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--out", type=Path, default=Path("out/study"))
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    parser.add_argument("--numbers", action="store_true", help="also measure what takes a model")
    parser.add_argument("--screenshot", type=Path, help="also a JPEG of a pair of each, in Chromium")
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    prompts = [plain_caption(scene) for scene in asked(args.prompts)]
    criteria = [{"name": "overall", "question": QUESTIONS["overall"]}]
    with Client(args.url) as client:
        for name, sets in STUDIES.items():
            systems = obtain(client, understand(sets), prompts, 1, 0, console.print)
            study = client.studies.create(systems, title=TITLE, criteria=criteria, raters=RATERS)
            while study.state == "preparing":
                time.sleep(POLL_S)
                study = client.studies.retrieve(study.id)
            if study.error is not None:
                raise SystemExit(study.error)
            console.print(f"{study.id} is ready. {study.note or ''}")
            links = client.studies.links(study.id).data or client.studies.make_links(study.id).data
            seen: dict[bytes, tuple[bool, float]] = {}
            picture = args.screenshot and args.screenshot.with_stem(f"{args.screenshot.stem}-{name}")
            for link in links:
                if picture is not None and not picture.exists() and rate(link, seen, to_a_pair=True):
                    show(str(link.url), picture)
                rate(link, seen)
                console.print(f"rater {link.rater} of {len(links)} has voted")
            measured = client.studies.numbers(study.id)
            if args.numbers and measured.state == "pixels":
                measured = client.studies.measure(study.id)
            while measured.state == "measuring":
                time.sleep(POLL_S)
                measured = client.studies.numbers(study.id)
            results = client.studies.results(study.id)
            (args.out / f"{name}.json").write_text(results.model_dump_json(indent=2))
            (args.out / f"{name}.png").write_bytes(client.studies.plot(study.id))
            [found] = results.comparisons
            console.print(
                f"{name}: {found.good}/{found.same}/{found.bad}, verdict {found.verdict}; simulated raters, no human"
            )


if __name__ == "__main__":
    main()
