"""A study of our own on a running server with the tiny preset: `python -m benchmarks.study.own --url URL`.

14 denoising steps against 6, and with against without V2V, 24 prompts each. Simulated raters vote through their links
as a page would: they call equal files the same, and of others mostly the sharper one better. It shows that the whole
path works; no human has voted, so it says nothing of the videos. Writes results and pictures to the folder `--out`.
"""

import argparse
import random
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
from deployments.studies.numbers import of_pixels
from stages.media.videos import video_frames
from stages.training.scenes.captions import plain_caption

STUDIES = {
    "steps": ("preset=tiny,steps=14", "preset=tiny,steps=6"),
    "v2v": ("preset=tiny,until=v2v", "preset=tiny,until=i2v"),
}
PROMPTS, RATERS = 24, 8
RELIABILITY, ALIKE = 0.85, 0.02  # share of votes that look; part by which sharpness must differ

console = Console(stderr=True)


def sharpness(data: bytes) -> float:
    frames = np.stack([shown.pixels() for shown in video_frames(data)])
    return of_pixels(frames, 24.0, "")["sharpness"]


def rate(link: RaterLink, seen: dict[bytes, float]) -> None:
    """One simulated rater, to the end of their trials."""
    base, _, token = (link.url or "").partition("/rate#")
    chance = random.Random(link.id)
    with httpx.Client(base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=60) as person:
        state: dict[str, Any] = person.get("/v1/rate").raise_for_status().json()
        while (trial := state["next"]) is not None:
            left, right = (person.get(trial[side]).raise_for_status().content for side in ("left", "right"))
            for data in (left, right):
                seen.setdefault(data, sharpness(data))
            if chance.random() > RELIABILITY:
                choice = chance.choice(state["choices"])
            elif abs(seen[left] - seen[right]) <= ALIKE * max(seen[left], seen[right]):
                choice = "same"
            else:
                choice = "left" if seen[left] > seen[right] else "right"
            body = {"trial": trial["id"], "choices": {"overall": choice}, "watched_s": state["min_watch_s"]}
            state = person.post("/v1/rate/votes", json=body).raise_for_status().json()


def main(arguments: Sequence[str] | None = None) -> None:
    said = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study.own", description=said)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--out", type=Path, default=Path("out/study"))
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    prompts = [plain_caption(scene) for scene in asked(args.prompts)]
    criteria = [{"name": "overall", "question": QUESTIONS["overall"]}]
    with Client(args.url) as client:
        for name, sets in STUDIES.items():
            systems = obtain(client, [understand(said) for said in sets], prompts, 1, 0, console.print)
            study = client.studies.create(systems, title=f"tiny: {name}", criteria=criteria, raters=RATERS)
            while study.state == "preparing":
                study = client.studies.retrieve(study.id)
            console.print(f"{study.id} is {study.state}. {study.note or study.error or ''}")
            seen: dict[bytes, float] = {}
            for link in client.studies.make_links(study.id).data if not study.votes else ():
                rate(link, seen)
            results = client.studies.results(study.id)
            (args.out / f"{name}.json").write_text(results.model_dump_json(indent=2))
            (args.out / f"{name}.png").write_bytes(client.studies.plot(study.id))
            [found] = results.comparisons
            console.print(
                f"{name}: {found.good}/{found.same}/{found.bad}, verdict {found.verdict}; simulated raters, no human"
            )


if __name__ == "__main__":
    main()
