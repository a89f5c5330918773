"""Requests as clients of other servers send them, over HTTP: what becomes of them, what models there are, where."""

import base64
import json
from typing import Any

import pytest

from client.schema import ModelList, Video
from deployments.api.headers.paths import path_of
from deployments.errors import ConfigError
from deployments.settings.application import AppArgs
from deployments.settings.reading import parse_args
from tests.deployments.api.test_creating import PNG
from tests.deployments.rig import BODY, Rig, error_of

# As the clients of others send them, with the size that the tiny preset has.
WAN = {
    "prompt": "a fox",
    "width": "256",
    "height": "256",
    "num_frames": "46",
    "fps": "24",
    "num_inference_steps": "4",
    "guidance_scale": "4.0",
    "guidance_scale_2": "4.0",
    "boundary_ratio": "0.875",
    "flow_shift": "12.0",
    "seed": "42",
    "extra_params": '{"true_cfg_scale": 3}',
}
NODE = {
    "prompt": "a fox",
    "size": "256x256",
    "seconds": 2,
    "fps": 24,
    "num_frames": 46,
    "num_inference_steps": 4,
    "guidance_scale": 4.0,
    "seed": 42,
    "generator_device": "cuda",
    "enable_teacache": True,
    "extra_body": {"output_quality": "default"},
}
ROUTER = {"model": "sora-2", "prompt": "a fox", "duration": 2, "resolution": "256p", "aspect_ratio": "1:1", "seed": 42}


@pytest.fixture
def rig(rig: Rig) -> Rig:
    rig.app = rig.served(AppArgs(served_names=("sora-2",)))
    rig.http = rig.client()
    return rig


async def sent(rig: Rig, **request: Any) -> Video:
    answer = await rig.http.post("/v1/videos", **request)
    assert answer.status_code == 200, answer.text
    return Video.model_validate_json(answer.content)


async def test_a_form_and_json_of_others_are_the_same_job_as_ours(rig: Rig) -> None:
    video = await sent(rig, files={name: (None, value) for name, value in WAN.items()})
    idle = "flow_shift, boundary_ratio, guidance_scale_2, true_cfg_scale"
    assert video.note == f"Known elsewhere and without effect here: {idle}."
    jobs = [video, await sent(rig, data=WAN), await sent(rig, json=NODE), await sent(rig, json=WAN)]
    ours = await sent(rig, json={**BODY, "size": "256x256", "seconds": "2", "seed": 42, "steps": 4, "guidance": 4.0})
    requests = [rig.journal.get(job.id).request for job in (*jobs, ours)]
    assert requests == [requests[-1]] * 5
    assert ours.note is None
    assert (jobs[2].note or "").endswith("generator_device, enable_teacache, output_quality.")


async def test_other_words_of_one_request_are_one_job_for_its_key(rig: Rig) -> None:
    headers = {"idempotency-key": "once"}
    first = await sent(rig, json={**BODY, "steps": 4, "seed": 1}, headers=headers)
    assert (await sent(rig, json={**BODY, "num_inference_steps": "4", "seed": 1}, headers=headers)).id == first.id


async def test_served_names_are_the_preset(rig: Rig) -> None:
    assert (await sent(rig, json=ROUTER)).model == "tiny"
    error = error_of(await rig.http.post("/v1/videos", json={**ROUTER, "model": "veo-3"}), 400)
    assert (error.param, "'veo-3'" in error.message, "tiny, sora-2" in error.message) == ("model", True, True)
    assert "paper" not in error.message


async def test_a_wrong_type_is_told_by_the_name_that_was_sent(rig: Rig) -> None:
    for body in ({"num_inference_steps": "many"}, {"extra_body": {"num_inference_steps": "many"}}):
        error = error_of(await rig.http.post("/v1/videos", json={**BODY, **body}), 400)
        assert "num_inference_steps is 'many'" in error.message
    for name, value in (("guidance_scale", "much"), ("duration", [2]), ("neg_prompt", 7), ("seed", True)):
        error = error_of(await rig.http.post("/v1/videos", json={**BODY, name: value}), 400)
        assert f"{name} is {value!r}" in error.message
    assert rig.journal.counts() == {}


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({"num_inference_steps": 999}, "num_inference_steps", "num_inference_steps is 999; it must be between 1 and"),
        ({"extra_body": {"steps": "0"}}, "extra_body.steps", "extra_body.steps is 0; it must"),
        ({"guidance_scale": "99"}, "guidance_scale", "guidance_scale is 99; it must be between 1 and 30."),
        ({"duration": 7}, "duration", "'7' duration is not allowed"),
        ({"neg_prompt": "x" * 2000}, "neg_prompt", "limit is"),
        ({"callback_url": "here"}, "callback_url", "callback_url"),
        ({"image_url": "data:image/png;base64,AAAA"}, "image_url", "The file in image_url "),
        ({"image_url": "ftp://a/b.png"}, "image_url", "Field image_url is"),
        ({"image_url": "http://a.example/b.png"}, "image_url", "Field image_url is an address"),
        (
            {"n": 9, "pause_after": "t2i"},
            "n",
            "candidates is 9; it must be 1 to 8 (candidates is what n makes of it).",
        ),
        ({"steps": 999}, "steps", "steps is 999"),
    ],
)
async def test_a_value_out_of_range_is_told_by_the_name_that_was_sent(
    rig: Rig, body: dict[str, Any], param: str, said: str
) -> None:
    error = error_of(await rig.http.post("/v1/videos", json={**BODY, **body}), 400)
    assert (error.param, said in error.message) == (param, True), error.message


async def test_a_remix_names_what_was_sent_too(rig: Rig) -> None:
    path = f"/v1/videos/{await rig.finished()}/remix"
    error = error_of(await rig.http.post(path, json={"num_inference_steps": 999}), 400)
    assert (error.param, error.message[:26]) == ("num_inference_steps", "num_inference_steps is 999")
    error = error_of(await rig.http.post(path, json={"inference_steps": 3, "from_stage": "vfi"}), 400)
    assert error.message.startswith("inference_steps changes nothing at vfi")


@pytest.mark.parametrize("text", ['{"seed": ', '{"seed": 1, "seed": 2}', '{"a":' * 9 + "1" + "}" * 9, '{"\\ud800": 1}'])
async def test_json_within_a_form_has_the_limits_of_json(rig: Rig, text: str) -> None:
    error = error_of(await rig.http.post("/v1/videos", data={**BODY, "extra_params": text}), 400)
    assert error.param == "extra_params" or "ud800" in error.message


async def test_a_form_may_part_an_object_into_fields_as_the_sdks_do(rig: Rig) -> None:
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    fields = {**BODY, "extra_params[seed]": "7", "extra_params[flow_shift]": "5", "image_reference[image_url]": url}
    video = await sent(rig, files={name: (None, value) for name, value in fields.items()})
    assert (video.seed, rig.journal.get(video.id).request.enter) == (7, "i2v")
    assert "flow_shift" in (video.note or "")
    both = [("prompt", "a fox"), ("extra_params", '{"seed": 7}'), ("extra_params[seed]", "7")]
    answer = await rig.http.post("/v1/videos", files=[(name, (None, value)) for name, value in both])
    assert "given twice" in error_of(answer, 400).message


async def test_a_form_may_part_objects_within_objects_too(rig: Rig) -> None:
    fields = {**BODY, "stages[t2i][steps]": "4", "stages[i2v][guidance]": "2.5", "metadata[film]": "one"}
    video = await sent(rig, files={name: (None, value) for name, value in fields.items()})
    stages = rig.journal.get(video.id).request.stages
    assert stages is not None
    assert {name: (own.steps, own.guidance) for name, own in stages.given.items()} == {
        "t2i": (4, None),
        "i2v": (None, 2.5),
    }
    assert "metadata" in (video.note or "")
    for value, said in (
        ({"stages[t2i][steps]": "four"}, "steps"),
        ({"stages[t2i]": "4", "stages": "{}"}, "given twice"),
    ):
        files = {name: (None, text) for name, text in {**BODY, **value}.items()}
        assert said in error_of(await rig.http.post("/v1/videos", files=files), 400).message


@pytest.mark.parametrize("value", ["[" * 4500, '{"t2i":' * 600, '{"t2i": {' + "," * 4200, "4", '"a"'])
async def test_stages_in_a_form_have_the_limits_of_json(rig: Rig, value: str) -> None:
    assert "stages" in error_of(await rig.http.post("/v1/videos", data={**BODY, "stages": value}), 400).message


async def test_a_reference_in_a_form_is_read_as_in_json(rig: Rig) -> None:
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    for value in (url, json.dumps({"image_url": url})):
        by_form = await sent(rig, data={**BODY, "input_reference": value})
        by_json = await sent(rig, json={**BODY, "input_reference": value})
        assert {rig.journal.get(video.id).request.enter for video in (by_form, by_json)} == {"i2v"}
    for name in ("input_video", "video_url"):
        answer = await rig.http.post("/v1/videos", data={**BODY, name: "video_x", "enter": "v2v"})
        assert "video_x" in error_of(answer, 404).message
    twice = [("prompt", "a fox"), ("input_reference[image_url]", url), ("input_reference", url)]
    answer = await rig.http.post("/v1/videos", files=[(name, (None, value)) for name, value in twice])
    assert "given twice" in error_of(answer, 400).message


@pytest.mark.parametrize("name", ["seconds", "duration", "guidance", "deadline_s", "fps", "seed", "resolution"])
async def test_a_number_beyond_all_floats_is_refused(rig: Rig, name: str) -> None:
    for number in ("1" + "0" * 400, "-1e999", "NaN"):
        for value in (number, f'"{number}"'):
            body = f'{{"prompt": "a fox", "{name}": {value}}}'
            answer = await rig.http.post("/v1/videos", content=body, headers={"content-type": "application/json"})
            error_of(answer, 400)


async def test_objects_in_texts_of_others_say_no_more_than_one(rig: Rig) -> None:
    leaf = json.dumps(dict.fromkeys(("user", "quality", "shift", "loras"), 1))
    for _ in range(4):
        leaf = json.dumps(dict.fromkeys(("extra_body", "extra_params", "extra_args", "video_params"), leaf))
    error = error_of(await rig.http.post("/v1/videos", json={**BODY, "extra_body": leaf}), 400)
    assert "more than 256 things" in error.message


async def test_a_name_without_end_is_refused_as_soon_as_any(rig: Rig) -> None:
    error = error_of(await rig.http.post("/v1/videos", json={**BODY, "steps" * 1_000_000: 4}), 400)
    assert len(error.message) < 1000


async def test_a_picture_in_a_form_goes_with_words_of_others(rig: Rig) -> None:
    files = {"input_reference": ("a.png", PNG, "image/png")}
    video = await sent(rig, data=WAN, files=files)
    assert (rig.journal.get(video.id).request.enter, video.seed) == ("i2v", 42)
    both = {**BODY, "image_reference": '{"image_url": "data:image/png;base64,AAAA"}'}
    error = error_of(await rig.http.post("/v1/videos", data=both, files=files), 400)
    assert "input_reference" in error.message
    assert "image_reference" in error.message


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain", None])
async def test_json_under_another_type_is_told_so(rig: Rig, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    error = error_of(await rig.http.post("/v1/videos", content=b' {"prompt": "a fox"}', headers=headers), 400)
    assert error.code == "unsupported_content_type"
    assert f"The body is JSON, but its Content-Type is {kind or 'missing'!r}" in error.message
    assert "application/json" in error.message


async def test_a_form_under_the_type_of_json_is_told_so(rig: Rig) -> None:
    for body in (b"prompt=a+fox", b'--b\r\ncontent-disposition: form-data; name="prompt"\r\n\r\na fox\r\n--b--'):
        answer = await rig.http.post("/v1/videos", content=body, headers={"content-type": "application/json"})
        assert "looks like a form" in error_of(answer, 400).message


async def test_a_remix_is_read_alike_as_json_and_as_a_form(rig: Rig) -> None:
    video_id = await rig.finished()
    path, words = f"/v1/videos/{video_id}/remix", {"num_inference_steps": "4", "user": "a"}
    for request in (
        {"json": words},
        {"data": words},
        {"files": {name: (None, value) for name, value in words.items()}},
        {"content": json.dumps(words)},
    ):
        answer = await rig.http.post(path, **request)
        assert answer.status_code == 200, answer.text
        assert rig.journal.get(answer.json()["id"]).request.steps == 4
        assert answer.json()["note"] == "Known elsewhere and without effect here: user."
    refused = await rig.http.post(path, data=words, files={"input_reference": ("a.png", PNG, "image/png")})
    assert "'input_reference'" in error_of(refused, 400).message


async def test_models_are_the_preset_and_its_other_names(rig: Rig) -> None:
    answer = await rig.http.get("/v1/models")
    models = ModelList.model_validate_json(answer.content).data
    assert [(model.id, model.root) for model in models] == [("tiny", "tiny"), ("sora-2", "tiny")]
    assert (models[0].sizes, models[0].seconds) == (["256x256"], ["2", "1", "4", "8"])
    assert (models[0].frames["2"], models[0].fps, models[0].steps["t2i"]) == (46, 24.0, 14)
    assert models[0].defaults == {"size": "256x256", "seconds": "2", "factor": 3}
    assert (await rig.http.get("/models")).content == answer.content
    one = (await rig.http.get("/v1/models/sora-2")).json()
    assert one == models[1].model_dump(mode="json")
    error = error_of(await rig.http.get("/v1/models/org/other"), 404)
    assert (error.code, error.message) == ("model_not_found", "This server runs tiny, sora-2, not 'org/other'.")


async def test_names_may_have_a_slash() -> None:
    args = parse_args({"served_names": ["Wan-AI/Wan2.2-T2V-A14B-Diffusers"]})
    assert args.served_names == ("Wan-AI/Wan2.2-T2V-A14B-Diffusers",)
    for names in (["paper"], ["a", "a"], ["a b"], [""], "sora-2"):
        with pytest.raises(ConfigError, match="served_names"):
            parse_args({"served_names": names})


async def test_health_is_where_others_look_for_it(rig: Rig) -> None:
    for path in ("/health", "/healthz", "/v1/health", "/health/"):
        assert (await rig.http.get(path)).status_code == 200
    rig.health = rig.health.model_copy(update={"status": "degraded"})
    answer = await rig.client("10.0.0.7").get("/health")  # anyone may ask
    assert (answer.status_code, answer.json()["status"]) == (503, "degraded")
    assert (await rig.http.head("/")).status_code == 200


async def test_a_base_url_may_end_in_v1(rig: Rig) -> None:
    made = await rig.http.post("/v1/v1/videos/", json=BODY)
    assert made.status_code == 200, made.text
    assert (await rig.http.get(f"/v1/v1/videos/{made.json()['id']}")).json()["id"] == made.json()["id"]
    error = error_of(await rig.http.post("/videos", json=BODY), 404)
    assert "the API is below /v1: have the client's base URL end in it" in error.message
    assert "README" in error_of(await rig.http.post("/films", json=BODY), 404).message


@pytest.mark.parametrize(
    ("asked", "prefix", "meant"),
    [
        ("/v1/videos/", "", "/v1/videos"),
        ("/", "", "/"),
        ("//", "", "/"),
        ("//v1/videos", "", "/v1/videos"),
        ("/v1//videos///", "", "/v1/videos"),
        ("//films//v1/videos", "/films", "/films/v1/videos"),
        ("/v1/v1/v1/videos", "", "/v1/videos"),
        ("/v1/v1", "", "/v1/v1"),
        ("/v1/v1x/videos", "", "/v1/v1x/videos"),
        ("/films/v1/v1/videos/", "/films", "/films/v1/videos"),
        ("/films/health", "/films", "/films/healthz"),
        ("/films/", "/films", "/films/"),
        ("/v1/metrics", "", "/metrics"),
        ("/v1/docs", "", "/v1/docs"),
        ("/v1/models/", "", "/v1/models"),
        ("/models", "", "/v1/models"),
    ],
)
def test_paths_that_clients_mean(asked: str, prefix: str, meant: str) -> None:
    assert path_of(asked, prefix) == meant
