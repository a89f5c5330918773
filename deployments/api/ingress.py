"""HTTP: the application that the ingress serves, put together from the routes, and every error in the API's shape.

    /v1/videos ...   `deployments.api.videos`; `deployments.api.studies` has /v1/studies and /v1/rate
    /v1/session      `deployments.api.gate`, whose gate stands before all routes
    /  /docs         the page and the API's description, `deployments.api.page`
    /healthz         whether a new job can be accepted and made: 200, or 503 and what is missing; also /health
    /metrics         `deployments.api.metrics`

Every error is `{"error": {message, type, param, code}}`. Never imports torch, never holds frames; `create_app`: no Ray.
"""

import asyncio
import logging
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from client.schema import ErrorBody, ErrorDetail, Health
from cluster.policy.reports import Report, from_floats, joined
from deployments import __version__
from deployments.api.answers import CAME_TO, away_answer, came_to, json_answer, webhook_answer
from deployments.api.bodies import drop_body, parameter_error
from deployments.api.changes import add_remix_routes
from deployments.api.description import describe, errors
from deployments.api.gate import Gate, add_session_routes, describe_keys
from deployments.api.headers.cors import Cors
from deployments.api.headers.hardening import Hardening
from deployments.api.headers.paths import path_of
from deployments.api.live import add_event_routes
from deployments.api.metrics import add_metrics_route
from deployments.api.page import add_page_routes
from deployments.api.pools import PoolBoard, Readiness, add_model_routes, add_pool_routes
from deployments.api.studies import add_study_routes
from deployments.api.uploads import add_file_routes
from deployments.api.videos import add_video_routes
from deployments.errors import ApiError, InvalidRequestError, StoreAwayError
from deployments.files.store import ArtifactStore
from deployments.intake.admission import Promise
from deployments.intake.intact import Remake
from deployments.intake.services import GlimpseOf, HealthOf, Nudge, Services, Show, WorkOf
from deployments.jobs.naming import as_sent
from deployments.jobs.outlook import Promised
from deployments.jobs.values import JobRequest
from deployments.journal.database import DATABASE_AWAY, Database
from deployments.journal.journal import Journal
from deployments.observe.history import EVERY_S, NodeTexts, PoolHistory
from deployments.observe.logs import set_up
from deployments.observe.metrics import RequestMetrics
from deployments.on_ray.agents import node_texts
from deployments.on_ray.health import Watch
from deployments.settings.application import AppArgs
from deployments.settings.rollout import with_live
from deployments.tenants.keys import KeyBook, KeyRing
from deployments.tenants.webhooks import Courier

logger = logging.getLogger(__name__)

_HAS_HEAD = re.compile(r"/videos/[^/]+/content$")  # a route of its own
ANSWER_S = 5.0  # for Ray Serve, the pipeline and the database, before they count as gone


class Ingress:
    """One replica of the deployment `ingress`."""

    def __init__(self, args: AppArgs, pipeline: Any, keeper: Any = None) -> None:
        set_up(args.observability.log_format, args.observability.log_level)

        async def nudge() -> None:
            await pipeline.nudge.remote()

        async def show(key: str, sha256: str) -> tuple[bytes, str]:
            shown: tuple[bytes, str] = await keeper.show.remote(key, sha256)
            return shown

        async def work() -> Report | None:
            flat = await pipeline.broadcast("record_autoscaling_stats").results_async(timeout_s=ANSWER_S)
            return joined([report for one in flat if (report := from_floats(one)) is not None])

        async def remake(job_id: str) -> None:
            await pipeline.remake.remote(job_id)

        async def glimpse(job_id: str) -> bytes | None:
            shown = await pipeline.broadcast("glimpse", job_id).results_async(timeout_s=ANSWER_S)
            return next((one for one in shown if one is not None), None)

        async def promise(request: JobRequest, tenant: str, priority: int, deadline_s: float) -> Promised | None:
            asked = pipeline.promise.remote(request, tenant, priority, deadline_s)
            found: Promised | None = await asyncio.wait_for(asked, ANSWER_S)
            return found

        database = Database(args.storage.database())
        journal, store = Journal(database), ArtifactStore(args.storage.artifacts_url)
        counts = RequestMetrics()
        if (secret := args.webhooks.signing_secret()) is not None:
            private = args.webhooks.allow_private
            courier = Courier(database, secret, partial(webhook_answer, journal), allow_private=private)
            self._courier = asyncio.get_running_loop().create_task(courier.run())

        history = PoolHistory()

        def made(args: AppArgs) -> FastAPI:
            app = create_app(
                *(args, journal, store),
                nudge=nudge,
                health=Watch(args).health,
                show=show,
                work=work,
                remake=remake,
                promise=promise,
                glimpse=glimpse,
                nodes=node_texts,
                counts=counts,
                history=history,
            )
            app.state.board.watch(EVERY_S)  # a server that starts has nothing to see
            return app

        self._args, self._made = args, made
        self._asgi = _Newest(made(args))

    async def reconfigure(self, told: Mapping[str, Any]) -> None:
        """Ray Serve calls this at the start, and when a roll-out changes settings: requests that come go by them, and
        those under way end as they began.
        """
        args = with_live(self._args, told)
        if args != self._args:
            set_up(args.observability.log_format, args.observability.log_level)
            self._args = args
            self._asgi.take(self._made(args))

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return self._asgi


class _Newest:
    """The newest of several applications."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._handlers: list[tuple[Any, Any]] = []

    def take(self, app: FastAPI) -> None:
        for kind, handler in self._handlers:
            app.add_exception_handler(kind, handler)
        self._app = app

    def add_exception_handler(self, kind: Any, handler: Any) -> None:
        """Ray Serve has some of its own."""
        self._handlers.append((kind, handler))
        self._app.add_exception_handler(kind, handler)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


async def _no_nodes() -> list[str | None]:
    return []


async def _no_work() -> None:
    return None


async def _no_remake(_job_id: str) -> None:
    return None


def create_app(
    args: AppArgs,
    journal: Journal,
    store: ArtifactStore,
    *,
    nudge: Nudge,
    health: HealthOf,
    show: Show,
    work: WorkOf = _no_work,
    remake: Remake = _no_remake,
    promise: Promise | None = None,
    glimpse: GlimpseOf | None = None,
    nodes: NodeTexts = _no_nodes,
    counts: RequestMetrics | None = None,
    history: PoolHistory | None = None,
) -> FastAPI:
    """The application.

    Args:
        nudge: tells the pipeline that the journal has news.
        show: asks the keeper for pictures.
        work: asks the pipeline for the calls at every stage.
        promise: asks it when a job would be done; `glimpse`, how a step of one looks.
        nodes: gives what each node has counted.
        counts: those of an application before, which go on; `history` too.
    """
    app = FastAPI(
        title="magicvideo",
        version=__version__,
        responses=errors(401, 500, 503, 507),
        generate_unique_id_function=lambda route: route.name,
        dependencies=[Depends(drop_body)],
        docs_url=None,  # `deployments.api.page` has one that loads nothing from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    services = Services(args, journal, store, nudge, health, show, work, remake, promise, glimpse)
    ring = KeyRing(KeyBook(journal.database), services.at_journal, fresh_s=args.ingress.keys_fresh_s)
    counts = counts or RequestMetrics()
    origins = args.ingress.cors_origins
    app.add_middleware(Gate, ring=ring, links=services.links, origins=origins)
    app.add_middleware(_Unforeseen)
    app.add_middleware(_Wire, counts=counts)
    if origins:
        app.add_middleware(Cors, origins=origins)
    app.add_middleware(Hardening)
    add_session_routes(app, ring)
    app.state.services = services
    add_video_routes(app, services)
    add_remix_routes(app, services)
    add_file_routes(app, services)
    add_study_routes(app, services)
    add_event_routes(app, services)
    app.state.board = board = PoolBoard(services, nodes, history)
    add_pool_routes(app, board)
    add_model_routes(app, services)
    add_metrics_route(app, services, board, nodes)
    add_page_routes(app, args.preset)

    readiness = Readiness(services)

    @app.get(
        "/healthz",
        summary="Whether a new job can be accepted and made",
        response_model=Health,
        responses={503: {"model": Health, "description": "It cannot; problems say what is missing"}},
    )
    async def check_health() -> Response:
        """For probes; needs no key. Each problem is a sentence."""
        found = await readiness.check()
        return json_answer(found, 200 if found.status == "ok" else 503)

    _answer_errors(app, counts)
    describe(app, args.preset, args.served_names)
    describe_keys(app)
    return app


class _Wire:
    """Middleware around all routes.

    Counts every answer by the pattern of its route; what a client asked for would be labels without end. Answers HEAD
    as GET, without the body; other addresses of a route as `path_of` has them. A client that went away is no error.
    """

    def __init__(self, app: ASGIApp, counts: RequestMetrics) -> None:
        self._app, self._counts = app, counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method, path = scope["method"], path_of(scope["path"], scope.get("root_path", ""))
        heads = method == "HEAD" and not _HAS_HEAD.search(path)
        inner = {**scope, "method": "GET" if heads else method, "path": path}
        CAME_TO.set(came_to(scope))

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(inner.get("route"), "path", "none")
                self._counts.answered(method, route, message["status"])
            elif heads:
                await send({"type": "http.response.body"})
                raise _HeadAnsweredError
            await send(message)

        app = _refuse_nul if "\0" in path or b"%00" in scope["query_string"] else self._app
        try:
            await app(inner, receive, sent)
        except _HeadAnsweredError:
            pass  # the body that follows, which may have no end, is not made
        except ClientDisconnect:
            logger.debug("%s %s: the client went away.", method, path)


class _Unforeseen:
    """Middleware around the gate and all routes: an error that nobody foresaw is answered with 500. The framework would
    answer it outside of all middleware, without the headers that every answer has.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = False

        async def sent(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except ClientDisconnect:
            raise
        except Exception as error:
            if began or scope["type"] != "http":
                raise
            logger.error("%s %s failed.", scope["method"], scope["path"], exc_info=error)
            detail = ErrorDetail(
                message=f"The server failed with {type(error).__name__}; its log has the details.",
                type="server_error",
                code="internal_error",
            )
            await json_answer(ErrorBody(error=detail), 500)(scope, receive, send)


async def _refuse_nul(scope: Scope, receive: Receive, send: Send) -> None:
    """PostgreSQL fails where it is asked for such a text."""
    error = InvalidRequestError("The address holds the sign NUL (%00), which no id has.", code="invalid_parameter")
    await json_answer(error.body(), error.status)(scope, receive, send)


class _HeadAnsweredError(Exception):
    """Ends a route whose headers were all that is wanted."""


def _answer_errors(app: FastAPI, counts: RequestMetrics) -> None:
    """Every error in the API's shape, also the framework's own."""

    @app.exception_handler(ApiError)
    async def ours(request: Request, error: ApiError) -> Response:
        if (said := getattr(request.state, "said", None)) is not None:
            as_sent(error, said)
        counts.refused(error.code or error.type)
        return json_answer(error.body(), error.status, error.headers)

    async def away(_request: Request, error: Exception) -> Response:
        counts.refused("store_away" if isinstance(error, StoreAwayError) else "database_away")
        return away_answer(error)

    for kind in (*DATABASE_AWAY, StoreAwayError):
        app.add_exception_handler(kind, away)

    @app.exception_handler(RequestValidationError)
    async def parameters(request: Request, error: RequestValidationError) -> Response:
        found = error.errors()[0]
        operation = app.openapi()["paths"][request.scope["route"].path][request.method.lower()]
        described = {(one["in"], one["name"]): one["schema"] for one in operation["parameters"]}
        return await ours(request, parameter_error(found, described[found["loc"][:2]]))

    @app.exception_handler(HTTPException)
    async def frameworks(request: Request, error: HTTPException) -> Response:
        where = "see the README for the routes there are"
        if error.status_code == 404 and _is_below_v1(app, request.scope):
            where = "the API is below /v1: have the client's base URL end in it"
        detail = f"{request.method} {request.url.path}: {error.detail}; {where}."
        kind = "not_found_error" if error.status_code == 404 else "invalid_request_error"
        body = ErrorBody(error=ErrorDetail(message=detail, type=kind, code="unknown_route"))
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_methods(app, request))
        return json_answer(body, error.status_code, headers)


def _methods(app: FastAPI, request: Request) -> list[str]:
    """What the path of a request can be asked for; the framework names one route's methods only."""
    routes = (route for route in app.routes if isinstance(route, Route))
    fitting = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    named = [route for route in fitting if "{" not in route.path]  # a path of its own, not an id
    found = {method for route in named or fitting for method in route.methods or ()}
    return sorted(found | {"HEAD"} if "GET" in found else found)


def _is_below_v1(app: FastAPI, scope: Scope) -> bool:
    """Whether there is such a path with /v1 before it."""
    prefix = scope.get("root_path", "")
    below = {**scope, "path": f"{prefix}/v1{scope['path'].removeprefix(prefix)}"}
    return any(route.matches(below)[0] is not Match.NONE for route in app.routes if isinstance(route, APIRoute))
