"""Experiments on a real server: the walk of cluster/README.md, in an empty folder, and Serve's own scaling."""

import csv
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from PIL import Image

from cluster.experiments.runs import RunPlan, plan_runs
from cluster.experiments.spec import load_spec
from cluster.traffic.measures import read_requests, read_samples

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SPEC: dict[str, Any] = {
    "title": "tiny",
    "stages": {
        "t2i": {"mean_s": 0.1, "bytes_out": 200_000},
        "i2v": {"mean_s": 0.2, "bytes_out": 200_000},
        "v2v": {"mean_s": 1.0, "windows": 2, "bytes_out": 200_000, "max_replicas": 2},
        "vfi": {"mean_s": 0.1, "windows": 2, "bytes_out": 200_000},
    },
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


def test_the_walk_of_the_readme_from_a_profile_to_a_live_experiment(tmp_path: Path) -> None:
    """Live, replicas are set from outside, and latency counts from the intended send."""
    readme = (ROOT / "cluster" / "README.md").read_text().partition("## Experiments")[2]
    walk = re.findall(r"```sh\n(.*?)```", readme, flags=re.DOTALL)[0].splitlines()
    assert len(walk) == 5
    said = []
    for line in walk:
        python, *words = shlex.split(line)
        assert python == "python"
        surroundings = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=surroundings, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}: {done.stderr}"
        said.append(done.stdout)
    assert "busiest: v2v" in said[1]
    bottleneck, twin, live = (tmp_path / "out" / name for name in ("bottleneck", "twin", "live"))
    for folder in (bottleneck, twin):
        assert_picture(folder / "throughput.png")
    for name in ("throughput", "gantt", "queues", "pareto"):
        assert_picture(live / f"{name}.png")
    same = [sorted(path.name for path in (folder / "runs").iterdir()) for folder in (twin, live)]
    assert same[0] == same[1]  # the very same runs
    spec, place = load_spec("bottleneck", quick=True)
    plans = {plan.name: plan for plan in plan_runs(spec.sped(spec.live.speed), place)}
    with (live / "results.csv").open(newline="") as file:
        table = {line["run"]: int(line["v2v_replicas"]) for line in csv.DictReader(file)}
    assert sorted(table) == sorted(plans)
    assert sorted(table.values()) == [1, 2]
    for name, replicas in table.items():
        assert_replicas_and_latencies(live / "runs" / name, plans[name], replicas)
    assert len(list((live / "server").iterdir())) == 1  # both runs, whose replicas were set from outside
    assert not servers(tmp_path)


def assert_picture(path: Path) -> None:
    with Image.open(path) as picture:
        assert picture.width > 400


def assert_replicas_and_latencies(folder: Path, plan: RunPlan, replicas: int) -> None:
    rows, samples = read_requests(folder / "requests.csv"), read_samples(folder / "samples.csv")
    arrivals = [arrival.time_s for arrival in plan.trace.arrivals]
    assert [row.intended_s for row in rows] == pytest.approx(arrivals, abs=1e-6)
    assert [row.outcome for row in rows] == ["succeeded"] * len(arrivals)
    alone = {name: times.mean_s for name, times in plan.scenario.stages.items()}
    for row in rows:
        spans = [row.spans[stage] for stage in ("t2i", "i2v", "v2v", "vfi")]
        starts = [span.start_s for span in spans]
        assert row.intended_s < row.arrived_s < starts[0]
        assert starts == sorted(starts)
        assert row.ended_s >= spans[-1].end_s > spans[-1].start_s
        assert row.latency_s > alone["t2i"] + alone["i2v"] + alone["v2v"] / replicas
    used = {replica for row in rows for replica in row.spans["v2v"].replicas}
    assert len(used) == replicas
    assert {sample.stages["v2v"].ready for sample in samples} == {replicas}
    assert samples[-1].at_s >= max(row.ended_s for row in rows) - 1e-6


def test_serves_own_scaling_runs_and_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    quick = {"target_ongoing_requests": 1, "upscale_delay_s": 0, "downscale_delay_s": 1, "look_back_s": 0.6}
    spec = {**SPEC, "policies": [{"name": "serve_default", "options": quick}], "seeds": [0, 1]}
    with subprocess.Popen(
        command(tmp_path, spec), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=300)
    assert re.match(r"1/2 pools, serve_default, ", first), said
    assert process.returncode == 130
    assert "1 of 2 runs are kept" in said
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    assert [row.outcome for row in read_requests(folder / "requests.csv")] == ["succeeded"] * 3
    assert max(sample.stages["v2v"].target for sample in read_samples(folder / "samples.csv")) == 2
    assert os.path.getsize(tmp_path / "out" / "gantt.png") > 1000
    assert not servers(tmp_path)
