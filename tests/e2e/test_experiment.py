"""An experiment on a real server: replicas set from outside, Serve's own scaling, files as a simulation writes them."""

import csv
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from PIL import Image

from cluster.traffic.measures import read_requests, read_samples

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
V2V_S = 1.0
SPEC: dict[str, Any] = {
    "title": "tiny",
    "stages": {
        "t2i": {"mean_s": 0.1, "bytes_out": 200_000},
        "i2v": {"mean_s": 0.2, "bytes_out": 200_000},
        "v2v": {"mean_s": V2V_S, "windows": 2, "bytes_out": 200_000, "max_replicas": 2},
        "vfi": {"mean_s": 0.1, "windows": 2, "bytes_out": 200_000},
    },
    "replicas": {"vary": {"v2v": [1, 2]}},
    "loads": [{"kind": "burst", "count": 3, "burst_s": 0.3, "span_s": 1}],
    "live": {"sample_s": 0.2, "deadline_s": 300},
}


def command(folder: Path, spec: dict[str, Any]) -> list[str]:
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    words = ["experiment", str(folder / "spec.yaml"), "--live", "--out", str(folder / "out")]
    return [sys.executable, "-m", "cluster", *words]


def servers(folder: Path) -> list[psutil.Process]:
    """Processes that serve from this folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "deployments" in words and any(str(folder) in word for word in words):
            found.append(process)
    return found


def test_replicas_are_set_from_outside_and_latency_counts_from_the_intended_send(tmp_path: Path) -> None:
    done = subprocess.run(command(tmp_path, SPEC), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        table = {int(line["v2v_replicas"]): line for line in csv.DictReader(file)}
    assert sorted(table) == [1, 2]
    for replicas, line in table.items():
        folder = tmp_path / "out" / "runs" / line["run"]
        rows, samples = read_requests(folder / "requests.csv"), read_samples(folder / "samples.csv")
        assert [row.outcome for row in rows] == ["succeeded"] * 3
        assert [row.intended_s for row in rows] == pytest.approx([0.0, 0.1, 0.2])
        for row in rows:
            spans = [row.spans[stage] for stage in ("t2i", "i2v", "v2v", "vfi")]
            starts = [span.start_s for span in spans]
            assert row.intended_s < row.arrived_s < starts[0]
            assert starts == sorted(starts)
            assert row.ended_s >= spans[-1].end_s > spans[-1].start_s
            assert row.latency_s > 0.3 + V2V_S / replicas
        used = {replica for row in rows for replica in row.spans["v2v"].replicas}
        assert len(used) == replicas
        assert {sample.stages["v2v"].ready for sample in samples} == {replicas}
        assert samples[-1].at_s >= max(row.ended_s for row in rows) - 1e-6
    servers_used = list((tmp_path / "out" / "server").iterdir())
    assert len(servers_used) == 1  # both runs, whose replicas were set from outside
    for name in ("throughput", "gantt", "queues", "pareto"):
        with Image.open(tmp_path / "out" / f"{name}.png") as picture:
            assert picture.width > 400
    assert not servers(tmp_path)


def test_serves_own_scaling_runs_and_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    quick = {"target_ongoing_requests": 1, "upscale_delay_s": 0, "downscale_delay_s": 1, "look_back_s": 0.6}
    spec = {**SPEC, "replicas": {}, "policies": [{"name": "serve_default", "options": quick}], "seeds": [0, 1]}
    with subprocess.Popen(
        command(tmp_path, spec), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=180)
    assert re.match(r"1/2 pools, serve_default, ", first), said
    assert process.returncode == 130
    assert "1 of 2 runs are kept" in said
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    assert [row.outcome for row in read_requests(folder / "requests.csv")] == ["succeeded"] * 3
    assert max(sample.stages["v2v"].target for sample in read_samples(folder / "samples.csv")) == 2
    assert os.path.getsize(tmp_path / "out" / "gantt.png") > 1000
    assert not servers(tmp_path)
