"""The HTTP surface over a real journal and real files; what the pipeline would do is done by hand."""

import base64
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import PIL.Image
import pytest

from client.schema import ErrorBody, Health, JobError, Pools, StageState, Video, VideoList
from deployments.artifacts import ArtifactStore
from deployments.checkpoints import Keeper
from deployments.config import AppArgs, IngressArgs, KeeperArgs
from deployments.database import Database
from deployments.ingress import create_app
from deployments.job_types import Claim, Update
from deployments.jobs import Journal
from deployments.leases import Leases
from stages.mp4 import write_mp4
from stages.presets import MAX_PROMPT_CHARS, MAX_SEED
from stages.types import Clip, Image, Keyframes

CONTENT = bytes(range(256)) * 4


def png() -> bytes:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (40, 20), (200, 40, 40)).save(buffer, "PNG")
    return buffer.getvalue()


PNG = png()


class Rig:
    """The app, what lies behind it, and a client."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(Database(f"sqlite:///{folder}/jobs.sqlite"))
        self.leases = Leases(self.journal.database)
        self.store = ArtifactStore(f"file://{folder}/artifacts")
        self.folder = folder
        self.nudges = 0
        args = AppArgs(ingress=IngressArgs(max_queued_jobs=3, retry_after_s=7, max_body_bytes=5000, poll_after_ms=250))
        app = create_app(
            args, self.journal, self.store, nudge=self.nudge, health=self.health, show=Keeper(self.store.url).show
        )
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://test")

    async def nudge(self) -> None:
        self.nudges += 1

    @staticmethod
    def health() -> Health:
        return Health(status="ok", model="tiny", version="1", stages={"t2i": 1})

    async def create(self, **body: Any) -> Video:
        answer = await self.http.post("/v1/videos", json={"prompt": "a fox", **body})
        assert answer.status_code == 200, answer.text
        return Video.model_validate_json(answer.content)

    async def finished(self, content: bytes = CONTENT) -> str:
        """The id of a job with that content."""
        video = await self.create()
        claim = self.claim()
        path = self.folder / "made.mp4"
        path.write_bytes(content)
        made = self.store.put_file(path, f"videos/{video.id}/{claim.fence}.mp4")
        kept = {"key": made.key, "size_bytes": made.size_bytes, "sha256": made.sha256, "media_type": made.media_type}
        self.leases.finish(Update(claim), "succeeded", result=kept)
        return video.id

    def claim(self) -> Claim:
        claimed = self.leases.claim("test", 60.0)
        assert claimed is not None
        return claimed[0]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    yield made
    await made.http.aclose()
    made.journal.database.close()


def error_of(answer: httpx.Response, status: int) -> Any:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    return ErrorBody.model_validate_json(answer.content).error


async def test_a_created_video_is_queued_with_every_default_said(rig: Rig) -> None:
    answer = await rig.http.post("/v1/videos", json={"prompt": " a fox ", "seed": 7})
    video = Video.model_validate_json(answer.content)
    assert (video.status, video.progress, video.prompt, video.seed) == ("queued", 0, "a fox", 7)
    assert (video.size, video.seconds, video.model, video.frames, video.fps) == ("256x256", "2", "tiny", 46, 24.0)
    assert [stage.name for stage in video.stages] == ["t2i", "i2v", "v2v", "vfi"]
    assert answer.headers["openai-poll-after-ms"] == "250"
    again = await rig.http.get(f"/v1/videos/{video.id}")
    assert rig.nudges == 1
    assert Video.model_validate_json(again.content) == video


async def test_a_form_says_the_same_as_json(rig: Rig) -> None:
    fields = {"prompt": "a fox", "seed": "7", "guidance": "2.5", "steps": "4", "seconds": "1"}
    by_form = await rig.http.post("/v1/videos", files={name: (None, value) for name, value in fields.items()})
    urlencoded = await rig.http.post("/v1/videos", data=fields)
    requests = [rig.journal.get(answer.json()["id"]).request for answer in (by_form, urlencoded)]
    typed = await rig.create(seed=7, guidance=2.5, steps=4, seconds="1")
    assert requests == [rig.journal.get(typed.id).request] * 2


async def test_a_seed_that_is_not_given_is_drawn_and_said(rig: Rig) -> None:
    seeds = {(await rig.create()).seed for _ in range(3)}
    assert len(seeds) == 3


LONG = "x" * (MAX_PROMPT_CHARS + 1)
BAD_FIELDS: list[tuple[dict[str, Any], str, tuple[str, ...]]] = [
    ({"prompt": ""}, "prompt", ("empty",)),
    ({"prompt": "  \n"}, "prompt", ("empty",)),
    ({"prompt": LONG}, "prompt", (str(len(LONG)), str(MAX_PROMPT_CHARS))),
    ({"prompt": None}, "prompt", ("None",)),
    ({"prompt": 7}, "prompt", ("7", "string")),
    ({"prompt": "\ud800"}, "prompt", ("surrogate",)),
    ({"negative_prompt": LONG}, "negative_prompt", (str(MAX_PROMPT_CHARS),)),
    ({"model": "huge"}, "model", ("'huge'", "tiny, paper")),
    ({"model": "paper"}, "model", ("'tiny'", "'paper'")),
    ({"size": "512x512"}, "size", ("'512x512'", "256x256")),
    ({"size": "big"}, "size", ("'big'", "256x256")),
    ({"seconds": "60"}, "seconds", ("'60'", "2, 1")),
    ({"seconds": 2}, "seconds", ("2", "string")),
    ({"seed": -1}, "seed", ("-1", "0", str(MAX_SEED))),
    ({"seed": MAX_SEED + 1}, "seed", (str(MAX_SEED + 1), str(MAX_SEED))),
    ({"seed": 1.5}, "seed", ("1.5", "integer")),
    ({"seed": True}, "seed", ("True",)),
    ({"steps": 0}, "steps", ("0", "150")),
    ({"steps": 151}, "steps", ("151", "150")),
    ({"steps": "4"}, "steps", ("'4'", "integer")),
    ({"guidance": 0.5}, "guidance", ("0.5", "1 and 30")),
    ({"guidance": 31}, "guidance", ("31", "1 and 30")),
    ({"guidance": float("nan")}, "guidance", ("nan", "1 and 30")),
    ({"fps": 12}, "fps", ("'fps'", "prompt")),
]


@pytest.mark.parametrize(("body", "param", "words"), BAD_FIELDS)
async def test_a_bad_field_is_named_with_both_values_and_reaches_no_stage(
    rig: Rig, body: dict[str, Any], param: str, words: tuple[str, ...]
) -> None:
    text = json.dumps({"prompt": "a fox", **body})
    answer = await rig.http.post("/v1/videos", content=text, headers={"content-type": "application/json"})
    error = error_of(answer, 400)
    assert (error.type, error.param) == ("invalid_request_error", param)
    assert all(word in error.message for word in words), error.message
    assert "\n" not in error.message
    assert rig.journal.counts() == {}
    assert rig.nudges == 0


@pytest.mark.parametrize(
    ("body", "kind", "status", "word"),
    [
        ("{", "application/json", 400, "not JSON"),
        ('"a fox"', "application/json", 400, "JSON object"),
        ("[" * 3000, "application/json", 400, "not JSON"),
        ("\xff\xfe", "application/json", 400, "not JSON"),
        ("{}", "application/json", 400, "Field prompt is missing"),
        ('{"prompt": "a", "prompt": "b"}', "application/json", 400, "given twice"),
        ("prompt=a&prompt=b", "application/x-www-form-urlencoded", 400, "given twice"),
        ("prompt=a&steps=many", "application/x-www-form-urlencoded", 400, "'many'"),
        ("nonsense", "multipart/form-data", 400, "boundary"),
        ("a fox", "text/plain", 400, "'text/plain'"),
        ('{"prompt": "' + "x" * 6000 + '"}', "application/json", 413, "5000"),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused(rig: Rig, body: str, kind: str, status: int, word: str) -> None:
    answer = await rig.http.post("/v1/videos", content=body.encode("latin-1"), headers={"content-type": kind})
    error = error_of(answer, status)
    assert word in error.message
    assert rig.journal.counts() == {}


async def test_a_file_in_another_field_is_refused_by_its_name(rig: Rig) -> None:
    answer = await rig.http.post("/v1/videos", data={"prompt": "a fox"}, files={"mask": ("a.png", b"png", "image/png")})
    error = error_of(answer, 400)
    assert (error.param, error.code) == ("mask", "unknown_field")
    assert "files may be in input_reference and input_video" in error.message


async def test_one_key_makes_one_video(rig: Rig) -> None:
    headers = {"idempotency-key": "k"}
    answers = [await rig.http.post("/v1/videos", json={"prompt": "a fox"}, headers=headers) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert (rig.nudges, rig.journal.counts()) == (1, {"queued": 1})
    other = await rig.http.post("/v1/videos", json={"prompt": "a cat"}, headers=headers)
    assert error_of(other, 409).code == "idempotency_key_reused"
    long = await rig.http.post("/v1/videos", json={"prompt": "a fox"}, headers={"idempotency-key": "k" * 256})
    assert "256 characters" in error_of(long, 400).message


async def test_a_full_queue_says_when_to_come_back(rig: Rig) -> None:
    for _ in range(3):
        await rig.create()
    answer = await rig.http.post("/v1/videos", json={"prompt": "a fox"})
    error = error_of(answer, 429)
    assert (error.type, error.code, answer.headers["retry-after"]) == ("rate_limit_error", "queue_full", "7")
    assert "the limit is 3" in error.message


async def test_progress_and_stages_are_shown_while_it_runs(rig: Rig) -> None:
    video = await rig.create()
    claim = rig.claim()
    states = (
        StageState(name="t2i", status="completed", progress=100, queued_s=0.1, run_s=2.0, bytes_out=3000),
        StageState(name="i2v", status="running", progress=50),
    )
    rig.leases.record([Update(claim, states)])
    shown = Video.model_validate((await rig.http.get(f"/v1/videos/{video.id}")).json())
    assert shown.status == "in_progress"
    assert shown.stages[:2] == list(states)
    assert 0 < shown.progress < 100


async def test_a_failed_video_says_why_and_has_no_content(rig: Rig) -> None:
    video = await rig.create()
    rig.leases.finish(Update(rig.claim()), "failed", error=JobError(code="stage_failed", message="Stage v2v failed."))
    answer = await rig.http.get(f"/v1/videos/{video.id}")
    shown = Video.model_validate_json(answer.content)
    assert (shown.status, shown.error) == ("failed", JobError(code="stage_failed", message="Stage v2v failed."))
    assert "openai-poll-after-ms" not in answer.headers
    refused = error_of(await rig.http.get(f"/v1/videos/{video.id}/content"), 409)
    assert "Stage v2v failed." in refused.message


async def test_the_content_of_an_unfinished_video_is_a_conflict(rig: Rig) -> None:
    video = await rig.create()
    error = error_of(await rig.http.get(f"/v1/videos/{video.id}/content"), 409)
    assert (error.code, error.type) == ("video_not_ready", "conflict_error")
    assert "queued" in error.message


async def test_content_comes_whole_in_parts_and_never_from_another_file(rig: Rig) -> None:
    path = f"/v1/videos/{await rig.finished()}/content"
    whole = await rig.http.get(path)
    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, CONTENT, "video/mp4")
    assert (whole.headers["accept-ranges"], whole.headers["content-length"]) == ("bytes", str(len(CONTENT)))
    part = await rig.http.get(path, headers={"range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, CONTENT[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(CONTENT)}"
    tail = await rig.http.get(path, headers={"range": "bytes=-24", "if-range": whole.headers["etag"]})
    assert (tail.status_code, tail.content) == (206, CONTENT[-24:])
    changed = await rig.http.get(path, headers={"range": "bytes=-24", "if-range": '"another"'})
    assert (changed.status_code, changed.content) == (200, CONTENT)
    behind = await rig.http.get(path, headers={"range": f"bytes={len(CONTENT)}-"})
    error_of(behind, 416)
    assert behind.headers["content-range"] == f"bytes */{len(CONTENT)}"
    head = await rig.http.head(path)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(CONTENT)))
    assert error_of(await rig.http.get(path, params={"variant": "frames"}), 400).param == "variant"


async def test_a_contact_sheet_is_made_of_the_finished_video(rig: Rig, tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.arange(11, dtype=np.uint8)[:, None, None, None] * 20, (11, 32, 64, 3))
    write_mp4(tmp_path / "ramp.mp4", [Clip(ramp, 24.0)])
    path = f"/v1/videos/{await rig.finished((tmp_path / 'ramp.mp4').read_bytes())}/content"
    answer = await rig.http.get(path, params={"variant": "spritesheet"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    thumbnail = await rig.http.get(path, params={"variant": "thumbnail"})
    assert (thumbnail.status_code, thumbnail.headers["content-type"]) == (200, "image/webp")
    assert np.asarray(PIL.Image.open(io.BytesIO(thumbnail.content))).shape == (32, 64, 3)
    sheet = np.asarray(PIL.Image.open(io.BytesIO(answer.content)))
    assert sheet.shape == (32, 6 * 64, 3)
    assert np.abs(sheet[16, 32::64].mean(-1) - [0, 40, 80, 120, 160, 200]).max() < 6


async def test_pages_are_walked_with_after(rig: Rig) -> None:
    empty = VideoList.model_validate((await rig.http.get("/v1/videos")).json())
    assert (empty.data, empty.first_id, empty.has_more) == ([], None, False)
    ids = [(await rig.create()).id for _ in range(3)]
    first = VideoList.model_validate((await rig.http.get("/v1/videos", params={"limit": 2})).json())
    assert ([video.id for video in first.data], first.has_more) == ([ids[2], ids[1]], True)
    rest = await rig.http.get("/v1/videos", params={"limit": 2, "after": str(first.last_id)})
    assert ([video["id"] for video in rest.json()["data"]], rest.json()["has_more"]) == ([ids[0]], False)
    oldest = await rig.http.get("/v1/videos", params={"limit": 1, "order": "asc"})
    assert oldest.json()["first_id"] == ids[0]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"limit": "0"}, 400),
        ({"limit": "101"}, 400),
        ({"limit": "ten"}, 400),
        ({"limit": "9" * 5000}, 400),
        ({"order": "newest"}, 400),
        ({"after": "video_nobody"}, 404),
    ],
)
async def test_a_page_that_does_not_exist_is_refused(rig: Rig, query: dict[str, str], status: int) -> None:
    error = error_of(await rig.http.get("/v1/videos", params=query), status)
    assert error.param == next(iter(query))
    assert len(error.message) < 300


@pytest.mark.parametrize("video_id", ["video_nobody", "%2e%2e%2fetc", "a%00b", "' OR 1=1 --", "x" * 2000])
async def test_an_unknown_id_is_not_found(rig: Rig, video_id: str) -> None:
    for method, path in (("GET", ""), ("GET", "/content"), ("POST", "/cancel"), ("DELETE", "")):
        answer = await rig.http.request(method, f"/v1/videos/{video_id}{path}")
        assert answer.status_code == 404
        ErrorBody.model_validate_json(answer.content)


async def test_cancel_stops_what_has_not_ended_and_says_so_otherwise(rig: Rig) -> None:
    queued = await rig.create()
    for _ in range(2):
        answer = await rig.http.post(f"/v1/videos/{queued.id}/cancel")
        video = Video.model_validate(answer.json())
        assert (answer.status_code, video.status) == (200, "failed")
        assert video.error is not None
        assert video.error.code == "cancelled"
    running = await rig.create()
    held = rig.claim()
    nudges = rig.nudges
    asked = Video.model_validate((await rig.http.post(f"/v1/videos/{running.id}/cancel")).json())
    assert (asked.status, rig.journal.get(running.id).cancel_requested) == ("in_progress", True)
    assert rig.nudges == nudges + 1
    rig.leases.finish(Update(held), "succeeded", result={"key": "k", "size_bytes": 1, "sha256": "s"})
    ended = error_of(await rig.http.post(f"/v1/videos/{running.id}/cancel"), 409)
    assert (ended.code, "is completed; only an unfinished one" in ended.message) == ("video_ended", True)


async def test_delete_cancels_what_runs_and_forgets_what_ended(rig: Rig) -> None:
    queued = await rig.create()
    gone = {"id": queued.id, "object": "video.deleted", "deleted": True}
    assert (await rig.http.delete(f"/v1/videos/{queued.id}")).json() == gone
    cancelled = Video.model_validate((await rig.http.get(f"/v1/videos/{queued.id}")).json())
    assert cancelled.status == "failed"
    assert cancelled.error is not None
    assert cancelled.error.code == "cancelled"
    running = await rig.create()
    claim, nudges = rig.claim(), rig.nudges
    await rig.http.delete(f"/v1/videos/{running.id}")
    assert rig.journal.get(running.id).cancel_requested
    assert rig.nudges == nudges + 1
    rig.leases.finish(Update(claim), "cancelled", error=cancelled.error)
    done = await rig.finished()
    key = (rig.journal.get(done).result or {})["key"]
    assert rig.store.exists(key)
    await rig.http.delete(f"/v1/videos/{done}")
    assert not rig.store.exists(key)
    error_of(await rig.http.get(f"/v1/videos/{done}"), 404)


async def test_routes_methods_and_failures_that_are_not_ours_have_the_same_shape(rig: Rig) -> None:
    error_of(await rig.http.get("/v1/films"), 404)
    error_of(await rig.http.put("/v1/videos"), 405)
    lost = await rig.finished()
    rig.store.delete((rig.journal.get(lost).result or {})["key"])
    error = error_of(await rig.http.get(f"/v1/videos/{lost}/content"), 500)
    assert (error.type, error.code) == ("server_error", "internal_error")
    assert "ArtifactError" in error.message


async def test_health_is_passed_on(rig: Rig) -> None:
    answer = await rig.http.get("/healthz")
    assert Health.model_validate_json(answer.content) == rig.health()


PICTURE = base64.b64encode(PNG).decode()


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        (
            {"until": "i2v", "pause_after": "i2v"},
            "pause_after",
            "runs from t2i to i2v; it can pause after any of these but",
        ),
        ({"candidates": 2}, "candidates", "does not pause to choose one"),
        ({"candidates": 9, "pause_after": "t2i"}, "candidates", "candidates is 9; it must be 1 to 8"),
        ({"factor": 1}, "factor", "factor is 1; it must be between 2 and 8"),
        ({"until": "mp4"}, "until", "'t2i', 'i2v', 'v2v' or 'vfi'"),
        ({"enter": "v2v"}, "enter", "there is no input_video"),
        ({"input_video": {"id": "video_x"}}, "enter", "input_video needs enter"),
        ({"input_video": {"id": "video_x"}, "enter": "v2v"}, "video_id", "No video has the id 'video_x'"),
        ({"input_video": {}, "enter": "v2v"}, "input_video", "holds one of"),
        ({"input_reference": {"image_url": "https://10.0.0.1/a.png"}}, "input_reference", "fetches nothing from other"),
        ({"input_reference": {"image_url": "data:image/png;base64,###"}}, "input_reference", "not valid base64"),
        ({"input_reference": {"image_url": "data:image/png;base64,AAAA"}}, "input_reference", "no PNG, JPEG or WebP"),
        ({"input_reference": {"id": "video_x"}}, "input_reference", "holds a picture"),
        (
            {"input_reference": {"image_url": f"data:image/png;base64,{PICTURE}"}, "until": "t2i"},
            "until",
            "until is 't2i', but this job begins at i2v",
        ),
    ],
)
async def test_a_job_that_cannot_begin_end_or_pause_there_is_refused(
    rig: Rig, body: Any, param: str, says: str
) -> None:
    answer = await rig.http.post("/v1/videos", json={"prompt": "a fox", **body})
    error = error_of(answer, 404 if param == "video_id" else 400)
    assert error.param == param
    assert says in error.message
    assert rig.journal.counts() == {}
    assert not list(rig.folder.glob("artifacts/uploads/*/*"))


async def test_a_picture_in_json_is_kept_once_for_its_job(rig: Rig) -> None:
    body = {"prompt": "a fox", "input_reference": {"image_url": f"data:image/png;base64,{PICTURE}"}}
    for _ in range(2):
        answer = await rig.http.post("/v1/videos", json=body, headers={"idempotency-key": "once"})
        assert answer.status_code == 200, answer.text
    [file] = rig.folder.glob("artifacts/uploads/*/*")
    assert file.read_bytes() == PNG
    job = rig.journal.get(answer.json()["id"])
    assert job.request.source is not None
    assert (job.request.enter, job.request.source.width, job.request.source.height) == ("i2v", 40, 20)


async def test_without_a_keeper_no_job_begins_or_pauses_in_the_middle(rig: Rig) -> None:
    args = AppArgs(keeper=KeeperArgs(enabled=False))
    app = create_app(args, rig.journal, rig.store, nudge=rig.nudge, health=rig.health, show=Keeper(rig.store.url).show)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        for path, body in (
            ("", {"prompt": "a", "pause_after": "t2i"}),
            ("", {"prompt": "a", "until": "t2i"}),
            ("/x/remix", {}),
        ):
            error = error_of(await http.post(f"/v1/videos{path}", json=body), 400)
            assert "keeper.enabled" in error.message


async def test_a_keyframe_is_shown_before_the_video_is_there(rig: Rig) -> None:
    video = await rig.create()
    path = f"/v1/videos/{video.id}/content"
    early = error_of(await rig.http.get(path, params={"variant": "keyframe"}), 409)
    assert "has no output 0 of t2i to show: it is not made yet" in early.message
    held = rig.claim()
    pixels = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    keeper = Keeper(rig.store.url)
    rig.leases.keep(held, "t2i", 0, await keeper.keep(Image(pixels), f"checkpoints/{video.id}/1.bin"))
    clip = Keyframes(None, Clip(np.zeros((4, 17, 33, 3), np.uint8), 8.0))
    rig.leases.keep(held, "i2v", 0, await keeper.keep(clip, f"checkpoints/{video.id}/2.bin"))
    shown = await rig.http.get(path, params={"variant": "keyframe"})
    assert np.array_equal(np.asarray(PIL.Image.open(io.BytesIO(shown.content))), pixels)
    again = await rig.http.get(path, params={"variant": "keyframe"}, headers={"if-none-match": shown.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    preview = await rig.http.get(path, params={"variant": "preview"})
    assert (preview.headers["content-type"], preview.content[4:8]) == ("video/mp4", b"ftyp")
    wrong = error_of(await rig.http.get(path, params={"variant": "keyframe", "candidate": "1"}), 400)
    assert "candidate is '1'; video" in wrong.message


async def test_a_remix_of_nothing_and_of_nobody_is_refused(rig: Rig) -> None:
    video_id = await rig.finished()
    assert error_of(await rig.http.post(f"/v1/videos/{video_id}/remix"), 400).param == "prompt"
    assert error_of(await rig.http.post("/v1/videos/nobody/remix", json={"seed": 1}), 404).code == "video_not_found"
    unknown = error_of(await rig.http.post(f"/v1/videos/{video_id}/remix", json={"style": "x"}), 400)
    assert (unknown.param, unknown.code) == ("style", "unknown_field")
    gone = error_of(await rig.http.post(f"/v1/videos/{video_id}/remix", json={"seed": 1, "from_stage": "i2v"}), 409)
    assert gone.code == "outputs_gone"
    made = await rig.http.post(
        f"/v1/videos/{video_id}/remix", json={"prompt": "a cat"}, headers={"idempotency-key": "k"}
    )
    again = await rig.http.post(
        f"/v1/videos/{video_id}/remix", json={"prompt": "a cat"}, headers={"idempotency-key": "k"}
    )
    assert made.json()["id"] == again.json()["id"]
    assert made.json()["remixed_from_video_id"] == video_id


async def test_pools_say_what_runs_and_waits_at_every_stage(rig: Rig) -> None:
    for _ in range(3):
        await rig.create()
    held = [rig.claim() for _ in range(2)]
    rig.leases.record([Update(held[0], (StageState(name="t2i", status="running"),))])
    rig.leases.record([Update(held[1], (StageState(name="t2i", status="queued"),))])
    pools = Pools.model_validate_json((await rig.http.get("/v1/pools")).content)
    first, *others = pools.stages
    assert (first.stage, first.replicas, first.running, first.queued, first.utilisation) == ("t2i", 1, 1, 1, 1.0)
    assert [(stage.stage, stage.replicas, stage.running) for stage in others] == [
        (s, 0, 0) for s in ("i2v", "v2v", "vfi")
    ]
    assert pools.jobs == {"running": 2, "queued": 1}
