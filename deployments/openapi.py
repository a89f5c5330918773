"""The description of the API at /openapi.json: bodies, parameters, answers and errors of every route, from one table.

The routes read their requests themselves, so that every finding is one sentence; FastAPI therefore knows little of what
they take. This module says it: types from `client.schema`, choices and ranges from the preset that is served. A test
holds the table to the routes, and another one lets a fuzzer hold the server to the description.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from client.schema import (
    ContinueVideo,
    CreateVideo,
    DeletedVideo,
    ErrorBody,
    ExtendVideo,
    Health,
    Pools,
    RemixVideo,
    Variant,
    Video,
    VideoList,
)
from deployments.acceptance import MAX_KEY_CHARS
from deployments.bodies import MAX_CANDIDATES
from deployments.video_routes import DEFAULT_PAGE, MAX_PAGE
from stages.presets import MAX_FACTOR, MAX_PROMPT_CHARS, MAX_SEED, Preset, get_preset

_REF = "#/components/schemas/{model}"
_FILES = ("input_reference", "input_video")
_MEDIA = ("video/mp4", "image/png", "image/webp")
_ID = {"name": "video_id", "in": "path", "required": True, "schema": {"type": "string"}}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same key with the same body makes one job, however often it is sent.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARS, "pattern": r"^[\x20-\x7e]+$"},
}


@dataclass(frozen=True)
class Operation:
    """What one route takes and gives."""

    summary: str
    answer: type[BaseModel] | Sequence[str] | None = None  # a model, or media types of bytes
    body: type[BaseModel] | None = None
    form: bool = False  # the body may be a form with files, too
    body_required: bool = False
    parameters: tuple[Mapping[str, Any], ...] = ()
    errors: tuple[int, ...] = ()
    status: int = 200
    also: tuple[int, ...] = ()  # other good statuses, without a body of their own


def _query(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


OPERATIONS: dict[tuple[str, str], Operation] = {
    ("post", "/v1/videos"): Operation(
        "Make a video of a prompt, a picture or a video",
        Video, CreateVideo, form=True, body_required=True, parameters=(_KEY,), errors=(400, 404, 409, 413, 429),
    ),
    ("get", "/v1/videos"): Operation(
        "A page of videos",
        VideoList,
        parameters=(
            _query("after", "The last id of the page before.", type="string"),
            _query("limit", "Videos a page.", type="integer", minimum=1, maximum=MAX_PAGE, default=DEFAULT_PAGE),
            _query("order", "By age.", type="string", enum=["asc", "desc"], default="desc"),
        ),
        errors=(400, 404),
    ),
    ("get", "/v1/videos/{video_id}"): Operation("How far a video is", Video, parameters=(_ID,), errors=(404,)),
    ("delete", "/v1/videos/{video_id}"): Operation(
        "Cancel an unfinished job, forget a finished one", DeletedVideo, parameters=(_ID,), errors=(404,)
    ),
    ("post", "/v1/videos/{video_id}/cancel"): Operation(
        "Stop an unfinished job, which stays", Video, parameters=(_ID,), errors=(404, 409)
    ),
    ("get", "/v1/videos/{video_id}/content"): Operation(
        "The video, or something of it to look at",
        _MEDIA,
        parameters=(
            _ID,
            _query("variant", "What of it.", type="string", enum=list(get_args(Variant)), default="video"),
            _query("candidate", "Which of T2I's pictures.", type="integer", minimum=0, maximum=MAX_CANDIDATES - 1),
            {"name": "Range", "in": "header", "schema": {"type": "string"}},
        ),
        errors=(400, 404, 409, 416),
        also=(206, 304),
    ),
    ("head", "/v1/videos/{video_id}/content"): Operation(
        "Size and digest of the video", None, parameters=(_ID,), errors=(400, 404, 409)
    ),
    ("post", "/v1/videos/{video_id}/remix"): Operation(
        "A new job with changes, that reuses the stages before them",
        Video, RemixVideo, parameters=(_ID, _KEY), errors=(400, 404, 409, 413, 429),
    ),
    ("post", "/v1/videos/{video_id}/extend"): Operation(
        "A new job whose video goes on where this one ends",
        Video, ExtendVideo, parameters=(_ID, _KEY), errors=(400, 404, 409, 413, 429),
    ),
    ("post", "/v1/videos/{video_id}/continue"): Operation(
        "Have a paused job go on", Video, ContinueVideo, parameters=(_ID,), errors=(400, 404, 409, 413)
    ),
    ("get", "/v1/videos/{video_id}/events"): Operation(
        "What happens to a video, as server-sent events (data: Event)",
        ("text/event-stream",),
        parameters=(
            _ID,
            _query("after", "Events behind this one.", type="integer", minimum=0),
            {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string", "pattern": r"^[0-9]{1,18}$"}},
        ),
        errors=(400, 404),
    ),
    ("get", "/v1/videos/{video_id}/stream"): Operation(
        "The video as fragmented mp4 while it is made", ("video/mp4",), parameters=(_ID,), errors=(400, 404, 409)
    ),
    ("post", "/v1/videos/sync"): Operation(
        "Make a video and wait for its end",
        Video, CreateVideo, form=True, body_required=True, parameters=(_KEY,), errors=(400, 404, 409, 413, 429),
        also=(202,),
    ),
    ("post", "/v1/session"): Operation("Keep the key of this request as a cookie", None, status=204, errors=(400, 403)),
    ("delete", "/v1/session"): Operation("Remove that cookie", None, status=204, errors=(403,)),
    ("get", "/v1/pools"): Operation("What runs and waits at every stage", Pools),
    ("get", "/metrics"): Operation("Every number of the server, for Prometheus", ("text/plain",)),
    ("get", "/healthz"): Operation("Whether the server has all that it needs", Health, also=(503,)),
}  # fmt: skip


def describe(app: FastAPI, preset_name: str) -> None:
    """Have the application say all of it."""
    without = app.openapi
    preset = get_preset(preset_name)
    known: list[dict[str, Any]] = []

    def openapi() -> dict[str, Any]:
        if not known:
            known.append(_whole(without(), preset))
        return known[0]

    app.openapi = openapi  # type: ignore[method-assign]


def _whole(made: dict[str, Any], preset: Preset) -> dict[str, Any]:
    models: set[type[BaseModel]] = {ErrorBody}
    for operation in OPERATIONS.values():
        models |= {model for model in (operation.answer, operation.body) if isinstance(model, type)}
    ordered = sorted(models, key=lambda model: model.__name__)
    _, definitions = models_json_schema([(model, "validation") for model in ordered], ref_template=_REF)
    schemas: dict[str, Any] = definitions["$defs"]
    for name in ("CreateVideo", "RemixVideo", "ExtendVideo"):
        _narrow(schemas[name]["properties"], preset)
    paths: dict[str, Any] = {}
    for (method, path), operation in OPERATIONS.items():
        old = made["paths"].get(path, {}).get(method, {})
        paths.setdefault(path, {})[method] = _operation(operation, old, schemas)
    return {**made, "paths": paths, "components": {**made.get("components", {}), "schemas": schemas}}


def _operation(operation: Operation, old: Mapping[str, Any], schemas: Mapping[str, Any]) -> dict[str, Any]:
    answers: dict[str, Any] = {str(operation.status): {"description": operation.summary}}
    if isinstance(operation.answer, type):
        answers[str(operation.status)]["content"] = {"application/json": {"schema": _ref(operation.answer)}}
    elif operation.answer:
        binary = {"schema": {"type": "string", "format": "binary"}}
        answers[str(operation.status)]["content"] = dict.fromkeys(operation.answer, binary)
    for status in operation.also:
        content = answers[str(operation.status)].get("content") if status != 304 else None
        answers[str(status)] = {"description": _ALSO[status], **({"content": content} if content else {})}
    for status in sorted({*operation.errors, *_ALWAYS}):
        if str(status) not in answers:
            body = {"application/json": {"schema": _ref(ErrorBody)}}
            answers[str(status)] = {"description": _ERRORS[status], "content": body}
    made = {**old, "summary": operation.summary, "parameters": list(operation.parameters), "responses": answers}
    if operation.body is not None:
        content = {"application/json": {"schema": _ref(operation.body)}}
        if operation.form:
            content["multipart/form-data"] = {"schema": _form(schemas[operation.body.__name__])}
        made["requestBody"] = {"required": operation.body_required, "content": content}
    return made


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def _form(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same fields, those that hold files as files."""
    file = {"type": "string", "format": "binary"}
    fields = {name: file if name in _FILES else field for name, field in schema["properties"].items()}
    return {**schema, "properties": fields}


def _narrow(fields: dict[str, Any], preset: Preset) -> None:
    """Choices and ranges of the served preset; they hold for the first of `anyOf`, the second is null."""
    limits: dict[str, dict[str, Any]] = {
        "prompt": {"minLength": 1, "maxLength": MAX_PROMPT_CHARS, "pattern": r"\S"},
        "negative_prompt": {"maxLength": MAX_PROMPT_CHARS},
        "model": {"enum": [preset.name]},
        "size": {"enum": list(preset.sizes)},
        "seconds": {"enum": list(preset.keyframes)},
        "seed": {"minimum": 0, "maximum": MAX_SEED},
        "steps": {"minimum": 1, "maximum": preset.max_steps},
        "guidance": {"minimum": 1.0, "maximum": 30.0},
        "factor": {"minimum": 2, "maximum": MAX_FACTOR},
        "candidates": {"minimum": 1, "maximum": MAX_CANDIDATES},
    }
    for name, limit in limits.items():
        if name in fields:
            target = fields[name]["anyOf"][0] if "anyOf" in fields[name] else fields[name]
            target.update(limit)


_ALWAYS = (401, 500)
_ALSO = {
    202: "It is not finished yet, and goes on",
    206: "The part that Range asks for",
    304: "The client has it already",
    503: "Something is missing",
}
_ERRORS = {
    400: "A field, a header or the body that cannot be served",
    401: "No API key, or one that is not known",
    403: "Refused without an API key, or from another site",
    404: "No such video",
    409: "Not in this state, or a key that was used with another body",
    413: "The body is too large",
    416: "The Range is not in the file",
    429: "Too much waits, or the deadline cannot be held; Retry-After says when to come back",
    500: "The server failed",
}
