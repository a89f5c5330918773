"""Studies for tests: small videos that jobs are finished with, and a study of them that is ready for raters."""

import asyncio
import time
from typing import Any

import httpx
import numpy as np

from client.schema_studies import Rating, Study
from deployments.files.mp4 import encode_chunk, join_chunks
from stages.types import Clip, UInt8
from tests.deployments.rig import Rig, create

PROMPTS = ("a fox", "an owl", "a whale", "a robot")
OVERALL = [{"name": "overall", "question": "Which video is better?"}]
FRAMES, FPS = 46, 24.0  # as the tiny preset plans for the shortest video


def clip(hue: int, frames: int = FRAMES, side: int = 64) -> UInt8:
    """(frames, side, side, 3): a square that moves over a ground of one colour."""
    made = np.empty((frames, side, side, 3), np.uint8)
    made[:] = (60 + hue % 120, 90, 140 - hue % 90)
    for number in range(frames):
        at = 2 + number % (side - 18)
        made[number, at : at + 14, at : at + 14] = (240, 210, 120)
    return made


def mp4(rig: Rig, hue: int, *, fps: float = FPS, **shape: int) -> bytes:
    """As the pipeline's last stage would write it, its prompt and all in the comment."""
    path = rig.folder / f"{hue}.mp4"
    join_chunks([encode_chunk(Clip(clip(hue, **shape), fps))], path, {"prompt": "secret words", "preset": "tiny"})
    return path.read_bytes()


async def systems(rig: Rig, names: tuple[str, ...] = ("steps14", "steps6"), prompts: tuple[str, ...] = PROMPTS) -> Any:
    """The body's `systems`: a finished job for each video."""
    made = []
    for row, name in enumerate(names):
        videos = []
        for column, prompt in enumerate(prompts):
            job = await create(rig.http, prompt=prompt, seed=column)
            rig.finish(mp4(rig, 40 * row + 7 * column))
            videos.append({"prompt": prompt, "video_id": job.id})
        made.append({"name": name, "videos": videos})
    return made


async def ready(rig: Rig, client: httpx.AsyncClient | None = None, **asked: Any) -> Study:
    """A study whose videos are prepared."""
    client = client or rig.http
    if "systems" not in asked:
        asked["systems"] = await systems(rig)
    answer = await client.post(
        "/v1/studies", json={"criteria": OVERALL, "min_watch_s": 0, "seed": 7, "spoiled": 0, **asked}
    )
    assert answer.status_code == 200, answer.text
    study = await prepared(client, answer.json()["id"])
    assert study.state == "ready", study.error
    return study


async def prepared(client: httpx.AsyncClient, study_id: str) -> Study:
    """The study once its preparation is over."""
    end = time.monotonic() + 120
    while True:
        study = Study.model_validate((await client.get(f"/v1/studies/{study_id}")).json())
        if study.state != "preparing":
            return study
        assert time.monotonic() < end, f"waited 120 s for {study}"
        await asyncio.sleep(0.02)


async def links(client: httpx.AsyncClient, study_id: str, **asked: Any) -> list[Any]:
    answer = await client.post(f"/v1/studies/{study_id}/links", json=asked)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


def rater(rig: Rig, link: Any) -> httpx.AsyncClient:
    """Somebody who has opened a link."""
    return rig.client(authorization=f"Bearer {link['url'].partition('#')[2]}")


async def standing(client: httpx.AsyncClient) -> Rating:
    answer = await client.get("/v1/rate")
    assert answer.status_code == 200, answer.text
    return Rating.model_validate_json(answer.content)


async def vote(client: httpx.AsyncClient, trial: str, choice: str = "left", **more: Any) -> httpx.Response:
    body = {"trial": trial, "choices": {"overall": choice}, "watched_s": 3.0, **more}
    return await client.post("/v1/rate/votes", json=body)
