"""From the body of `POST /v1/videos` to a judged request: JSON or form fields in, `CreateVideo` and `JobRequest` out.

Reads at most `max_body_bytes`, refuses unknown and repeated fields, and judges every value against the preset with
`stages.presets.plan`, so that a bad request never reaches a stage. Each finding is one sentence that names the field.
"""

import json
import secrets
from collections.abc import Mapping
from typing import Any

from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from client.schema import CreateVideo
from deployments.errors import BodyTooLargeError, InvalidRequestError
from deployments.job_types import JobRequest
from stages.presets import RequestError, get_preset, plan

_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
_FIELDS = tuple(CreateVideo.model_fields)
_SEEDS = 2**31  # drawn seeds stay below, so that JavaScript and 32-bit tools can hold them
_SHOWN_CHARS = 80


async def read_body(request: Request, max_bytes: int) -> CreateVideo:
    """The fields of a request.

    Raises:
        InvalidRequestError: another type of body, malformed, or a field that is unknown or of another type.
        BodyTooLargeError: more than `max_bytes`.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind not in ("application/json", *_FORMS):
        raise InvalidRequestError(
            f"The body's Content-Type is {kind or 'missing'!r}; send application/json or multipart/form-data.",
            param="Content-Type",
            code="unsupported_content_type",
        )
    body = await _limited(request, max_bytes)
    fields = _json_fields(body) if kind == "application/json" else await _form_fields(request, body)
    unknown = [name for name in fields if name not in _FIELDS]
    if unknown:
        raise InvalidRequestError(
            f"Unknown field {_shown(unknown[0])}; the fields are {', '.join(_FIELDS)}.",
            param=unknown[0][:_SHOWN_CHARS],
            code="unknown_field",
        )
    try:
        created = CreateVideo.model_validate(fields, strict=kind == "application/json")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        said = "is missing" if first["type"] == "missing" else f"is {_shown(first['input'])}: {first['msg']}"
        raise InvalidRequestError(f"Field {name} {said}.", param=name, code="invalid_field") from None
    for name, value in created:
        if isinstance(value, str) and any("\ud800" <= sign <= "\udfff" for sign in value):
            raise InvalidRequestError(
                f"Field {name} holds half of a surrogate pair, which is no character; send UTF-8.",
                param=name,
                code="invalid_field",
            )
    return created


def judge(created: CreateVideo, preset_name: str) -> JobRequest:
    """The request with every default resolved, and a seed drawn where none was given.

    Raises:
        InvalidRequestError: a value that the preset cannot serve.
    """
    seed = secrets.randbelow(_SEEDS) if created.seed is None else created.seed
    try:
        preset = get_preset(created.model or preset_name)
        if preset.name != preset_name:
            raise RequestError(
                "model", f"This server runs preset {preset_name!r}, not {preset.name!r}; leave model out or change it."
            )
        plan(
            preset,
            created.prompt,
            seed=seed,
            negative_prompt=created.negative_prompt,
            size=created.size,
            seconds=created.seconds,
            steps=created.steps,
            guidance=created.guidance,
        )
    except RequestError as error:
        raise InvalidRequestError(str(error), param=error.param, code="invalid_field") from error
    return JobRequest(
        prompt=created.prompt.strip(),
        model=preset.name,
        negative_prompt=created.negative_prompt,
        size=created.size or preset.default_size,
        seconds=created.seconds or preset.default_seconds,
        seed=seed,
        steps=created.steps,
        guidance=created.guidance,
    )


async def _limited(request: Request, max_bytes: int) -> bytes:
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > max_bytes:
            raise BodyTooLargeError(f"The body has more than {max_bytes} bytes, the limit.", code="body_too_large")
    return bytes(received)


def _json_fields(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "it is nested too deep"
        raise InvalidRequestError(f"The body is not JSON: {reason}.", code="invalid_json") from error
    if not isinstance(value, dict):
        raise InvalidRequestError(
            f'The body must be a JSON object like {{"prompt": "a fox"}}, got {_shown(value)}.', code="invalid_json"
        )
    return value


async def _form_fields(request: Request, body: bytes) -> dict[str, Any]:
    async def replay() -> Mapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        form = await Request(request.scope, replay).form()  # type: ignore[arg-type]
    except HTTPException as error:
        raise InvalidRequestError(f"The form cannot be read: {error.detail}.", code="invalid_form") from error
    fields: dict[str, Any] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            raise InvalidRequestError(
                f"Field {_shown(name)} is a file; this server makes videos from text alone, so leave it out.",
                param=name[:_SHOWN_CHARS],
                code="unknown_field",
            )
        fields |= _once([*fields.items(), (name, value)])
    return fields


def _once(items: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(items)
    if len(fields) < len(items):
        names = [name for name, _ in items]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidRequestError(
            f"Field {_shown(twice)} is given twice; send it once.", param=twice[:_SHOWN_CHARS], code="repeated_field"
        )
    return fields


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."
