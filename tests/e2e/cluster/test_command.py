"""serve_config.yaml's own graph on an emulated cluster: labelled nodes, with one (pretended) GPU but for control."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from ray.cluster_utils import Cluster

from client.schema import Video
from cluster.server_process import ServerProcess
from deployments.settings.reading import CONFIG_PATH
from tests.e2e.rig import wait_for

pytestmark = pytest.mark.slow

POOLS = ("t2i", "i2v", "v2v", "v2v", "vfi")  # v2v starts with two replicas
SMALL: dict[str, Any] = {"object_store_memory": 100 * 2**20, "include_dashboard": False}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "num_gpus": 0, **SMALL})
    try:
        made.add_node(num_cpus=4, labels={"pool": "control"}, **SMALL)
        for pool in POOLS:
            made.add_node(num_cpus=8, num_gpus=1, labels={"pool": pool}, **SMALL)
        yield made
    finally:
        made.shutdown()


def rehearsed_config(folder: Path) -> Path:
    """The committed file; only the stages' classes and the storage are others."""
    document = yaml.safe_load(CONFIG_PATH.read_text())
    args = document["applications"][0]["args"]
    args["storage"] = {"database_url": f"sqlite:///{folder}/jobs.sqlite", "artifacts_url": f"file://{folder}/files"}
    for name, stage in args["stages"].items():
        stage["factory"] = "stages.replay:ReplayStage"
        stage["options"] = {"stage": name, "run_s": 0.2, "bytes_out": 1_000_000}
    path = folder / "serve.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_every_stage_finds_its_pool_and_a_video_is_made(cluster: Cluster, tmp_path: Path) -> None:
    errors = tmp_path / "stderr"
    server = ServerProcess(
        "--cluster", "--address", cluster.address, "--config", rehearsed_config(tmp_path), log=errors
    )
    with server, httpx.Client(base_url=server.url, timeout=30.0) as http:
        wait_for("every replica", lambda: http.get("/healthz").json()["problems"] == [])
        assert http.get("/healthz").json()["stages"] == {"t2i": 1, "i2v": 1, "v2v": 2, "vfi": 1}
        video_id = http.post("/v1/videos", json={"prompt": "a fox"}).json()["id"]
        path = f"/v1/videos/{video_id}"
        wait_for("the video", lambda: http.get(path).json()["status"] in ("completed", "failed"))
        video = Video.model_validate(http.get(path).json())
        assert (video.status, video.error, video.model) == ("completed", None, "paper")
        assert http.get(f"{path}/content").status_code == 200
    said = errors.read_text()  # until SIGTERM, and of it
    assert server.returncode == 0, said
    assert "Traceback" not in said
