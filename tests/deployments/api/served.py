"""The HTTP application on a port of its own, without Ray: what the pipeline would do is done by a test."""

import threading
import time
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from client.schema import Health
from cluster.server_process import free_port
from deployments.api.ingress import create_app
from deployments.files.keeper import Keeper
from deployments.files.store import ArtifactStore
from deployments.jobs.values import Claim
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from deployments.settings.application import AppArgs
from tests import routes as routes  # for what it does
from tests.journals import sqlite_journal


class Served:
    """The application on a port of its own, and its journal."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(Database(sqlite_journal(folder)))
        self.leases = Leases(self.journal.database)
        self.glimpses: dict[str, bytes] = {}  # what the pipeline shows of a job
        self.store = ArtifactStore(f"file://{folder}/artifacts")
        self.app: FastAPI = create_app(
            AppArgs(),
            self.journal,
            self.store,
            nudge=self.nudge,
            health=self.health,
            show=Keeper(self.store.url).show,
            glimpse=self.glimpse,
        )
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._server = uvicorn.Server(uvicorn.Config(self.app, port=port, log_level="warning", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run)

    async def glimpse(self, job_id: str) -> bytes | None:
        return self.glimpses.get(job_id)

    async def nudge(self) -> None:
        """Nobody listens."""

    @staticmethod
    def health() -> Health:
        return Health(status="ok", model="tiny", version="1", stages={"t2i": 1})

    def start(self) -> None:
        self._thread.start()
        end = time.monotonic() + 120
        while not self._server.started:
            assert time.monotonic() < end, "waited 120 s for the server"
            time.sleep(0.02)

    def stop(self) -> None:
        self._server.should_exit = True
        self._server.force_exit = True  # open event streams end with it
        self._thread.join()
        self.journal.database.close()

    def create(self, prompt: str, **body: Any) -> str:
        answer = httpx.post(f"{self.url}/v1/videos", json={"prompt": prompt, "seed": 7, **body})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def claim(self) -> Claim:
        claimed = self.leases.claim("test", 60.0)
        assert claimed is not None
        return claimed[0]
