"""What newer `openai` packages ask for beside the plain Videos API, over a real port: edits, extensions, files, polls
that end; and the same as LiteLLM and other servers' clients write it.
"""

import io
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai import OpenAI
from openai.types import Video

from client.schema import StageState
from deployments.jobs.values import Update
from stages.types import STAGE_NAMES
from tests.deployments.api.served import Served
from tests.deployments.api.test_creating import PNG
from tests.deployments.rig import Rig, error_of

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


@pytest.fixture
def openai(served: Served) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def finished(served: Served) -> str:
    """The id of the next job, ended with a video."""
    claim = served.claim()
    made = served.store.put_bytes(b"video", f"videos/{claim.job_id}/1.mp4", "video/mp4")
    states = tuple(StageState(name=name, status="completed", progress=100, run_s=1.0) for name in STAGE_NAMES)
    served.leases.finish(Update(claim, states), "succeeded", result=vars(made))
    return claim.job_id


def test_a_paused_job_ends_the_poll_of_the_sdk(served: Served, openai: OpenAI) -> None:
    video = openai.videos.create(prompt="a fox", extra_body={"pause_after": "t2i", "candidates": 3})
    served.leases.pause(Update(served.claim()), "t2i")
    held: Any = openai.videos.poll(video.id, poll_interval_ms=1)
    assert (held.status, held.paused_after, held.candidates) == ("paused", "t2i", 3)
    httpx.post(f"{served.url}/v1/videos/{video.id}/continue", json={"candidate": 1})
    assert openai.videos.retrieve(video.id).status == "queued"
    finished(served)
    ended: Any = openai.videos.poll(video.id, poll_interval_ms=1)
    assert (ended.status, httpx.get(ended.url).content) == ("completed", b"video")


def test_edits_are_remixes_and_extensions_extend(served: Served, openai: OpenAI) -> None:
    parent = openai.videos.create(prompt="a fox", extra_body={"seed": 3})
    finished(served)
    form: Any = {"headers": {"content-type": "multipart/form-data"}}  # 3.57 refuses its own type, so by its transport
    edit = {"prompt": "a red fox", "video": {"id": parent.id}}
    child = openai.post("/videos/edits", cast_to=Video, body=edit, options=form, files=[])
    extension = {"prompt": "it runs", "seconds": "2", "video": {"id": parent.id}}
    longer = openai.post("/videos/extensions", cast_to=Video, body=extension, options=form, files=[])
    assert child.remixed_from_video_id == longer.remixed_from_video_id == parent.id
    requests = [served.journal.get(one.id).request for one in (child, longer)]
    assert [(one.prompt, one.seed, one.enter) for one in requests] == [("a red fox", 3, "t2i"), ("it runs", 4, "i2v")]
    by_file = openai.videos.edit(prompt="a red fox", video=("fox.mp4", io.BytesIO(b"video")))
    on = openai.videos.extend(prompt="it runs", seconds="2", video=("fox.mp4", b"video"))  # type: ignore[arg-type]
    assert by_file.remixed_from_video_id == on.remixed_from_video_id == parent.id
    http = httpx.Client(base_url=f"{served.url}/v1")
    again = http.post("/videos/edits", json={**edit, "seed": 9})  # LiteLLM sends JSON
    assert served.journal.get(again.json()["id"]).request.seed == 9
    said = http.post("/videos/extensions", json={"prompt": "it runs", "video": {"id": "video_x"}})
    assert error_of(said, 404).code == "video_not_found"


def test_a_file_is_sent_named_listed_and_deleted(served: Served, openai: OpenAI) -> None:
    file = openai.files.create(file=("fox.png", io.BytesIO(PNG), "image/png"), purpose="vision")
    assert (file.object, file.bytes, file.filename, file.status) == ("file", len(PNG), "fox.png", "processed")
    video = openai.videos.create(prompt="a fox", extra_body={"input_reference": {"file_id": file.id}})
    source = served.journal.get(video.id).request.source
    assert source is not None
    assert (source.kind, source.width) == ("picture", 40)
    short = openai.files.create(
        file=("a.png", PNG), purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert short.expires_at == short.created_at + 3600
    assert [one.id for one in openai.files.list(limit=1)] == [short.id, file.id]  # two pages
    assert openai.files.content(file.id).read() == PNG
    assert openai.files.delete(file.id).deleted
    assert [one.id for one in openai.files.list()] == [short.id]


async def test_a_video_that_comes_along_is_redrawn(rig: Rig) -> None:
    nothing = {"prompt": "a fox", "video": {}}
    error = error_of(await rig.http.post("/v1/videos/edits", json=nothing), 400)
    assert (error.param, error.message.partition(":")[0]) == ("video", "video holds one of")
    early = {"prompt": "a fox", "video": {"video_url": "data:video/mp4;base64,AAAA"}, "from_stage": "t2i"}
    assert error_of(await rig.http.post("/v1/videos/edits", json=early), 400).param == "from_stage"
    broken = await rig.http.post("/v1/videos/edits", data={"prompt": "a"}, files={"video": ("a.mp4", b"x")})
    assert error_of(broken, 400).code == "invalid_file"
    alone = await rig.http.post("/v1/videos/extensions", data={"prompt": "a"}, files={"video": ("a.mp4", b"x")})
    assert error_of(alone, 400).code == "not_extendable"
    assert error_of(await rig.http.post("/v1/videos/edits", json={"prompt": "a fox"}), 400).param == "video"
    assert rig.journal.counts() == {}


async def test_a_remix_may_be_asked_for_where_videos_are_made(rig: Rig) -> None:
    parent = await rig.create(seed=3)
    child = await rig.create(prompt="a red fox", remixed_from_video_id=parent.id, size="256x256", seconds="2")
    assert (child.remixed_from_video_id, child.seed, child.prompt) == (parent.id, 3, "a red fox")
    for more, param, said in (
        ({"seconds": "1"}, "seconds", "seconds is '1' and video"),
        ({"input_reference": {"image_url": "data:image/png;base64,AAAA"}}, "input_reference", "exclude each other"),
        ({"prompt": "a fox"}, "prompt", "Nothing would change"),
    ):
        body = {"prompt": "a red fox", "remixed_from_video_id": parent.id, **more}
        error = error_of(await rig.http.post("/v1/videos", json=body), 400)
        assert error.param == param
        assert said in error.message
    body = {"prompt": "a red fox", "remixed_from_video_id": "video_x"}
    assert error_of(await rig.http.post("/v1/videos", json=body), 404).code == "video_not_found"
