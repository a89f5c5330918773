"""Bodies, parameters and headers of requests: JSON or a form in; a model of `client.schema` and files out.

Every body has limits: of bytes and of time; JSON of nesting and of keys and values, before it is parsed; a form of
fields. Files of a form go to a disk as they come. Unknown and repeated fields are refused; whether the preset can serve
the values is `deployments.jobs.judging`'s to say. Each finding is one sentence that names the field.
"""

import asyncio
import base64
import io
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

from fastapi import Header, Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.types import Message

from deployments.api.description import Absent
from deployments.errors import BodyTooLargeError, BodyTooSlowError, InvalidRequestError, StorageFullError
from deployments.files.store import is_full
from deployments.intake.acceptance import foresee
from deployments.intake.fetching import is_address
from deployments.intake.services import Services
from deployments.intake.sources import FILES, Files
from deployments.jobs.dialect import HOLD_OBJECTS, shown, understand
from deployments.settings.application import AppArgs, IngressArgs
from stages.presets import get_preset

_JSON, _MULTIPART, _URLENCODED = "application/json", "multipart/form-data", "application/x-www-form-urlencoded"
_SMALL_BYTES = 1_000_000  # more than that takes a place among the uploads
_TAKES_NONE_BYTES = 65_536  # of a body where none is wanted; it is read and dropped
_MAX_NESTED = 8
_MAX_SIGNS = 4096  # that begin or part values in JSON; the longest prompts of commas alone have 2000
_MAX_FIELDS = 64  # of a form
_INSIDE = re.compile(rf"(?:{'|'.join((*FILES, *HOLD_OBJECTS))})(?:\[\w+\]){{1,3}}")  # as `input_reference[image_url]`
_SENT = {"image_url": ""}  # stands for a file of the form until its bytes are looked at
_SHOWN_CHARS = 80
_FORM = re.compile(rb"\s*(--\S+\r?\n|\w+=)")

MAX_KEY_CHARS = 255

BodyT = TypeVar("BodyT", bound=BaseModel)
IdempotencyKey = Annotated[
    Annotated[str, Header(min_length=1, max_length=MAX_KEY_CHARS, pattern=r"^[\x20-\x7e]+$")] | Absent,
    Header(
        alias="Idempotency-Key",
        description="The same key with the same body makes one job, however often it is sent.",
    ),
]


@asynccontextmanager
async def open_body(
    request: Request, services: Services, tenant: str, model: type[BodyT]
) -> AsyncIterator[tuple[BodyT, Files, str]]:
    """The fields of a request, the files that came with it or that it names by address, open until the end of the
    block, and what is to be said of words that have no effect here.

    Raises:
        InvalidRequestError: another type of body, malformed, or a field that is unknown or of another type.
        BodyTooLargeError: more than the limit of its kind.
        BodyTooSlowError: it did not come in time.
        UploadsFullError: it is large, and as many are under way as may be.
    """
    limits, names, kind = services.args.ingress, files_of(model), _kind(request)
    known = kind in (_JSON, _MULTIPART, _URLENCODED)
    if not known or (kind == _MULTIPART and "boundary=" not in request.headers["content-type"]):
        begins = await _beginning(request, limits.body_limit_s)
        if not known or _looks_like_json(begins):
            raise _unsupported(kind, begins)
    files: Files = {}
    with ExitStack() as stack:
        if kind == _MULTIPART or not 0 <= _announced(request) <= _SMALL_BYTES:
            stack.enter_context(services.uploads.place(tenant))
        if kind == _JSON:
            fields = _json_fields(await limited_body(request, limits.max_body_bytes, limits.body_limit_s))
        elif kind == _URLENCODED:
            most = min(_SMALL_BYTES, limits.max_upload_bytes)
            body = await limited_body(request, most, limits.body_limit_s)
            if _looks_like_json(body):
                raise _unsupported(kind, body)
            fields = _query_fields(body)
        else:
            fields, files = await _form_fields(request, limits, names)
        for file in files.values():
            stack.callback(file.close)
        created, note = _typed(model, {**fields, **dict.fromkeys(files, _SENT)}, request)
        for name in names:
            reference = getattr(created, name)
            url = reference and (reference.image_url or reference.video_url)
            if url and is_address(url):
                await foresee(services, created, tenant, request.headers.get("idempotency-key"))
                files[name] = await services.fetcher.fetch(url, name, tenant)
                stack.callback(files[name].close)
            elif url:
                files[name] = io.BytesIO(_decoded(url, name))
        yield created, files, note


def files_of(model: type[BaseModel]) -> list[str]:
    """The fields of a body that hold files."""
    return [name for name in FILES if name in model.model_fields]


async def read_small(request: Request, model: type[BodyT], limits: IngressArgs) -> tuple[BodyT, str]:
    """The fields of a request that carries no file, as JSON whatever its type says, or as a form; an empty body has
    none. And what is to be said of words that have no effect here. Raises as `open_body` does.
    """
    most = min(_SMALL_BYTES, limits.max_body_bytes)
    if _kind(request) == _MULTIPART:
        fields, files = await _form_fields(request, limits.model_copy(update={"max_upload_bytes": most}), FILES)
        for file in files.values():
            file.close()
        return _typed(model, {**fields, **dict.fromkeys(files, _SENT)}, request)
    body = await limited_body(request, most, limits.body_limit_s)
    is_form = _kind(request) == _URLENCODED and not _looks_like_json(body)
    read = _query_fields if is_form else _json_fields
    return _typed(model, read(body) if body.strip() else {}, request)


async def drop_body(request: Request) -> None:
    """What a request brings to a route that takes no body.

    Raises:
        BodyTooLargeError: more than can be dropped without a word.
    """
    takes_one = "requestBody" in (request.scope["route"].openapi_extra or {})
    if not takes_one and ("content-length" in request.headers or "transfer-encoding" in request.headers):
        limits: IngressArgs = request.app.state.services.args.ingress
        await limited_body(request, _TAKES_NONE_BYTES, limits.body_limit_s)


def parameter_error(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> InvalidRequestError:
    """The sentence for what pydantic `found` wrong with a query parameter or a header.

    Args:
        wanted: its JSON Schema, as the API's description has it.
    """
    where, name = found["loc"][:2]
    value, wanted = str(found["input"]), wanted.get("items", wanted)
    if "enum" in wanted:
        said = f"is {shown(value)}; it must be one of: {', '.join(wanted['enum'])}"
    elif wanted.get("type") == "boolean":
        said = f"is {shown(value)}; it must be true or false"
    elif "maximum" in wanted:
        said = f"is {shown(value)}; it must be between {wanted['minimum']} and {wanted['maximum']}"
    elif found["type"] in ("string_too_short", "string_too_long"):
        said = f"has {len(value)} characters; it must have between {wanted['minLength']} and {wanted['maxLength']}"
    else:  # the one pattern there is
        said = "holds signs that are not printable ASCII; use letters, digits and dashes"
    code = "invalid_header" if where == "header" else "invalid_parameter"
    return InvalidRequestError(f"{name} {said}.", param=name, code=code)


def _typed(model: type[BodyT], fields: dict[str, Any], request: Request) -> tuple[BodyT, str]:
    args: AppArgs = request.app.state.services.args
    said = understand(fields, model, get_preset(args.preset), args.served_names, _parsed)
    try:
        created = model.model_validate(said.fields, strict=True)
    except ValidationError as error:
        raise first_fault(error, said.called) from None
    for name, value in _texts(created):
        if why := _broken(value):
            called = said.called.get(name, name)
            raise InvalidRequestError(f"Field {called} holds {why}; send UTF-8.", param=called, code="invalid_field")
    request.state.said = said  # for errors that come later
    return created, said.note


def first_fault(error: ValidationError, called: Mapping[str, str]) -> InvalidRequestError:
    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        return InvalidRequestError(f"The body is not JSON: {first['msg']}.", code="invalid_json")
    ours, *inner = map(str, first["loc"] or ("body",))
    name = ".".join((called.get(ours, ours), *inner))
    reason = "is missing" if first["type"] == "missing" else f"is {shown(first['input'])}: {first['msg']}"
    return InvalidRequestError(f"Field {name} {reason}.", param=name, code="invalid_field")


def _texts(fields: BaseModel) -> Iterator[tuple[str, str]]:
    """Each text with the name of the field that holds it."""
    for name, value in fields:
        if isinstance(value, BaseModel):
            yield from ((name, one) for _, one in _texts(value))
        elif isinstance(value, str):
            yield name, value


def _broken(text: str) -> str:
    """What it holds that no database keeps; "" where there is nothing of it."""
    try:
        text.encode()  # a loop over all signs takes seconds of the longest
    except UnicodeEncodeError:
        return "half of a surrogate pair, which is no character"
    return "the sign NUL, which no text has" if "\0" in text else ""


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def _looks_like_json(body: bytes | bytearray) -> bool:
    return body.lstrip()[:1] == b"{"


def _unsupported(kind: str, body: bytes | bytearray) -> InvalidRequestError:
    said = f"The body's Content-Type is {kind or 'missing'!r}; send application/json or multipart/form-data."
    if _looks_like_json(body):
        said = (
            f"The body is JSON, but its Content-Type is {kind or 'missing'!r}; send Content-Type: application/json "
            '(curl -H "Content-Type: application/json" -d ...).'
        )
    return InvalidRequestError(said, param="Content-Type", code="unsupported_content_type")


def _announced(request: Request) -> int:
    """Bytes of the body, as its header says; -1 where it does not."""
    said = request.headers.get("content-length", "")
    return int(said) if said.isdecimal() and len(said) < 19 else -1


def _counted(request: Request, max_bytes: int) -> Request:
    """The same request, whose body raises BodyTooLargeError where it grows beyond `max_bytes`."""
    left = max_bytes

    async def receive() -> Message:
        nonlocal left
        message = await request.receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise BodyTooLargeError(f"The body has more than {max_bytes} bytes, the limit.", code="body_too_large")
        return message

    if _announced(request) > max_bytes:
        said = f"The body has {_announced(request)} bytes and the limit is {max_bytes}."
        raise BodyTooLargeError(said, code="body_too_large")
    return Request(request.scope, receive)


@asynccontextmanager
async def _in_time(limit_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError:
        raise BodyTooSlowError(limit_s) from None


async def limited_body(request: Request, max_bytes: int, limit_s: float) -> bytearray:
    received = bytearray()
    async with _in_time(limit_s):
        async for chunk in _counted(request, max_bytes).stream():
            received += chunk
    return received


async def _beginning(request: Request, limit_s: float) -> bytes:
    """The first bytes of a body that is not read any further."""
    async with _in_time(limit_s):
        async for chunk in request.stream():
            if chunk:
                return chunk
    return b""


def _json_fields(body: bytes | bytearray) -> dict[str, Any]:
    if sum(body.count(sign) for sign in b"{[,") > _MAX_SIGNS:  # counted, because parsing a million keys takes seconds
        raise InvalidRequestError(
            f"The body has more than {_MAX_SIGNS} keys and values, the limit; no request has so many.",
            code="invalid_json",
        )
    try:
        value = json.loads(body, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "it is nested too deep"
        form = " It looks like a form, whose Content-Type is another." if _FORM.match(body) else ""
        raise InvalidRequestError(f"The body is not JSON: {reason}.{form}", code="invalid_json") from error
    if _is_deeper(value, _MAX_NESTED):
        raise InvalidRequestError(
            f"The body is nested deeper than {_MAX_NESTED}, the limit; no request is.", code="invalid_json"
        )
    if not isinstance(value, dict):
        raise InvalidRequestError(
            f'The body must be a JSON object like {{"prompt": "a fox"}}, got {shown(value)}.', code="invalid_json"
        )
    return value


def _parsed(text: str) -> dict[str, Any]:
    return _json_fields(text.encode("utf-8", "surrogatepass"))


def _is_deeper(value: Any, levels: int) -> bool:
    inner: Iterator[Any] = iter(())
    if isinstance(value, dict | list):
        inner = iter(value.values() if isinstance(value, dict) else value)
    return levels < 0 or any(_is_deeper(one, levels - 1) for one in inner)


def _query_fields(body: bytearray) -> dict[str, Any]:
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"The form is not UTF-8: {error.reason}.", code="invalid_form") from error
    except ValueError as error:
        raise InvalidRequestError(f"The form has more than {_MAX_FIELDS} fields.", code="invalid_form") from error
    fields: dict[str, Any] = {}
    for name, value in pairs:
        _put(fields, name, value)
    return fields


def _put(fields: dict[str, Any], name: str, value: str) -> None:
    """A text field of a form into `fields`; once."""
    *outer, last = name.replace("]", "").split("[") if _INSIDE.fullmatch(name) else [name]
    place: Any = fields
    for key in outer:
        place = place.setdefault(key, {})
        if not isinstance(place, dict):
            _once([(key, None)] * 2)
    place |= _once([*place.items(), (last, value)])


async def read_form(request: Request, limits: IngressArgs) -> list[tuple[str, UploadFile | str]]:
    """The parts of a form, files and text. Raises as `open_body` does."""
    counted = _counted(request, limits.max_upload_bytes)
    try:
        async with _in_time(limits.body_limit_s):
            form = await counted.form(max_files=len(FILES), max_fields=_MAX_FIELDS, max_part_size=limits.max_body_bytes)
    except OSError as error:
        if is_full(error):
            raise StorageFullError("uploads under way") from error
        raise
    except (HTTPException, ValueError) as error:  # also a charset that Python fails at
        detail = error.detail.rstrip(".") if isinstance(error, HTTPException) else error
        raise InvalidRequestError(f"The form cannot be read: {detail}.", code="invalid_form") from error
    parts = form.multi_items()
    for name, value in parts:
        text = (value.filename or "") if isinstance(value, UploadFile) else value
        if why := _broken(name) or _broken(text):
            await form.close()
            raise InvalidRequestError(f"The form cannot be read: it holds {why}; send UTF-8.", code="invalid_form")
    return parts


async def _form_fields(request: Request, limits: IngressArgs, names: Sequence[str]) -> tuple[dict[str, Any], Files]:
    fields: dict[str, Any] = {}
    files: Files = {}
    for name, value in await read_form(request, limits):
        if isinstance(value, UploadFile):
            if name not in names:
                raise InvalidRequestError(
                    f"Field {shown(name)} is a file; files may be in {' and '.join(names)}.",
                    param=name[:_SHOWN_CHARS],
                    code="unknown_field",
                )
            _once([*((known, None) for known in files), (name, None)])
            files[name] = value.file
        else:
            _put(fields, name, value)
    _once([(name, None) for name in (*fields, *files)])
    return fields, files


def _decoded(url: str, name: str) -> bytes:
    """The bytes of a `data:` URL; no other kind is followed."""
    head, comma, text = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise InvalidRequestError(
            f"Field {name} is {shown(url)}; it must be a data: URL like 'data:image/png;base64,...', or an "
            "address that begins with http:// or https://.",
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
        twice, _ = Counter(name for name, _ in items).most_common(1)[0]
        raise InvalidRequestError(
            f"Field {shown(twice)} is given twice; send it once.", param=twice[:_SHOWN_CHARS], code="repeated_field"
        )
    return fields
