"""The web page at `/`, the API's description at `/docs`, and their parts below `/assets/`: files of `web/`, read once,
told apart by digest.

The page is plain HTML, CSS and modules of JavaScript; it needs no build and loads nothing from elsewhere, and its
policy has browsers refuse what did not come from this server. It uses the API like any client: signed in by the cookie
of `POST /v1/session`, choices from `/openapi.json`, progress from `/v1/videos/{id}/events`.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

WEB = Path(__file__).with_name("web")
INDEX, DOCS = "index.html", "docs.html"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "media-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
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
        body = path.read_bytes()
        parts[path.name] = Part(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"', _TYPES[path.suffix])
    return parts


def add_page_routes(app: FastAPI) -> None:
    """Put them on the application."""
    parts = read_parts()

    @app.get("/", response_class=Response, include_in_schema=False)
    async def page(request: Request) -> Response:
        return _answer(request, parts[INDEX])

    @app.get("/docs", response_class=Response, include_in_schema=False)
    async def description(request: Request) -> Response:
        return _answer(request, parts[DOCS])

    @app.get("/assets/{name}", response_class=Response, include_in_schema=False)
    async def asset(name: str, request: Request) -> Response:
        if name not in parts or name in (INDEX, DOCS):
            raise HTTPException(404, "the page has no such part")
        return _answer(request, parts[name])


def _answer(request: Request, part: Part) -> Response:
    headers = {**_HEADERS, "ETag": part.etag}
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if part.etag in known:
        return Response(status_code=304, headers=headers)
    return Response(part.body, headers=headers, media_type=part.media_type)
