"""A job that is watched while it runs: its events as they happen, its frames before it is complete."""

import io
import json
import re
from collections.abc import Iterator
from typing import Any

import av
import httpx
import pytest

from stages.presets import TINY, plan
from tests.e2e.rig import WINDOWS, Rig, slowly

pytestmark = pytest.mark.slow

FRAMES = plan(TINY, "a fox").frames


def sse(rig: Rig, video_id: str, **headers: str) -> Iterator[dict[str, Any]]:
    """Events of a stream, each checked against its own lines."""
    with rig.http.stream("GET", f"/v1/videos/{video_id}/events", headers=headers, timeout=120.0) as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        lines: dict[str, str] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name in ("id", "event", "data"):
                lines[name] = value
            elif not line and lines:
                event = json.loads(lines["data"])
                assert (str(event["id"]), event["kind"]) == (lines["id"], lines["event"])
                yield event
                lines = {}


def test_every_stage_is_told_and_a_broken_stream_goes_on(rig: Rig) -> None:
    video_id = rig.create(seed=21).id
    told = []
    for event in sse(rig, video_id):
        told.append(event)
        if event["kind"] == "keyframe_ready":
            break
    picture = rig.http.get(f"/v1/videos/{video_id}/content", params={"variant": "keyframe"})
    assert picture.headers["content-type"] == "image/png"
    rest = list(sse(rig, video_id, **{"Last-Event-ID": str(told[-1]["id"])}))
    assert all(event["id"] >= told[-1]["id"] for event in rest)
    kinds = [event["kind"] for event in told + rest]
    assert kinds[0] == "queued"
    assert kinds[-1] == "completed"
    assert kinds.count("stage_completed") == 4
    assert kinds.count("chunk_ready") >= WINDOWS - 1  # the last one may be safe only after the end
    assert {"preview_ready", "stage_progress", "stage_kept"} <= set(kinds)
    stored = [event for event in told + rest if event["kind"] != "stage_progress"]
    assert [event["id"] for event in stored] == [event.seq for event in rig.events(video_id)]


def test_the_video_plays_before_it_is_complete(rig: Rig) -> None:
    video_id = rig.create(seed=22, **slowly("v2v")).id
    with rig.http.stream("GET", f"/v1/videos/{video_id}/stream", timeout=120.0) as answer:
        assert answer.status_code == 200
        assert re.fullmatch(r'video/mp4; codecs="avc1\.[0-9a-f]{6}"', answer.headers["content-type"])
        pieces = answer.iter_raw()
        first = next(pieces)
        assert rig.retrieve(video_id).status == "in_progress"
        whole = first + b"".join(pieces)
    assert rig.ended(video_id).status == "completed"
    again = rig.http.get(f"/v1/videos/{video_id}/stream").content
    for data in (whole, again):
        with av.open(io.BytesIO(data)) as container:
            assert sum(1 for _ in container.decode(video=0)) == FRAMES


def test_a_stream_of_a_job_that_fails_is_refused(rig: Rig) -> None:
    video_id = rig.create(seed=23).id
    rig.http.post(f"/v1/videos/{video_id}/cancel")
    rig.ended(video_id)
    answer = rig.http.get(f"/v1/videos/{video_id}/stream")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "video_not_ready")
    assert [event["kind"] for event in sse(rig, video_id)][-1] == "cancelled"


def test_a_synchronous_post_answers_with_the_end(rig: Rig) -> None:
    body, json = {"prompt": "a fox"}, {"accept": "application/json"}
    said = httpx.post(f"{rig.url}/v1/videos/sync", json=body, headers=json, timeout=120.0)
    assert (said.status_code, said.json()["status"]) == (200, "completed")
    made = httpx.post(f"{rig.url}/v1/videos/sync", json=body, timeout=120.0)  # as curl and vLLM-Omni's scripts do
    assert (made.status_code, made.headers["content-type"]) == (200, "video/mp4")
    with av.open(io.BytesIO(made.content)) as container:
        assert sum(1 for _ in container.decode(video=0)) == FRAMES
    job = rig.retrieve(made.headers["x-video-id"])
    assert made.headers["x-inference-time-s"] == str(job.inference_time_s)
    assert job.url is not None
    assert httpx.get(job.url).content == made.content
    assert sum(job.stage_durations.values()) > 0
