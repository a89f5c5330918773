"""A running server in the hands of a test: its HTTP, its journal, its processes, its object store.

Every wait polls with a deadline and says what it waited for.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
import psutil
import ray
from ray import serve
from ray._private.internal_api import memory_summary

from benchmarks.tools.processes import store_bytes
from client.schema import Video
from cluster.server_process import free_port
from deployments.app import APP_NAME, build
from deployments.jobs.values import Event
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.server import LocalRay, Server, start, stop
from deployments.settings.application import AppArgs
from deployments.settings.reading import load_config
from deployments.settings.variants import laptop, rehearsal
from stages.model.sampling.windows import plan_windows
from stages.presets import TINY, plan
from stages.replay import ReplayProfile
from stages.types import StageName

DEADLINE_S = 120.0
STORE_BYTES = 256 * 2**20
SLOW_STEPS = 40
PROFILES: dict[StageName, ReplayProfile] = {
    "t2i": ReplayProfile(run_s=0.2, bytes_out=1_500_000),
    "i2v": ReplayProfile(run_s=0.4, bytes_out=6_000_000, by_steps={SLOW_STEPS: 3.0}),
    "v2v": ReplayProfile(run_s=1.5, bytes_out=18_000_000, steps=20, by_steps={SLOW_STEPS: 5.0}),
    "vfi": ReplayProfile(run_s=0.1, bytes_out=1_200_000),
}
WINDOWS = len(plan_windows(plan(TINY, "a fox").i2v.frames, TINY.v2v_windows))

ValueT = TypeVar("ValueT")


def slowly(stage: str) -> dict[str, Any]:
    """What a request says whose `stage`, I2V or V2V, is to be met while it computes, on a busy machine too."""
    return {"stages": {stage: {"steps": SLOW_STEPS}}}


def wait_for(
    what: str, probe: Callable[[], ValueT | None], deadline_s: float = DEADLINE_S, every_s: float = 0.05
) -> ValueT:
    """The first answer of `probe` that is neither None nor False. A look takes CPU from what is looked at: 12 ms where
    it asks the server. So the longer it takes, the rarer it is looked for.
    """
    begun = time.monotonic()
    while True:
        found = probe()
        if found is not None and found is not False:
            return found
        waited = time.monotonic() - begun
        assert waited < deadline_s, f"waited {deadline_s:g} s for {what}"
        time.sleep(max(every_s, min(waited / 10, 0.25)))


class Rig:
    """`with Rig(folder) as rig` runs the server."""

    def __init__(self, folder: Path) -> None:
        self.args: AppArgs = rehearsal(laptop(load_config(), data_dir=folder), PROFILES)
        self._server: Server | None = None

    def __enter__(self) -> Self:
        local = LocalRay(num_cpus=4, object_store_bytes=STORE_BYTES)
        self._server = start(self.args, host="127.0.0.1", port=free_port(), where=local)
        self.url = self._server.url
        self.http = httpx.Client(base_url=self.url, timeout=60.0)
        self.journal = Journal(Database(self.args.storage.database()))
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self.http.close()
        self.journal.database.close()
        stop(self._server.temp_dir)

    def create(self, **body: Any) -> Video:
        answer = self.http.post("/v1/videos", json={"prompt": "a fox", **body})
        assert answer.status_code == 200, answer.text
        return Video.model_validate_json(answer.content)

    def retrieve(self, video_id: str) -> Video:
        answer = self.http.get(f"/v1/videos/{video_id}")
        assert answer.status_code == 200, answer.text
        return Video.model_validate_json(answer.content)

    def ended(self, video_id: str) -> Video:
        """The video once it is completed or failed."""

        def final() -> Video | None:
            video = self.retrieve(video_id)
            return video if video.status in ("completed", "failed") else None

        return wait_for(f"the end of {video_id}", final, every_s=0.1)

    def running(self, video_id: str, stage: StageName) -> Video:
        """The video once that stage computes."""

        def there() -> Video | None:
            video = self.retrieve(video_id)
            assert video.status in ("queued", "in_progress"), f"{video_id} ended before {stage} ran: {video.error}"
            return video if any(s.name == stage and s.status == "running" for s in video.stages) else None

        return wait_for(f"stage {stage} of {video_id}", there)

    def events(self, video_id: str) -> list[Event]:
        return self.journal.events(video_id)

    @staticmethod
    def replica(deployment: str, app: str = APP_NAME, pid: int | None = None) -> psutil.Process | None:
        """The process of a deployment's replica, of several the one with that `pid`; None while there is none."""
        title = f"ServeReplica:{app}:{deployment}"
        for process in psutil.Process().children(recursive=True):
            try:
                if any(title in part for part in process.cmdline()) and pid in (None, process.pid):
                    return process
            except psutil.Error:
                continue  # it ended while we looked
        return None

    @staticmethod
    def store_mib() -> float:
        """Megabytes of the object store that somebody needs; what a dead process owned lies there until it is full."""
        text = memory_summary(address=ray.get_runtime_context().gcs_address, stats_only=True)
        found = re.search(r"Plasma memory usage \d+ MiB, .* ([\d.]+)% needed", text)
        assert found is not None, text
        return float(found[1]) / 100 * STORE_BYTES / 2**20

    @staticmethod
    def spilled_bytes() -> int:
        """Since the start of Ray."""
        return store_bytes().spilled


class SecondApp:
    """Another application on the same Ray, with arguments and a journal of its own."""

    def __init__(self, rig: Rig, name: str, args: AppArgs) -> None:
        self.name, self.args = name, args
        self.http = httpx.Client(base_url=f"{rig.url}/{name}", timeout=60.0)
        self.deploy()
        self.journal = Journal(Database(args.storage.database()))

    def deploy(self) -> None:
        """Start it, or change it to what `args` say now."""
        serve.run(build(self.args), name=self.name, route_prefix=f"/{self.name}")

    def close(self) -> None:
        serve.delete(self.name)
        self.http.close()
        self.journal.database.close()

    def create(self, **body: Any) -> str:
        answer = self.http.post("/v1/videos", json={"prompt": "a fox", **body})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def video(self, video_id: str) -> Video:
        return Video.model_validate(self.http.get(f"/v1/videos/{video_id}").json())

    def ended(self, video_id: str, deadline_s: float = DEADLINE_S) -> Video:
        """The video once it is completed or failed."""

        def final() -> Video | None:
            video = self.video(video_id)
            return video if video.status in ("completed", "failed") else None

        return wait_for(f"the end of {video_id}", final, deadline_s, every_s=0.1)

    def told(self, video_id: str, kind: str, stage: StageName) -> list[dict[str, Any]]:
        """What the job's events of one kind say about a stage, in order."""
        return [e.data for e in self.journal.events(video_id) if e.kind == kind and e.data["stage"] == stage]
