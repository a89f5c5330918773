"""What FastAPI cannot know for /openapi.json: bodies that the routes read themselves, bytes, the preset's limits.

Paths, parameters, JSON answers and what a route's docstring says FastAPI takes from the routes. `errors`, `binary` and
`body` are what a route says beside them; `describe` puts in what the served preset allows, a tag, examples
(`examples.json`, by model or media type) and a line for the shell. A test lets a fuzzer hold the server to the
description, and others generate clients from it.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, SkipJsonSchema, models_json_schema

from client.schema import (
    ContinueVideo,
    CreateVideo,
    EditVideo,
    ErrorBody,
    ErrorDetail,
    ExtendVideo,
    ExtensionVideo,
    RemixVideo,
)
from client.schema_studies import CreateStudy, MakeLinks
from deployments.intake.sources import FILES
from deployments.jobs.judging import MAX_CANDIDATES
from stages.presets import MAX_FACTOR, MAX_PROMPT_CHARS, MAX_SEED, Preset, get_preset

Absent = SkipJsonSchema[None]
"""Beside a parameter's type: it may be left out, but nobody sends null."""

_FORMS: tuple[type[BaseModel], ...] = (CreateVideo, EditVideo, ExtensionVideo)
_BODIES: tuple[type[BaseModel], ...] = (ContinueVideo, ExtendVideo, RemixVideo, *_FORMS)
_LITERAL: tuple[type[BaseModel], ...] = (CreateStudy, MakeLinks)  # values come in no other type, and no preset's
_INSIDE: Mapping[str, Any] = {
    "input_reference[image_url]": {"type": "string", "pattern": "^(data:|https?://)"},
    "input_video[video_url]": {"type": "string", "pattern": "^(data:|https?://)"},
    "input_reference[file_id]": {"type": "string"},
    "input_video[file_id]": {"type": "string"},
    "video[id]": {"type": "string"},
}
_REF = "#/components/schemas/{model}"
_BYTES = {"type": "string", "format": "binary"}
_FILE_FORM = {
    "type": "object",
    "properties": {
        "file": _BYTES,
        "purpose": {"type": "string", "description": "What for, as OpenAI names it; vision for a picture or a video."},
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer", "minimum": 60},
    },
    "required": ["file"],
}
_ABOUT = ("default", "description", "title")  # what stands beside the type of a field
_ERRORS = {
    400: "A field, a header or the body that cannot be served",
    401: "No API key, or one that is not known",
    403: "Refused without an API key, from another site, or by a limit of the tenant",
    404: "No such video, file, study or link",
    408: "The body did not come in time",
    409: "Not in this state, or a key that was used with another body",
    410: "Its content was kept for a time, which is over, or is lost",
    413: "The body is too large",
    416: "The Range is not in the file",
    429: "Too much waits, or the deadline cannot be held; Retry-After says when to come back",
    500: "The server failed",
    501: "The server lacks the packages of the extra `study`",
    503: "What the request needs does not answer; Retry-After says when to come back",
    504: "It has not ended in time, and goes on",
    507: "A disk is full, so nothing new is taken in",
}
_TAGS = {
    "videos": "Jobs and what they make",
    "files": "What jobs may begin from",
    "studies": "Which of two videos people find better",
    "server": "What this server has, does and lacks",
}
_EXAMPLES: Mapping[str, Any] = json.loads(Path(__file__).with_name("examples.json").read_text())
_PLACES = {  # of a path
    name: _EXAMPLES[model]["id"]
    for name, model in (("video_id", "Video"), ("file_id", "File"), ("model", "Model"), ("study_id", "Study"))
} | {"link_id": _EXAMPLES["RaterLinks"]["data"][0]["id"], "name": "bars"}
_JSON = "application/json"
_HERE = "http://127.0.0.1:8000"
_KEY = ' -H "Authorization: Bearer $MAGICVIDEO_API_KEY"'


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For `responses`: answers with an `ErrorBody`, by its name: FastAPI would make a `model` ready for each anew."""
    schema = {"$ref": _REF.format(model=ErrorBody.__name__)}
    return {status: {"content": {_JSON: {"schema": schema}}, "description": _ERRORS[status]} for status in statuses}


def binary(description: str, *media_types: str) -> dict[str, Any]:
    """One of `responses`: bytes."""
    return {"description": description, "content": {media_type: {"schema": _BYTES} for media_type in media_types}}


def body(model: type[BaseModel], *, form: bool = False) -> dict[str, Any]:
    """For `openapi_extra`: the body that a route reads itself, as JSON, and with `form` as a form with files too."""
    content = {_JSON: {"schema": {"$ref": _REF.format(model=model.__name__)}}}
    if form:
        content["multipart/form-data"] = {"schema": {"$ref": _REF.format(model=_form_name(model))}}
    required = any(field.is_required() for field in model.model_fields.values())
    return {"requestBody": {"required": required, "content": content}}


def file_body() -> dict[str, Any]:
    """For `openapi_extra`: the form of `POST /v1/files`."""
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FILE_FORM}}}}


def describe(app: FastAPI, preset_name: str, served_names: Sequence[str] = ()) -> None:
    """Have the application say all of it."""
    without, preset = app.openapi, get_preset(preset_name)

    def openapi() -> dict[str, Any]:
        known = app.openapi_schema is not None
        made = without()  # and keeps it
        if not known:
            _complete(made, preset, served_names)
        return made

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(made: dict[str, Any], preset: Preset, served_names: Sequence[str]) -> None:
    named: list[tuple[type[BaseModel], JsonSchemaMode]] = [(ErrorBody, "serialization")]
    named += [(model, "validation") for model in (*_BODIES, *_LITERAL)]
    _, definitions = models_json_schema(named, ref_template=_REF)
    schemas = made["components"]["schemas"]
    schemas.update(definitions["$defs"])
    for model in _BODIES:
        _narrow(schemas[model.__name__]["properties"], preset, served_names)
        for name, field in schemas[model.__name__]["properties"].items():
            _widen(name, field)
        _optional(schemas[model.__name__]["properties"])
    others: tuple[type[BaseModel], ...] = (*_LITERAL, ErrorBody, ErrorDetail)
    for model in others:
        _optional(schemas[model.__name__]["properties"])
    for model in _FORMS:
        schemas[_form_name(model)] = _form(model, schemas[model.__name__])
    for path, methods in made["paths"].items():
        for method, operation in methods.items():
            operation["responses"].pop("422", None)  # FastAPI's own, in the place of which stands a 400
            _illustrate(path, method, operation)
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    made["servers"] = [{"url": "/", "description": "This server"}]
    made["tags"] = [{"name": name, "description": said} for name, said in _TAGS.items()]


def _optional(fields: Mapping[str, dict[str, Any]]) -> None:
    """Defaults in words: generators of TypeScript take a field with a `default` for one that everybody must send."""
    for field in fields.values():
        default = field.pop("default", None)
        if default not in (None, ""):
            field["description"] = f"{field.get('description', '')} {default} when left out.".strip()


def _illustrate(path: str, method: str, operation: dict[str, Any]) -> None:
    """A tag, an example of each body, and the request as a line for the shell."""
    operation["tags"] = [next((tag for tag in _TAGS if path.startswith(f"/v1/{tag}")), "server")]
    for parameter in operation.get("parameters", ()):
        if parameter["name"] in _PLACES:
            parameter["example"] = _PLACES[parameter["name"]]
    for body in (operation.get("requestBody", {}), *operation["responses"].values()):
        for media_type, about in body.get("content", {}).items():
            name = about["schema"].get("$ref", media_type).rpartition("/")[2] if media_type == _JSON else media_type
            if name in _EXAMPLES:
                about["example"] = _EXAMPLES[name]
    operation["x-codeSamples"] = [{"lang": "Shell", "label": "curl", "source": _curl(path, method, operation)}]


def _curl(path: str, method: str, operation: Mapping[str, Any]) -> str:
    words = ["curl", _HERE + path.format(**_PLACES)]
    if method not in ("get", "post"):
        words += ["--head"] if method == "head" else ["-X", method.upper()]
    sent = operation.get("requestBody", {}).get("content", {})
    if _JSON in sent:
        words += ["-H", f"Content-Type: {_JSON}", "-d", json.dumps(sent[_JSON]["example"])]
    elif sent:
        words += ["-F", "file=@fox.png"]
    elif method == "post":
        words += ["-X", "POST"]
    if "video/mp4" in operation["responses"].get("200", {}).get("content", {}):
        words += ["-o", "video.mp4"]
    return shlex.join(words) + ("" if path.startswith("/health") else _KEY)


def _form_name(model: type[BaseModel]) -> str:
    return f"{model.__name__}Form"


def _form(model: type[BaseModel], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same fields, those that hold files as files, or with what is inside as the OpenAI SDKs name it."""
    fields = {name: _BYTES if name in FILES else field for name, field in schema["properties"].items()}
    fields |= {name: field for name, field in _INSIDE.items() if name.partition("[")[0] in schema["properties"]}
    required = [name for name in schema.get("required", ()) if name not in FILES]
    return {**schema, "title": _form_name(model), "properties": fields, "required": required}


def _narrow(fields: dict[str, Any], preset: Preset, served_names: Sequence[str]) -> None:
    """Choices and ranges of the served preset; they hold for the first of `anyOf`, the second is null."""
    limits: dict[str, dict[str, Any]] = {
        "prompt": {"minLength": 1, "maxLength": MAX_PROMPT_CHARS, "pattern": r"\S"},
        "negative_prompt": {"maxLength": MAX_PROMPT_CHARS},
        "model": {"enum": [preset.name, *served_names]},
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


def _widen(name: str, field: dict[str, Any]) -> None:
    """How a value may be sent too: numbers as text, seconds as a number, and null for what has a default."""
    options = field.pop("anyOf", None) or [{key: field.pop(key) for key in list(field) if key not in _ABOUT}]
    first = options[0]
    if first.get("type") in ("integer", "number"):
        options.insert(1, {"type": "string", "pattern": r"^-?(0|[1-9]\d*)(\.\d+)?$"})
    elif name == "seconds":
        whole = [int(choice) for choice in first.get("enum", ()) if choice.isdecimal()]
        options.insert(1, {"type": "integer", **({"enum": whole} if whole else {})})  # generators know no other numbers
    if "default" in field and {"type": "null"} not in options:
        options.append({"type": "null"})
    field.update({"anyOf": options} if len(options) > 1 else first)
