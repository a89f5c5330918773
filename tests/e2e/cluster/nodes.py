"""Several Ray nodes on this machine, labelled as pools, with pretended GPUs, and the shipped serve_config.yaml on them.

Only the stages' classes, the storage, the port and the lease are others than shipped. What runs where is asked of
Serve's REST interface; the journal is read directly.
"""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
import yaml
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.cluster_utils import Cluster
from ray.core.generated.autoscaler_pb2 import DrainNodeReason

from benchmarks.tools.ledger import reran
from client.schema import Video
from cluster.server_process import ROOT, free_port
from deployments.app import APP_NAME
from deployments.jobs.values import FINAL
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.settings.reading import CONFIG_PATH
from stages.model.sampling.windows import plan_windows
from stages.presets import get_preset, plan
from tests.e2e.rig import wait_for

POOLS = ("t2i", "i2v", "v2v", "v2v", "vfi")  # v2v starts with two replicas
ONE = "all"  # a pool that has room for every stage, on one node
STAGES = {"t2i": 1, "i2v": 1, "v2v": 2, "vfi": 1}
SMALL: dict[str, Any] = {"object_store_memory": 100 * 2**20}
PAPER = get_preset("paper")
WINDOWS = len(plan_windows(plan(PAPER, "a fox").i2v.frames, PAPER.v2v_windows))
ONCE = {"t2i": 1, "i2v": 1, "v2v": WINDOWS, "vfi": WINDOWS}
LEASE_S = 5.0
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "2",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_USAGE_STATS_ENABLED": "0",
}

Args = dict[str, Any]


def rehearsed(folder: Path, port: int, run_s: Mapping[str, float] | None = None) -> dict[str, Any]:
    """The shipped file with stand-in stages."""
    document: dict[str, Any] = yaml.safe_load(CONFIG_PATH.read_text())
    document["http_options"] = {"host": "127.0.0.1", "port": port}
    args = document["applications"][0]["args"]
    args["storage"] = {"database_url": f"sqlite:///{folder}/jobs.sqlite", "artifacts_url": f"file://{folder}/files"}
    args["pipeline"]["lease_s"] = LEASE_S
    args["graceful_shutdown_wait_loop_s"] = 0.1
    for name, stage in args["stages"].items():
        stage["factory"] = "stages.replay:ReplayStage"
        stage["options"] = {"stage": name, "run_s": (run_s or {}).get(name, 0.2), "bytes_out": 1_000_000}
    return document


class Nodes:
    """`with Nodes(folder) as nodes` has a head and a node for each of `pools`; nothing is deployed yet."""

    def __init__(self, folder: Path, pools: tuple[str, ...] = ("control", *POOLS), **head: Any) -> None:
        self.port, self._dashboard = free_port(), free_port()
        self._folder, self._pools, self._head = folder, pools, head
        self.document = rehearsed(folder, self.port)
        if ONE in pools:
            for stage in self.document["applications"][0]["args"]["stages"].values():
                stage.update(pool=ONE, num_cpus=1)

    def __enter__(self) -> Self:
        self._before = {name: os.environ.get(name) for name in ENVIRONMENT}
        os.environ.update(ENVIRONMENT)
        shown = {"include_dashboard": True, "dashboard_port": self._dashboard}
        head = {"num_cpus": 0, "num_gpus": 0, **shown, **SMALL, **self._head}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes: dict[str, list[Any]] = {}
        for pool in self._pools:
            self.add(pool)
        self.rest = httpx.Client(base_url=f"http://127.0.0.1:{self._dashboard}", timeout=60.0)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60.0)
        return self

    def __exit__(self, *_: object) -> None:
        self.rest.close()
        self.http.close()
        self.cluster.shutdown()
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    # Nodes

    def add(self, pool: str, num_gpus: int = 1) -> Any:
        gpus = {"control": 0, ONE: len(POOLS)}.get(pool, num_gpus)
        node = self.cluster.add_node(num_cpus=8, num_gpus=gpus, labels={"pool": pool}, **SMALL)
        self.nodes.setdefault(pool, []).append(node)
        return node

    def kill(self, node: Any) -> None:
        for own in self.nodes.values():
            if node in own:
                own.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)

    def node_with(self, deployment: str) -> Any:
        """A node where a replica of it runs."""
        [where, *_] = [one["node_id"] for one in self.replicas(deployment)]
        return next(node for own in self.nodes.values() for node in own if node.node_id == where)

    def drain(self, node: Any, notice_s: float) -> None:
        """What Ray does on a node that is told to stop: it gets no new work and is gone by then."""
        reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        until_ms = int((time.time() + notice_s) * 1000)
        accepted, why = GcsClient(address=self.cluster.address).drain_node(node.node_id, reason, "", until_ms)
        assert accepted, why

    def pool_of(self, node_id: str) -> str:
        return next((pool for pool, own in self.nodes.items() for node in own if node.node_id == node_id), "head")

    # Serve

    def args(self) -> Args:
        """Of the file that was deployed last, to be changed."""
        return deepcopy(self.document["applications"][0]["args"])

    def deploy(self, args: Args | None = None, *, waits: bool = True) -> None:
        """`serve deploy`, then until Serve says that it is done; later ones as that command does it."""
        if args is not None:
            self.document["applications"][0]["args"] = args
        before = self.application().get("last_deployed_time_s", 0)
        if before:
            self.rest.put("/api/serve/applications/", json=self.document).raise_for_status()
        else:
            path = self._folder / "serve.yaml"
            path.write_text(yaml.safe_dump(self.document))
            serve = [str(Path(sys.executable).with_name("serve")), "deploy", "-a", str(self.rest.base_url), str(path)]
            done = subprocess.run(serve, capture_output=True, text=True, cwd=ROOT, check=False)
            assert done.returncode == 0, done.stderr
        if waits:
            wait_for("the deploy", lambda: self.deployed(before))

    def deployed(self, before: float) -> bool:
        application = self.application()
        assert application.get("status") != "DEPLOY_FAILED", application["message"]
        return application.get("status") == "RUNNING" and application["last_deployed_time_s"] > before

    def application(self) -> dict[str, Any]:
        answer = self.rest.get("/api/serve/applications/").raise_for_status().json()
        found: dict[str, Any] = answer["applications"].get(APP_NAME, {})
        return found

    def replicas(self, deployment: str) -> list[dict[str, Any]]:
        """Those that run."""
        found = self.application().get("deployments", {}).get(deployment, {}).get("replicas", [])
        return [one for one in found if one["state"] == "RUNNING"]

    def running(self) -> dict[str, set[int]]:
        """Of each deployment, its replicas' processes."""
        application = self.application()
        return {
            name: {one["pid"] for one in of["replicas"] if one["state"] == "RUNNING"}
            for name, of in application["deployments"].items()
        }

    def processes(self, title: str) -> list[psutil.Process]:
        found = []
        for process in psutil.Process().children(recursive=True):
            try:
                if any(title in part for part in process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue  # it ended while we looked
        return found

    # Jobs

    def ready(self) -> None:
        """Until every replica that the file asks for runs."""
        wait_for("every replica", lambda: self.ask("/healthz").json().get("stages") == STAGES)
        self.journal = Journal(Database(self.args()["storage"]["database_url"]))

    def ask(self, path: str) -> httpx.Response:
        """A GET that is asked again where a proxy has died under it."""

        def answer() -> httpx.Response | None:
            try:
                return self.http.get(path)
            except httpx.TransportError:
                return None

        return wait_for(f"an answer of {path}", answer)

    def create(self, **body: Any) -> str:
        def answer() -> httpx.Response | None:
            try:
                made = self.http.post("/v1/videos", json={"prompt": "a fox", **body})
            except httpx.TransportError:
                return None
            return made if made.status_code == 200 else None

        return str(wait_for("an accepted video", answer).json()["id"])

    def video(self, video_id: str) -> Video:
        return Video.model_validate(self.ask(f"/v1/videos/{video_id}").json())

    def ended(self, *ids: str, deadline_s: float = 120.0) -> None:
        """Until all are completed; none lost, none failed."""
        wait_for("the ends", lambda: all(self.journal.get(one).state in FINAL for one in ids), deadline_s)
        assert {self.journal.get(one).state for one in ids} == {"succeeded"}, [self.journal.get(one) for one in ids]

    def computed(self, video_id: str) -> Counter[str]:
        """Outputs by stage, however often each was computed."""
        return Counter(event.data["stage"] for event in self.journal.events(video_id) if event.kind == "stage_output")

    def rerun(self, *ids: str) -> int:
        """Outputs that were computed though they were kept."""
        return sum(reran(self.journal.events(one)) for one in ids)

    def computes(self, video_id: str, stage: str) -> None:
        """Until that stage computes a call of the video."""

        def begun(kind: str, stage: str) -> bool:
            return any(e.kind == kind and e.data.get("stage") == stage for e in self.journal.events(video_id))

        wait_for(f"{stage} of {video_id}", lambda: begun("stage_started", stage))
