"""Parts of the live benchmarks that need no server: GPUs held, the ideal queue, what is told to whom, absent peers."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import autoscaling
from benchmarks.peer import environment as peer_env
from benchmarks.peer import ray_data as peer_data
from benchmarks.peer.work import Work, step
from benchmarks.tools.bound import Load, alone_s, burst_s
from benchmarks.tools.ideal import ends_s
from benchmarks.tools.live import within
from benchmarks.twin import setups
from benchmarks.twin.__main__ import overhead_of
from cluster.experiments.live import check_live
from cluster.experiments.runs import plan_runs
from cluster.traffic.measures import RequestRow, StageSample
from stages.presets import TINY, plan
from stages.types import STAGE_NAMES, StageName

LOADS: dict[StageName, Load] = {"t2i": Load(0.2), "i2v": Load(0.4, 2), "v2v": Load(0.6, 2), "vfi": Load(0.15)}


def test_replicas_that_wait_for_a_gpu_hold_none() -> None:
    stages = {"i2v": StageSample(0, 0, 2, 3, 0, 5), "v2v": StageSample(0, 0, 1, 4, 1, 5)}
    held = within(stages, 8)
    assert [(stage.ready, stage.starting, stage.stopping) for stage in held.values()] == [(2, 3, 0), (1, 1, 1)]
    assert within(stages, 100) == stages
    assert sum(stage.starting for stage in within(stages, 3).values()) == 0


def test_the_ideal_queue_is_the_bound_of_one_job_and_near_that_of_a_burst() -> None:
    for windows in (1, 2, 5):
        assert ends_s([3.0], LOADS, windows) == [pytest.approx(3.0 + alone_s(LOADS, windows))]
        bound_s = burst_s(LOADS, windows, 40)
        assert bound_s - 1e-9 <= max(ends_s([0.0] * 40, LOADS, windows)) <= bound_s + 0.6


def test_in_the_ideal_queue_nobody_is_overtaken_and_idle_servers_wait_for_nobody() -> None:
    apart = ends_s([0.0, 10.0, 20.0], LOADS, 2)
    assert np.diff(apart).tolist() == pytest.approx([10.0, 10.0])
    crowded = ends_s([0.0, 0.1, 0.2, 0.3], LOADS, 2)
    assert crowded == sorted(crowded)


def test_the_twin_and_the_server_get_the_same_experiment() -> None:
    for number, about in enumerate(setups.CONFIGURATIONS):
        spec = about.spec(about.stream(70, seed=number))
        check_live(spec)
        (one,) = plan_runs(spec, Path())
        assert one.replicas == about.replicas
        assert one.scenario.stages["vfi"].mean_s == pytest.approx(setups.RUN_S["vfi"] * len(about.spans))
        assert 40 < len(one.trace.arrivals) < 100
        scenario = about.scenario(about.plan(one), 0.02)
        assert sum(scenario.stages["v2v"].shares) == pytest.approx(1.0)
        assert bool(scenario.taken) == bool(about.nodes)
    happening = [(about.urgent, about.drained, about.nodes > 0) for about in setups.CONFIGURATIONS]
    assert all(any(column) for column in zip(*happening, strict=True))


def test_the_overhead_is_what_a_lone_request_takes_beyond_its_stages() -> None:
    about = setups.CONFIGURATIONS[0]  # two windows on two replicas of V2V: half its seconds
    rows = [RequestRow(0, 0.0, 0.0, latency_s, "succeeded", {}) for latency_s in (2.0, 2.1, 9.0)]
    assert overhead_of(about, rows) == pytest.approx(2.1 - (0.25 + 0.8 + 0.8 + 0.1 + 0.1))


def test_both_sides_of_autoscaling_are_the_same_but_for_who_scales(tmp_path: Path) -> None:
    size = autoscaling.QUICK
    args = autoscaling.app_args(tmp_path, size)
    ours = autoscaling.scaled_by_look_ahead(args, size)
    theirs = autoscaling.scaled_by_serve(args, autoscaling.tuned(size, autoscaling.bursts(size)))
    assert ours.scaling is not None
    assert theirs.scaling is None
    for name in STAGE_NAMES:
        mine, its = ours.stages[name], theirs.stages[name]
        assert (mine.options, mine.num_gpus, mine.max_ongoing_requests) == (
            *(its.options, its.num_gpus),
            its.max_ongoing_requests,
        )
        assert its.autoscaling is not None
        assert its.autoscaling.upscale_delay_s == 0


def work_at(folder: Path) -> Work:
    options: dict[StageName, dict[str, Any]] = {
        name: {"stage": name, "run_s": 0.0, "bytes_out": 60_000} for name in STAGE_NAMES
    }
    return Work("tiny", plan(TINY, "a fox"), options, dict.fromkeys(STAGE_NAMES, 1), f"file://{folder}")


def test_rows_of_ray_data_make_the_file_that_values_make(tmp_path: Path) -> None:
    plain, rows = work_at(tmp_path / "plain"), work_at(tmp_path / "rows")
    job: dict[str, Any] = {"seed": 5}
    row: dict[str, Any] = {"seed": 5}
    for name in STAGE_NAMES:
        job = step(name, plain.stage(name), plain, job)
        row = peer_data.RowStage(rows, name)(row)
        assert all(isinstance(value, int | float | bytes | np.ndarray) for value in row.values())
    assert set(job) == set(row) == {"seed", "began", "ended"}
    files = [next(folder.rglob("*.mp4")).read_bytes() for folder in (tmp_path / "plain", tmp_path / "rows")]
    assert files[0] == files[1] != b""


@pytest.mark.slow
def test_a_peer_that_cannot_be_installed_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGICVIDEO_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    absent = peer_env.Peer("absent", ("surely-not-there",), ("surely_not_there",), "nowhere:run")
    with pytest.raises(peer_env.PeerError, match=r"absent cannot be installed here: .*surely-not-there"):
        peer_env.environment(absent)


def test_what_runs_in_other_environments_imports_only_what_is_installed_there() -> None:
    code = (
        "import sys, benchmarks.peer.work, benchmarks.peer.xenna; "
        "print(*{name.split('.')[0] for name, module in sys.modules.items() "
        "if 'site-packages' in (getattr(module, '__file__', None) or '')})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = {"pillow" if name == "PIL" else name for name in done.stdout.split()}
    of_pydantic = {"pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}
    of_python = {name for name in imported if name.startswith("_")}
    assert imported <= {*peer_env.OURS, *of_pydantic, *of_python}
    assert {"numpy", "pydantic"} <= imported
