"""A twin learnt from a journal: of a run that is known, what was learnt is what it was, and so is what it predicts."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client import Event, Pools
from cluster.__main__ import main
from cluster.calibration.command import keep, load_learnt
from cluster.calibration.fitting import fitted_to, rates_of
from cluster.calibration.journal import Learnt, Seen, learn, seen
from cluster.calibration.what_if import bill_of, changed, parse_change, predict, split_of
from cluster.experiments.pictures import latencies
from cluster.experiments.spec import ExperimentError
from cluster.planner.command import POOLS
from cluster.planner.kinds import Kind, loads_of, parse_kinds, stay
from cluster.planner.profiles import load_profile
from cluster.policy.calls import Rules
from cluster.pools.file import PoolFile, load_pools
from cluster.traffic.measures import RequestRow
from cluster.traffic.traces import TraceSpec, make_trace
from cluster.twin.simulator import Pool, Run, Scenario, StageTimes, simulate
from stages.presets import get_preset
from stages.types import STAGE_NAMES

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
        made = {"stage": name, "index": 0, "run_s": span.end_s - span.start_s, "replica": span.replicas[0]}
        found += [("stage_started", span.start_s, {"stage": name}), ("stage_output", span.end_s, made)]
    found.append(("completed", row.ended_s, {}))
    return [Event(id=n, kind=kind, at=at + shift_s, data=data) for n, (kind, at, data) in enumerate(found)]


@pytest.fixture(scope="module")
def run() -> Run:
    return simulate(TRUTH, TRACE, seed=3)


@pytest.fixture(scope="module")
def learnt(run: Run) -> Learnt:
    return learn([seen(*SIZES[row.kind], events_of(row, 1.7e9)) for row in run.rows])


FILE = load_pools(POOLS)
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


def test_stages_that_computed_in_the_same_replicas_are_learnt_together() -> None:
    hosts, pools = dict.fromkeys(("t2i", "v2v", "vfi"), "i2v"), dict.fromkeys(REPLICAS, Pool(5))
    run = simulate(replace(TRUTH, order=Rules(), hosts=hosts, pools=pools), TRACE, seed=3)
    found = learn([seen(*SIZES[row.kind], events_of(row, 1.7e9)) for row in run.rows])
    assert found.hosts == hosts
    state = {"wanted": 1, "queued": 0, "running": 0, "utilisation": 0.0, "pool": "h100", "replicas": 5}
    served = Pools.model_validate({"stages": [{"stage": name, **state} for name in REPLICAS]})
    split = split_of(served, found.hosts)
    assert split == {"i2v": {"h100": 5}}  # whose bill is counted once
    assert predict(found, split).p95_s == pytest.approx(run.metrics.p95_s, rel=0.1)
    assert predict(replace(found, hosts={}), split_of(served)).p95_s < 0.85 * run.metrics.p95_s
    fewer = changed(split, [parse_change("i2v=-1")], None, found.hosts)
    assert predict(found, fewer).p95_s > run.metrics.p95_s
    with pytest.raises(ExperimentError, match=r"stage v2v, which computes in the 5 replicas of i2v; write i2v=\+2 for"):
        changed(split, [parse_change("v2v=+2")], None, found.hosts)


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


def test_spot_nodes_of_a_split_are_taken_back_in_the_twin(learnt: Learnt) -> None:
    seconds = {}
    hour = replace(learnt.trace, arrivals=learnt.trace.arrivals[:40], span_s=learnt.trace.arrivals[40].time_s)
    for name, often in (("stormy", 60.0), ("calm", 1e-6)):
        given = {"accelerator": "H100", "gib": 80, "gpus_per_node": 1, "nodes": {"max": 20}, "price_per_hour": 1}
        spot = {"name": "spot", "stages": STAGE_NAMES, "spot": {"interruptions_per_hour": often}}
        file = PoolFile.model_validate({"pools": [{**given, **spot}]})
        seconds[name] = predict(learnt, {own: {"spot": count} for own, count in REPLICAS.items()}, hour, file).p95_s
    assert seconds["stormy"] > seconds["calm"] == pytest.approx(predict(learnt, SPLIT, hour).p95_s, rel=0.1)


def test_a_profile_is_corrected_by_what_was_seen() -> None:
    base, preset = load_profile("paper-estimate", "paper"), get_preset("paper")
    size, length, own = preset.default_size, preset.default_seconds, base.on("H100").stages["v2v"]
    jobs = []
    for number in range(5):
        events: list[tuple[str, float, dict[str, Any]]] = [("queued", 0.0, {})]
        for window in range(own.calls):
            made = {"stage": "v2v", "index": window, "run_s": 1.5 * own.call_s(), "replica": "x", "bytes": 1}
            events += [("stage_started", 1.0, {"stage": "v2v"}), ("stage_output", 2.0 + window, made)]
        events.append(("completed", 9.0, {}))
        told = [Event(id=n, kind=kind, at=at + 100 * number, data=data) for n, (kind, at, data) in enumerate(events)]
        jobs.append(seen(size, length, told))
    found = learn(jobs, "paper")
    seen_s, said_s = 1.5 * own.calls * own.call_s(), stay(Kind(loads=loads_of("paper")), "v2v", own).job_s
    others = {name: {"i2v": 1} for name in ("t2i", "i2v", "vfi")}
    fitted = fitted_to(found, base, {"v2v": {"v2v": 2}, **others}, FILE)
    for accelerator in ("H100", "L40S"):
        was, now = (profile.on(accelerator).stages for profile in (base, fitted))
        ratio = now["v2v"].call_s() / was["v2v"].call_s()
        assert ratio == pytest.approx(seen_s / said_s, rel=1e-3)
        assert now["t2i"] == was["t2i"]  # nobody passed it
    assert f"v2v {seen_s / said_s:.2f}" in fitted.note
    with pytest.raises(ExperimentError, match="--fit needs --pools"):
        fitted_to(found, base, SPLIT, None)
    (rate,) = rates_of(found)
    assert rate.endswith(f",size={size},seconds={length},from=v2v,until=v2v")
    parse_kinds([rate], "paper")


def test_what_another_preset_left_is_told_apart(learnt: Learnt, tmp_path: Path) -> None:
    path = tmp_path / "learnt.json"
    keep(replace(learnt, preset="paper"), path)
    assert load_learnt(path).preset == "paper"
    other = replace(learnt, paths={"1x1 1s": ("t2i",)})
    assert predict(other, SPLIT, learnt.trace).latencies_s == ()


def test_latencies_are_drawn(tmp_path: Path) -> None:
    latencies(tmp_path / "x.png", "both", {"seen": [1.0, 2.0, 9.0], "the twin": [1.1, 2.1], "none": []})
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_the_bill_of_a_split_is_of_whole_nodes() -> None:
    state = {"wanted": 1, "queued": 0, "running": 0, "utilisation": 0.0}
    pools = Pools.model_validate(
        {"stages": [{"stage": name, "pool": name, "replicas": count, **state} for name, count in REPLICAS.items()]}
    )
    split, file = split_of(pools), load_pools(POOLS)
    assert bill_of(split, file) == 8 * 3.0 + 4 * 1.0 + 2 * 4 * 0.6
    more = changed(split, [parse_change("v2v=+5")], file)
    assert bill_of(more, file) == bill_of(split, file) + 8 * 3.0
    with pytest.raises(ExperimentError, match=r"pool 'gone', the pools file has v2v, i2v"):
        bill_of({"v2v": {"gone": 1}}, file)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--hours", "0"], "--hours is 0; it must be above 0"),
        (["--hours", "nan"], "--hours is nan; it must be above 0"),
        (["--hours", "inf"], "--hours is inf; it must be above 0 and finite"),
        (["--what-if", "v2v=+99999999999"], "at most 10,000 replicas"),
        (["--what-if", "v2v=-+2"], "--what-if is 'v2v=-+2'"),
        (["--what-if", "v2v=2@"], "--what-if is 'v2v=2@'"),
        (["--plot", "x.jpg"], "x.jpg ends in .jpg"),
        (["--pools", "gone.yaml"], "gone.yaml cannot be read"),
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
    with pytest.raises(ExperimentError, match=r"needs 13 nodes of pool v2v, which may have 8; ask for fewer"):
        changed({"v2v": {"v2v": 4}}, [parse_change("v2v=+100")], FILE)
    with pytest.raises(ExperimentError, match="Pool 'vfi' does not take stage v2v; choose one of v2v, i2v"):
        changed(SPLIT, [parse_change("v2v=+1@vfi")], load_pools(POOLS))
