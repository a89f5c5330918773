"""`python -m deployments serve --gpus auto` on a machine with a GPU: it works within the memory that it told."""

import re
from pathlib import Path

import httpx
import pytest
import torch

from cluster.server_process import ServerProcess
from deployments.box import find_gpus
from tests.e2e.rig import wait_for

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def test_a_video_is_made_within_the_memory_that_was_said(tmp_path: Path) -> None:
    free = {gpu.index: gpu.gib for gpu, _ in find_gpus()}
    log = tmp_path / "stderr"
    with (
        ServerProcess("--gpus", "auto", "--data-dir", tmp_path / "data", log=log) as server,
        httpx.Client(base_url=server.url, timeout=30.0) as http,
    ):
        path = f"/v1/videos/{http.post('/v1/videos', json={'prompt': 'a fox'}).json()['id']}"
        wait_for("the video", lambda: http.get(path).json()["status"] in ("completed", "failed"))
        assert http.get(path).json()["status"] == "completed", http.get(path).json()["error"]
        used = {gpu.index: free[gpu.index] - gpu.gib for gpu, _ in find_gpus()}
    said = re.findall(r"^  GPU (\d+) .*?free.*?\): ([\d.]+) GiB: ", log.read_text(), flags=re.MULTILINE)
    assert said
    for index, gib in said:
        assert 0 < used[int(index)] <= float(gib)
