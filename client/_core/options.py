"""What a client is made with, judged: the server's address, the key, how long to wait, how often to try again.

What is not given comes from `MAGICVIDEO_URL` and `MAGICVIDEO_API_KEY`, else from the defaults here.
"""

import ipaddress
import os
import ssl
from collections.abc import Callable
from typing import TypeVar

import httpx

from .._version import __version__
from ..errors import InvalidArgumentError
from .shared import RetryPolicy

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 5.0
_PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
_FILES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")  # that the environment names for TLS

HttpT = TypeVar("HttpT")


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
    return str(url).rstrip("/").removesuffix("/v1").rstrip("/")  # which other clients want there; this one adds it


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


def open_http(
    make: Callable[..., HttpT], url: str, headers: dict[str, str], timeout: httpx.Timeout, transport: object
) -> HttpT:
    """The `httpx.Client` or `httpx.AsyncClient`, behind the environment's proxy unless the server is on this machine.

    Raises:
        InvalidArgumentError: the proxy or the certificates that the environment names cannot be used.
    """
    own, secure = is_loopback(httpx.URL(url).host), url.startswith("https:")
    try:
        verify: ssl.SSLContext | bool = True
        if own:  # SSL_CERT_FILE counts; where no TLS is spoken nobody is trusted, as loading all that are takes 20 ms
            verify = httpx.create_ssl_context() if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return make(headers=headers, timeout=timeout, transport=transport, trust_env=not own, verify=verify)
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        reason = "a SOCKS proxy needs `pip install httpx[socks]`" if isinstance(error, ImportError) else error
        named = ", ".join(name for name in _PROXIES if os.environ.get(name) or os.environ.get(name.lower()))
        raise InvalidArgumentError(
            f"The proxy in {named or 'the environment'} cannot be used ({reason}); unset it, or set another."
        ) from error
    except OSError as error:
        named = ", ".join(name for name in _FILES if os.environ.get(name)) or "the environment"
        raise InvalidArgumentError(
            f"The file that {named} names cannot be used ({error.strerror or error}); unset it, or set another."
        ) from error


def is_loopback(host: str) -> bool:
    """Whether it is this machine, which no proxy reaches."""
    name = host.rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback or address.is_unspecified


def retries_of(max_retries: int) -> RetryPolicy:
    if max_retries < 0:
        raise InvalidArgumentError(f"max_retries is {max_retries}; it must be 0 or more.")
    return RetryPolicy(max_retries)
