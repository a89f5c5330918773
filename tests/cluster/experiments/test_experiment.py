"""Experiments: what is refused before anything starts, files and plots of simulated runs, Ctrl-C, going on."""

import csv
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from cluster.__main__ import main
from cluster.experiments.command import said
from cluster.experiments.live import app_args
from cluster.experiments.plots import frontier
from cluster.experiments.results import keep
from cluster.experiments.runs import plan_runs
from cluster.experiments.spec import FOLDER, load_spec, parse_spec
from cluster.traffic.measures import read_requests, read_samples
from cluster.twin.simulator import simulate
from deployments.settings.reading import parse_args

ROOT = Path(__file__).resolve().parents[3]
STAGES = {
    "t2i": {"mean_s": 1.0, "price_per_hour": 2.0},
    "i2v": {"mean_s": 2.0, "start_up_s": 4.0},
    "v2v": {"mean_s": 6.0, "windows": 2, "start_up_s": 4.0, "replicas": 2, "price_per_hour": 2.0},
    "vfi": {"mean_s": 1.0, "windows": 2},
}
BURST = {"kind": "burst", "count": 6, "burst_s": 1, "span_s": 1}
SMALL: dict[str, Any] = {"title": "small", "stages": STAGES, "loads": [BURST]}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **changes}))
    return path


@pytest.mark.parametrize("name", ["bottleneck", "burst", "monolith", "nodes", "urgent"])
@pytest.mark.parametrize("quick", [False, True])
def test_the_ready_experiments_have_runs_with_names_of_their_own(name: str, quick: bool) -> None:
    spec, folder = load_spec(name, quick=quick)
    names = [plan.name for plan in plan_runs(spec, folder)]
    assert len(set(names)) == len(names) >= 2
    assert all(re.fullmatch(r"[\w.=-]+", name) for name in names)


def test_promises_make_others_yield_and_it_is_told(tmp_path: Path) -> None:
    spec, folder = load_spec("urgent", quick=True)
    assert spec.sped(10).classes["urgent"].deadline_s == 12.0
    plan = plan_runs(spec, folder)[0]
    run = simulate(plan.scenario, plan.trace, plan.make_policy())
    assert run.metrics.yields == sum(run.yields) > 0
    late = [row for row in run.rows if row.kind == "urgent" and row.latency_s > 120.0]
    assert len(late) <= 2
    done = keep(tmp_path, plan, run, mode="simulated", speed=1.0)
    assert f"{run.metrics.yields} calls yielded" in said(done)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"policies": ["greedy"]}, ("policies.0", "'greedy'", "fixed, inferline, look_ahead, serve_default, xenna")),
        ({"policies": [{"name": "look_ahead", "options": {"gaol_s": 3}}]}, ("gaol_s", "it has goal_s")),
        ({"policies": ["fixed", "fixed"]}, ("'fixed'", "label")),
        ({"stages": {"t2i": {"mean_s": 1}}}, ("i2v, v2v, vfi", "profile")),
        ({"stages": {**STAGES, "t2i": {"mean_s": -1}}}, ("stages.t2i.mean_s", "greater than 0", "-1")),
        ({"stages": {**STAGES, "t2i": {"mean_s": 1, "gpu": 1}}}, ("stages.t2i.gpu", "gpus")),
        ({"repilcas": {}}, ("repilcas", "replicas")),
        ({"profile": {"name": "paper-estimate", "accelerator": "H900"}}, ("'H900'", "A100")),
        ({"systems": ["cells"]}, ("systems.0", "'cells'", "'monolith'")),
        ({"systems": ["monolith-offload"]}, ("offload_s",)),
        ({"budget_gpus": 2}, ("need 5 GPUs", "2", "budget_gpus")),
        ({"loads": []}, ("loads", "at least 1")),
        ({"loads": [{**BURST, "count": 10**12}]}, ("loads.0.count", "less than or equal to 10000000", str(10**12))),
        ({"loads": [{"kind": "poisson", "rate_per_s": 1e9}]}, ("send 3.6e+12 requests", "take a span_s of 0.01")),
        ({"stages": {**STAGES, "t2i": {"mean_s": 1, "replicas": 10**9}}}, ("stages.t2i.replicas", "10000")),
        ({"nodes": {"n": {"gpus": 0, "max_nodes": 1}}}, ("nodes.n.gpus", "greater than or equal to 1", "0")),
        ({"nodes": {"n": {"gpus": 1, "max_nodes": 1, "boot_s": float("nan")}}}, ("nodes.n.boot_s", "nan")),
        ({"nodes": {"n": {"gpus": 1, "max_nodes": 1}}}, ("all its nodes have 1", "Change stages, replicas, nodes")),
        ({"stages": {**STAGES, "t2i": {"mean_s": 1, "nodes": ["m"]}}}, ("stages.t2i.nodes", "'m'", "there are none")),
        ({"paths": {"still": ["t2i", "vfi"]}}, ("kind 'still' pass t2i, vfi", "neighbours")),
        ({"loads": [{**BURST, "kinds": {"still": 1}}]}, ("kind 'still'", "paths has none")),
        ({"loads": [{**BURST, "kinds": {"": 0}}]}, ("loads.0.kinds", "greater than 0")),
        ({"loads": [{"kind": "poisson", "rate_per_s": 0}]}, ("sends nothing", "rate")),
        ({"loads": [{"kind": "kept", "name": "burst-of-41"}]}, ("'burst-of-41'", "burst-of-40")),
        ({"loads": [{"kind": "recorded", "file": "gone.csv"}]}, ("gone.csv", "cannot be read")),
    ],
)
def test_what_cannot_be_run_is_one_sentence_and_nothing_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    out = tmp_path / "out"
    assert main(["experiment", str(written(tmp_path, **changes)), "--out", str(out)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("Error: ")
    assert said.err.count("\n") == 1
    assert all(word in said.err for word in words), said.err
    assert not said.out
    assert not out.exists()


@pytest.mark.parametrize(
    ("lines", "max_gap_s", "words"),
    [
        (["0", "", "5"], None, ("hole", "line 3")),
        (["0", "1", "900"], 60, ("hole", "between 1 s and 900 s", "60 s")),
        (["5", "1"], None, ("backwards",)),
    ],
)
def test_a_recording_with_a_hole_is_refused_before_the_first_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: list[str], max_gap_s: float | None, words: list[str]
) -> None:
    (tmp_path / "seen.csv").write_text("\n".join(["time_s,kind", *(f"{line}," for line in lines)]) + "\n")
    load = {"kind": "recorded", "file": "seen.csv", "max_gap_s": max_gap_s}
    assert main(["experiment", str(written(tmp_path, loads=[BURST, load])), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert not (tmp_path / "out").exists()


def test_a_live_run_refuses_what_a_server_cannot_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"systems": ["pools", "monolith"]}, "'monolith' is simulated only"),
        ({"nodes": {"n": {"gpus": 8, "max_nodes": 1}}}, "nodes are simulated only"),
        ({"paths": {"still": ["t2i"]}}, "paths are simulated only"),
        ({"classes": {"urgent": {"deadline_s": 9}}}, "classes are simulated only"),
        ({"stages": {**STAGES, "v2v": {"mean_s": 6.0}, "vfi": {"mean_s": 1.0}}}, "calls it 2 times"),
        ({"policies": [{"name": "serve_default", "options": {"upscaling_factor": 0.5}}]}, "upscaling_factor"),
        ({"live": {"preset": "huge"}}, "live.preset: Unknown preset 'huge'"),
        ({"live": {"seconds": "90"}}, "live.seconds: '90' seconds is not allowed"),
        ({"live": {"seconds": "4"}}, "calls it 5 times"),
    ]
    for changes, words in cases:
        assert main(["experiment", str(written(tmp_path, **changes)), "--live", "--out", str(tmp_path / "out")]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_name_that_is_no_experiment_is_answered_with_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "bottelneck"]) == 2
    assert "bottleneck, burst, fanout, monolith, nodes" in capsys.readouterr().err


def checked_png(path: Path) -> None:
    """A picture of sensible size in which something is drawn."""
    with Image.open(path) as opened:
        assert opened.format == "PNG"
        pixels = np.asarray(opened.convert("RGB"))
    assert pixels.shape[0] >= 200
    assert pixels.shape[1] >= 400
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
    share = np.mean(pixels.min(axis=2) < 200)  # not white
    assert 0.003 < share < 0.6
    assert path.stat().st_size < 150_000


@pytest.mark.slow
def test_a_simulated_experiment_writes_its_files_and_plots_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = written(
        tmp_path,
        policies=["look_ahead", "fixed"],
        replicas={"vary": {"v2v": [1, 2]}},
        loads=[{"kind": "poisson", "rates_per_s": [0.1, 0.2], "span_s": 120}],
    )
    out = tmp_path / "out"
    assert main(["experiment", str(spec), "--out", str(out)]) == 0
    assert capsys.readouterr().out.count("videos/min") == 8
    with (out / "results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 8
    for line in table:
        folder = out / "runs" / line["run"]
        rows = read_requests(folder / "requests.csv")
        done = [row.latency_s for row in rows if row.outcome == "succeeded"]
        assert len(done) == int(line["succeeded"]) == int(line["requests"])
        assert float(line["p95_s"]) == pytest.approx(np.percentile(done, 95), rel=1e-4)
        if line["policy"] == "fixed":
            seen = {sample.stages["v2v"].ready for sample in read_samples(folder / "samples.csv")}
            assert seen == {int(line["v2v_replicas"])}
        assert float(line["cost_per_1000"]) > 0
        assert json.loads((folder / "metrics.json").read_text())["requests"] == len(rows)
    pictures = sorted(out.glob("*.png"))
    assert [path.stem for path in pictures] == ["gantt", "latency", "pareto", "queues", "throughput"]
    for path in pictures:
        checked_png(path)

    assert main(["experiment", str(spec), "--out", str(out)]) == 0
    assert capsys.readouterr().out.count("from before") == 8
    beside = tmp_path / "beside"
    assert main(["experiment", str(spec), "--out", str(beside), "--processes", "2"]) == 0
    assert (beside / "results.csv").read_text() == (out / "results.csv").read_text()
    spec.write_text(spec.read_text().replace("small", "changed"))
    assert main(["experiment", str(spec), "--out", str(out)]) == 2
    assert "another experiment" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(tmp_path: Path) -> None:
    load = {"kind": "poisson", "rate_per_s": 0.3, "span_s": 2000}
    spec = written(tmp_path, loads=[load], seeds=list(range(400)))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "cluster", "experiment", str(spec), "--out", str(out)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = [process.stdout.readline() for _ in range(2)]
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert [line.split()[0] for line in first] == ["1/400", "2/400"]
    assert process.returncode == 130
    assert "the same command goes on" in said
    assert "Traceback" not in said
    lines = (out / "results.csv").read_text().splitlines()
    assert 3 <= len(lines) < 400
    whole = [folder.name for folder in (out / "runs").iterdir() if not folder.name.startswith(".")]
    assert len(whole) >= len(lines) - 1
    assert all((out / "runs" / name / "metrics.json").exists() for name in whole)
    checked_png(out / "queues.png")


def test_an_experiment_at_ten_times_the_speed_is_the_same_in_a_tenth_of_the_time() -> None:
    spec = parse_spec({**SMALL, "loads": [{**BURST, "span_s": 60}]}, "here")
    runs = [
        simulate(plan.scenario, plan.trace, plan.make_policy())
        for each in (spec, spec.sped(10))
        for plan in plan_runs(each, ROOT)
    ]
    slow, fast = ([row.latency_s for row in run.rows] for run in runs)
    assert fast == pytest.approx([seconds / 10 for seconds in slow])
    assert runs[1].metrics.throughput_per_s == pytest.approx(10 * runs[0].metrics.throughput_per_s)


def test_a_monolith_has_the_pools_gpus_and_the_seconds_of_all_stages() -> None:
    spec = parse_spec({**SMALL, "systems": ["pools", "monolith", "monolith-offload"], "offload_s": 3}, "here")
    pools, whole, offload = (plan.scenario for plan in plan_runs(spec, ROOT))
    assert {name: pool.replicas for name, pool in whole.pools.items()} == {"monolith": 5}
    assert sum(pool.replicas for pool in pools.pools.values()) == 5
    assert (whole.stages["monolith"].mean_s, offload.stages["monolith"].mean_s) == (10.0, 13.0)


def test_nodes_and_paths_are_on_pictures_and_on_the_bill(tmp_path: Path) -> None:
    nodes = {"sure": {"gpus": 8, "max_nodes": 1, "min_nodes": 1, "price_per_hour": 36.0, "boot_s": 1}}
    load = {**BURST, "kinds": {"": 1, "still": 1}, "count": 20, "span_s": 100}
    changes = {"nodes": nodes, "packing": "pack", "paths": {"still": ["t2i"]}, "loads": [load], "sample_s": 5}
    out = tmp_path / "out"
    assert main(["experiment", str(written(tmp_path, **changes)), "--out", str(out)]) == 0
    for name in ("nodes", "paths"):
        with Image.open(out / f"{name}.png") as picture:
            assert len(np.unique(np.asarray(picture.convert("L")))) > 10
    (row,) = list(csv.DictReader((out / "results.csv").open()))
    assert float(row["cost"]) == pytest.approx(36.0 * float(row["node_hours"]), rel=1e-3)
    (run,) = (out / "runs").iterdir()
    kinds = {own.kind: set(own.spans) for own in read_requests(run / "requests.csv")}
    assert kinds == {"": {"t2i", "i2v", "v2v", "vfi"}, "still": {"t2i"}}


def test_nodes_are_sped_with_the_rest() -> None:
    spec, _ = load_spec("nodes")
    fast = spec.sped(10.0)
    assert fast.nodes["spot"].boot_s == spec.nodes["spot"].boot_s / 10
    assert fast.nodes["spot"].interruptions_per_hour == spec.nodes["spot"].interruptions_per_hour * 10


def test_the_frontier_holds_what_no_other_point_beats() -> None:
    assert frontier([(1, 9), (2, 5), (2, 4), (3, 6), (4, 1), (5, 1)]) == [(1, 9), (2, 4), (4, 1)]


@pytest.mark.parametrize("name", ["bottleneck", "burst"])
def test_the_server_accepts_the_config_of_every_policy(tmp_path: Path, name: str) -> None:
    spec, folder = load_spec(name)
    spec = spec.sped(spec.live.speed)
    for plan in plan_runs(spec, folder):
        args = parse_args(app_args(spec, plan, tmp_path))
        assert args.external_scaler == (plan.policy.name == "fixed")
        assert (args.scaling is not None) == (plan.policy.name == "look_ahead")
        assert all(args.factory(stage) == "stages.replay:ReplayStage" for stage in args.stages)


def test_specs_are_where_the_command_looks() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == {
        *("bottleneck", "burst", "fanout", "monolith", "nodes", "urgent"),
    }
