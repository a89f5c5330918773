"""`POST /v1/videos/sync`: the bytes as vLLM-Omni answers them, the job for who takes JSON, and jobs that do not end."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from client.schema import Video
from deployments.api.headers.accept import prefers
from deployments.jobs.values import Update
from deployments.settings.application import AppArgs, IngressArgs
from tests.deployments.rig import BODY, CONTENT, PEAKS, Rig, error_of

SYNC = "/v1/videos/sync"


async def queued(rig: Rig) -> None:
    """Return once there is a job to claim."""
    async with asyncio.timeout(30):
        while not rig.journal.counts().get("queued"):
            await asyncio.sleep(0.01)


async def posted(rig: Rig, path: str = SYNC, **headers: str) -> httpx.Response:
    """The answer, after the job has ended."""

    async def finish() -> None:
        await queued(rig)
        rig.finish()

    answer, _ = await asyncio.gather(rig.http.post(path, json=BODY, headers=headers), finish())
    return answer


async def test_whoever_takes_anything_gets_the_video_and_what_was_measured(rig: Rig) -> None:
    answer = await posted(rig)  # Accept: */*, as curl sends it
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "video/mp4", CONTENT)
    job = Video.model_validate_json((await rig.http.get(f"/v1/videos/{answer.headers['x-video-id']}")).content)
    assert answer.headers["content-disposition"] == f'attachment; filename="{job.file_name}"'
    assert job.file_name == f"{job.id}.mp4"
    assert (answer.headers["x-model"], answer.headers["x-inference-time-s"]) == ("tiny", str(job.inference_time_s))
    assert job.stage_durations == dict.fromkeys(("t2i", "i2v", "v2v", "vfi"), 2.0)
    assert json.loads(answer.headers["x-stage-durations"]) == job.stage_durations
    assert job.peak_memory_mb == max(peak for peak in PEAKS.values() if peak is not None)
    assert [stage.peak_memory_mb for stage in job.stages] == list(PEAKS.values())


@pytest.mark.parametrize(
    ("path", "accept", "kind"),
    [
        (SYNC, "application/json", "application/json"),  # OpenAI's SDKs
        (f"{SYNC}?format=json", "*/*", "application/json"),
        (f"{SYNC}?format=mp4", "application/json", "video/mp4"),
        (SYNC, "application/json, text/plain, */*", "application/json"),  # axios
        (SYNC, "video/mp4", "video/mp4"),
    ],
)
async def test_format_and_accept_say_what_is_answered(rig: Rig, path: str, accept: str, kind: str) -> None:
    answer = await posted(rig, path, accept=accept)
    assert (answer.status_code, answer.headers["content-type"], answer.headers["x-model"]) == (200, kind, "tiny")
    if kind == "application/json":
        assert answer.json()["status"] == "completed"


@pytest.mark.parametrize(
    ("accept", "first"),
    [
        (None, True),
        ("", True),
        ("*/*", True),
        ("video/*", True),
        ("text/html,application/xhtml+xml,*/*;q=0.8", True),
        ("video/mp4;q=0.2, application/json;q=0.5", False),
        ("video/mp4;q=x, application/json;q=0.5", True),
        ("application/*, */*;q=0.1", False),
        ("video/mp4, application/json", True),
    ],
)
def test_of_two_types_the_one_that_is_taken_more_gladly(accept: str | None, first: bool) -> None:
    assert prefers(accept, "video/mp4", "application/json") is first


async def test_a_format_that_there_is_not_is_refused(rig: Rig) -> None:
    error = error_of(await rig.http.post(f"{SYNC}?format=gif", json=BODY), 400)
    assert (error.param, error.message) == ("format", "format is 'gif'; it must be one of: mp4, json.")
    assert rig.journal.counts() == {}


async def test_who_waits_for_bytes_is_told_of_a_job_that_has_none(rig: Rig) -> None:
    async def cancel() -> None:
        await queued(rig)
        rig.journal.request_cancel(rig.journal.page()[0][0].id)

    answer, _ = await asyncio.gather(rig.http.post(SYNC, json=BODY), cancel())
    assert "failed (cancelled: The job was cancelled.)" in error_of(answer, 409).message
    rig.app = rig.served(AppArgs(ingress=IngressArgs(sync_limit_s=0.01)))
    slow = rig.client()
    answer = await slow.post(SYNC, json=BODY)
    error, video_id = error_of(answer, 504), answer.headers["location"]
    assert (error.code, answer.headers["x-video-id"]) == ("sync_timeout", video_id)
    assert f"Video {video_id} has not ended within 0.01 s and goes on" in error.message
    assert (await slow.get(f"/v1/videos/{video_id}")).json()["status"] == "queued"
    answer = await slow.post(SYNC, json=BODY, headers={"accept": "application/json"})
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")


@pytest.mark.parametrize("form", ["json", "mp4"])
async def test_a_job_that_pauses_is_answered_at_once(rig: Rig, form: str) -> None:
    async def pause() -> None:
        await queued(rig)
        rig.leases.pause(Update(rig.claim(), events=()), "t2i")

    body: dict[str, Any] = {**BODY, "pause_after": "t2i"}
    answer, _ = await asyncio.gather(rig.http.post(f"{SYNC}?format={form}", json=body), pause())
    if form == "mp4":
        assert "is paused; it goes on with POST /continue" in error_of(answer, 409).message
    else:
        assert (answer.status_code, answer.json()["status"]) == (202, "paused")
        assert answer.headers["location"] == answer.json()["id"]
