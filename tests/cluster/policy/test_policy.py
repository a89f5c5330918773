"""What every policy promises of any snapshot, and what each does on known ones."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.policy.arrivals import ArrivalMeter, PathMeter
from cluster.policy.look_ahead import POLICIES, LookAhead, ServeDefault, make_policy
from cluster.policy.types import Memory, Policy, PolicyError, Snapshot, StageNow, State

SLACK = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
NAMES = ("t2i", "i2v", "v2v", "vfi")


@st.composite
def stages(draw: st.DrawFn, name: str) -> StageNow:
    calls = draw(st.integers(1, 4))
    call_s = draw(st.floats(0.1, 200.0))
    ready = draw(st.integers(0, 12))
    busy = draw(st.integers(0, ready))
    least = draw(st.integers(0, 3))
    return StageNow(
        name=name,
        call_s=call_s,
        calls=calls,
        start_up_s=draw(st.sampled_from([0.0, 5.0, 60.0, 300.0])),
        waiting=draw(st.integers(0, 200)),
        running=busy,
        remaining_s=busy * call_s * draw(st.floats(0.0, 1.0)),
        busy=busy,
        ready=ready,
        starting=(starting := draw(st.integers(0, 4))),
        pending=draw(st.integers(0, starting)),
        stopping=draw(st.integers(0, 3)),
        target=draw(st.integers(0, 16)),
        share=draw(st.sampled_from([1.0, 1.0, 0.3, 0.05])),
        min_replicas=least,
        max_replicas=draw(st.integers(max(1, least, busy), 40)),
    )


@st.composite
def snapshots(draw: st.DrawFn, *, budget: bool = True) -> Snapshot:
    """With a budget that what computes, stops, and must be there fits into."""
    found = tuple(draw(stages(name)) for name in NAMES)
    least = sum(max(stage.busy, stage.min_replicas) + stage.stopping for stage in found)
    return Snapshot(
        now_s=draw(st.floats(0, 1e6)),
        stages=found,
        queued_jobs=draw(st.integers(0, 50)),
        arrivals_per_s=draw(st.floats(0, 2)),
        trend_per_s2=draw(st.floats(-0.01, 0.01)),
        budget_gpus=float(least + draw(st.integers(0, 60))) if budget else None,
    )


look_aheads = st.builds(
    LookAhead,
    goal_s=st.one_of(st.none(), st.floats(1, 1000)),
    margin=st.floats(0, 3),
    keep_idle=st.floats(0, 5),
    stickiness=st.floats(1, 3),
    node_gpus=st.sampled_from([0.0, 0.0, 4.0]),
)
alone = st.builds(replace, look_aheads, node_gpus=st.just(0.0))  # nodes that are filled take from one stage for another


@SLACK
@given(snapshots(), look_aheads)
def test_targets_are_within_bounds_and_budget_and_never_under_what_computes(now: Snapshot, policy: LookAhead) -> None:
    targets = policy.decide(now, {}).targets
    for stage in now.stages:
        assert max(stage.min_replicas, stage.busy) <= targets[stage.name] <= stage.max_replicas
    held = sum((targets[stage.name] + stage.stopping) * stage.gpus for stage in now.stages)
    assert held <= (now.budget_gpus or 0.0) + 1e-6


@SLACK
@given(snapshots(), st.integers(0, 3), st.integers(1, 5), st.integers(1, 8), look_aheads)
def test_calls_that_wait_get_a_replica_before_others_get_more(
    now: Snapshot, where: int, waiting: int, spare: int, policy: LookAhead
) -> None:
    asleep: dict[str, Any] = {"ready": 0, "starting": 0, "pending": 0, "target": 0, "min_replicas": 0, "waiting": 0}
    none = [replace(stage, running=0, busy=0, remaining_s=0.0, **asleep) for stage in now.stages]
    none[where] = replace(none[where], waiting=waiting)
    stopping = sum(stage.stopping for stage in none)
    targets = policy.decide(replace(now, stages=tuple(none), budget_gpus=float(stopping + spare)), {}).targets
    assert targets[NAMES[where]] >= 1


@pytest.mark.slow
@SLACK
@given(st.lists(snapshots(), min_size=2, max_size=6), look_aheads)
def test_it_holds_at_every_step_with_a_memory(steps: list[Snapshot], policy: LookAhead) -> None:
    state: State = {}
    for number, now in enumerate(steps):
        decision = policy.decide(replace(now, now_s=7.0 * number), state)
        state = decision.state
        held = sum(decision.targets[stage.name] + stage.stopping for stage in now.stages)
        assert held <= (now.budget_gpus or 0.0) + 1e-6
        assert all(decision.targets[stage.name] >= stage.busy for stage in now.stages)


@SLACK
@given(snapshots(budget=False), st.integers(0, 3), st.integers(1, 50), alone)
def test_more_load_anywhere_never_lowers_a_target(now: Snapshot, where: int, more: int, policy: LookAhead) -> None:
    before = policy.decide(now, {}).targets
    stage = replace(now.stages[where], waiting=now.stages[where].waiting + more)
    loaded = replace(now, stages=(*now.stages[:where], stage, *now.stages[where + 1 :]))
    rising = replace(now, arrivals_per_s=now.arrivals_per_s * 1.5 + 0.01)
    queued = replace(now, queued_jobs=now.queued_jobs + more)
    for greater in (loaded, queued, rising):
        after = policy.decide(greater, {}).targets
        assert all(after[name] >= before[name] for name in NAMES)


@SLACK
@given(snapshots(budget=False), st.integers(1, 3), alone)
def test_jobs_that_end_before_a_stage_are_no_demand_there(now: Snapshot, where: int, policy: LookAhead) -> None:
    def shared(share: float) -> Snapshot:
        found = [replace(own, share=1.0 if at < where else share) for at, own in enumerate(now.stages)]
        return replace(now, stages=tuple(found))

    few, many = (policy.decide(shared(share), {}).targets for share in (0.2, 1.0))
    assert all(few[name] <= many[name] for name in NAMES)
    assert all(few[name] == many[name] for name in NAMES[:where])


@pytest.mark.slow
@settings(SLACK, max_examples=25)
@given(st.integers(1, 30), st.integers(5, 40), st.floats(0.2, 3.0))
def test_what_was_let_go_and_wanted_again_stays_longer(jobs: int, period: int, keep_idle: float) -> None:
    """Demand that comes and goes for ever: a stage moves a few times in half an hour, then lives through the pauses."""
    policy, targets = LookAhead(keep_idle=keep_idle), list[int]()
    state: State = {}
    for step in range(40 * period):
        given_ = pipeline(i2v={"waiting": jobs if step % period == 0 else 0})
        decision = policy.decide(Snapshot(10.0 * step, given_), state)
        state = decision.state
        targets.append(decision.targets["i2v"])
    moves = sum(before != after for before, after in pairwise(targets))
    kept_s = 60.0 * keep_idle * 2**3  # the longest
    assert moves <= (10 * (1 + 400 * period / 1800) if kept_s > 10.0 * period else 2 * 40)


@SLACK
@given(snapshots(), alone)
def test_the_same_snapshot_again_and_again_settles_at_once(now: Snapshot, policy: LookAhead) -> None:
    """Replicas follow, the load stays: no target moves a second time."""
    state: State = {}
    seen: list[dict[str, int]] = []
    for step in range(6):
        decision = policy.decide(replace(now, now_s=now.now_s + 20_000.0 * step), state)
        state = decision.state
        seen.append(dict(decision.targets))
        follow = tuple(
            replace(
                stage,
                target=decision.targets[stage.name],
                starting=0,
                ready=max(stage.ready, decision.targets[stage.name]),
            )
            for stage in now.stages
        )
        now = replace(now, stages=follow)
    assert seen[2:] == [seen[1]] * 4


def _job(stage: StageNow, **changes: float) -> StageNow:
    return replace(stage, **changes)  # type: ignore[arg-type]


def pipeline(**changes: dict[str, float]) -> tuple[StageNow, ...]:
    """Four stages of 4, 40, 90 and 12 s, a replica each, a start-up of a minute."""
    seconds = {"t2i": (4.0, 1), "i2v": (40.0, 1), "v2v": (30.0, 3), "vfi": (4.0, 3)}
    base = [
        StageNow(name, call_s, calls, start_up_s=60.0, ready=1, target=1, min_replicas=0, max_replicas=50)
        for name, (call_s, calls) in seconds.items()
    ]
    return tuple(_job(stage, **changes.get(stage.name, {})) for stage in base)


def test_work_at_the_first_stage_is_the_third_ones_demand() -> None:
    quiet = LookAhead().decide(Snapshot(0.0, pipeline()), {}).targets
    assert dict.fromkeys(NAMES, 0) == quiet
    targets = LookAhead().decide(Snapshot(0.0, pipeline(t2i={"waiting": 30})), {}).targets
    assert targets["v2v"] > targets["i2v"] > 5
    alone = ServeDefault(upscale_delay_s=0).decide(Snapshot(0.0, pipeline(t2i={"waiting": 30})), {}).targets
    assert alone["v2v"] <= 1


def test_a_stage_that_is_far_away_is_not_started_before_it_has_to_be() -> None:
    late = pipeline(i2v={"call_s": 600.0}, t2i={"waiting": 30})
    targets = LookAhead().decide(Snapshot(0.0, late), {}).targets
    assert targets["i2v"] > 1
    assert targets["v2v"] == 0
    near = pipeline(i2v={"call_s": 600.0, "running": 1, "busy": 1, "remaining_s": 50.0})
    assert LookAhead().decide(Snapshot(0.0, near), {}).targets["v2v"] >= 1


def test_idle_gpus_move_to_the_bottleneck() -> None:
    idle = pipeline(t2i={"ready": 10, "target": 10}, v2v={"waiting": 90, "ready": 2, "target": 2})
    memory = {"t2i": Memory(levels=((0.0, 10),))}
    without = LookAhead().decide(Snapshot(1.0, idle), memory).targets
    assert without["t2i"] == 10  # nobody needs them; a start-up later they would go
    targets = LookAhead().decide(Snapshot(1.0, idle, budget_gpus=14.0), memory).targets
    assert targets["v2v"] >= 10
    assert sum(targets.values()) <= 14


def test_the_first_stage_is_not_starved_for_what_it_will_send() -> None:
    """V2V's share of the budget is kept for later, I2V's stands idle: nothing would come to either."""
    waits = pipeline(t2i={"waiting": 12, "ready": 0, "target": 0}, i2v={"ready": 3, "target": 3})
    now = Snapshot(0.0, waits, queued_jobs=90, budget_gpus=14.0)
    assert LookAhead().decide(now, {}).targets["t2i"] >= 1


def test_superfluous_replicas_go_after_a_start_up_and_not_before() -> None:
    policy = LookAhead(keep_idle=1.0)
    busy = policy.decide(Snapshot(0.0, pipeline(v2v={"waiting": 60})), {})
    level = busy.targets["v2v"]
    empty = pipeline(v2v={"ready": level, "target": level})
    soon = policy.decide(Snapshot(50.0, empty), busy.state)
    late = policy.decide(Snapshot(61.0, empty), soon.state)
    assert soon.targets["v2v"] == level
    assert late.targets["v2v"] == 0


def test_behind_a_stage_that_cannot_start_nothing_is_built() -> None:
    jobs = {"waiting": 30}
    none: dict[str, float] = {"ready": 0, "target": 0}
    starts = pipeline(t2i={**jobs, **none, "starting": 4}, i2v=none, v2v=none, vfi=none)
    ahead = LookAhead().decide(Snapshot(0.0, starts), {}).targets
    assert ahead["i2v"] > 1  # it loads, and they will be needed
    stuck = (replace(starts[0], pending=4), *starts[1:])
    for arrivals in (0.0, 1.0):
        targets = LookAhead().decide(Snapshot(0.0, stuck, arrivals_per_s=arrivals, queued_jobs=9), {}).targets
        assert targets == {"t2i": 4, "i2v": 0, "v2v": 0, "vfi": 0}
        budget = LookAhead().decide(Snapshot(0.0, stuck, arrivals_per_s=arrivals, budget_gpus=24.0), {}).targets
        assert (budget["i2v"], budget["v2v"]) == (0, 0)


def test_stages_behind_are_sized_for_the_replicas_that_have_a_place() -> None:
    def of_v2v(**t2i: int) -> int:
        given = pipeline(t2i={"call_s": 40.0, "waiting": 60, "running": 2, "remaining_s": 40, "busy": 2, **t2i})
        return LookAhead().decide(Snapshot(0.0, given), {}).targets["v2v"]

    free, short = of_v2v(ready=2, starting=14), of_v2v(ready=2, starting=14, pending=14)
    assert free > 2 * short
    assert short == of_v2v(ready=2, max_replicas=2)


def test_a_wish_that_has_no_place_is_not_called_off_and_had_again() -> None:
    """Demand that comes and goes: each wish that is called off before it has a place stays as a ghost for long."""
    state: State = {}
    seen = []
    for step in range(30):
        given = pipeline(v2v={"waiting": 60 if step % 5 == 0 else 0, "starting": 9, "pending": 9, "target": 10})
        decision = LookAhead(keep_idle=0.0).decide(Snapshot(11.0 * step, given), state)
        state = decision.state
        seen.append(decision.targets["v2v"])
    assert set(seen) == {10}
    late = LookAhead(keep_idle=0.0).decide(Snapshot(400.0, pipeline(v2v={"starting": 9, "target": 10})), state)
    assert late.targets["v2v"] == 0  # but not for ever


def test_to_zero_and_back() -> None:
    policy = LookAhead()
    asleep = policy.decide(Snapshot(0.0, pipeline()), {})
    assert set(asleep.targets.values()) == {0}
    none = tuple(replace(stage, ready=0, target=0) for stage in pipeline())
    awake = policy.decide(Snapshot(1.0, none, queued_jobs=1), asleep.state).targets
    assert (awake["t2i"], awake["i2v"]) == (1, 1)
    assert awake["v2v"] == 0  # nothing can be there within its start-up
    kept = tuple(replace(stage, min_replicas=1) for stage in pipeline())
    assert set(policy.decide(Snapshot(0.0, kept), {}).targets.values()) == {1}


@pytest.mark.parametrize("policy", [LookAhead(), LookAhead(keep_idle=0.0, min_keep_s=0.0)])
def test_no_oscillation_on_a_constant_stream(policy: LookAhead) -> None:
    """One job every ten seconds through an ideal fluid of the four stages: targets are found and kept."""
    state: State = {}
    levels: list[tuple[int, ...]] = []
    replicas = dict.fromkeys(NAMES, 1)
    for step in range(200):
        flowing = tuple(
            replace(
                stage,
                running=(flow := math.ceil(0.1 * stage.job_s)),
                busy=min(flow, replicas[stage.name]),
                remaining_s=flow * stage.call_s / 2,
                ready=replicas[stage.name],
                target=replicas[stage.name],
            )
            for stage in pipeline()
        )
        decision = policy.decide(Snapshot(2.0 * step, flowing, arrivals_per_s=0.1), state)
        state, replicas = decision.state, dict(decision.targets)
        levels.append(tuple(decision.targets.values()))
    assert len(set(levels[2:])) == 1


def test_the_last_node_is_filled_with_what_is_there_and_then_with_what_is_shortest() -> None:
    quiet = Snapshot(0.0, tuple(replace(stage, min_replicas=1) for stage in pipeline()), arrivals_per_s=0.05)
    plain = LookAhead().decide(quiet, {}).targets
    assert sum(plain.values()) % 8
    filled = LookAhead(node_gpus=8).decide(quiet, {}).targets
    assert sum(filled.values()) == math.ceil(sum(plain.values()) / 8) * 8
    assert all(filled[name] >= plain[name] for name in NAMES)
    spare = replace(quiet, stages=tuple(replace(s, target=3 if s.name == "vfi" else s.target) for s in quiet.stages))
    assert LookAhead(node_gpus=8).decide(spare, {}).targets["vfi"] == 3  # nobody pays for it
    tight = replace(quiet, budget_gpus=sum(plain.values()) + 1.0)
    assert sum(LookAhead(node_gpus=8).decide(tight, {}).targets.values()) == sum(plain.values()) + 1


def test_shares_are_of_the_jobs_of_late() -> None:
    meter = PathMeter(NAMES)
    assert meter.read("v2v") == 1.0
    for number in range(40):
        meter.add(NAMES if number % 4 == 0 else ("t2i",))
    assert (meter.read("t2i"), meter.read("v2v")) == pytest.approx((1.0, 0.25))
    for _ in range(200):
        meter.add(NAMES)
    assert meter.read("v2v") > 0.95


def test_policies_have_names_and_what_is_wrong_is_said() -> None:
    made: list[Policy] = [make_policy(name) for name in POLICIES]
    assert len(made) == 5
    assert make_policy("look_ahead", goal_s=30.0) == LookAhead(goal_s=30.0)
    wrong: list[tuple[Callable[[], Policy], str]] = [
        (lambda: make_policy("oracle"), "no policy 'oracle'; choose fixed, inferline, look_ahead, serve_default"),
        (lambda: make_policy("fixed", speed=3), "no option speed; it has replicas"),
        (lambda: make_policy("look_ahead", goal_s=0.0), "goal_s above 0, got 0"),
        (lambda: make_policy("look_ahead", margin=math.inf), "a finite margin, got inf"),
        (lambda: make_policy("look_ahead", haste=math.nan), "haste between 0 and 1, got nan"),
        (lambda: make_policy("serve_default", target_ongoing_requests=0), "target_ongoing_requests above 0"),
    ]
    for call, words in wrong:
        with pytest.raises(PolicyError, match=words):
            call()


def test_the_meter_knows_the_rate_its_trend_and_does_not_take_a_burst_for_a_rate() -> None:
    steady = ArrivalMeter(300.0)
    for number in range(600):
        steady.add(number * 1.0)
    rate, trend = steady.read(600.0)
    assert rate == pytest.approx(1.0, rel=0.02)
    assert trend == 0
    burst = ArrivalMeter(300.0)
    for number in range(30):
        burst.add(number * 10.0)
    calm = burst.read(299.0)[0]
    for number in range(60):
        burst.add(299.0 + number / 100)
    assert burst.read(300.0)[0] < 1.5 * calm
    rising = ArrivalMeter(300.0)
    at = 0.0
    for number in range(400):
        at += max(0.1, 5.0 - number / 50)
        rising.add(at)
    assert rising.read(at)[1] > 0
    early = ArrivalMeter(300.0)
    early.add(50.0)
    assert early.read(50.0) == (1 / 15, 0.0)  # the first of a stream, as far as anybody knows
    assert early.read(200.0)[0] == pytest.approx(1 / 150)  # and then not
    for number in range(30):
        early.add(140.0 + 2 * number)
    assert early.read(199.0)[1] > 0  # half a window is enough to see a ramp
    assert rising.read(at + 10_000.0) == (0.0, 0.0)


def test_a_batch_counts_by_its_share_of_a_replica() -> None:
    alone = StageNow("t2i", 4.0, waiting=40, ready=1, target=1, max_replicas=50)
    batched = replace(alone, batch=4, batch_s=5.2)
    assert alone.job_s == 4.0
    assert batched.job_s == pytest.approx(1.3)
    assert replace(batched, batch_s=0.0).job_s == replace(batched, batch_s=40.0).job_s == 4.0
    policy = LookAhead(goal_s=10.0)
    targets = [policy.decide(Snapshot(0.0, (stage,)), {}).targets["t2i"] for stage in (alone, batched)]
    assert targets == [16, 6]  # 40 calls of 4 s, or of 1.3 s, in 10 s
