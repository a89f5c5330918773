"""A twin learnt from a journal: of a run that is known, what was learnt is what it was, and so is what it predicts."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client import Event, Pools
from cluster.__main__ import main
from cluster.experiments import calibrate
from cluster.experiments.calibrate import changed, keep, load_learnt, parse_change, predict, split_of
from cluster.experiments.journal import Learnt, Seen, learn, seen
from cluster.experiments.spec import ExperimentError
from cluster.planner.command import POOLS
from cluster.pools.file import load_pools
from cluster.traffic.measures import RequestRow
from cluster.traffic.traces import TraceSpec, make_trace
from cluster.twin.simulator import Pool, Run, Scenario, StageTimes, simulate

REPLICAS = {"t2i": 1, "i2v": 2, "v2v": 4, "vfi": 1}
TRUTH = Scenario(
    {
        "t2i": StageTimes(3.0, cv=0.2),
        "i2v": StageTimes(20.0, cv=0.2),
        "v2v": StageTimes(45.0, cv=0.2),
        "vfi": StageTimes(6.0, cv=0.2),
    },
    {name: Pool(count) for name, count in REPLICAS.items()},
    submit_s=0.3,
    router_s=0.2,
    finish_s=1.5,
    kinds={"long": {"i2v": 1.5, "v2v": 2.0}},
    paths={"still": ("t2i",), "late": ("i2v", "v2v", "vfi"), "long": ("t2i", "i2v", "v2v", "vfi")},
)
SIZES = {"": ("1280x720", "4"), "long": ("1280x720", "8"), "still": ("1280x720", "4"), "late": ("640x360", "4")}
KINDS = {
    "": "1280x720 4s",
    "long": "1280x720 8s",
    "still": "1280x720 4s t2i",
    "late": "640x360 4s i2v-v2v-vfi",
}
TRACE = make_trace(TraceSpec("t", "poisson", 3600.0, 6, 0.07, kinds={"": 0.4, "long": 0.1, "still": 0.3, "late": 0.2}))


def events_of(row: RequestRow, shift_s: float) -> list[Event]:
    """As a server tells them."""
    found: list[tuple[str, float, dict[str, Any]]] = [("queued", row.arrived_s, {})]
    for name, span in row.spans.items():
        made = {"stage": name, "index": 0, "run_s": span.end_s - span.start_s, "replica": "x", "bytes": 1}
        found += [("stage_started", span.start_s, {"stage": name}), ("stage_output", span.end_s, made)]
    found.append(("completed", row.ended_s, {}))
    return [Event(id=n, kind=kind, at=at + shift_s, data=data) for n, (kind, at, data) in enumerate(found)]


@pytest.fixture(scope="module")
def run() -> Run:
    return simulate(TRUTH, TRACE, seed=3)


@pytest.fixture(scope="module")
def learnt(run: Run) -> Learnt:
    return learn([seen(*SIZES[row.kind], events_of(row, 1.7e9)) for row in run.rows])


SPLIT = {name: {"": count} for name, count in REPLICAS.items()}


def test_service_times_paths_and_overheads_are_those_of_the_run(learnt: Learnt) -> None:
    assert {kind: tuple(path) for kind, path in learnt.paths.items()} == {
        KINDS[kind]: TRUTH.paths.get(kind, tuple(REPLICAS)) for kind in KINDS
    }
    for name, times in TRUTH.stages.items():
        plain = learnt.stages[name].mean_s * learnt.factors[KINDS[""]][name]  # type: ignore[index]
        assert plain == pytest.approx(times.mean_s, rel=0.06)
        assert learnt.stages[name].cv == pytest.approx(0.2, abs=0.05)  # type: ignore[index]
    assert learnt.factors[KINDS["long"]]["v2v"] / learnt.factors[KINDS[""]]["v2v"] == pytest.approx(2.0, rel=0.1)
    assert learnt.stages["t2i"].share == pytest.approx(0.8, abs=0.05)
    assert (learnt.hop_s, learnt.finish_s) == pytest.approx((0.2, 1.5), abs=0.02)
    assert learnt.submit_s == pytest.approx(0.5, abs=0.02)  # and the first hop


def test_the_learnt_twin_predicts_what_happened_and_another_split(learnt: Learnt, run: Run) -> None:
    assert predict(learnt, SPLIT).p95_s == pytest.approx(run.metrics.p95_s, rel=0.1)
    more = changed(SPLIT, [parse_change("v2v=+2@spot")], None)
    assert more["v2v"] == {"": 4, "spot": 2}
    truth = simulate(replace(TRUTH, pools={**TRUTH.pools, "v2v": Pool(6)}), TRACE, seed=3).metrics.p95_s
    assert predict(learnt, more).p95_s == pytest.approx(truth, rel=0.1)
    assert truth < run.metrics.p95_s


def windowed(number: int, free_s: float) -> tuple[Seen, float]:
    """A job of two windows on V2V's one replica, of 3 and 7 s, 0.2 s apart, that was sent long before."""
    at_s = 25.0 * number
    told: list[tuple[str, float, dict[str, Any]]] = [
        ("queued", at_s, {}),
        ("stage_queued", at_s + 0.1, {"stage": "v2v"}),
    ]
    for index, run_s in enumerate((3.0, 7.0)):
        begin_s = max(free_s + 0.2, at_s + 0.3)
        if index == 0:
            told.append(("stage_started", begin_s, {"stage": "v2v"}))
        free_s = begin_s + run_s
        told.append(("stage_output", free_s, {"stage": "v2v", "index": index, "run_s": run_s, "replica": "x"}))
    told.append(("completed", free_s + 1.0, {}))
    events = [Event(id=n, kind=kind, at=moment, data=data) for n, (kind, moment, data) in enumerate(told)]
    return seen("1280x720", "4", events), free_s


def test_windows_keep_their_shares_and_what_lies_between_two_calls_is_learnt() -> None:
    jobs, free_s = [], 0.0
    for number in range(12):
        job, free_s = windowed(number // 2, free_s)  # two at once, then a pause
        jobs.append(job)
    learnt = learn(jobs)
    v2v = learnt.stages["v2v"]
    assert v2v.shares == pytest.approx((0.3, 0.7))
    assert (v2v.cv, v2v.windows) == (0.0, 2)
    assert v2v.mean_s == pytest.approx(10.0, abs=0.5)
    assert learnt.submit_s == pytest.approx(0.3, abs=0.05)  # of those that found it free
    twin = learnt.scenario({"v2v": 1})
    assert simulate(twin, learnt.trace).metrics.p95_s == pytest.approx(learnt.latency_s["p95"], rel=0.05)


def test_what_was_learnt_is_kept_and_held_to_another_hour(learnt: Learnt, tmp_path: Path) -> None:
    path = tmp_path / "learnt.json"
    keep(learnt, path)
    again = load_learnt(path)
    assert predict(again, SPLIT).p95_s == pytest.approx(predict(learnt, SPLIT).p95_s, rel=1e-3)
    other = make_trace(TraceSpec("o", "poisson", 1800.0, 9, 0.05, kinds={KINDS[""]: 0.9, "new": 0.1}))
    assert math.isfinite(predict(again, SPLIT, other).p95_s)
    path.write_text("{}")
    with pytest.raises(ExperimentError, match="was not written by `calibrate`"):
        load_learnt(path)


def test_the_bill_of_a_split_is_of_whole_nodes() -> None:
    state = {"wanted": 1, "queued": 0, "running": 0, "utilisation": 0.0}
    pools = Pools.model_validate(
        {"stages": [{"stage": name, "pool": name, "replicas": count, **state} for name, count in REPLICAS.items()]}
    )
    split, file = split_of(pools), load_pools(POOLS)
    assert calibrate.bill_of(split, file) == 8 * 3.0 + 4 * 1.0 + 2 * 4 * 0.6
    more = changed(split, [parse_change("v2v=+5")], file)
    assert calibrate.bill_of(more, file) == calibrate.bill_of(split, file) + 8 * 3.0
    with pytest.raises(ExperimentError, match=r"pool 'gone', the pools file has v2v, i2v"):
        calibrate.bill_of({"v2v": {"gone": 1}}, file)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--hours", "0"], "--hours is 0; it must be above 0"),
        (["--what-if", "v3v=+2"], "--what-if is 'v3v=+2'; write a stage (t2i, i2v, v2v, vfi)"),
        (["--what-if", "v2v=two"], "v2v=+2 or v2v=4@spot"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--journal", "http://127.0.0.1:9", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_split_that_cannot_be_is_refused_with_the_nearest() -> None:
    with pytest.raises(ExperimentError, match="leaves stage v2v with 0 replicas, of 4 now; keep 1"):
        changed(SPLIT, [parse_change("v2v=-4")], None)
    with pytest.raises(ExperimentError, match="Pool 'vfi' does not take stage v2v; choose one of v2v, i2v"):
        changed(SPLIT, [parse_change("v2v=+1@vfi")], load_pools(POOLS))
