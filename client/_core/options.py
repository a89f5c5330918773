"""What a client is made with, judged: the server's address, the key, how long to wait, how often to try again.

What is not given comes from `MAGICVIDEO_URL` and `MAGICVIDEO_API_KEY`, else from the defaults here.
"""

import os

import httpx

from .._version import __version__
from ..errors import InvalidArgumentError
from .shared import RetryPolicy

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 5.0


def base_url_of(given: str | None) -> str:
    """The address to use: as given, else `MAGICVIDEO_URL`, else this machine."""
    text = given if given is not None else os.environ.get("MAGICVIDEO_URL") or DEFAULT_URL
    try:
        url = httpx.URL(text.strip())
    except httpx.InvalidURL as error:
        raise InvalidArgumentError(f"{text!r} is not a URL ({error}); give one like {DEFAULT_URL}.") from None
    usable = url.scheme in ("http", "https") and url.host and (url.port is None or 0 < url.port < 65536)
    if not usable or url.query or url.fragment or url.userinfo:
        raise InvalidArgumentError(
            f"{text!r} is not a server's address: it must look like {DEFAULT_URL}, "
            "without user, query or fragment; a key goes into api_key."
        )
    bare = str(url).rstrip("/")
    if bare.endswith("/v1"):
        raise InvalidArgumentError(f"{text!r} must not end in /v1, the client adds it; give {bare[:-3]}.")
    return bare


def headers_of(api_key: str | None) -> dict[str, str]:
    """Headers of every request; the key is the one given, else `MAGICVIDEO_API_KEY`."""
    key = api_key if api_key is not None else os.environ.get("MAGICVIDEO_API_KEY")
    headers = {"accept": "application/json", "user-agent": f"magicvideo-client/{__version__}"}
    if key:
        if not key.isascii() or not key.isprintable() or " " in key:
            raise InvalidArgumentError("The API key holds spaces, line ends or non-ASCII signs; copy it again.")
        headers["authorization"] = f"Bearer {key}"
    return headers


def timeout_of(timeout_s: float) -> httpx.Timeout:
    if not timeout_s > 0:
        raise InvalidArgumentError(f"timeout_s is {timeout_s:g}; it must be above 0.")
    return httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S))


def retries_of(max_retries: int) -> RetryPolicy:
    if max_retries < 0:
        raise InvalidArgumentError(f"max_retries is {max_retries}; it must be 0 or more.")
    return RetryPolicy(max_retries)
