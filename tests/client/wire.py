"""A server for the client's tests: the wire contract over real HTTP on localhost, jobs in memory, faults on demand.

A job moves one tick with every retrieve, so nothing depends on time. `Wire.faults` is consumed from the front by the
requests that match: refusals, answers cut in the middle, answers that never come. It knows `client.schema` and HTTP.
"""

import asyncio
import hashlib
import re
import socket
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from client.schema import (
    CreateVideo,
    DeletedVideo,
    ErrorBody,
    ErrorDetail,
    Health,
    JobError,
    StageState,
    Video,
    VideoList,
)

STAGES = ("t2i", "i2v", "v2v", "vfi")


@dataclass(frozen=True)
class Fault:
    """What happens to one request whose "METHOD path" matches. The default is to answer nothing, for ever."""

    match: str
    status: int | None = None  # refuse with it ...
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None  # ... and this body, else an error of the contract
    cut_after: int | None = None  # serve it, but break the connection after so many bytes of the body


SHEET = b"\x89PNG six frames"


@dataclass
class Job:
    number: int
    request: CreateVideo
    ticks: int
    error: JobError | None
    polls: int = 0
    note: str | None = None

    def video(self) -> Video:
        share = min(1.0, self.polls / self.ticks)
        ended = share >= 1.0
        failed = ended and self.error is not None
        return Video(
            id=f"video_{self.number:04}",
            model=self.request.model or "tiny",
            status="failed" if failed else "completed" if ended else "in_progress" if self.polls else "queued",
            progress=int(100 * share),
            created_at=1_700_000_000 + self.number,
            completed_at=1_700_000_100 + self.number if ended else None,
            prompt=self.request.prompt,
            seconds=self.request.seconds or "2",
            size=self.request.size or "256x256",
            error=self.error if failed else None,
            seed=1234 if self.request.seed is None else self.request.seed,
            stages=[self._stage(index, share, failed) for index in range(len(STAGES))],
            frames=46 if ended and not failed else None,
            fps=24.0 if ended and not failed else None,
            note=self.note,
        )

    def _stage(self, index: int, share: float, failed: bool) -> StageState:
        own = min(1.0, max(0.0, share * len(STAGES) - index))
        if failed and index == len(STAGES) - 1:
            return StageState(name=STAGES[index], status="failed", progress=99)
        if own >= 1.0:
            return StageState(name=STAGES[index], status="completed", progress=100, queued_s=0.1, run_s=1.5 + index)
        return StageState(name=STAGES[index], status="running" if own > 0 else "waiting", progress=int(100 * own))


class Wire:
    """The server; `with Wire() as wire` runs it on a free port."""

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.url = f"http://127.0.0.1:{port}"
        self.reset()

    def reset(self) -> None:
        """Forget everything, as if just started."""
        self.jobs: dict[str, Job] = {}
        self.keys: dict[str, str] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []  # ("METHOD /path", headers) of every request
        self.faults: list[Fault] = []
        self.ticks = 4  # retrieves until a new job ends
        self.error: JobError | None = None  # how a new job ends, if not well
        self.note: str | None = None
        self.api_key: str | None = None
        self.poll_after_ms: str | None = "1"
        self.ranges = True
        self.health = Health(status="ok", model="tiny", version="0.1.0", stages=dict.fromkeys(STAGES, 1))
        self.payload = b"".join(hashlib.sha256(str(i).encode()).digest() for i in range(10_000))  # 320 kB

    def start(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        listener.listen()  # from here on a connection waits for the server instead of being refused
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app = Faulty(build(self), self)
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", http="h11", ws="none"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._server.force_exit = True  # a request that hangs on purpose must not hold the end of a test
        self._thread.join(timeout=10)
        assert not self._thread.is_alive(), "the wire server did not stop within 10 s"
        self._server = self._thread = None

    def count(self, pattern: str) -> int:
        """How many requests matched."""
        return sum(bool(re.search(pattern, line)) for line, _ in self.seen)

    def finished(self, prompt: str = "a fox") -> str:
        """The id of a job that is already done."""
        job = self.add(CreateVideo(prompt=prompt))
        job.polls = job.ticks
        return job.video().id

    def add(self, request: CreateVideo) -> Job:
        job = Job(len(self.jobs) + 1, request, self.ticks, self.error, note=self.note)
        self.jobs[job.video().id] = job
        return job

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Faulty:
    """Notes every request, and lets the next fault that matches strike."""

    def __init__(self, app: ASGIApp, wire: Wire) -> None:
        self.app, self.wire = app, wire

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        line = f"{scope['method']} {scope['path']}"
        self.wire.seen.append((line, {name.decode(): value.decode() for name, value in scope["headers"]}))
        fault = next((fault for fault in self.wire.faults if re.search(fault.match, line)), None)
        if fault is None:
            await self.app(scope, receive, send)
            return
        self.wire.faults.remove(fault)
        if fault.status is not None:
            refusal = _error(fault.status, "refused on purpose", "fault")
            body = bytes(refusal.body) if fault.body is None else fault.body
            await Response(body, fault.status, fault.headers)(scope, receive, send)
        elif fault.cut_after is not None:
            await self.app(scope, receive, _cut(send, fault.cut_after))
        else:
            while (await receive())["type"] != "http.disconnect":
                pass


def _cut(send: Send, left: int) -> Send:
    async def cutting(message: Message) -> None:
        nonlocal left
        if message["type"] != "http.response.body":
            await send(message)
            return
        body = message.get("body", b"")
        await send({"type": "http.response.body", "body": body[:left], "more_body": True})
        left -= len(body)
        if left <= 0:
            await asyncio.sleep(0)
            raise ConnectionResetError("cut on purpose")

    return cutting


def _error(
    status: int, message: str, code: str | None = None, param: str | None = None, headers: dict[str, str] | None = None
) -> JSONResponse:
    kind = "invalid_request_error" if status < 500 else "server_error"
    body = ErrorBody(error=ErrorDetail(message=message, type=kind, param=param, code=code))
    return JSONResponse(body.model_dump(), status, headers)


def build(wire: Wire) -> FastAPI:
    """The routes of the contract."""
    app = FastAPI()

    @app.post("/v1/videos")
    async def create(request: Request) -> Response:
        if wire.api_key is not None and request.headers.get("authorization") != f"Bearer {wire.api_key}":
            return _error(401, "The API key is missing or wrong.", "invalid_api_key")
        try:
            body = CreateVideo.model_validate_json(await request.body())
        except ValidationError as error:
            return _error(400, str(error.errors()[0]["msg"]))
        if not body.prompt.strip():
            return _error(400, "The prompt is empty; say in a few words what the video shows.", param="prompt")
        key = request.headers["idempotency-key"]
        if key not in wire.keys:
            wire.keys[key] = wire.add(body).video().id
        return _json(wire.jobs[wire.keys[key]].video())

    @app.get("/v1/videos")
    async def listing(after: str | None = None, limit: int = 20, order: str = "desc") -> Response:
        ids = sorted(wire.jobs, reverse=order == "desc")
        ids = ids[ids.index(after) + 1 :] if after is not None else ids
        data = [wire.jobs[name].video() for name in ids[:limit]]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return _json(VideoList(data=data, first_id=first, last_id=last, has_more=len(ids) > limit))

    @app.get("/v1/videos/{video_id}")
    async def retrieve(video_id: str) -> Response:
        if video_id not in wire.jobs:
            return _error(404, f"There is no video {video_id!r}.", "video_not_found")
        wire.jobs[video_id].polls += 1
        headers = {} if wire.poll_after_ms is None else {"openai-poll-after-ms": wire.poll_after_ms}
        return _json(wire.jobs[video_id].video(), headers)

    @app.get("/v1/videos/{video_id}/content")
    async def content(video_id: str, request: Request) -> Response:
        if video_id not in wire.jobs:
            return _error(404, f"There is no video {video_id!r}.", "video_not_found")
        video = wire.jobs[video_id].video()
        if video.status != "completed":
            return _error(409, f"Video {video_id} is {video.status}; wait until it is completed.", "video_not_ready")
        if request.query_params.get("variant") == "spritesheet":
            return Response(SHEET, 200, media_type="image/png")
        return _content(wire, request)

    @app.post("/v1/videos/{video_id}/cancel")
    async def cancel(video_id: str) -> Response:
        if video_id not in wire.jobs:
            return _error(404, f"There is no video {video_id!r}.", "video_not_found")
        job = wire.jobs[video_id]
        if job.video().status == "completed":
            return _error(
                409, f"Video {video_id} is completed; only an unfinished one can be cancelled.", "video_ended"
            )
        job.error, job.polls = JobError(code="cancelled", message="The job was cancelled."), job.ticks
        return _json(job.video())

    @app.delete("/v1/videos/{video_id}")
    async def delete(video_id: str) -> Response:
        if wire.jobs.pop(video_id, None) is None:
            return _error(404, f"There is no video {video_id!r}.", "video_not_found")
        return _json(DeletedVideo(id=video_id))

    @app.get("/healthz")
    async def healthz() -> Response:
        return _json(wire.health, status=200 if wire.health.status == "ok" else 503)

    return app


def _json(model: Any, headers: dict[str, str] | None = None, status: int = 200) -> Response:
    return JSONResponse(model.model_dump(mode="json"), status, headers)


def _content(wire: Wire, request: Request) -> Response:
    size = len(wire.payload)
    etag = f'"{hashlib.sha256(wire.payload).hexdigest()[:16]}"'
    headers = {"etag": etag, "accept-ranges": "bytes"}
    found = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
    if not wire.ranges or found is None or request.headers.get("if-range", etag) != etag:
        return Response(wire.payload, 200, headers, media_type="video/mp4")
    start = int(found[1])
    if start >= size:
        return Response(status_code=416, headers={**headers, "content-range": f"bytes */{size}"})
    headers["content-range"] = f"bytes {start}-{size - 1}/{size}"
    return Response(wire.payload[start:], 206, headers, media_type="video/mp4")
