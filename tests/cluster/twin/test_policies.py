"""Policies over whole runs: how often they change their mind, what a full budget gives, what paths and nodes save."""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from benchmarks import sim_policies
from cluster.policy.look_ahead import LookAhead, ServeDefault, Throughput, Tuner
from cluster.policy.types import Decision, Policy, Snapshot, State
from cluster.traffic.traces import Arrival, Trace, TraceSpec, make_trace
from cluster.twin.simulator import NodePool, Pool, Run, Scenario, StageTimes, simulate

BRIEF = settings(max_examples=25, deadline=None, phases=[Phase.generate])
ABOUT = replace(sim_policies.scenario(), sample_s=2.0)


def poisson(rate: float, span_s: float, seed: int, kinds: dict[str, float] | None = None) -> Trace:
    return make_trace(TraceSpec("p", "poisson", span_s, seed, rate, kinds=kinds or {}))


def reversals(run: Run) -> int:
    """How often a target moves the other way than it did last."""
    count = 0
    for name in run.stages:
        targets = [sample.stages[name].target for sample in run.samples]
        signs = [after > before for before, after in pairwise(targets) if after != before]
        count += sum(one != other for one, other in pairwise(signs))
    return count


@pytest.mark.slow
def test_at_a_steady_load_it_seldom_changes_its_mind() -> None:
    runs = [simulate(ABOUT, poisson(0.05, 7200.0, seed), LookAhead()) for seed in (11, 12)]
    assert max(reversals(run) for run in runs) < 80  # 97 and 125 before it remembered


def test_a_full_budget_is_no_worse_than_with_serves_rule() -> None:
    gpus = 24
    pools = {name: replace(pool, max_replicas=gpus) for name, pool in ABOUT.pools.items()}
    full = replace(ABOUT, budget_gpus=gpus, pools=pools, sample_s=60.0)
    split = sim_policies.serve_settings(gpus, downs_s=(20.0,), targets=(1.0,))
    ratios = []
    for seed in (1, 2, 3):
        trace = poisson(0.2, 1200.0, seed)
        ours = simulate(full, trace, LookAhead()).metrics
        theirs = [simulate(full, trace, rule).metrics.p95_s for rule in split.values()]
        ratios.append(ours.p95_s / min(theirs))
    assert math.prod(ratios) <= 1.03**3, ratios


def test_jobs_that_end_early_hold_no_gpus_behind() -> None:
    about = replace(ABOUT, paths={"still": ("t2i",)}, kinds={"": {}}, sample_s=60.0)
    mixed = poisson(0.08, 5400.0, 4, {"": 0.3, "still": 0.7})
    whole = replace(mixed, arrivals=tuple(arrival for arrival in mixed.arrivals if not arrival.kind))
    behind = [
        sum(held for name, held in simulate(about, trace, LookAhead()).metrics.gpu_s.items() if name != "t2i")
        for trace in (mixed, whole)
    ]
    assert behind[0] <= 1.2 * behind[1], behind


def test_nodes_are_released_after_a_burst() -> None:
    pools = {name: replace(pool, on=("n",)) for name, pool in ABOUT.pools.items()}
    nodes = {"n": NodePool(8, 8, boot_s=60.0, idle_s=120.0)}
    trace = make_trace(TraceSpec("b", "bursts", 3000.0, 5, 0.005, burst_size=40, burst_s=20, pause_s=800))
    for policy in (LookAhead(), ServeDefault(1.5, 0.0, 60.0, look_back_s=2.0)):
        run = simulate(replace(ABOUT, pools=pools, nodes=nodes, packing="pack"), replace(trace, span_s=7000.0), policy)
        counts = [sample.nodes["n"] for sample in run.samples]
        assert max(counts) >= 3
        assert counts[-1] == 1  # of one replica a stage


@dataclass(frozen=True)
class Watched:
    """A policy whose every decision is held to bounds and budget."""

    policy: Policy

    def decide(self, now: Snapshot, state: State) -> Decision:
        decision = self.policy.decide(now, state)
        assert set(decision.targets) == {stage.name for stage in now.stages}
        for stage in now.stages:
            assert stage.min_replicas <= decision.targets[stage.name] <= stage.max_replicas
        if now.budget_gpus is not None:
            assert sum(decision.targets[stage.name] * stage.gpus for stage in now.stages) <= now.budget_gpus + 1e-6
        return decision


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Scenario, Trace]:
    """A small pipeline with a budget, on nodes or not, and its requests, some of which end early."""
    on_nodes, gpus = draw(st.booleans()), draw(st.integers(4, 12))
    windows = draw(st.integers(1, 3))
    stages = {
        name: StageTimes(
            draw(st.sampled_from([2.0, 10.0, 40.0])),
            cv=draw(st.sampled_from([0.0, 0.5])),
            start_up_s=draw(st.sampled_from([0.0, 5.0, 60.0])),
            windows=1 if name == "a" else windows,
        )
        for name in "abc"
    }
    pools = {name: Pool(1, draw(st.integers(0, 1)), gpus, on=("n",) if on_nodes else ()) for name in stages}
    nodes = {"n": NodePool(2, math.ceil(gpus / 2), boot_s=20.0, idle_s=30.0)} if on_nodes else {}
    times = sorted(draw(st.lists(st.floats(0, 400), min_size=1, max_size=25)))
    kinds = draw(st.lists(st.sampled_from(["", "short"]), min_size=len(times), max_size=len(times)))
    arrivals = tuple(Arrival(at_s, kind) for at_s, kind in zip(times, kinds, strict=True))
    about = Scenario(
        stages, pools, budget_gpus=gpus, control_s=5.0, nodes=nodes, packing="pack", paths={"short": ("a",)}
    )
    return about, Trace("t", arrivals, 2500.0)


@BRIEF
@given(worlds(), st.sampled_from([LookAhead(), LookAhead(node_gpus=2), Tuner(), ServeDefault(1.0, 0.0, 20.0)]))
def test_over_a_whole_run_bounds_hold_every_job_ends_and_in_the_end_nothing_is_held(
    world: tuple[Scenario, Trace], policy: Policy
) -> None:
    about, trace = world
    bounded = not isinstance(policy, ServeDefault)  # that knows no budget
    run = simulate(about, trace, Watched(policy) if bounded else policy)
    assert {row.outcome for row in run.rows} == {"succeeded"}
    last = run.samples[-1]
    least = {name: pool.min_replicas for name, pool in about.pools.items()}
    assert getattr(policy, "node_gpus", 0) or {name: own.target for name, own in last.stages.items()} == least
    assert sum(last.nodes.values()) <= math.ceil(sum(pool.min_replicas for pool in about.pools.values()) / 2)


@BRIEF
@given(worlds())
def test_throughput_holds_them_too_and_lets_nothing_go(world: tuple[Scenario, Trace]) -> None:
    about, trace = world
    run = simulate(about, replace(trace, span_s=trace.arrivals[-1].time_s), Watched(Throughput()))
    assert {row.outcome for row in run.rows} == {"succeeded"}
    assert sum(own.target for own in run.samples[-1].stages.values()) == about.budget_gpus
