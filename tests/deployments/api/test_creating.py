"""Making a video over HTTP: what a body may say, how it is refused, and what becomes of its files."""

import base64
import io
import json
from typing import Any

import httpx
import PIL.Image
import pytest

from client.schema import Video
from deployments.settings.application import AppArgs, KeeperArgs
from stages.presets import MAX_PROMPT_CHARS, MAX_SEED
from tests.deployments.rig import Rig, error_of


def png() -> bytes:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (40, 20), (200, 40, 40)).save(buffer, "PNG")
    return buffer.getvalue()


PNG = png()


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


async def test_a_form_says_steps_and_guidance_of_single_stages(rig: Rig) -> None:
    single = {"i2v": {"steps": 9}, "v2v": {"steps": 3, "guidance": 4.5}}
    typed = await rig.create(seed=7, stages=single)
    fields = {"prompt": "a fox", "seed": "7"}
    whole = {**fields, "stages": json.dumps(single)}
    by_form = await rig.http.post("/v1/videos", files={name: (None, value) for name, value in whole.items()})
    urlencoded = await rig.http.post("/v1/videos", data=whole)
    made = [rig.journal.get(answer.json()["id"]).request for answer in (by_form, urlencoded)]
    assert made == [rig.journal.get(typed.id).request] * 2
    for value, words in (("{", "stages"), ('{"i2v": {"steps": 0}}', "stages.i2v.steps is 0"), ('{"vfi": {}}', "vfi")):
        answer = await rig.http.post("/v1/videos", files={"prompt": (None, "a fox"), "stages": (None, value)})
        assert words in error_of(answer, 400).message


async def test_a_seed_that_is_not_given_is_drawn_and_said(rig: Rig) -> None:
    seeds = {(await rig.create()).seed for _ in range(3)}
    assert len(seeds) == 3


LONG = "x" * (MAX_PROMPT_CHARS + 1)
BAD_FIELDS: list[tuple[dict[str, Any], str, tuple[str, ...]]] = [
    ({"prompt": ""}, "prompt", ("empty",)),
    ({"prompt": "  \n"}, "prompt", ("empty",)),
    ({"prompt": LONG}, "prompt", (str(len(LONG)), str(MAX_PROMPT_CHARS))),
    ({"prompt": None}, "prompt", ("missing",)),
    ({"prompt": 7}, "prompt", ("7", "string")),
    ({"prompt": "\ud800"}, "prompt", ("surrogate",)),
    ({"prompt": "waves on rocks"}, "prompt", ("'waves on rocks'", "'a robot jumping in a city at night'")),
    ({"prompt": "ein Wolf im Wald"}, "prompt", ("'ein Wolf im Wald'", "in English")),
    ({"prompt": "a wolf in a city"}, "prompt", ("'wolf'", "'fox' and 'dog'")),
    ({"negative_prompt": LONG}, "negative_prompt", (str(MAX_PROMPT_CHARS),)),
    ({"model": "huge"}, "model", ("'huge'", "runs tiny")),
    ({"model": "paper"}, "model", ("'paper'", "runs tiny")),
    ({"size": "512x512"}, "size", ("'512x512'", "256x256")),
    ({"size": "big"}, "size", ("'big'", "256x256")),
    ({"seconds": "60"}, "seconds", ("'60'", "2, 1")),
    ({"seconds": 60}, "seconds", ("'60'", "2, 1")),
    ({"seconds": [2]}, "seconds", ("[2]", "string")),
    ({"seed": -1}, "seed", ("-1", "0", str(MAX_SEED))),
    ({"seed": MAX_SEED + 1}, "seed", (str(MAX_SEED + 1), str(MAX_SEED))),
    ({"seed": 1.5}, "seed", ("1.5", "integer")),
    ({"seed": True}, "seed", ("True",)),
    ({"steps": 0}, "steps", ("0", "150")),
    ({"steps": 151}, "steps", ("151", "150")),
    ({"steps": "four"}, "steps", ("'four'", "integer")),
    ({"stages": {"i2v": {"steps": 0}}}, "stages", ("stages.i2v.steps is 0", "150")),
    ({"guidance": 0.5}, "guidance", ("0.5", "1 and 30")),
    ({"guidance": 31}, "guidance", ("31", "1 and 30")),
    ({"guidance": float("nan")}, "guidance", ("nan", "1 and 30")),
    ({"fsp": 24}, "fsp", ("'fsp'", "did you mean 'fps'", "prompt")),
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
        ("prompt=a fox by a caf%E9", "application/x-www-form-urlencoded", 400, "not UTF-8"),
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


def large_png() -> bytes:
    """More than the megabyte that the form's reader allows a text by itself."""
    buffer = io.BytesIO()
    PIL.Image.effect_noise((1200, 1200), 100).save(buffer, "PNG")
    return buffer.getvalue()


async def test_a_picture_in_a_form_may_be_named_as_the_sdk_for_node_does(rig: Rig) -> None:
    picture = large_png()
    url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    args = AppArgs()
    rig.app = rig.served(args)
    fields = {"prompt": "a fox", "input_reference[image_url]": url}
    answer = await rig.client().post("/v1/videos", files={name: (None, value) for name, value in fields.items()})
    assert answer.status_code == 200, answer.text
    [file] = rig.folder.glob("artifacts/uploads/*/*")
    assert (file.read_bytes() == picture, answer.json()["stages"][0]["origin"]) == (True, None)
    video_id = await rig.finished()
    fields = {"prompt": "a fox", "input_video[id]": video_id, "enter": "vfi"}
    assert error_of(await rig.http.post("/v1/videos", data=fields), 409).code == "outputs_gone"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ([("input_reference[image_url]", "a"), ("input_reference[image_url]", "b")], "given twice"),
        ([("input_reference[image_url]", "a"), ("input_reference", ("a.png", PNG, "image/png"))], "given twice"),
        ([("input_reference[asset]", "file_1")], "input_reference.asset"),
        ([("input_reference[image_url]", "https://10.0.0.1/a.png")], "fetches nothing"),
        ([("prompt[0]", "a")], "Unknown field 'prompt[0]'"),
    ],
)
async def test_a_form_field_inside_another_is_judged(rig: Rig, fields: list[tuple[str, Any]], says: str) -> None:
    parts = [(name, value if isinstance(value, tuple) else (None, value)) for name, value in fields]
    answer = await rig.http.post("/v1/videos", files=[("prompt", (None, "a fox")), *parts])
    assert says in error_of(answer, 400).message


async def test_without_a_keeper_no_job_begins_or_pauses_in_the_middle(rig: Rig) -> None:
    app = rig.served(AppArgs(keeper=KeeperArgs(enabled=False)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
        for path, body in (
            ("", {"prompt": "a", "pause_after": "t2i"}),
            ("", {"prompt": "a", "until": "t2i"}),
            ("/x/remix", {}),
        ):
            error = error_of(await http.post(f"/v1/videos{path}", json=body), 400)
            assert "keeper.enabled" in error.message
