"""Ray on several nodes of this machine, of which one can be drained: a head, and nodes of one counted GPU for V2V.

For one run at a time; the server joins it by its address.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.cluster_utils import Cluster
from ray.core.generated.autoscaler_pb2 import DrainNodeReason

from benchmarks.twin.setups import HEAD
from cluster.server_process import ROOT, free_port

STORE_BYTES = 400_000_000


@dataclass(frozen=True)
class RayNodes:
    """A cluster that runs."""

    cluster: Any
    dashboard: str

    @property
    def ray(self) -> tuple[str, str]:
        """As `cluster.experiments.live.Site` takes it."""
        return self.cluster.address, self.dashboard

    def drain(self, stage: str, notice_s: float) -> None:
        """The node of one of its replicas gets no new ones, and is gone by then."""
        found = httpx.get(f"{self.dashboard}/api/serve/applications/", timeout=30.0, trust_env=False).json()
        replicas = found["applications"]["magicvideo"]["deployments"][stage]["replicas"]
        node = next(one["node_id"] for one in replicas if one["state"] == "RUNNING")
        reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        until_ms = int((time.time() + notice_s) * 1000)
        accepted, why = GcsClient(address=self.cluster.address).drain_node(node, reason, "", until_ms)
        if not accepted:
            raise RuntimeError(f"Ray does not drain node {node}: {why}")


@contextmanager
def ray_nodes(pool: str, count: int) -> Iterator[RayNodes]:
    """A head, and so many nodes of a pool."""
    port, path = free_port(), os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)  # of the replicas' processes
    head = {"num_cpus": 16, "labels": {"pool": HEAD}, "include_dashboard": True, "dashboard_port": port}
    cluster = Cluster(initialize_head=True, head_node_args={**head, "object_store_memory": STORE_BYTES})
    try:
        for _ in range(count):
            cluster.add_node(num_cpus=2, num_gpus=1, labels={"pool": pool}, object_store_memory=STORE_BYTES)
        yield RayNodes(cluster, f"http://127.0.0.1:{port}")
    finally:
        cluster.shutdown()
        if path is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = path
