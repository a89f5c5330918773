"""Simulated nodes: they boot, are billed whole, are packed, taken back and emptied, and no GPU is given twice."""

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.policy.look_ahead import LookAhead
from cluster.policy.types import Decision, Snapshot, State
from cluster.traffic.measures import read_samples
from cluster.traffic.traces import Arrival, Trace, TraceSpec, make_trace
from cluster.twin.clock import Clock
from cluster.twin.nodes import Nodes
from cluster.twin.parts import Replica
from cluster.twin.simulator import Faults, NodePool, Pool, Scenario, StageTimes, TwinError, simulate

FOUR = NodePool(4, 3, boot_s=100.0, idle_s=50.0, least_bill_s=60.0, price_per_hour=36.0)


class Scripted:
    """So many replicas of every stage from each moment on."""

    def __init__(self, *steps: tuple[float, int]) -> None:
        self._steps = steps

    def decide(self, now: Snapshot, state: State) -> Decision:
        count = [count for at_s, count in self._steps if at_s <= now.now_s][-1]
        return Decision({stage.name: count for stage in now.stages})


def one_stage(nodes: NodePool, replicas: int = 1, **more: object) -> Scenario:
    return Scenario(
        {"a": StageTimes(10.0, start_up_s=20.0)},
        {"a": Pool(replicas, on=("n",))},
        nodes={"n": nodes},
        sample_s=10.0,
        **more,  # type: ignore[arg-type]
    )


def idle(span_s: float) -> Trace:
    return Trace("idle", (Arrival(0.0),), span_s)


def test_a_node_boots_before_its_replicas_and_is_billed_whole_until_it_is_gone() -> None:
    run = simulate(one_stage(FOUR), idle(1000.0), Scripted((0, 1), (100, 5), (500, 1)))
    ready = {sample.at_s: sample.stages["a"].ready for sample in run.samples}
    assert (ready[110.0], ready[130.0], ready[210.0], ready[230.0]) == (1, 4, 4, 5)  # 20 s on the node, 120 beyond
    assert [sample.nodes["n"] for sample in run.samples[::10]] == [1, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1]
    assert run.metrics.node_s == {"n": pytest.approx(1000 + 450)}  # from the wish at 100 to 50 s after it was empty
    assert run.metrics.cost == pytest.approx(36.0 * run.metrics.node_hours)
    assert run.metrics.start_ups == 5


def test_a_short_boot_is_billed_at_least_what_it_must_be() -> None:
    short = replace(FOUR, boot_s=1.0, idle_s=2.0)
    run = simulate(one_stage(short, replicas=4), idle(300.0), Scripted((0, 4), (10, 5), (40, 4)))
    assert run.metrics.node_s["n"] == pytest.approx(300 + 60)


def test_nodes_that_always_stand_stay_and_others_go() -> None:
    run = simulate(one_stage(replace(FOUR, min_nodes=2), 0), idle(400.0), Scripted((0, 1)))
    assert {sample.nodes["n"] for sample in run.samples} == {2}


@pytest.mark.parametrize(("packing", "nodes"), [("pack", [2, 1]), ("spread", [2, 2])])
def test_packing_leaves_nodes_empty_where_spreading_keeps_them(packing: str, nodes: list[int]) -> None:
    stages = {name: StageTimes(1.0, start_up_s=1.0) for name in ("a", "b")}
    scenario = Scenario(
        stages,
        {"a": Pool(3, on=("n",)), "b": Pool(3, on=("n",))},
        nodes={"n": replace(FOUR, min_nodes=0, idle_s=20.0)},
        packing=packing,  # type: ignore[arg-type]
        sample_s=10.0,
    )
    run = simulate(scenario, idle(300.0), Scripted((0, 3), (50, 2)))
    assert [run.samples[at].nodes["n"] for at in (3, -1)] == nodes
    assert run.metrics.succeeded == 1


def test_the_fallback_takes_what_the_first_pool_has_no_place_for() -> None:
    nodes = {"spot": replace(FOUR, max_nodes=1, gpus=2), "sure": replace(FOUR, gpus=1)}
    scenario = replace(one_stage(FOUR), nodes=nodes, pools={"a": Pool(4, on=("spot", "sure"))})
    run = simulate(scenario, idle(10.0))
    assert run.samples[-1].nodes == {"spot": 1, "sure": 2}


def test_a_stage_on_two_kinds_of_nodes_is_slower_where_they_are() -> None:
    nodes = {"fast": replace(FOUR, max_nodes=1, gpus=1), "slow": replace(FOUR, gpus=1)}
    pools = {"a": Pool(2, on=("fast", "slow"), slower={"slow": 3.0})}
    trace = Trace("two", (Arrival(0.0), Arrival(0.0)), 100.0)
    run = simulate(replace(one_stage(FOUR), nodes=nodes, pools=pools), trace)
    assert sorted(row.latency_s for row in run.rows) == pytest.approx([10.0, 30.0])


def test_a_spot_node_lets_calls_end_within_its_notice_and_loses_the_others() -> None:
    trace = make_trace(TraceSpec("p", "poisson", 4000.0, 3, 0.08))
    for notice_s, least in ((100.0, 0), (2.0, 3)):
        spot = replace(FOUR, gpus=2, max_nodes=9, life_s=300.0, notice_s=notice_s, away_s=20.0, boot_s=10.0)
        run = simulate(replace(one_stage(spot, 3), faults=Faults(attempts=50)), trace)
        assert {row.outcome for row in run.rows} == {"succeeded"}
        retries = sum(row.retries for row in run.rows)
        assert retries >= least if least else retries == 0, retries
        assert run.metrics.start_ups > 20


def test_the_replicas_of_a_node_that_is_taken_leave_once_others_are_ready() -> None:
    two = replace(FOUR, gpus=1, max_nodes=3, min_nodes=3, notice_s=60.0)
    trace = Trace("t", tuple(Arrival(10.0 * number) for number in range(20)), 400.0)
    run = simulate(replace(one_stage(two, 2), taken=((55.0, "n"),)), trace)
    assert {sample.stages["a"].ready for sample in run.samples} == {2}
    assert run.metrics.start_ups == 3
    assert [run.samples[at].nodes["n"] for at in (5, 12)] == [3, 3]  # another one comes for it
    assert {row.outcome for row in run.rows} == {"succeeded"}
    with pytest.raises(TwinError, match="A node of 'm' is taken back; there are n"):
        replace(one_stage(two), taken=((1.0, "m"),))


def test_after_an_interruption_the_fallback_takes_what_is_missing() -> None:
    nodes = {"spot": replace(FOUR, gpus=2, life_s=300.0, away_s=1000.0), "sure": replace(FOUR, gpus=2)}
    scenario = replace(one_stage(FOUR), nodes=nodes, pools={"a": Pool(3, on=("spot", "sure"))})
    run = simulate(scenario, idle(3000.0))
    assert run.samples[0].nodes == {"spot": 2, "sure": 0}
    assert run.samples[-1].nodes == {"spot": 0, "sure": 2}
    assert run.metrics.start_ups >= 6


STORMY = Scenario(
    {
        "a": StageTimes(4.0, cv=0.5, start_up_s=7.0),
        "b": StageTimes(60.0, cv=0.5, start_up_s=7.0, windows=3),
        "c": StageTimes(9.0, cv=0.5, start_up_s=7.0, windows=3),
    },
    {
        "a": Pool(1, 1, 6, gpus=0.5, on=("spot", "sure")),
        "b": Pool(2, 1, 9, on=("spot", "sure")),
        "c": Pool(1, 1, 6, gpus=0.5, on=("sure",)),
    },
    nodes={
        "spot": NodePool(2, 3, boot_s=30.0, idle_s=60.0, life_s=400.0, notice_s=20.0, away_s=100.0),
        "sure": NodePool(4, 3, 1, boot_s=60.0, idle_s=60.0),
    },
    budget_gpus=12.0,
    control_s=5.0,
    faults=Faults(replica_life_s=500.0, call_failure=0.02),
    paths={"short": ("a",), "late": ("b", "c")},
)
STORM = make_trace(
    TraceSpec(
        *("s", "bursts", 2500.0, 7, 0.03),
        burst_size=10,
        pause_s=400,
        cancel_share=0.2,
        patience_s=80,
        kinds={"": 0.4, "short": 0.3, "late": 0.3},
    )
)


@pytest.mark.parametrize("packing", ["pack", "spread"])
def test_every_request_ends_exactly_once_and_passes_its_stages(packing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = 0
    serve = Nodes._serve

    def checked(self: Nodes) -> None:
        nonlocal checks
        serve(self)
        for nodes in self._nodes.values():
            for node in nodes:
                taken = sum(replica.size for replica in node.replicas)
                assert node.room == pytest.approx(len(node.free) - taken)
                assert min(node.free) > -1e-9
                checks += 1

    monkeypatch.setattr(Nodes, "_serve", checked)
    run = simulate(replace(STORMY, packing=packing), STORM, LookAhead())  # type: ignore[arg-type]
    assert checks > 100
    assert [row.id for row in run.rows] == list(range(len(STORM.arrivals)))
    ways = {"": {"a", "b", "c"}, "short": {"a"}, "late": {"b", "c"}}
    for row in run.rows:
        assert set(row.spans) <= ways[row.kind]
        assert row.outcome != "succeeded" or set(row.spans) == ways[row.kind]
    last = run.samples[-1]
    assert last.queued_jobs == last.running_jobs == 0
    assert all(stage.waiting == stage.running == 0 for stage in last.stages.values())
    assert all(sample.nodes["spot"] <= 3 and 1 <= sample.nodes["sure"] <= 3 for sample in run.samples)
    again = simulate(replace(STORMY, packing=packing), STORM, LookAhead())  # type: ignore[arg-type]
    assert again == run


def test_samples_say_how_many_nodes_there_were(tmp_path: Path) -> None:
    run = simulate(one_stage(FOUR, 5), idle(20.0))
    run.write(tmp_path)
    assert [sample.nodes for sample in read_samples(tmp_path / "samples.csv")] == [s.nodes for s in run.samples]


def test_a_share_is_of_one_gpu_and_a_gang_of_one_node() -> None:
    scenario = replace(one_stage(replace(FOUR, max_nodes=1)), budget_gpus=4.0)
    nodes, placed = Nodes(Clock(), scenario, 0), list[str]()
    for number, size in enumerate((0.6, 0.6, 0.4, 0.3, 1.0, 1.0, 0.5)):
        replica = Replica(number, f"r{number}", 0.0, size)
        nodes.take(replica, None, size, ("n",), lambda own: placed.append(own.name))
    assert placed == ["r0", "r1", "r2", "r3", "r4", "r5"]  # 0.6 + 0.4, 0.6 + 0.3, and no GPU has another half


def test_senseless_nodes_are_refused() -> None:
    stage = {"a": StageTimes(1.0)}
    for make, words in (
        (lambda: NodePool(0, 1), "gpus of 1 or more, got 0"),
        (lambda: NodePool(1, 1, 2), "min_nodes 2 above max_nodes 1"),
        (lambda: Scenario(stage, {"a": Pool(on=("x",))}), "on nodes 'x'; there are none"),
        (lambda: Scenario(stage, {"a": Pool()}, nodes={"n": FOUR}), "on no nodes; put it on one of n"),
        (lambda: Scenario(stage, {"a": Pool(13, on=("n",))}, nodes={"n": FOUR}), "13 replicas of 1 GPUs.* have 12"),
        (lambda: Scenario(stage, {"a": Pool(gpus=5, on=("n",))}, nodes={"n": FOUR}), "takes 5 GPUs, .* has 4"),
        (lambda: Pool(slower={"n": 0.0}), "slower above 0, got 0.0 on n"),
        (lambda: Scenario(stage, {"a": Pool()}, paths={"k": ("b",)}), "kind 'k' pass b; name neighbours of a"),
    ):
        with pytest.raises(TwinError, match=words):
            make()
