"""A server for the client's tests: the wire contract over real HTTP on localhost, jobs in memory, faults on demand.

A job moves one tick with every retrieve, so nothing depends on time. One that pauses stays where it is until it is
continued. What a request says is noted in the job (`Job.request`, `.change`, `.files`). `Wire.faults` is consumed from
the front by the requests that match: refusals, answers cut in the middle, answers that never come. It knows
`client.schema` and HTTP.
"""

import asyncio
import hashlib
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from client.schema import (
    ContinueVideo,
    CreateVideo,
    DeletedVideo,
    ErrorBody,
    ErrorDetail,
    Event,
    ExtendVideo,
    Health,
    JobError,
    Pools,
    PoolState,
    RemixVideo,
    StageName,
    StageState,
    Video,
    VideoList,
)

ModelT = TypeVar("ModelT", bound=BaseModel)
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
THUMBNAIL = b"RIFF....WEBP the first frame"
PREVIEW = b"....ftyp low resolution"
FILES = ("input_reference", "input_video")


def keyframe(candidate: int) -> bytes:
    """T2I's picture."""
    return b"\x89PNG\r\n\x1a\n picture %d" % candidate


@dataclass
class Job:
    number: int
    request: CreateVideo
    ticks: int
    error: JobError | None
    polls: int = 0
    note: str | None = None
    enter: str = "t2i"
    parent: str | None = None
    change: RemixVideo | ExtendVideo | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    chosen: int | None = None  # the candidate of `continue`
    pause: StageName | None = None
    position: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Its stages."""
        return STAGES[: STAGES.index(self.request.until or "vfi") + 1]

    @property
    def first(self) -> int:
        return STAGES.index(self.enter)

    @property
    def share(self) -> float:
        """Of its own stages, how much is done."""
        return min(1.0, self.polls / self.ticks, self.pause_share)

    @property
    def pause_share(self) -> float:
        if self.pause is None:
            return 1.0
        return (self.names.index(self.pause) + 1 - self.first) / (len(self.names) - self.first)

    @property
    def paused(self) -> bool:
        return self.pause is not None and self.share >= self.pause_share and self.error is None

    def go_on(self, candidate: int) -> None:
        self.polls = int(self.ticks * self.pause_share)
        self.chosen, self.pause = candidate, None

    def video(self) -> Video:
        ended = self.share >= 1.0
        failed = ended and self.error is not None
        waits = not self.polls or self.paused
        return Video(
            id=f"video_{self.number:04}",
            model=self.request.model or "tiny",
            status="failed" if failed else "completed" if ended else "queued" if waits else "in_progress",
            progress=int(100 * self.share),
            created_at=1_700_000_000 + self.number,
            completed_at=1_700_000_100 + self.number if ended else None,
            prompt=self.request.prompt,
            remixed_from_video_id=self.parent,
            seconds=self.request.seconds or "2",
            size=self.request.size or "256x256",
            error=self.error if failed else None,
            seed=1234 if self.request.seed is None else self.request.seed,
            stages=[self._stage(index, failed) for index in range(len(self.names))],
            frames=46 if ended and not failed else None,
            fps=24.0 if ended and not failed and self.request.until != "t2i" else None,
            note=self.note,
            until=self.request.until,
            paused_after=self.pause if self.paused else None,
            candidates=self.request.candidates,
            priority=self.request.priority,
            queue_position=self.position if not self.polls else None,
            eta_s=30.0 if self.position is not None and not self.polls else None,
        )

    def done(self, stage: str) -> bool:
        return stage in self.names and self._stage(self.names.index(stage), False).status == "completed"

    def _stage(self, index: int, failed: bool) -> StageState:
        name = self.names[index]
        if index < self.first:
            return StageState(
                name=name, status="completed", progress=100, origin="reused" if self.parent else "uploaded"
            )
        own = min(1.0, max(0.0, self.share * (len(self.names) - self.first) - (index - self.first)))
        if failed and index == len(self.names) - 1:
            return StageState(name=name, status="failed", progress=99)
        if own >= 1.0:
            return StageState(name=name, status="completed", progress=100, queued_s=0.1, run_s=1.5 + index)
        return StageState(name=name, status="running" if own > 0 else "waiting", progress=int(100 * own))


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
        self.keys: dict[str, tuple[str, str]] = {}  # idempotency key -> (what was said, the job it made)
        self.seen: list[tuple[str, dict[str, str]]] = []  # ("METHOD /path", headers) of every request
        self.faults: list[Fault] = []
        self.ticks = 4  # retrieves until a new job ends
        self.error: JobError | None = None  # how a new job ends, if not well
        self.note: str | None = None
        self.late: set[str] = set()  # variants that are not kept yet although their stage is done
        self.position: int | None = None  # jobs before a new one
        self.api_key: str | None = None
        self.poll_after_ms: str | None = "1"
        self.events: list[Event] = []  # of every job
        self.early: list[int] = []  # so many of them, and the stream ends
        self.ranges = True
        self.health = Health(status="ok", model="tiny", version="0.1.0", stages=dict.fromkeys(STAGES, 1))
        self.pools = Pools(
            stages=[
                PoolState(stage=name, pool=name, replicas=1, wanted=2, queued=3, running=1, utilisation=0.5)
                for name in STAGES
            ],
            jobs={"queued": 3, "running": 1},
        )
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

    def add(self, request: CreateVideo, **more: Any) -> Job:
        job = Job(len(self.jobs) + 1, request, self.ticks, self.error, note=self.note, **more)
        job.pause, job.position = request.pause_after, self.position
        self.jobs[job.video().id] = job
        return job

    @property
    def last(self) -> Job:
        """The newest job."""
        return list(self.jobs.values())[-1]

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


class Refused(Exception):  # noqa: N818 - an answer, not a mistake
    """Carries the answer that refuses a request."""

    def __init__(self, answer: Response) -> None:
        super().__init__()
        self.answer = answer


def build(wire: Wire) -> FastAPI:
    """The routes of the contract."""
    app = FastAPI()

    @app.exception_handler(Refused)
    async def refuse(request: Request, refused: Refused) -> Response:
        return refused.answer

    def known(video_id: str) -> Job:
        if video_id not in wire.jobs:
            raise Refused(_error(404, f"There is no video {video_id!r}.", "video_not_found"))
        return wire.jobs[video_id]

    def once(request: Request, said: str, make: Callable[[], Job]) -> Response:
        """The job that the key stands for: one, however often the request comes."""
        if wire.api_key is not None and request.headers.get("authorization") != f"Bearer {wire.api_key}":
            return _error(401, "The API key is missing or wrong.", "invalid_api_key")
        key = request.headers["idempotency-key"]
        if key not in wire.keys:
            wire.keys[key] = (said, make().video().id)
        before, made = wire.keys[key]
        if before != said:
            return _error(409, "The idempotency key was used with another body.", "idempotency_conflict")
        return _json(wire.jobs[made].video())

    @app.get("/v1/videos/{video_id}/events")
    async def events(video_id: str, request: Request) -> Response:
        known(video_id)
        last = int(request.headers.get("last-event-id", 0))
        told = [event for event in wire.events if event.id > last][: wire.early.pop() if wire.early else None]
        lines = [f"id: {e.id}\nevent: {e.kind}\ndata: {e.model_dump_json()}\n\n: quiet\n\n" for e in told]
        return Response("".join(lines), media_type="text/event-stream")

    @app.get("/v1/videos/{video_id}/stream")
    async def stream(video_id: str) -> Response:
        if known(video_id).video().status == "failed":
            return _error(409, f"Video {video_id} ended without a video.", "video_not_ready")
        return Response(wire.payload, media_type="video/mp4")

    @app.post("/v1/videos")
    async def create(request: Request) -> Response:
        body, files = await _created(request)
        source = body.input_video
        if not body.prompt.strip() and (source is None or source.id is None):
            return _error(400, "The prompt is empty; say in a few words what the video shows.", param="prompt")
        parent = known(source.id).video() if source is not None and source.id is not None else None
        if parent is not None and not body.prompt:
            body = body.model_copy(update={"prompt": parent.prompt})
        enter = "i2v" if "input_reference" in files or body.input_reference else body.enter or "t2i"
        more = {"enter": enter, "files": files, "parent": parent.id if parent else None}
        digests = [(name, hashlib.sha256(data).hexdigest()) for name, data in sorted(files.items())]
        return once(request, f"{body!r} {digests}", lambda: wire.add(body, **more))

    @app.post("/v1/videos/{video_id}/remix")
    async def remix(video_id: str, request: Request) -> Response:
        old, change = known(video_id), _typed(RemixVideo, await request.body() or b"{}")
        kept = {name: value for name, value in change.model_dump(exclude_unset=True).items() if name != "from_stage"}
        new = old.request.model_copy(update={"until": None, "pause_after": None, "candidates": 1, **kept})
        more = {"enter": change.from_stage or "t2i", "parent": video_id, "change": change}
        return once(request, f"{video_id} {change!r}", lambda: wire.add(new, **more))

    @app.post("/v1/videos/{video_id}/extend")
    async def extend(video_id: str, request: Request) -> Response:
        old, change = known(video_id), _typed(ExtendVideo, await request.body() or b"{}")
        if old.video().status != "completed":
            return _error(409, f"Video {video_id} is not completed; it can be extended once it is.", "video_not_ready")
        new = old.request.model_copy(update=change.model_dump(exclude_none=True))
        more = {"enter": "i2v", "parent": video_id, "change": change}
        return once(request, f"{video_id} {change!r}", lambda: wire.add(new, **more))

    @app.post("/v1/videos/{video_id}/continue")
    async def go_on(video_id: str, request: Request) -> Response:
        job, wanted = known(video_id), _typed(ContinueVideo, await request.body() or b"{}")
        if not job.paused:
            return _error(409, f"Video {video_id} does not wait to be continued.", "not_paused")
        if wanted.candidate >= job.request.candidates:
            last = job.request.candidates - 1
            return _error(400, f"candidate is {wanted.candidate}; video {video_id} has candidates 0 to {last}.")
        job.go_on(wanted.candidate)
        return _json(job.video())

    @app.get("/v1/videos")
    async def listing(after: str | None = None, limit: int = 20, order: str = "desc") -> Response:
        ids = sorted(wire.jobs, reverse=order == "desc")
        ids = ids[ids.index(after) + 1 :] if after is not None else ids
        data = [wire.jobs[name].video() for name in ids[:limit]]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return _json(VideoList(data=data, first_id=first, last_id=last, has_more=len(ids) > limit))

    @app.get("/v1/videos/{video_id}")
    async def retrieve(video_id: str) -> Response:
        job = known(video_id)
        job.polls += 1
        headers = {} if wire.poll_after_ms is None else {"openai-poll-after-ms": wire.poll_after_ms}
        return _json(job.video(), headers)

    @app.get("/v1/videos/{video_id}/content")
    async def content(video_id: str, request: Request) -> Response:
        job = known(video_id)
        variant = request.query_params.get("variant", "video")
        if variant in ("keyframe", "preview"):
            return _early(wire, job, variant, request.query_params.get("candidate"))
        video = job.video()
        if video.status != "completed":
            return _error(409, f"Video {video_id} is {video.status}; wait until it is completed.", "video_not_ready")
        if variant == "video":
            return _content(wire, request)
        return Response(SHEET if variant == "spritesheet" else THUMBNAIL, 200, media_type="image/png")

    @app.post("/v1/videos/{video_id}/cancel")
    async def cancel(video_id: str) -> Response:
        job = known(video_id)
        if job.video().status == "completed":
            return _error(
                409, f"Video {video_id} is completed; only an unfinished one can be cancelled.", "video_ended"
            )
        job.error, job.polls, job.pause = JobError(code="cancelled", message="The job was cancelled."), job.ticks, None
        return _json(job.video())

    @app.delete("/v1/videos/{video_id}")
    async def delete(video_id: str) -> Response:
        known(video_id)
        del wire.jobs[video_id]
        return _json(DeletedVideo(id=video_id))

    @app.get("/v1/pools")
    async def pools() -> Response:
        return _json(wire.pools)

    @app.get("/healthz")
    async def healthz() -> Response:
        return _json(wire.health, status=200 if wire.health.status == "ok" else 503)

    return app


async def _created(request: Request) -> tuple[CreateVideo, dict[str, bytes]]:
    if request.headers["content-type"] == "application/json":
        return _typed(CreateVideo, await request.body()), {}
    fields: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    async with request.form() as form:
        for name, value in form.multi_items():
            if isinstance(value, str):
                fields[name] = {"id": value} if name in FILES else value
            elif name in FILES:
                files[name] = await value.read()
    try:
        return CreateVideo.model_validate(fields), files
    except ValidationError as error:
        raise Refused(_error(400, str(error.errors()[0]["msg"]))) from error


def _typed(model: type[ModelT], body: bytes) -> ModelT:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise Refused(_error(400, str(error.errors()[0]["msg"]))) from error


def _early(wire: Wire, job: Job, variant: str, candidate: str | None) -> Response:
    """What is there before the video is."""
    stage = "t2i" if variant == "keyframe" else "i2v"
    if not job.done(stage) or variant in wire.late:
        return _error(409, f"Video {job.video().id} has no output of {stage} to show yet.", "variant_not_ready")
    if variant == "preview":
        return Response(PREVIEW, 200, media_type="video/mp4")
    number = job.chosen or 0 if candidate is None else int(candidate)
    if number >= job.request.candidates:
        return _error(400, f"candidate is {number}; there are {job.request.candidates}.", param="candidate")
    return Response(keyframe(number), 200, media_type="image/png")


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
