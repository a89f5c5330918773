"""The planner against brute force, its words about what cannot be, and the commands around it."""

import json
import random
import re
from pathlib import Path

import pytest

from benchmarks.lab import planner
from benchmarks.lab.planner import profile_of, stage
from cluster.__main__ import main
from cluster.planner.command import POOLS
from cluster.planner.kinds import parse_rate
from cluster.planner.monoliths import Monolith, judge, make_monolith
from cluster.planner.options import Goal, GoalError, fits
from cluster.planner.profiles import ProfileError, StageProfile, fitted, load_profile
from cluster.planner.search import make_plan, neighbours
from cluster.planner.writing import write_config
from cluster.pools.bill import gpus_for
from cluster.pools.file import Control, GpuPool, Nodes, PoolFile, PoolFileError, load_pools
from deployments.settings.reading import CONFIG_PATH, load_config
from stages.types import STAGE_NAMES, StageName


def pool(name: str, price: float, nodes: int = 4, **more: object) -> GpuPool:
    given = {"gib": 80.0, "gpus_per_node": 4, "stages": STAGE_NAMES, "nodes": Nodes(max=nodes), **more}
    return GpuPool.model_validate({"name": name, "accelerator": name, "price_per_hour": price, **given})


@pytest.mark.parametrize("seed", range(planner.INSTANCES))
def test_the_bill_is_what_brute_force_finds(seed: int) -> None:
    assert planner.error_of(*planner.instance(seed)) == pytest.approx(0.0, abs=1e-9)


def test_the_instances_are_of_all_kinds() -> None:
    files = [planner.instance(seed)[1] for seed in range(planner.INSTANCES)]
    pools = [pool for file in files for pool in file.pools]
    assert {pool.gpus_per_node for pool in pools} == {1, 2, 4}
    for has in ("fraction", "fallback", "monolith", "time_shared", "lives_with"):
        assert {bool(getattr(pool, has)) for pool in pools} == {True, False}
    assert {bool(pool.nodes.min) for pool in pools} == {True, False}
    assert {len(planner.instance(seed)[0].kinds) for seed in range(planner.INSTANCES)} == {1, 2}


def test_shares_of_gpus_are_packed_into_the_fewest() -> None:
    draw = random.Random(3)
    for _ in range(40):
        shares = [draw.choice([0.2, 0.3, 0.35, 0.45, 0.5, 0.6, 0.7]) for _ in range(draw.randint(1, 7))]
        counts = {share: shares.count(share) for share in shares}
        assert gpus_for(counts.items()) == fewest(shares, []), shares
    assert gpus_for([(0.3, 3), (0.35, 2), (1.0, 4)]) == 4 + 2
    assert gpus_for([]) == 0


def fewest(shares: list[float], free: list[float]) -> int:
    """GPUs, by trying every place of every replica."""
    if not shares:
        return len(free)
    first, rest = shares[0], shares[1:]
    tries = [fewest(rest, [*free, 1.0 - first])]
    for at, room in enumerate(free):
        if room + 1e-9 >= first:
            tries.append(fewest(rest, [*free[:at], room - first, *free[at + 1 :]]))
    return min(tries)


def test_nodes_that_always_stand_and_the_control_group_are_on_the_bill() -> None:
    profile = profile_of({name: dict.fromkeys(STAGE_NAMES, stage(4.0)) for name in "ab"})
    stands = pool("b", 5.0, stages=("vfi",)).model_copy(update={"nodes": Nodes(min=1, max=2)})
    file = PoolFile(pools=(pool("a", 1.0, gpus_per_node=3), stands), control=Control(price_per_hour=0.25, nodes=2))
    plan = make_plan(Goal(0.02, 100.0), file, profile)
    assert [(bill.pool, bill.nodes, bill.gpus, bill.used) for bill in plan.bills] == [("a", 1, 3, 3), ("b", 1, 4, 1)]
    assert plan.cost_per_hour == 3 * 1.0 + 4 * 5.0 + 0.5  # VFI goes where a node stands anyway


def test_one_gpu_that_holds_all_models_serves_all_stages_in_turns(tmp_path: Path) -> None:
    profile = load_profile("paper-estimate", "paper")
    one = {"gib": 80.0, "gpus_per_node": 1, "accelerator": "H100"}
    alone, shared = (PoolFile(pools=(pool("box", 3.0, 1, **one, time_shared=own),)) for own in (False, True))
    with pytest.raises(GoalError, match="4 stages have 1 GPUs: let them take turns by `time_shared: true`"):
        make_plan(Goal(0.005, 300.0), alone, profile)
    plan = make_plan(Goal(0.005, 300.0), shared, profile)
    assert (plan.layout, plan.gpus, plan.cost_per_hour) == ("shared", 1.0, 3.0)
    config = tmp_path / "serve.yaml"
    config.write_text((Path(__file__).parents[3] / "serve_config.yaml").read_text())
    write_config(plan, shared, config)
    args = load_config(config)
    assert {(stage.num_gpus, stage.replicas, stage.pool) for stage in args.stages.values()} == {(0.25, 1, "box")}
    assert args.scaling is None
    small = PoolFile(pools=(pool("box", 3.0, 1, **{**one, "gib": 32.0}, time_shared=True),))
    with pytest.raises(GoalError, match="take turns"):  # 35 GiB
        make_plan(Goal(0.005, 300.0), small, profile)


def test_memory_is_not_tied_to_the_share_of_a_gpu() -> None:
    devices = {"a": {**dict.fromkeys(STAGE_NAMES, stage(4.0, gib=20.0)), "vfi": stage(4.0, gib=30.0)}}
    shares = pool("a", 1.0, fraction={"t2i": 0.8, "vfi": 0.2}, gib=100.0)
    profile = profile_of(devices)
    assert fits("t2i", shares, profile)
    assert not fits("vfi", shares, profile)  # five of them on a GPU take 150 GiB
    assert fits("vfi", shares.model_copy(update={"gib": 150.0}), profile)  # a fifth of it is 30 GiB
    halves = pool("a", 1.0, fraction={"t2i": 0.6, "vfi": 0.4}, gib=65.0)
    assert fits("vfi", halves, profile)  # 26 GiB by its share; two of them, or one and T2I, take 60 and 50


def test_spot_is_taken_where_it_is_cheaper_in_spite_of_its_interruptions() -> None:
    profile = profile_of({name: dict.fromkeys(STAGE_NAMES, stage(4.0)) for name in "ab"})
    for price, often, taken in ((0.3, 0.5, "b"), (0.3, 30.0, "a"), (1.2, 0.5, "a")):
        spot = pool("b", price, spot={"interruptions_per_hour": often}, fallback="a")
        plan = make_plan(Goal(0.02, 100.0), PoolFile(pools=(pool("a", 1.0), spot)), profile)
        assert {choice.pool for choice in plan.choices} == {taken}


def test_few_videos_are_cheapest_where_v2v_lives_in_i2vs_replicas(tmp_path: Path) -> None:
    profile = profile_of({"a": dict.fromkeys(STAGE_NAMES, stage(4.0))})
    own, shared = (
        PoolFile(pools=(pool("a", 1.0, 8, gpus_per_node=1, **home),)) for home in ({}, {"lives_with": {"v2v": "i2v"}})
    )
    apart, together = (make_plan(Goal(0.02, 100.0), file, profile) for file in (own, shared))
    assert (apart.gpus, together.gpus) == (4, 3)
    assert (apart.layout, together.layout) == ("apart", "together")
    tight = profile_of({"a": {**dict.fromkeys(STAGE_NAMES, stage(4.0)), "v2v": stage(4.0, gib=75.0)}})
    assert make_plan(Goal(0.02, 100.0), shared, tight).layout == "apart"  # both do not fit one GPU
    config = tmp_path / "serve.yaml"
    config.write_text((Path(__file__).parents[3] / "serve_config.yaml").read_text())
    write_config(together, shared, config)
    stages = load_config(config).stages
    assert stages["v2v"].lives_with == "i2v"
    assert stages["i2v"].replicas == 1
    write_config(apart, own, config)
    assert load_config(config).stages["v2v"].lives_with is None


def test_six_kinds_of_gpus_and_a_thousand_of_them() -> None:
    draw = random.Random(7)
    devices: dict[str, dict[StageName, StageProfile]] = {
        f"g{n}": {own: stage(draw.uniform(5, 60), calls=2 if own == "v2v" else 1) for own in STAGE_NAMES}
        for n in range(6)
    }
    file = PoolFile(pools=tuple(pool(name, draw.uniform(0.5, 4), nodes=42) for name in devices))
    plan = make_plan(Goal(5.0, 200.0), file, profile_of(devices))
    assert plan.p95_s <= 200
    assert sum(own.gpus_max for own in file.pools) > 1000
    assert plan.looked_at < plan.possible / 1000


def test_one_replica_fewer_breaks_the_goal() -> None:
    profile = load_profile("paper-estimate", "paper")
    single = [own.model_copy(update={"gpus_per_node": 1, "nodes": Nodes(max=64)}) for own in load_pools(POOLS).pools]
    file = PoolFile(pools=tuple(single))
    plan = make_plan(Goal(0.1, 300.0), file, profile)
    cheaper = [n for n in neighbours(plan, file) if n.saving_per_hour > 0]
    assert cheaper
    assert all(n.p95_s > 300.0 for n in cheaper)


def test_what_cannot_be_held_names_the_stage_and_the_nearest_goal() -> None:
    file = PoolFile(pools=(pool("a", 1.0, nodes=1),))
    profile = profile_of({"a": {name: stage(20.0 if name == "v2v" else 1.0) for name in STAGE_NAMES}})
    with pytest.raises(GoalError, match=r"p95 of 10 s cannot be held.*v2v.*nearest p95 is 2\d"):
        make_plan(Goal(0.01, 10.0), file, profile)
    with pytest.raises(GoalError, match=r"Stage v2v cannot carry 5 jobs.*4 replicas.*nearest rate is 0\.1"):
        make_plan(Goal(5.0, 100.0), file, profile)
    with pytest.raises(GoalError, match=r"more GPUs than there are.*v2v.*nearest rate at this p95 is 0\.0"):
        make_plan(Goal(0.12, 60.0), file, profile)
    small = PoolFile(pools=(pool("a", 1.0, gib=8.0),))
    with pytest.raises(GoalError, match=r"8 GiB a replica and it needs 10.*more memory"):
        make_plan(Goal(0.1, 100.0), small, profile)
    for rate, p95 in ((0.0, 10.0), (1.0, -1.0)):
        with pytest.raises(GoalError, match="must be above 0"):
            Goal(rate, p95)


def test_a_monolith_is_said_to_be_as_good_where_it_is() -> None:
    goal = Goal(0.5, 60.0)
    same = profile_of({"a": {name: stage(4.0) for name in STAGE_NAMES}})
    file = PoolFile(pools=(pool("a", 1.0, nodes=32, gpus_per_node=1),))
    monolith = make_monolith(goal, file, same, offload=False)
    assert monolith is not None
    said = judge(make_plan(goal, file, same), [monolith], file)
    assert "is cheaper" in said
    assert "`monolith: true` in pool a lets the plan be that" in said
    cheap: dict[StageName, StageProfile] = {name: stage(4.0, gib=2.0) for name in STAGE_NAMES}
    dear = PoolFile(pools=(pool("a", 10.0, nodes=8), pool("b", 0.1, nodes=8, stages=("vfi",), gib=16.0)))
    plan = make_plan(goal, dear, profile_of({"a": dict(same.accelerators["a"].stages), "b": cheap}))
    assert "times as much" in judge(plan, [Monolith("a", 20, False, 200.0, 50.0)], dear)
    assert "None" not in judge(plan, [], dear)


def test_a_stage_on_part_of_a_gpu_costs_that_part_and_is_slower() -> None:
    profile = profile_of({"a": {name: stage(2.0, gib=5.0) for name in STAGE_NAMES}})
    halves = PoolFile(pools=(pool("a", 1.0, fraction={"vfi": 0.5}),))
    plan = make_plan(Goal(0.05, 100.0), halves, profile)
    vfi = next(choice for choice in plan.choices if choice.stage == "vfi")
    assert (vfi.gpus, vfi.station.service_s, vfi.cost_per_hour) == (0.5, 4.0, 0.5)
    own = profile.on("a").stages["vfi"].model_copy(update={"encode_s": 3.0})
    assert own.on_share(0.5).call_s() == 2 * own.call_s() - 3.0  # encoding needs no GPU


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("gpus_per_node: 0", "pool p: gpus_per_node: .*greater than or equal to 1"),
        ("nodes: {min: 3, max: 2}", "pool p: nodes: nodes.min is 3, above nodes.max, which is 2"),
        ("stages: [t2i, zzz]", "pool p: stages.1"),
        ("stages: [t2i]", "no pool takes the stage i2v"),
        ("gang: {v2v: 2}", "pool p: gang: Extra inputs"),
        ("price_per_hour: .inf", "price_per_hour: .*finite"),
        ("gib: .nan", "gib: .*finite"),
        ("fallback: q", "p.fallback is 'q'; there is no other pool, so leave it out"),
        ("gib: ", r"pool p: gib is missing; write it as in cluster/pools\.yaml"),
        ("spot: {interruptions_per_hour: 0}", "spot.interruptions_per_hour: .*greater than 0"),
        ("fraction: {vfi: 1.5}", "fraction.vfi is 1.5"),
        ("lives_with: {vfi: t2i}", "lives_with.vfi is t2i; v2v alone can live with another, i2v"),
        ("colour: red", "pool p: colour: Extra inputs"),
    ],
)
def test_a_pools_file_that_cannot_be_meant_is_refused(tmp_path: Path, change: str, said: str) -> None:
    whole = {
        "name": "p",
        "accelerator": "H100",
        "gib": "80",
        "gpus_per_node": "4",
        "nodes": "{min: 0, max: 2}",
        "price_per_hour": "1",
        "stages": "[t2i, i2v, v2v, vfi]",
    }
    key, _, value = change.partition(": ")
    lines = [f"{name}: {text}" for name, text in {**whole, key: value}.items() if text]
    path = tmp_path / "pools.yaml"
    path.write_text("pools:\n  - " + "\n    ".join(lines) + "\n")
    with pytest.raises(PoolFileError, match=said):
        load_pools(path)


def test_profiles_are_fitted_and_refused() -> None:
    calls = [
        {"steps": steps, "frames": 1, "pixels": 4, "bytes_out": 9, "seconds": [1 + 0.5 * steps] * 3} for steps in (2, 4)
    ]
    one = {"load_s": 3.0, "gib": 1.0, "calls": calls}
    document = {
        "preset": "tiny", "device": "cpu", "machine": "x", "date": "2026-01-01", "libraries": {}, "threads": 1,
        "stages": {**dict.fromkeys(STAGE_NAMES, one), "vfi": {**one, "encode_s": 2.0}},
    }  # fmt: skip
    made = fitted(document, accelerator="cpu", gib=24.0, calls={"v2v": 2})
    own = made.on("cpu").stages["v2v"]
    assert (own.fixed_s, own.step_s) == pytest.approx((1.0, 0.5))
    assert (own.cv, own.calls) == (0.0, 2)
    assert own.call_s(steps=8) == pytest.approx(5.0)
    assert own.job_s == pytest.approx(6.0)
    assert (own.batch, own.batch_s) == (1, None)
    assert made.on("cpu").stages["vfi"].call_s(steps=4, pixels=8) == pytest.approx(1 + 2 * (4 * 0.5 + 2))  # encoded
    with pytest.raises(ProfileError, match="made for preset 'paper', not 'tiny'"):
        load_profile("paper-estimate", "tiny")
    with pytest.raises(ProfileError, match=r"no profile 'nothing'.*cpu-tiny"):
        load_profile("nothing")
    with pytest.raises(ProfileError, match=r"no accelerator 'B200'.*A100"):
        load_profile("paper-estimate").on("B200")
    assert load_profile("paper-estimate").kind == "estimate"
    assert load_profile("cpu-tiny", "tiny").kind == "measured"


@pytest.mark.parametrize(
    ("shares", "best"),
    [({1: 1.0, 2: 0.97, 4: 0.96}, 1), ({1: 1.0, 2: 0.8, 4: 0.9}, 2), ({1: 1.0, 2: 0.8, 4: 0.5}, 4), ({}, 1)],
)
def test_the_best_batch_is_the_one_whose_share_is_least_if_it_is_worth_it(shares: dict[int, float], best: int) -> None:
    busy = (1.0, 7.0, 2.0)  # how much slower the machine was in each round
    batches = [{"batch": n, "seconds": [n * share * slow for slow in busy]} for n, share in shares.items()]
    call = {"steps": 1, "frames": 1, "pixels": 4, "bytes_out": 9, "seconds": [2.0] * 3}
    one = {"load_s": 3.0, "gib": 1.0, "calls": [call], "batches": batches}
    document = {"preset": "tiny", "device": "cpu", "machine": "x", "date": "2026-01-01", "libraries": {}, "threads": 1}
    stages = {"stages": {**{name: {**one, "batches": []} for name in STAGE_NAMES}, "t2i": one}}
    own = fitted({**document, **stages}, accelerator="cpu", gib=24.0, calls={}).on("cpu").stages["t2i"]
    assert own.batch == best
    assert own.job_s == pytest.approx(2.0 * (shares[best] if best > 1 else 1.0))
    assert own.stay_s == pytest.approx(2.0 * (shares[best] * best if best > 1 else 1.0))


def test_a_batch_needs_fewer_replicas_and_is_written_with_them(tmp_path: Path) -> None:
    t2i = stage(10.0)
    batched = StageProfile.model_validate({**t2i.model_dump(), "batch": 4, "batch_s": 16.0})
    rest: dict[StageName, StageProfile] = dict.fromkeys(STAGE_NAMES, stage(1.0))
    file, goal = PoolFile(pools=(pool("A", 1.0, nodes=20),)), Goal(1.0, 60.0)
    plans = [make_plan(goal, file, profile_of({"A": {**rest, "t2i": own}})) for own in (t2i, batched)]
    first, second = (plan.choices[0] for plan in plans)
    assert second.replicas < first.replicas / 2
    assert (first.batch, second.batch, second.station.service_s, second.station.stay_s) == (1, 4, 4.0, 16.0)
    assert plans[1].p95_s > 16.0  # a job waits for the whole of its batch
    config = tmp_path / "serve.yaml"
    config.write_text((Path(__file__).parents[3] / "serve_config.yaml").read_text())
    write_config(plans[1], file, config)
    assert "size: 4" in config.read_text()
    with pytest.raises(ValueError, match="batch is 4 and batch_s None: give both"):
        StageProfile.model_validate({**t2i.model_dump(), "batch": 4})


def test_the_command_says_it_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "serve.yaml"
    config.write_text((Path(__file__).parents[3] / "serve_config.yaml").read_text())
    goal = ["--rate", "6/min", "--p95", "300"]
    assert main(["plan", *goal, "--json", "--write", str(config)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["goal"]["rate_per_s"], said["goal"]["p95_s"]) == (0.1, 300.0)
    assert said["profile"]["kind"] == "estimate"
    text = config.read_text()
    assert "# the dearest" in text
    assert "# With several nodes" in text
    assert 'autoscaling_policy: {policy_function: "cluster.policy.autoscaler:Scaler"}  # looks ahead' in text
    before, after = load_config(), load_config(config)
    assert after.scaling == before.scaling
    for name, planned in said["stages"].items():
        bounds = after.stages[name].autoscaling
        assert bounds is not None
        assert bounds.min_replicas <= planned["replicas"] < bounds.max_replicas
        assert after.stages[name].pool == planned["pool"]
    changed = set(text.splitlines()) ^ set(CONFIG_PATH.read_text().splitlines())
    assert all(re.search(r"^ +(pool|num_[gc]pus|autoscaling):", line) for line in changed)  # else not a comma moved
    assert main(["plan", "--rate", "60/min", "--p95", "300", "--json", "--formulas", "--write", str(config)]) == 0
    dearer = json.loads(capsys.readouterr().out)
    raised = load_config(config).scaling
    assert raised is not None
    assert raised.budget_gpus is not None
    assert raised.budget_gpus >= dearer["gpus"] > 24
    assert main(["plan", *goal, "--formulas"]) == 0
    shown = capsys.readouterr().out
    assert "ESTIMATE" in shown
    assert "Optimal by the formulas: " in shown
    assert "USD an hour" in shown
    assert "Next: the same with --write serve_config.yaml, then `python -m cluster render" in shown
    assert main(["plan", "--rate", "1/s", "--p95", "1"]) == 2
    assert "nearest p95" in capsys.readouterr().err
    assert main(["plan", "--rate", "often", "--p95", "1"]) == 2
    assert "0.5/s, 12/min or 300/h" in capsys.readouterr().err


def test_rates_are_read() -> None:
    assert [parse_rate(text) for text in ("0.5/s", "0.5", "30/min", "1800/h")] == [0.5, 0.5, 0.5, 0.5]
