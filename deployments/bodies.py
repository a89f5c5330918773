"""From the body of `POST /v1/videos` to a judged request: JSON or a form in; `CreateVideo`, files and `JobRequest` out.

Reads at most `max_body_bytes`, refuses unknown and repeated fields, and judges every value against the preset with
`stages.presets.plan`, so that a bad request never reaches a stage. Each finding is one sentence that names the field.
"""

import base64
import json
import secrets
from collections.abc import Mapping
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from client.schema import CreateVideo
from deployments.errors import BodyTooLargeError, InvalidRequestError
from deployments.job_types import JobRequest, Source
from deployments.plans import comes_before
from stages.presets import RequestError, get_preset, plan
from stages.types import StageName

_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
_FILES = ("input_reference", "input_video")
_SENT = {"image_url": ""}  # stands for a file of the form until its bytes are looked at
MAX_CANDIDATES = 8
_SEEDS = 2**31  # drawn seeds stay below, so that JavaScript and 32-bit tools can hold them
_SHOWN_CHARS = 80


Files = dict[str, bytes]
"""By the name of the field."""
BodyT = TypeVar("BodyT", bound=BaseModel)


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
    for name in _FILES:
        reference = getattr(created, name)
        url = reference and (reference.image_url or reference.video_url)
        if url:
            files[name] = _decoded(url, name)
    return created, files


async def read_small(request: Request, model: type[BodyT], max_bytes: int) -> BodyT:
    """The fields of a request that carries no file; an empty body has none. Raises as `read_body` does."""
    body = await _limited(request, max_bytes)
    return _typed(model, _json_fields(body) if body.strip() else {}, strict=True)


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


def judge(created: CreateVideo, preset_name: str, source: Source | None = None, *, keeps: bool = True) -> JobRequest:
    """The request with every default resolved, and a seed drawn where none was given.

    Args:
        source: the file that came with it.
        keeps: whether this server keeps checkpoints, without which no job can pause, or begin or end in the middle.

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
            factor=created.factor,
        )
        _check_route(created, source, keeps)
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
        factor=created.factor,
        until=created.until or "vfi",
        pause_after=created.pause_after,
        candidates=created.candidates,
        source=source,
        enter=source.enters if source else "t2i",
        reuse=bool(created.reuse),
    )


def _check_route(created: CreateVideo, source: Source | None, keeps: bool) -> None:
    """Where the job begins, ends and pauses."""
    enter: StageName = source.enters if source else "t2i"
    check_route(enter, created.until, created.pause_after, keeps)
    if not 1 <= created.candidates <= MAX_CANDIDATES:
        raise RequestError("candidates", f"candidates is {created.candidates}; it must be 1 to {MAX_CANDIDATES}.")
    if created.candidates > 1 and (created.pause_after != "t2i" or source is not None):
        raise RequestError(
            "candidates",
            f"candidates is {created.candidates}, but the job does not pause to choose one; add pause_after=t2i, and "
            "send no picture or video.",
        )


def check_route(enter: StageName, until: StageName | None, pause_after: StageName | None, keeps: bool) -> None:
    """Whether a job can begin, end and pause there.

    Raises:
        RequestError: it cannot.
    """
    last = until or "vfi"
    if comes_before(last, enter):
        raise RequestError("until", f"until is {last!r}, but this job begins at {enter}; name that or a later stage.")
    if pause_after is not None and (comes_before(pause_after, enter) or not comes_before(pause_after, last)):
        raise RequestError(
            "pause_after",
            f"pause_after is {pause_after!r}, but this job runs from {enter} to {last}; it can pause after any "
            "of these but the last.",
        )
    if not keeps and (enter != "t2i" or pause_after is not None or last in ("t2i", "i2v")):
        raise RequestError(
            "pause_after" if pause_after else "until",
            "This server keeps no outputs of stages, so no job can begin, pause or end between them; its operator can "
            "set keeper.enabled.",
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


async def _form_fields(request: Request, body: bytes) -> tuple[dict[str, Any], Files]:
    async def replay() -> Mapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        form = await Request(request.scope, replay).form()  # type: ignore[arg-type]
    except HTTPException as error:
        raise InvalidRequestError(f"The form cannot be read: {error.detail}.", code="invalid_form") from error
    fields: dict[str, Any] = {}
    files: Files = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name not in _FILES:
                raise InvalidRequestError(
                    f"Field {_shown(name)} is a file; files may be in {' and '.join(_FILES)}.",
                    param=name[:_SHOWN_CHARS],
                    code="unknown_field",
                )
            _once([*((known, None) for known in files), (name, None)])
            files[name] = await value.read()
        elif name in _FILES:
            fields |= _once([*fields.items(), (name, {"id": value})])
        else:
            fields |= _once([*fields.items(), (name, value)])
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
