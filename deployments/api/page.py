"""The web page at `/`, the API's description at `/docs`, a rater's page at `/rate`, and their parts below `/assets/`:
files of `web/`, read once, told apart by digest.

The page is plain HTML, CSS and modules of JavaScript; it needs no build and loads nothing from elsewhere: by its policy
browsers refuse what neither came from this server nor was made by the page itself (`blob:`, for a video that plays
while it is made and for a file that is about to be sent). It uses the API like any client: signed in by the cookie of
`POST /v1/session`, progress from `/v1/videos/{id}/events`. What the served preset offers stands in
`/assets/preset.json`.
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from deployments.jobs.judging import MAX_CANDIDATES
from stages.presets import MAX_FACTOR, MAX_PROMPT_CHARS, WEIGHTS, Preset, get_preset
from stages.words import load_vocabulary

WEB = Path(__file__).with_name("web")
INDEX, DOCS, RATE, PRESET = "index.html", "docs.html", "rate.html", "preset.json"
EXAMPLES = (  # a test holds that the smallest model knows every word of them
    "a fox walking through a snowy forest at dusk",
    "a robot jumping in a city at night",
    "a fat rabbit in a meadow, oil painting style",
    "a whale floating along a beach at dusk",
    "an owl standing at a castle at night",
    "a tractor moving across a farm by day, 3d render",
    "a cute penguin hopping in the mountains, pencil sketch style",
    "a dragon floating in the desert, the camera zooms in",
)
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_NAMES = re.compile(r"""(?:="assets/|from "\./)([\w.]+)\"""")
_HEADERS = {
    "Cache-Control": "no-cache",  # kept by browsers, asked for again by digest: a new server shows its own page at once
    "Content-Security-Policy": _POLICY,
}


@dataclass(frozen=True)
class Part:
    """One file of the page."""

    body: bytes
    etag: str
    media_type: str


def read_parts(folder: Path = WEB) -> dict[str, Part]:
    """All files of the page by name."""
    parts = {}
    for path in sorted(folder.iterdir()):
        parts[path.name] = _part(path.read_bytes(), _TYPES[path.suffix])
    return parts


def _part(body: bytes, media_type: str) -> Part:
    return Part(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"', media_type)


def offers_of(preset: Preset) -> dict[str, Any]:
    """What a preset makes, with its defaults and ranges, and prompts that it can draw."""
    draws = load_vocabulary(WEIGHTS / preset.vocabulary).draws if preset.vocabulary else {}
    denoising = {"t2i": preset.t2i, "i2v": preset.i2v, "v2v": preset.v2v}
    return {
        "model": preset.name,
        "sizes": list(preset.sizes),
        "seconds": list(preset.keyframes),
        "keyframe_fps": preset.keyframe_fps,
        "steps": {stage: noise.steps for stage, noise in denoising.items()},
        "guidance": {stage: noise.guidance for stage, noise in denoising.items()},
        "factor": preset.vfi_factor,
        "built_in": preset.built_in,  # one number of steps and one guidance are for every stage
        "max_steps": preset.max_steps,
        "max_factor": MAX_FACTOR,
        "max_candidates": MAX_CANDIDATES,
        "prompt_chars": MAX_PROMPT_CHARS,
        "reads": preset.reads,
        "draws": draws,
        "examples": EXAMPLES,
    }


def add_page_routes(app: FastAPI, preset: str) -> None:
    """Put them on the application, which serves that preset."""
    parts = read_parts()
    parts[PRESET] = _part(json.dumps(offers_of(get_preset(preset))).encode(), "application/json")
    modules = {name: {"Link": _preloads(reached(parts, name))} for name in (INDEX, RATE)}

    @app.get("/", response_class=Response, include_in_schema=False)
    async def page(request: Request) -> Response:
        return _answer(request, parts[INDEX], modules[INDEX])

    @app.get("/docs", response_class=Response, include_in_schema=False)
    async def description(request: Request) -> Response:
        return _answer(request, parts[DOCS])

    @app.get("/rate", response_class=Response, include_in_schema=False)
    async def rate(request: Request) -> Response:
        return _answer(request, parts[RATE], modules[RATE])

    @app.get("/assets/{name}", response_class=Response, include_in_schema=False)
    async def asset(name: str, request: Request) -> Response:
        if name not in parts or name in (INDEX, DOCS, RATE):
            raise HTTPException(404, "the page has no such part")
        return _answer(request, parts[name])


def reached(parts: Mapping[str, Part], page: str) -> set[str]:
    """What a page loads: itself, what it names, and what that imports."""
    names: set[str] = set()
    todo = {page}
    while todo:
        name = todo.pop()
        names.add(name)
        todo |= set(_NAMES.findall(parts[name].body.decode())) & parts.keys() - names
    return names


def _preloads(names: Collection[str]) -> str:
    """Every module at once: each would else be asked for only when one that imports it is there."""
    return ", ".join(f"<assets/{name}>; rel=modulepreload" for name in sorted(names) if name.endswith(".js"))


def _answer(request: Request, part: Part, more: Mapping[str, str] = MappingProxyType({})) -> Response:
    headers = {**_HEADERS, **more, "ETag": part.etag}
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if part.etag in known:
        return Response(status_code=304, headers=headers)
    return Response(part.body, headers=headers, media_type=part.media_type)
