"""The application over a real journal and real files; what the pipeline would do is done by hand."""

from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from client.schema import ErrorBody, Health, StageState, Video
from cluster.policy.reports import Report
from deployments.api.ingress import create_app
from deployments.files.keeper import Keeper
from deployments.files.store import ArtifactStore
from deployments.jobs.values import Claim, Update
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from deployments.settings.application import AppArgs, IngressArgs
from deployments.tenants.keys import KeyBook
from stages.types import STAGE_NAMES
from tests import routes as routes  # for what it does
from tests.journals import sqlite_journal

BODY = {"prompt": "a fox"}
PEAKS = {"t2i": 900.5, "i2v": 1200.0, "v2v": 2300.25, "vfi": None}
CONTENT = bytes(range(256)) * 4
ARGS = AppArgs(ingress=IngressArgs(max_queued_jobs=3, retry_after_s=7, max_body_bytes=5000, poll_after_ms=250))


class Rig:
    """The app, what lies behind it, and clients."""

    def __init__(self, folder: Path, args: AppArgs = ARGS) -> None:
        self.database = Database(sqlite_journal(folder))
        self.journal, self.leases = Journal(self.database), Leases(self.database)
        self.store = ArtifactStore(f"file://{folder}/artifacts")
        self.keys = KeyBook(self.database)
        self.folder = folder
        self.nudges = 0
        self.health = Health(status="ok", model="tiny", version="1", stages={"t2i": 1})
        self.calls: Report | None = None
        self.glimpses: dict[str, bytes] = {}  # what the pipeline shows of a job
        self.remade: dict[str, bytes] = {}  # what a file is replaced with when it is to be made again, by job
        self._clients: list[httpx.AsyncClient] = []
        self.app = self.served(args)
        self.http = self.client()

    def served(self, args: AppArgs) -> FastAPI:
        """Another ingress over the same journal and files."""
        show = Keeper(self.store.url).show
        return create_app(
            *(args, self.journal, self.store),
            nudge=self.nudge,
            health=lambda: self.health,
            show=show,
            work=self.work,
            remake=self.remake,
            glimpse=self.glimpse,
        )

    async def glimpse(self, job_id: str) -> bytes | None:
        return self.glimpses.get(job_id)

    async def nudge(self) -> None:
        self.nudges += 1

    async def remake(self, job_id: str) -> None:
        result = self.journal.get(job_id).result
        if job_id in self.remade and result is not None:
            self.store.put_bytes(self.remade[job_id], result["key"], "video/mp4")

    async def work(self) -> Report | None:
        return self.calls

    def client(self, address: str = "127.0.0.1", scheme: str = "http", **headers: str) -> httpx.AsyncClient:
        """Somebody at that address who sends these headers."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=(address, 5))
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        made = httpx.AsyncClient(transport=transport, base_url=f"{scheme}://localhost", headers=named)
        self._clients.append(made)
        return made

    def tenant(self, name: str, **headers: str) -> httpx.AsyncClient:
        """Somebody with a new key."""
        return self.client("10.0.0.7", authorization=f"Bearer {self.keys.create(name)[1]}", **headers)

    async def create(self, **body: Any) -> Video:
        return await create(self.http, **body)

    def claim(self) -> Claim:
        claimed = self.leases.claim("test", 60.0)
        assert claimed is not None
        return claimed[0]

    def finish(self, content: bytes = CONTENT) -> str:
        """What the pipeline would do with the next job; gives its id."""
        claim, path = self.claim(), self.folder / "made.mp4"
        path.write_bytes(content)
        made = self.store.put_file(path, f"videos/{claim.job_id}/{claim.fence}.mp4")
        states = tuple(
            StageState(name=name, status="completed", progress=100, run_s=2.0, peak_memory_mb=PEAKS[name])
            for name in STAGE_NAMES
        )
        self.leases.finish(Update(claim, states), "succeeded", result=vars(made))
        return claim.job_id

    async def finished(self, content: bytes = CONTENT) -> str:
        """The id of a job with that content."""
        await self.create()
        return self.finish(content)

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()
        self.database.close()


async def create(client: httpx.AsyncClient, **body: Any) -> Video:
    answer = await client.post("/v1/videos", json=BODY | body)
    assert answer.status_code == 200, answer.text
    return Video.model_validate_json(answer.content)


def error_of(answer: httpx.Response, status: int) -> Any:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    return ErrorBody.model_validate_json(answer.content).error
