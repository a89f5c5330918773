"""Pages of other sites that may use the API: those whose origins the operator lists, and no others.

Starlette's middleware answers a browser's preflight before any key is asked for, and lets the page read answers. It
sends no credentials: such a page brings an API key of its own, never the cookie of this server's page.
"""

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

_METHODS = ("GET", "HEAD", "POST", "DELETE")
_READ = (
    *("openai-poll-after-ms", "Retry-After", "Location", "ETag", "Accept-Ranges", "Content-Range"),
    *("Content-Disposition", "X-Request-Id", "X-Video-Id", "X-Model", "X-Inference-Time-S", "X-Stage-Durations"),
)
_SENT = ("*",)  # SDKs send headers about themselves


class Cors(CORSMiddleware):
    """Middleware around all routes and the gate."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=_METHODS,
            allow_headers=_SENT,
            expose_headers=_READ,
        )
