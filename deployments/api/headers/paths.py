"""The path that a client means by the one that it asked for."""

import re

_SLASHES = re.compile("/{2,}")
_ALSO = {"/health": "/healthz", "/models": "/v1/models"}  # as other servers have it
_BESIDE_V1 = ("/health", "/healthz", "/metrics", "/openapi.json")


def path_of(asked: str, prefix: str = "") -> str:
    """The path that a client means, which is answered in place: a redirect would lose a body, and would have to know
    the prefix that a proxy took off.

    A slash at the end is none, and several are one. A base URL that ends in /v1 may get another one from its client, or
    be asked for what stands beside /v1.
    """
    asked = _SLASHES.sub("/", asked)
    prefix = prefix if asked.startswith(prefix) else ""
    path = asked.removeprefix(prefix).rstrip("/") or "/"
    while path.startswith("/v1/v1/"):
        path = path.removeprefix("/v1")
    if path.startswith("/v1/") and path.removeprefix("/v1") in _BESIDE_V1:
        path = path.removeprefix("/v1")
    return prefix + _ALSO.get(path, path)
