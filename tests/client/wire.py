"""The server of the client's tests: the real application on a port of its own, behind one layer that injects faults.

The application is `deployments.api.ingress.create_app` over a real journal and real files; a `Standin` makes the jobs,
one step with every retrieve. `Wire.seen` notes what comes; `Wire.faults` is consumed from the front by the requests
that match: refusals, answers cut in the middle, answers that never come.
"""

import asyncio
import email
import json
import re
import socket
import tempfile
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

import uvicorn
from fastapi import Response
from sqlalchemy import update
from starlette.types import Message, Receive, Scope, Send

from client.schema import CreateVideo, ErrorBody, ErrorDetail, Event, Health
from deployments.api.ingress import create_app
from deployments.files.keeper import Keeper
from deployments.files.store import ArtifactStore
from deployments.jobs.judging import judge
from deployments.jobs.values import Job, NewJob
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from deployments.journal.tables import jobs, metadata
from deployments.settings.application import AppArgs, IngressArgs, WebhookArgs
from deployments.tenants.keys import KeyBook
from stages.types import STAGE_NAMES
from tests import routes as routes  # for what it does
from tests.client.standin import Standin, video

ARGS = AppArgs(
    ingress=IngressArgs(poll_after_ms=1, keys_fresh_s=0),
    webhooks=WebhookArgs(secret="env:SECRET_OF_THE_TESTS"),
)


@dataclass(frozen=True)
class Fault:
    """What happens to one request whose "METHOD path" matches. The default is to answer nothing, for ever."""

    match: str
    status: int | None = None  # refuse with it ...
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None  # ... and this body, else an error of the contract
    cut_after: int | None = None  # serve it, but break the connection after so many bytes of the body
    hang_after: int | None = None  # the same, but say nothing more
    end_after: int | None = None  # the same, but end the body as if it were whole; of a stream only
    without: str | None = None  # serve it without this header of the request


@dataclass(frozen=True)
class Seen:
    """One request."""

    line: str  # "METHOD /path"
    headers: dict[str, str]
    body: bytearray = field(default_factory=bytearray)

    @property
    def kind(self) -> str:
        return self.headers.get("content-type", "").split(";")[0]

    @property
    def fields(self) -> dict[str, Any]:
        """What it says: JSON, or a form's texts and the bytes of its files."""
        if self.kind != "multipart/form-data":
            return dict(json.loads(self.body or b"{}"))
        head = f"content-type: {self.headers['content-type']}\r\n\r\n".encode()
        found: dict[str, Any] = {}
        for part in email.message_from_bytes(head + self.body).walk():
            name, data = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
            if isinstance(name, str) and isinstance(data, bytes):
                found[name] = data if part.get_filename() else data.decode()
        return found


class Wire:
    """The server; `with Wire() as wire` runs it on a free port."""

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.url = f"http://127.0.0.1:{port}"
        self._folder = tempfile.TemporaryDirectory(prefix="magicvideo-wire-", ignore_cleanup_errors=True)
        folder = Path(self._folder.name)
        self.database = Database(f"sqlite:///{folder}/jobs.sqlite")
        self.journal = Journal(self.database)
        self.store = ArtifactStore(f"file://{folder}/artifacts")
        self.standin = Standin(self.journal, Leases(self.database), self.store)
        self.reset()

    def reset(self) -> None:
        """Forget everything, as if just started."""
        with self.database.write() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(table.delete())
        self.standin.reset()
        self.seen: list[Seen] = []
        self.faults: list[Fault] = []
        self.headers: dict[str, str | None] = {}  # in the place of the application's own; None: without it
        self.health = Health(status="ok", model="tiny", version="0.1.0", stages=dict.fromkeys(STAGE_NAMES, 1))
        show = Keeper(self.store.url).show
        self.app = create_app(
            ARGS,
            self.journal,
            self.store,
            nudge=self._nudge,
            health=lambda: self.health,
            show=show,
        )

    async def _nudge(self) -> None:
        await asyncio.to_thread(self.standin.heed_cancels)

    # What a test knows of the server

    @property
    def payload(self) -> bytes:
        """The content of a completed job."""
        return video().data

    @property
    def jobs(self) -> list[Job]:
        """The oldest first."""
        return self.journal.page(limit=1000, order="asc")[0]

    @property
    def last(self) -> Job:
        """The newest job."""
        return self.jobs[-1]

    @property
    def said(self) -> dict[str, Any]:
        """What the newest POST said."""
        return [request for request in self.seen if request.line.startswith("POST")][-1].fields

    def count(self, pattern: str) -> int:
        """How many requests matched."""
        return sum(bool(re.search(pattern, request.line)) for request in self.seen)

    def events(self, job_id: str) -> list[Event]:
        """What happened to a job."""
        return [Event(id=e.seq, kind=e.kind, at=e.at, data=e.data) for e in self.journal.events(job_id)]

    # What a test does behind the client's back

    def add(self, prompt: str = "a fox", **fields: Any) -> str:
        """The id of a job that waits."""
        return self.journal.submit(NewJob(judge(CreateVideo(prompt=prompt, **fields), ARGS.preset)))[0].id

    def finished(self, prompt: str = "a fox", **fields: Any) -> str:
        """The id of a job that has ended, or pauses."""
        job_id = self.add(prompt, **fields)
        self.standin.complete(job_id)
        return job_id

    def replace(self, job_id: str, content: bytes) -> None:
        """Another file in the place of a job's result."""
        made = self.store.put_bytes(content, f"videos/{job_id}/other.mp4", "video/mp4")
        about = {"key": made.key, "size_bytes": made.size_bytes, "sha256": made.sha256, "media_type": made.media_type}
        with self.database.write() as connection:
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(result=about))

    def forget(self, job_id: str) -> None:
        """Remove a job, as another client could."""
        self.journal.delete(job_id)

    def lock(self) -> str:
        """From now on a key is needed: this one."""
        return KeyBook(self.database).create("tests")[1]

    def unlock(self) -> None:
        book = KeyBook(self.database)
        for key in book.all():
            book.revoke(key.id)
        book.open()

    # Its life

    def start(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        listener.listen()  # from here on a connection waits for the server instead of being refused
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(Faulty(self), log_level="critical", lifespan="off", http="h11", ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._server.force_exit = True  # a request that hangs on purpose must not hold the end of a test
            self._thread.join(timeout=120)
            assert not self._thread.is_alive(), "the wire server did not stop within 120 s"
            self._server = self._thread = None
        self.database.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Faulty:
    """Notes every request, lets the next fault that matches strike, and has a job go on when somebody looks at it."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        line = f"{scope['method']} {scope['path']}"
        seen = Seen(line, {name.decode(): value.decode() for name, value in scope["headers"]})
        self.wire.seen.append(seen)
        fault = next((fault for fault in self.wire.faults if re.search(fault.match, line)), None)
        if fault is None:
            await self._serve(scope, _noting(receive, seen), send)
            return
        self.wire.faults.remove(fault)
        if fault.status is not None:
            detail = ErrorDetail(message="refused on purpose", type="server_error", code="fault")
            body = ErrorBody(error=detail).model_dump_json() if fault.body is None else fault.body
            await Response(body, fault.status, fault.headers)(scope, receive, send)
        elif fault.without is not None:
            kept = [(name, value) for name, value in scope["headers"] if name.decode() != fault.without]
            await self._serve({**scope, "headers": kept}, _noting(receive, seen), send)
        elif fault.cut_after is not None:
            await self._serve(scope, _noting(receive, seen), _cut(send, fault.cut_after))
        elif fault.hang_after is not None:
            await self._serve(scope, _noting(receive, seen), _cut(send, fault.hang_after, partial(_silence, receive)))
        elif fault.end_after is not None:
            await self._serve(scope, _noting(receive, seen), _ended(send, fault.end_after))
        else:
            await _silence(receive)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if found := re.fullmatch(r"GET /v1/videos/([^/]+)", f"{scope['method']} {scope['path']}"):
            await asyncio.to_thread(self.wire.standin.look, unquote(found[1]))
        await self.wire.app(scope, receive, _changing(send, self.wire.headers) if self.wire.headers else send)


def _noting(receive: Receive, seen: Seen) -> Receive:
    async def noting() -> Message:
        message = await receive()
        seen.body.extend(message.get("body", b""))
        return message

    return noting


def _changing(send: Send, headers: dict[str, str | None]) -> Send:
    async def changing(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = [(name, value) for name, value in message["headers"] if name.decode() not in headers]
            others = [(name.encode(), value.encode()) for name, value in headers.items() if value is not None]
            message = {**message, "headers": own + others}
        await send(message)

    return changing


async def _silence(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _cut(send: Send, left: int, pause: Callable[[], Awaitable[None]] | None = None) -> Send:
    async def cutting(message: Message) -> None:
        nonlocal left
        if message["type"] != "http.response.body":
            await send(message)
            return
        body = message.get("body", b"")
        await send({"type": "http.response.body", "body": body[:left], "more_body": True})
        left -= len(body)
        if left <= 0:
            await (pause() if pause is not None else asyncio.sleep(0))
            raise ConnectionResetError("cut on purpose")

    return cutting


def _ended(send: Send, left: int) -> Send:
    async def ending(message: Message) -> None:
        nonlocal left
        if message["type"] == "http.response.body" and left >= 0:
            body = message.get("body", b"")
            left -= len(body)
            more = message.get("more_body", False) and left > 0
            await send({"type": "http.response.body", "body": body[: len(body) + min(0, left)], "more_body": more})
            left = left if more else -1
        elif message["type"] != "http.response.body":
            await send(message)

    return ending
