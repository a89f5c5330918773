"""Who a request comes from: an API key in `Authorization: Bearer`, or in the cookie of a browser's session; for the
content of one video, the signature in its link; below `/v1/rate` a rater's link in the place of a key.

Once the database holds a key every route needs a valid one, but for the page, its assets, the API's description and
`/healthz`; that stays so when the last key is revoked. Before the first key the server answers its own machine alone,
whatever address it listens on, and under a loopback name only: a page whose name was pointed here (DNS rebinding) is
refused. Everybody there is the tenant `NOBODY`. `Gate` stands before all routes, so that a new one cannot forget it;
`Tenant` is what a route asks for. `check_exposure` is asked before a start.

    POST   /v1/session    puts the key of the request into an HttpOnly, same-site cookie: a browser sends no header
                          with an event stream or a <video>. It names no path, which makes it one of `/v1`, below
                          whatever prefix a proxy has put before it
    DELETE /v1/session    removes it

A request without a bearer that changes something must not come from another site's page.
"""

import ipaddress
import re
import socket
from collections.abc import Collection
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.api.answers import away_answer, json_answer
from deployments.api.description import errors
from deployments.errors import ApiError, AuthenticationError, ConfigError, CrossSiteError, InvalidRequestError
from deployments.jobs.values import NOBODY
from deployments.journal.database import DATABASE_AWAY, opened, redacted_url
from deployments.studies.tokens import link_of
from deployments.tenants.keys import KeyBook, KeyRing
from deployments.tenants.links import Links

COOKIE = "mv_session"
SESSION = "/v1/session"
_OPEN = frozenset({"/", "/docs", "/rate", "/healthz", "/openapi.json"})
_OPEN_BELOW = "/assets/"
_RATE = re.compile(r"/v1/rate(/.*)?")  # for raters, who have a link instead of a key: `deployments.studies.tokens`
_LINKED = re.compile(r"/v1/videos/([^/]+)/content")  # may be asked for by a link, `deployments.tenants.links`
_LOOPBACK_HOST = re.compile(r"(?:[A-Za-z0-9.]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_CREATE = "`python -m deployments keys create --tenant NAME`"
_OF_A_PROXY = re.compile(  # the standard's, those that name a client, and those that begin with a proxy's name
    r"forwarded|via|cdn-loop|x-rewrite-url|(?:.+-)?(?:client|user|remote|real|connecting|proxyuser)-?(?:ip|addr)"
    r"|(?:x-(?:forwarded|original|envoy|azure|arr|amzn|amz-cf|appengine|goog-iap|vercel|akamai|tailscale|proxy)"
    r"|cf|fastly|fly|cloudfront|akamai|tailscale)-.+"
)


async def _tenant_of(request: Request) -> str:
    return str(request.state.tenant)


Tenant = Annotated[str, Depends(_tenant_of)]
"""Whose request it is; the gate has found it out."""


class Gate:
    """Middleware: no request passes without a tenant, except to the open paths."""

    def __init__(self, app: ASGIApp, ring: KeyRing, links: Links, origins: Collection[str] = ()) -> None:
        self._app, self._ring, self._links, self._origins = app, ring, links, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_open(scope):
            await self._app(scope, receive, send)
            return
        try:
            if _RATE.fullmatch(_path(scope)):
                who = await self._rater(Request(scope))
            else:
                who = {"tenant": await self._tenant(Request(scope))}
        except ApiError as error:
            await json_answer(error.body(), error.status, error.headers)(scope, receive, send)
            return
        except DATABASE_AWAY as error:
            await away_answer(error)(scope, receive, send)
            return
        scope["state"] = {**scope.get("state", {}), **who}
        await self._app(scope, receive, send)

    async def _rater(self, request: Request) -> dict[str, Any]:
        """The id of a rater's link, and whether the server has keys. A link is no cookie, so no other site can use it.

        Raises:
            AuthenticationError, NotAllowedError: there is none that this server has signed.
        """
        closed = await self._ring.in_use()
        if not closed:
            _refuse_strangers(request)
        return {"rater": await link_of(self._links, _bearer(request)), "closed": closed}

    async def _tenant(self, request: Request) -> str:
        """The request's tenant.

        Raises:
            AuthenticationError: it has no valid key.
            CrossSiteError: another site's page made a browser send it.
            NotAllowedError: it comes by a signed address, which is over or not ours.
        """
        bearer = _bearer(request)
        if not await self._ring.in_use():
            _refuse_strangers(request)
            if request.headers.get("origin") not in self._origins:  # whom the operator lets in
                _refuse_cross_site(request, strict=False)
            return NOBODY
        linked = _LINKED.fullmatch(_path(request.scope)) if bearer is None and request.method in _READS else None
        if linked and "signature" in request.query_params:
            asked = request.query_params
            return await self._links.tenant_of(linked[1], asked.get("expires", ""), asked["signature"])
        text = request.cookies.get(COOKIE) if bearer is None else bearer
        if text is None:
            raise AuthenticationError("This server needs an API key; send it as `Authorization: Bearer mv_...`.")
        if bearer is None:
            _refuse_cross_site(request, strict=True)
        tenant = await self._ring.tenant_of(text)
        if tenant is None:
            raise AuthenticationError(
                "The API key is not valid: it is wrong or was revoked; ask the operator of this server for another."
            )
        return tenant


def add_session_routes(app: FastAPI, ring: KeyRing) -> None:
    """Put them on the application."""

    @app.post(
        SESSION,
        summary="Keep the key of this request as a cookie",
        status_code=204,
        response_class=Response,
        responses=errors(400, 403),
    )
    async def begin_session(request: Request) -> Response:
        """For browsers, which send no header with an event stream or a <video>; HttpOnly and of this site alone."""
        bearer = _bearer(request)
        if not await ring.in_use():
            said = "This server has no API keys, so there is nothing to keep; use it without a session."
            raise InvalidRequestError(said, param="Authorization", code="no_api_keys")
        if bearer is None:
            raise AuthenticationError("A session begins with a key; send it as `Authorization: Bearer mv_...`.")
        answer = Response(status_code=204)
        secure = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
        answer.set_cookie(COOKIE, bearer, path=None, httponly=True, samesite="strict", secure=secure)
        return answer

    @app.delete(SESSION, summary="Remove that cookie", status_code=204, response_class=Response, responses=errors(403))
    async def end_session() -> Response:
        """Signs a browser out."""
        answer = Response(status_code=204)
        answer.set_cookie(COOKIE, "", max_age=0, path=None, httponly=True, samesite="strict")
        return answer


def describe_keys(app: FastAPI) -> None:
    """Say in the API's description which routes want a key."""
    without = app.openapi

    def openapi() -> dict[str, Any]:
        schema = without()
        schema.setdefault("components", {})["securitySchemes"] = {
            "key": {"type": "http", "scheme": "bearer", "description": "Not wanted while the server has no keys."},
            "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
        }
        schema["security"] = [{"key": []}, {"session": []}]
        for path, operations in schema["paths"].items():
            for method, operation in operations.items():
                if path in _OPEN or (method, path) == ("delete", SESSION):
                    operation["security"] = []
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


def check_exposure(host: str, database_url: str) -> None:
    """Refuse to listen where other machines come in, while there is no key.

    Raises:
        ConfigError: one sentence that says how to make a key.
    """
    if is_loopback(host):
        return
    with opened(database_url) as database:
        if not KeyBook(database).in_use():
            raise ConfigError(
                f"Listening on {host} lets other machines in, but {redacted_url(database_url)} holds no API key; "
                f"create one with {_CREATE} and the same --cluster, --config and --data-dir, or listen on 127.0.0.1."
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address or name."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host or "0.0.0.0", None)}
    except (OSError, UnicodeError):
        return False
    return all(_is_loopback_address(str(address)) for address in found)


def _is_loopback_address(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _path(scope: Scope) -> str:
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


def _is_open(scope: Scope) -> bool:
    path = _path(scope)
    return path in _OPEN or path.startswith(_OPEN_BELOW) or (path, scope["method"]) == (SESSION, "DELETE")


def _bearer(request: Request) -> str | None:
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else None


def _refuse_strangers(request: Request) -> None:
    """Without keys: a client elsewhere, behind a proxy, which may stand for anybody, or under a foreign name."""
    came_through_proxy = any(map(_OF_A_PROXY.fullmatch, request.headers.keys()))
    if came_through_proxy or request.client is None or not _is_loopback_address(request.client.host):
        raise AuthenticationError(
            f"This server has no API key yet and answers its own machine alone; create one there with {_CREATE}."
        )
    host = ", ".join(request.headers.getlist("host"))  # of several some proxy may have taken another
    if not _is_loopback_host(host):
        raise AuthenticationError(
            f"This server has no API key yet and answers under 127.0.0.1, localhost and [::1], not {host[:80]!r}; "
            f"use one of those, or create a key there with {_CREATE}."
        )


def _is_loopback_host(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return _LOOPBACK_HOST.fullmatch(host) is not None and (name == "localhost" or _is_loopback_address(name))


def _refuse_cross_site(request: Request, *, strict: bool) -> None:
    """By what browsers say of themselves; `strict`: who says nothing is refused too."""
    if request.method in _READS:
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        fine = site in ("same-origin", "none")
    elif origin is not None:
        fine = urlsplit(origin).netloc == request.headers.get("host")
    else:
        fine = not strict
    if not fine:
        raise CrossSiteError(
            "A page of another site cannot use this server's session; send `Authorization: Bearer mv_...`.",
            param="Origin",
            code="cross_site",
        )
