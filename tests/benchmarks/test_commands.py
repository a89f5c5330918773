"""Every benchmark as a command: its help, its figures; with `--quick` on a real Ray.

Those marked `bench` take long, and what they measure has tests of its own: they are left out of `make test`;
`make test-bench` runs them.
"""

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import end_to_end, fanout, pipelining
from benchmarks.papers import gfdit
from benchmarks.twin import setups
from deployments.server import ROOT
from deployments.settings.reading import CONFIG_PATH
from stages.model.hub.classes import REFUSED
from stages.types import STAGE_NAMES
from tests.browser import needs_chromium

SCRIPTS = (
    *("pipelining", "fanout", "autoscaling", "twin", "peers", "end_to_end", "durability", "api", "journal_scale"),
    *("bulkheads", "page", "clients", "adapters", "study"),
    *("denoise", "speed", "vfi", "vfi_quality", "quality", "sim_policies", "lab", "papers"),
)
QUICK_S = 400
KINDS = ("sqlite", "postgres")


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"benchmarks.{script}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=QUICK_S, check=False)


def figures_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("RESULT ")
    figures: dict[str, Any] = json.loads(last.removeprefix("RESULT "))["figures"]
    return figures


def test_every_script_stands_in_the_readme_and_in_the_makefile() -> None:
    readme, makefile = (ROOT / "benchmarks" / "README.md").read_text(), (ROOT / "Makefile").read_text()
    runnable = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if '"__main__"' in path.read_text()}
    runnable |= {path.parent.name for path in (ROOT / "benchmarks").glob("*/__main__.py")}
    assert runnable == set(SCRIPTS)
    for script in SCRIPTS:
        assert f"benchmarks.{script}" in readme
        assert script in makefile


@pytest.mark.parametrize("videos", ["0", "many"])
def test_a_number_of_videos_that_measures_nothing_is_refused(videos: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        end_to_end.main(["--videos", videos])
    assert ended.value.code == 2
    assert videos in capsys.readouterr().err


def test_the_measured_application_is_the_served_one_but_for_its_stages(tmp_path: Path) -> None:
    args = pipelining.app_args(tmp_path)
    assert {name: args.stages[name].factory for name in STAGE_NAMES} == dict.fromkeys(
        STAGE_NAMES, "stages.replay:ReplayStage"
    )
    sizes = {name: args.stages[name].options["bytes_out"] for name in ("t2i", "i2v", "v2v")}
    assert sizes == {"t2i": 3_000_000, "i2v": 35_000_000, "v2v": 105_000_000}
    for name, load in pipelining.LOADS.items():
        calls = pipelining.WINDOWS if name == "vfi" else 1
        assert args.stages[name].options["run_s"] * calls == pytest.approx(load.run_s)
        assert args.stages[name].replicas == load.replicas


def test_the_bound_on_jobs_in_flight_is_that_of_all_replicas_of_the_pipeline(tmp_path: Path) -> None:
    args = pipelining.policy_args(tmp_path)
    assert args.pipeline.replicas == args.pipeline.max_replicas == pipelining.DRIVERS
    assert args.pipeline.max_jobs * pipelining.DRIVERS <= pipelining.MAX_JOBS
    assert args.scaling is not None


@pytest.mark.bench
@pytest.mark.slow
def test_pipelining_gives_its_figures() -> None:
    figures = figures_of(run("pipelining", "--quick"))
    bursts = {f"efficiency_{jobs}" for jobs in pipelining.QUICK.bursts}
    others = {"efficiency", "plain_efficiency", "spilled_mb", "store_mb_after", "idle_overhead_ms"}
    policy = {"efficiency_policy", "spilled_mb_policy"}
    assert set(figures) == bursts | others | policy | {"router_mb_per_request"}
    assert 0 < figures["efficiency_policy"] <= 1
    assert figures["spilled_mb_policy"] == 0
    assert figures["efficiency"] == min(figures[name] for name in bursts)
    assert 0 < figures["efficiency"] <= 1
    assert 0 < figures["plain_efficiency"] <= 1
    assert figures["spilled_mb"] == 0
    assert figures["store_mb_after"] == 0
    assert figures["idle_overhead_ms"] > 0


@pytest.mark.bench
@pytest.mark.slow
def test_study_gives_its_figures_and_loses_no_vote() -> None:
    figures = figures_of(run("study", "--quick"))
    assert figures["ratio_error"] == figures["votes_lost"] == 0
    assert min(figures["recovered_of_100"], figures["null_kept_of_100"]) == 100  # of two crowds
    assert figures["spammers_found"] > 0.9 > 0.2 > figures["others_left_out"]
    assert min(figures["vote_p99_ms"], figures["bootstrap_s"]) > 0


@pytest.mark.slow
def test_papers_gives_its_figures_and_the_papers_own_arrivals() -> None:
    figures = figures_of(run("papers", "--quick"))
    disagfusion = {f"sim_{name}_065" for name in ("bound", "central", "accepted", "kept", "most")} | {"attain_065"}
    rows = ("fixed_161", "fixed_152", "look_ahead", "serve", "inferline", "xenna", "monoliths", "bound")
    dynamic = {f"sim_dynamic_p95_{name}" for name in rows}
    lightx2v = {"sim_bound_share_min", "sim_closed_share_min"}
    mixed = {f"sim_p99_{name}_25" for name in ("random", "cost", "late", "order", "bound", "cut")}
    policies = ("fixed", "serve", "serve_quick", "look_ahead", "inferline", "xenna")
    gentd26 = {f"sim_gentd26_{what}_{name}" for what in ("p95", "node_hours", "start_ups") for name in policies}
    inflight = {f"sim_{name}_inflight" for name in ("attain_s", "attain_l", "yields")}
    new = dynamic | {"sim_capacity_161", "sim_gentd26_node_hours_bound"} | lightx2v | mixed | gentd26
    assert set(figures) == inflight | disagfusion | new
    assert figures["sim_closed_share_min"] <= 15.04 / 15.74 < 0.97 <= figures["sim_bound_share_min"]
    assert figures["sim_dynamic_p95_look_ahead"] < figures["sim_dynamic_p95_serve"]
    assert all(figures["sim_dynamic_p95_bound"] <= figures[f"sim_dynamic_p95_{name}"] for name in rows)
    assert figures["sim_p99_bound_25"] <= figures["sim_p99_order_25"]
    assert figures["sim_gentd26_node_hours_bound"] <= figures["sim_gentd26_node_hours_look_ahead"]
    assert figures["sim_attain_s_inflight"] == figures["sim_attain_l_inflight"] == 1
    assert figures["sim_most_065"] >= figures["attain_065"] >= figures["sim_central_065"] > figures["sim_bound_065"]
    for name, workload in gfdit.WORKLOADS.items():
        kinds = [arrival.kind for arrival in workload.trace(name).arrivals]
        assert {kind: kinds.count(kind) for kind in gfdit.SECONDS} == workload.counts


@pytest.mark.slow
def test_lab_gives_its_figures() -> None:
    figures = figures_of(run("lab", "--quick"))
    assert figures.pop("bill_error_max") < 1e-6
    assert set(figures) == {"seconds_1000", "seconds_100k", "seconds_100k_fixed", "ratio_parallel"}
    assert all(value > 0 for value in figures.values())


@pytest.mark.bench
@pytest.mark.slow
def test_adapters_gives_its_figures_and_none_fails() -> None:
    figures = figures_of(run("adapters", "--quick"))
    assert figures["classes_all"] == len(REFUSED)
    assert (figures["classes_run"], figures["classes_failed"]) == (0, 0)


@pytest.mark.bench
@pytest.mark.slow
def test_end_to_end_gives_its_figures(tmp_path: Path) -> None:
    document = yaml.safe_load(CONFIG_PATH.read_text())
    for name, stage in document["applications"][0]["args"]["stages"].items():
        stage["factory"] = "stages.replay:ReplayStage"
        stage["options"] = {"stage": name, "run_s": 0.2, "bytes_out": 1_000_000}
    config = tmp_path / "replayed.yaml"
    config.write_text(yaml.safe_dump(document))
    figures = figures_of(run("end_to_end", "--quick", "--config", str(config)))
    assert set(figures) == {"seconds", "server_gib", *(f"seconds_{name}" for name in STAGE_NAMES)}
    assert all(figures[f"seconds_{name}"] >= 0.2 for name in STAGE_NAMES)
    assert figures["seconds"] > figures["seconds_t2i"] + figures["seconds_i2v"] + figures["seconds_v2v"]
    assert figures["server_gib"] > 0.1


@pytest.mark.bench
@pytest.mark.slow
def test_durability_gives_its_figures_and_loses_nothing() -> None:
    figures = figures_of(run("durability", "--quick"))
    nothing = {"lost", "finished_twice", "stages_rerun", "made_twice", "wrong_bytes", "orphan_files"}
    assert set(figures) == nothing | {"kills", "recovery_s", "waste_ratio"}
    assert {figures[name] for name in nothing} == {0}
    assert figures["kills"] >= 2
    assert figures["recovery_s"] > 0
    assert figures["waste_ratio"] >= 0


@pytest.mark.bench
@pytest.mark.slow
def test_api_gives_its_figures() -> None:
    figures = figures_of(run("api", "--quick", "--without-ray"))
    assert figures.pop("checkpoint_cost") is None
    named = {"post_per_s_sqlite", "post_per_s_postgres", "post_p99_ms", "post_share_of_empty"}
    assert set(figures) == named | {"sse_streams", "event_p95_ms"}
    assert min(figures["post_per_s_sqlite"], figures["post_per_s_postgres"], figures["post_p99_ms"]) > 0
    assert (figures["sse_streams"] is None) == (figures["event_p95_ms"] is None)


@pytest.mark.bench
@pytest.mark.slow
def test_clients_gives_its_figures_and_no_client_fails() -> None:
    figures = figures_of(run("clients", "--quick"))
    assert {figures.pop(name) for name in ("clients_failed", "operations_failed")} == {0}
    assert figures.pop("operations_all") > figures.pop("clients_all") > 5
    assert set(figures) == {"eta_error_median"}


@pytest.mark.bench
@pytest.mark.slow
def test_speed_gives_its_figures() -> None:
    figures = figures_of(run("speed", "--quick"))
    assert figures.pop("exact_equal") == 1
    knobs = {"first_block", "mag", "taylorseer", "attention", "gpus", *(["int8"] if find_spec("torchao") else [])}
    assert set(figures) == {f"{knob}_{what}" for knob in knobs for what in ("speedup", "psnr_db")}
    assert figures["gpus_psnr_db"] > 60 < figures["attention_psnr_db"]
    assert all(figure > 0 for figure in figures.values())


@pytest.mark.bench
@pytest.mark.slow
def test_denoise_gives_its_figures() -> None:
    figures = figures_of(run("denoise", "--quick"))
    speeds = {f"exact_speedup_{size}" for size in ("mid", "mid_control", "mid_sparse", "tiny")}
    speeds |= {"cached_speedup_mid", "cached2_speedup_mid", "cached_speedup_tiny", "bf16_speedup_mid"}
    costs = {"cached_psnr_db", "cached2_psnr_db", "bf16_psnr_db", "bf16_step_error"}
    stops = {"state_mb", "take_ms", "restore_ms", "bytes_equal"}
    assert set(figures) == speeds | costs | stops
    assert figures["bytes_equal"] == 1
    assert 1.4 < figures["state_mb"] < 1.6  # 32 x 75 x 75 x 4 float16
    assert all(figures[name] > 0 for name in figures)
    assert figures["exact_speedup_mid"] == min(
        figures["exact_speedup_mid_control"], figures["exact_speedup_mid_sparse"]
    )
    assert figures["cached_psnr_db"] < figures["cached2_psnr_db"] < 100


@pytest.mark.bench
@pytest.mark.slow
def test_vfi_gives_its_figures() -> None:
    figures = figures_of(run("vfi", "--quick"))
    frames = {f"{kind}_264{way}" for kind in ("seconds_per_frame", "peak_gib") for way in ("", "_unchunked")}
    assert set(figures) == {"dsc_speedup_512", "dsc_speedup_taps_512", "base_gib"} | frames
    assert all(value > 0 for value in figures.values())
    assert figures["peak_gib_264"] < figures["peak_gib_264_unchunked"]


@pytest.mark.bench
@pytest.mark.slow
def test_bulkheads_gives_its_figures_and_no_wrong_answer() -> None:
    figures = figures_of(run("bulkheads", "--quick"))
    assert figures.pop("wrong") == 0
    p99s = [value for name, value in figures.items() if name.startswith("p99_ms_")]
    assert figures["worst_p99_ms"] == max(p99s)
    assert {name.removeprefix("unready_ms_") for name in figures if name.startswith("unready")} == {
        *("store", "controller", "keeper", "journal")
    }


@pytest.mark.bench
@pytest.mark.slow
@needs_chromium
def test_page_gives_its_figures_and_plays_before_the_end() -> None:
    figures = figures_of(run("page", "--quick"))
    assert figures["end_ms_after_first_frame"] > 0
    assert 0 < figures["first_frame_ms_median"] <= figures["first_frame_ms_after_fragment"]
    assert figures["page_kb"] <= figures["largest_kb"] + 10


@pytest.mark.bench
@pytest.mark.slow
def test_fanout_gives_its_figures() -> None:
    figures = figures_of(run("fanout", "--quick"))
    kinds = {f"{replicas}{kind}" for replicas in (2, 3) for kind in fanout.LENGTHS}
    assert set(figures) == {f"{name}_ratio_{kind}" for name in ("latency", "bound") for kind in kinds}
    for kind in kinds:
        assert 0 < figures[f"bound_ratio_{kind}"] < 1
        assert figures[f"latency_ratio_{kind}"] > 0


@pytest.mark.bench
@pytest.mark.slow
def test_autoscaling_gives_its_figures() -> None:
    figures = figures_of(run("autoscaling", "--quick"))
    names = {f"{where}{what}" for where in ("", "sim_kept_") for what in ("p95_ratio", "gpu_seconds_ratio")}
    assert {name.removesuffix("_median") for name in figures} == names
    assert all(value > 0 for value in figures.values())


@pytest.mark.bench
@pytest.mark.slow
def test_twin_gives_its_figures() -> None:
    figures = figures_of(run("twin", "--quick"))
    numbers = {1 + setups.CONFIGURATIONS.index(about): about for about in setups.QUICK}
    assert figures.pop("live_yields") >= 0
    for name in ("throughput_error", "p95_error", "calibrated_p95_error"):
        own = [n for n, about in numbers.items() if about.plain or name != "calibrated_p95_error"]
        assert figures.pop(f"{name}_max") == max(figures.pop(f"{name}_{number}") for number in own) >= 0
    assert figures == {}


@pytest.mark.bench
@pytest.mark.slow
def test_peers_gives_its_figures_without_what_must_be_installed() -> None:
    figures = figures_of(run("peers", "--quick", "--without-installing"))
    assert {figures.pop(name) for name in ("ray_data_efficiency", "xenna_efficiency")} == {None}
    efficiencies = {"efficiency", "chained_efficiency", "await_efficiency"}
    assert set(figures) == efficiencies | {"monolith_makespan_ratio", "p50_ratio", "p95_ratio"}
    assert all(0 < figures[name] <= 1 for name in efficiencies)
    assert all(value > 0 for value in figures.values())


@pytest.mark.slow
def test_journal_scale_gives_its_figures_and_reads_no_table_from_end_to_end() -> None:
    done = run("journal_scale", "--quick")
    figures = figures_of(done)
    calls = {name.removesuffix("_ms_sqlite") for name in figures if name.endswith("_sqlite")}
    assert set(figures) == {"slowest_hot_query_ms"} | {f"{call}_ms_{kind}" for call in calls for kind in KINDS}
    assert figures["slowest_hot_query_ms"] == max(figures.values()) > 0
    plans = [line.strip() for line in done.stdout.splitlines() if line.startswith("    ")]
    large = "(jobs|stage_outputs|job_events|checkpoints)"
    assert [plan for plan in plans if re.search(rf"SCAN {large}$|Seq Scan on {large}", plan)] == []
