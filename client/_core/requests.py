"""Every verb as a request: what starts and steers jobs, what looks at them, what ends them.

Takes the caller's arguments, gives a `Request`, or one sentence about what cannot be sent. Types are judged here,
values by the server, which knows the preset. Every request that makes a job carries an idempotency key: however often
it is sent, it makes one job.
"""

import json
import math
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, get_args
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from ..errors import InvalidArgumentError
from ..schema import ContinueVideo, CreateVideo, ExtendVideo, Order, RemixVideo, Status, Variant
from .job_options import CreateOptions, ExtendOptions, InterpolateOptions, RemixOptions, UpscaleOptions
from .shared import Request, _first_problem
from .uploads import File, VideoInput, is_file, picture_of, video_of

MAX_PAGE = 100
MAX_SEARCH_CHARS = 200
NEUTRAL_PROMPT = "a video"  # for a file that comes without words: V2V wants some, VFI looks at none


def create_request(prompt: str, options: Mapping[str, object]) -> Request:
    """`POST /v1/videos`: JSON, or a form where there is a file."""
    values = _values("create", options, CreateOptions.__optional_keys__)
    picture, video = values.pop("input_reference", None), values.pop("input_video", None)
    if picture is not None and video is not None:
        raise InvalidArgumentError("input_reference and input_video exclude each other; give one of them.")
    if video is not None and values.get("enter") is None:
        raise InvalidArgumentError('input_video needs enter: "v2v" redraws it, "vfi" interpolates it.')
    if video is None and values.get("enter") is not None:
        raise InvalidArgumentError(f"enter is {values['enter']!r}, but there is no input_video; give one.")
    given = video_of(video) if video is not None else picture_of(picture) if picture is not None else None
    reference = {} if given is None or isinstance(given, File) else {"input_video": given}
    file = given if isinstance(given, File) else None
    field = "input_reference" if picture is not None else "input_video"
    return _job_request("/v1/videos", CreateVideo, {"prompt": prompt, **values, **reference}, {field: file})


def upscale_request(video: VideoInput, prompt: str | None, options: UpscaleOptions) -> Request:
    """A job that begins at V2V with that video."""
    known = _known("upscale", options, UpscaleOptions.__optional_keys__)
    return create_request(_prompt_for(video, prompt), {**known, "input_video": video, "enter": "v2v"})


def interpolate_request(video: VideoInput, factor: int, prompt: str | None, options: InterpolateOptions) -> Request:
    """A job that begins at VFI with that video."""
    known = _known("interpolate", options, InterpolateOptions.__optional_keys__)
    return create_request(_prompt_for(video, prompt), {**known, "input_video": video, "enter": "vfi", "factor": factor})


def remix_request(video_id: str, prompt: str | None, options: RemixOptions) -> Request:
    """`POST /v1/videos/{id}/remix`."""
    values = _values("remix", options, RemixOptions.__optional_keys__)
    return _job_request(f"{_video_path(video_id)}/remix", RemixVideo, {"prompt": prompt, **values})


def extend_request(video_id: str, prompt: str | None, options: ExtendOptions) -> Request:
    """`POST /v1/videos/{id}/extend`."""
    values = _values("extend", options, ExtendOptions.__optional_keys__)
    return _job_request(f"{_video_path(video_id)}/extend", ExtendVideo, {"prompt": prompt, **values})


def continue_request(video_id: str, candidate: int) -> Request:
    """`POST /v1/videos/{id}/continue`."""
    body = _checked(ContinueVideo, {"candidate": candidate})
    # Not safe to repeat: after a lost answer the second attempt would say that the job is not paused.
    return Request("POST", f"{_video_path(video_id)}/continue", json=body, safe=False)


def retrieve_request(video_id: str) -> Request:
    return Request("GET", _video_path(video_id))


def list_request(
    after: str | None,
    limit: int | None,
    order: Order | None,
    search: str | None = None,
    status: Sequence[Status] | None = None,
) -> Request:
    if limit is not None and not 1 <= limit <= MAX_PAGE:
        raise InvalidArgumentError(f"limit is {limit}; it must be between 1 and {MAX_PAGE}.")
    if order not in (None, "asc", "desc"):
        raise InvalidArgumentError(f'order is {order!r}; it must be "asc" or "desc".')
    for one in status or ():
        if one not in get_args(Status):
            raise InvalidArgumentError(f"status is {one!r}; it must be one of: {', '.join(get_args(Status))}.")
    words = None if search is None else search.strip() or None
    if words is not None and len(words) > MAX_SEARCH_CHARS:
        raise InvalidArgumentError(f"search has {len(words)} characters; it may have {MAX_SEARCH_CHARS}.")
    _check_text("after", after)
    _check_text("search", words)
    number = None if limit is None else str(limit)
    asked = {"after": after, "limit": number, "order": order, "q": words, "status": [str(one) for one in status or ()]}
    params: dict[str, str | list[str]] = {name: value for name, value in asked.items() if value}
    return Request("GET", "/v1/videos", params=params)


def content_request(video_id: str, variant: Variant, candidate: int | None = None) -> Request:
    """`GET /v1/videos/{id}/content`; `candidate` says which of T2I's pictures, else the one that was chosen."""
    if variant not in get_args(Variant):
        raise InvalidArgumentError(f"variant is {variant!r}; it must be one of: {', '.join(get_args(Variant))}.")
    if candidate is not None and (variant != "keyframe" or candidate < 0):
        raise InvalidArgumentError(
            f"candidate is {candidate} with the variant {variant!r}; it counts the pictures of 'keyframe' from 0."
        )
    asked: dict[str, str] = {} if variant == "video" else {"variant": variant}
    asked |= {} if candidate is None else {"candidate": str(candidate)}
    # Bytes must arrive as they are stored, else a range would count something else than what is on the disk.
    headers = {"accept": "*/*", "accept-encoding": "identity"}
    return Request("GET", f"{_video_path(video_id)}/content", params=asked, headers=headers)


def cancel_request(video_id: str) -> Request:
    return Request("POST", _video_path(video_id) + "/cancel")


def delete_request(video_id: str) -> Request:
    # Not safe to repeat: after a lost answer the second attempt would say that there is no such video.
    return Request("DELETE", _video_path(video_id), safe=False)


def health_request() -> Request:
    return Request("GET", "/healthz")


def pools_request() -> Request:
    return Request("GET", "/v1/pools")


def _video_path(video_id: str) -> str:
    if not isinstance(video_id, str) or video_id.strip() in ("", ".", ".."):
        raise InvalidArgumentError(f"{video_id!r} is not the id of a video; create() and list() give ids.")
    _check_text("the id", video_id)
    return f"/v1/videos/{quote(video_id, safe='')}"


def _check_text(name: str, value: object) -> None:
    """Bytes of another encoding reach Python as lone surrogates, which cannot be sent as UTF-8."""
    if isinstance(value, str) and any("\ud800" <= sign <= "\udfff" for sign in value):
        raise InvalidArgumentError(f"{name} holds signs that are not UTF-8: {value!r}; save or type it as UTF-8.")


def _prompt_for(video: VideoInput, prompt: str | None) -> str:
    """An earlier video keeps its own prompt when none is given, which the wire says with an empty one."""
    if prompt is not None:
        return prompt
    return NEUTRAL_PROMPT if is_file(video) else ""


def _job_request(
    path: str, kind: type[BaseModel], values: dict[str, Any], files: Mapping[str, File | None] | None = None
) -> Request:
    headers = {"idempotency-key": _key(values.pop("idempotency_key", None))}
    body = _checked(kind, {name: value for name, value in values.items() if value is not None})
    sent = {name: file for name, file in (files or {}).items() if file is not None}
    if not sent:
        return Request("POST", path, json=body, headers=headers)
    return Request(
        "POST", path, form={name: _form_text(value) for name, value in body.items()}, files=sent, headers=headers
    )


def _checked(kind: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    """The values as the body says them, what has its default left out."""
    for name in ("guidance", "deadline_s"):
        number = values.get(name)
        if isinstance(number, float) and not math.isfinite(number):
            raise InvalidArgumentError(f"{name} is {number}; it must be a finite number.")
    if isinstance(values.get("seconds"), int):
        values["seconds"] = str(values["seconds"])
    try:
        body = kind.model_validate(values).model_dump(exclude_defaults=True)
    except ValidationError as error:
        raise InvalidArgumentError(_first_problem(error)) from None
    for name, value in body.items():
        _check_text(name, value)
    return body


def _values(verb: str, options: Mapping[str, object], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in _known(verb, options, names).items() if value is not None}


def _known(verb: str, options: Mapping[str, object], names: frozenset[str]) -> dict[str, Any]:
    """The options, if the verb has them: a misspelt one must not be lost in silence."""
    unknown = sorted(set(options) - names)
    if unknown:
        raise TypeError(f"{verb}() has no option {unknown[0]!r}; it takes {', '.join(sorted(names))}.")
    return dict(options)


def _key(given: str | None) -> str:
    key = uuid.uuid4().hex if given is None else given
    if not isinstance(key, str) or not key or not key.isascii() or not key.isprintable():
        raise InvalidArgumentError(f"The idempotency key {key!r} must be printable ASCII, at least one sign.")
    return key


def _form_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, dict) else str(value)
