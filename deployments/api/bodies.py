"""Bodies, parameters and headers of requests: JSON or a form in; `CreateVideo` and files out.

Reads at most `max_body_bytes` and refuses unknown and repeated fields; whether the preset can serve the values is
`deployments.jobs.judging`'s to say. Each finding is one sentence that names the field.
"""

import base64
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from fastapi import Header, Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from client.schema import CreateVideo
from deployments.api.description import Absent
from deployments.errors import BodyTooLargeError, InvalidRequestError
from deployments.intake.sources import FILES, Files

_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
_INSIDE = re.compile(rf"({'|'.join(FILES)})(?:\[(\w+)\])?")  # as `input_reference[image_url]`; an id is plain text
_SENT = {"image_url": ""}  # stands for a file of the form until its bytes are looked at
_SHOWN_CHARS = 80

MAX_KEY_CHARS = 255

BodyT = TypeVar("BodyT", bound=BaseModel)
IdempotencyKey = Annotated[
    Annotated[str, Header(min_length=1, max_length=MAX_KEY_CHARS, pattern=r"^[\x20-\x7e]+$")] | Absent,
    Header(
        alias="Idempotency-Key",
        description="The same key with the same body makes one job, however often it is sent.",
    ),
]


async def read_body(request: Request, max_bytes: int, max_form_bytes: int) -> tuple[CreateVideo, Files]:
    """The fields of a request, and the files that came with it.

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
    is_json = kind == "application/json"
    body = await _limited(request, max_bytes if is_json else max_form_bytes)
    fields, files = (_json_fields(body), {}) if is_json else await _form_fields(request, body)
    created = _typed(CreateVideo, {**fields, **dict.fromkeys(files, _SENT)}, strict=is_json)
    for name in FILES:
        reference = getattr(created, name)
        url = reference and (reference.image_url or reference.video_url)
        if url:
            files[name] = _decoded(url, name)
    return created, files


async def read_small(request: Request, model: type[BodyT], max_bytes: int) -> BodyT:
    """The fields of a request that carries no file; an empty body has none. Raises as `read_body` does."""
    body = await _limited(request, max_bytes)
    return _typed(model, _json_fields(body) if body.strip() else {}, strict=True)


def parameter_error(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> InvalidRequestError:
    """The sentence for what pydantic `found` wrong with a query parameter or a header.

    Args:
        wanted: its JSON Schema, as the API's description has it.
    """
    where, name = found["loc"][:2]
    value = str(found["input"])
    if "enum" in wanted:
        said = f"is {_shown(value)}; it must be one of: {', '.join(wanted['enum'])}"
    elif "maximum" in wanted:
        said = f"is {_shown(value)}; it must be between {wanted['minimum']} and {wanted['maximum']}"
    elif found["type"] in ("string_too_short", "string_too_long"):
        said = f"has {len(value)} characters; it must have between {wanted['minLength']} and {wanted['maxLength']}"
    else:  # the one pattern there is
        said = "holds signs that are not printable ASCII; use letters, digits and dashes"
    code = "invalid_header" if where == "header" else "invalid_parameter"
    return InvalidRequestError(f"{name} {said}.", param=name, code=code)


def _typed(model: type[BodyT], fields: dict[str, Any], *, strict: bool) -> BodyT:
    unknown = [name for name in fields if name not in model.model_fields]
    if unknown:
        raise InvalidRequestError(
            f"Unknown field {_shown(unknown[0])}; the fields are {', '.join(model.model_fields)}.",
            param=unknown[0][:_SHOWN_CHARS],
            code="unknown_field",
        )
    try:
        created = model.model_validate(fields, strict=strict)
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


async def _form_fields(request: Request, body: bytes) -> tuple[dict[str, Any], Files]:
    async def replay() -> Mapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        form = await Request(request.scope, replay).form(max_part_size=len(body))  # type: ignore[arg-type]
    except HTTPException as error:
        raise InvalidRequestError(f"The form cannot be read: {error.detail}.", code="invalid_form") from error
    fields: dict[str, Any] = {}
    files: Files = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name not in FILES:
                raise InvalidRequestError(
                    f"Field {_shown(name)} is a file; files may be in {' and '.join(FILES)}.",
                    param=name[:_SHOWN_CHARS],
                    code="unknown_field",
                )
            _once([*((known, None) for known in files), (name, None)])
            files[name] = await value.read()
        elif inner := _INSIDE.fullmatch(name):
            field, key = inner[1], inner[2] or "id"
            fields[field] = _once([*fields.get(field, {}).items(), (key, value)])
        else:
            fields |= _once([*fields.items(), (name, value)])
    _once([(name, None) for name in (*fields, *files)])
    return fields, files


def _decoded(url: str, name: str) -> bytes:
    """The bytes of a `data:` URL; no other kind is followed."""
    head, comma, text = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise InvalidRequestError(
            f"Field {name} is {_shown(url)}; it must be a data: URL like 'data:image/png;base64,...'. This server "
            "fetches nothing from other addresses: send the bytes.",
            param=name,
            code="invalid_field",
        )
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise InvalidRequestError(
            f"Field {name} is not valid base64: {error}.", param=name, code="invalid_field"
        ) from error


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
