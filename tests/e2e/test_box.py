"""`python -m deployments serve --gpus`: on a machine that says it has GPUs each stage sees its own, and works."""

import os
import re
import sys
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import yaml

from cluster.server_process import ServerProcess
from deployments.settings.reading import CONFIG_PATH
from stages.presets import Preset
from stages.replay import ReplayStage
from stages.types import STAGE_NAMES
from tests.e2e.rig import wait_for

pytestmark = pytest.mark.slow


class Seen(ReplayStage):
    """Writes down what it sees when it is loaded."""

    @classmethod
    def load(cls, preset: Preset, device: str, *, folder: str = "", **options: Any) -> Self:
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
        Path(folder, options["stage"]).write_text(
            f"{gpus} {device} {preset.name} {preset.speed(options['stage']).offload} {os.getpid()}"
        )
        return super().load(preset, device, **options)


def config(folder: Path) -> Path:
    """The committed file with stages that compute nothing."""
    document = yaml.safe_load(CONFIG_PATH.read_text())
    for name, stage in document["applications"][0]["args"]["stages"].items():
        stage["factory"] = "tests.e2e.test_box:Seen"
        stage["options"] = {"stage": name, "run_s": 0.05, "bytes_out": 1_000_000, "folder": str(folder)}
    path = folder / "serve.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.mark.parametrize(
    ("gpus", "gib"),
    [
        ("0,2", (5, 99, 24)),
        pytest.param("auto", (80,) * 5, marks=pytest.mark.cluster),
    ],
)
def test_every_stage_runs_on_the_gpu_that_was_said(tmp_path: Path, gpus: str, gib: tuple[int, ...]) -> None:
    lines = [f"{index}, GPU-{index}, NVIDIA X, {size * 1024}, {size * 1024}" for index, size in enumerate(gib)]
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!{sys.executable}\nprint({chr(10).join(lines)!r})\n")
    program.chmod(0o755)
    log = tmp_path / "stderr"
    server = ServerProcess(
        *("--gpus", gpus, "--config", config(tmp_path), "--data-dir", tmp_path / "data"),
        log=log,
        environment={"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
    )
    with server, httpx.Client(base_url=server.url, timeout=60.0) as http:
        path = f"/v1/videos/{http.post('/v1/videos', json={'prompt': 'a fox'}).json()['id']}"
        wait_for("the video", lambda: http.get(path).json()["status"] in ("completed", "failed"))
        assert http.get(path).json()["status"] == "completed"
        found = {name: (tmp_path / name).read_text().split() for name in STAGE_NAMES}
    assert {tuple(words[1:4]) for words in found.values()} == {("cuda", "tiny", "none")}
    said = {
        name: match[1]
        for match in re.finditer(r"^  GPU (\d+) .*?free\): [\d.]+ GiB: (.*)$", log.read_text(), flags=re.MULTILINE)
        for name in re.findall(r"t2i|i2v|v2v|vfi", match[2])
    }
    assert set(said) == set(STAGE_NAMES)
    if gpus == "0,2":
        assert {name: words[0] for name, words in found.items()} == said
    else:  # one each, whichever, and one more of what computes most
        assert {words[0] for words in found.values()} <= {"0", "1", "2", "3", "4"}
        assert len({words[0] for words in found.values()}) == len(STAGE_NAMES)
