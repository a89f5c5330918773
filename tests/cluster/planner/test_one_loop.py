"""Kinds of jobs, budgets, unknown GPUs, several pools, shared replicas; the twin's word; and that all can be served."""

import json
from pathlib import Path

import pytest
import yaml

from benchmarks.lab.planner import profile_of, stage
from cluster.__main__ import main
from cluster.manifests.command import render
from cluster.manifests.site import SiteError
from cluster.planner.accelerators import parse_gpu, with_gpu
from cluster.planner.budget import judge_budget, within
from cluster.planner.kinds import Kind, parse_kinds, parse_money, station, stay
from cluster.planner.options import HOSTS, Goal, GoalError, options_of
from cluster.planner.profiles import load_profile
from cluster.planner.refine import Seen, look, refine, scenario_of, see
from cluster.planner.search import Plan, bills_of, make_plan
from cluster.planner.writing import write_config
from cluster.pools.file import GpuPool, Nodes, PoolFile, load_pools
from deployments.app import build
from deployments.on_ray.health import stage_needs
from deployments.settings.reading import CONFIG_PATH, load_config
from stages.types import STAGE_NAMES

PAPER = load_profile("paper-estimate", "paper")


def pool(name: str, price: float, most: int = 4, **more: object) -> GpuPool:
    given = {"gib": 80.0, "gpus_per_node": 4, "stages": STAGE_NAMES, "nodes": Nodes(max=most), "accelerator": name}
    return GpuPool.model_validate({"name": name, "price_per_hour": price, **given, **more})


def written(plan: Plan, file: PoolFile, folder: Path) -> Path:
    config = folder / "serve.yaml"
    config.write_text(CONFIG_PATH.read_text())
    write_config(plan, file, config)
    return config


# Kinds of jobs


def test_kinds_have_their_own_seconds_and_share_the_queue() -> None:
    rate, kinds = parse_kinds(["4/min", "2/min,until=t2i", "1/min,seconds=8,from=i2v"], "paper")
    assert rate == pytest.approx(7 / 60)
    assert [round(kind.share * 7, 9) for kind in kinds] == [4, 2, 1]
    assert [kind.path for kind in kinds] == [STAGE_NAMES, ("t2i",), STAGE_NAMES[1:]]
    own = PAPER.on("H100").stages["i2v"]
    first, longer = stay(kinds[0], "i2v", own), stay(kinds[2], "i2v", own)
    assert longer.job_s > 1.5 * first.job_s  # twice the frames
    made = station(rate, kinds, [("i2v", own, 1.0)], spread=True)
    assert made.rate == pytest.approx(5 / 60)  # pictures end before
    assert made.service_s == pytest.approx((4 * first.job_s + longer.job_s) / 5)
    assert [visit is None for visit in made.visits] == [False, True, False]
    assert made.cv > first.cv  # of two lengths


def test_one_kind_is_what_the_profile_says() -> None:
    own = PAPER.on("A100").stages["v2v"]
    made = station(0.1, (Kind(),), [("v2v", own, 2.0)], spread=True)
    assert (made.rate, made.service_s, made.parts, made.stay_s, made.visits) == (
        0.1,
        2 * own.job_s,
        own.calls,
        None,
        (),
    )


def test_pictures_alone_need_less_of_the_stages_behind_them() -> None:
    file = PoolFile(pools=(pool("H100", 1.0, 32, gpus_per_node=1),))
    whole = make_plan(Goal(0.5, 300.0), file, PAPER)
    most_end = make_plan(Goal(0.5, 300.0, (Kind(0.3), Kind(0.7, ("t2i",)))), file, PAPER)
    assert most_end.gpus < 0.6 * whole.gpus
    assert most_end.choices[0].replicas == whole.choices[0].replicas


# Several pools


def test_a_stage_goes_on_in_the_fallback_once_its_pool_is_full() -> None:
    profile = profile_of({name: dict.fromkeys(STAGE_NAMES, stage(4.0)) for name in ("kept", "spot")})
    kept = pool("kept", 1.0, stages=("v2v",), gpus_per_node=2, fallback="spot", nodes=Nodes(min=1, max=1))
    spot = pool("spot", 0.5, 40, gpus_per_node=1, spot={"interruptions_per_hour": 0.1})
    file = PoolFile(pools=(kept, spot))
    plan = make_plan(Goal(0.9, 60.0), file, profile)
    v2v = next(choice for choice in plan.choices if choice.stage == "v2v")
    assert v2v.places == (("kept", 2), ("spot", v2v.replicas - 2))
    assert v2v.spilled > 0
    assert plan.bills == bills_of(plan.choices, file)
    scenario = scenario_of(plan, file, profile)
    assert scenario.pools["v2v"].on == ("kept", "spot")
    assert scenario.nodes["spot"].life_s == 36_000
    assert see(plan, file, profile).p95_s < 60.0


def test_replicas_on_slower_nodes_take_longer_in_the_twin() -> None:
    fast, slow = (dict.fromkeys(STAGE_NAMES, stage(seconds)) for seconds in (2.0, 6.0))
    profile = profile_of({"kept": fast, "spot": slow})
    kept = pool("kept", 1.0, stages=("v2v",), gpus_per_node=1, nodes=Nodes(max=1), fallback="spot")
    file = PoolFile(pools=(kept, pool("spot", 0.5, 40, gpus_per_node=1)))
    plan = make_plan(Goal(0.55, 100.0), file, profile)
    assert scenario_of(plan, file, profile).pools["v2v"].slower == {"spot": 3.0}


# Layouts that the server has


LAYOUTS: dict[str, dict[str, object]] = {
    "together": {"lives_with": {"v2v": "i2v"}},
    "shared": {"time_shared": True, "gib": 200.0},
    "monolith": {"monolith": True},
    "offload": {"monolith": True, "gib": 20.0},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_a_plan_is_rendered_and_built(layout: str, tmp_path: Path) -> None:
    h100 = {"accelerator": "H100", "gpus_per_node": 1, **LAYOUTS[layout]}
    file = PoolFile(pools=(pool("big", 3.0, 4, **h100),))
    goal = Goal(0.005, 900.0)
    plan = make_plan(goal, file, PAPER)
    assert plan.layout == layout
    config = written(plan, file, tmp_path)
    args = load_config(config)
    assert {name: args.stages[name].lives_with for name in STAGE_NAMES} == {
        name: HOSTS[plan.layout].get(name) if layout != "shared" else None for name in STAGE_NAMES
    }
    files, site = render(file, config.read_text(), image_name="magicvideo:1")
    assert [group.name for group in site.groups] == ["big"]
    assert yaml.safe_load(files["serve_config.yaml"])["applications"][0]["args"]["stages"] is not None
    build(args)
    needs = [need for need in stage_needs(args) if need.stage]
    for resource, most in (("GPU", 1.0), ("CPU", 14.0)):  # of a node
        used = sum(need.replicas * need.resources[resource] for need in needs)
        assert used <= most * sum(bill.nodes for bill in plan.bills)
    assert args.stages["i2v"].speed.get("offload") == {"monolith": "none", "offload": "model"}.get(layout)
    apart = PoolFile(pools=(pool("big", 3.0, 4, accelerator="H100", gpus_per_node=1),))
    write_config(make_plan(goal, apart, PAPER), apart, config)
    again = load_config(config)
    assert all(own.lives_with is None and not own.speed.get("offload") for own in again.stages.values())


def test_a_monolith_is_one_deployment_of_four_stages(tmp_path: Path) -> None:
    file = PoolFile(pools=(pool("big", 3.0, 4, accelerator="H100", monolith=True, gpus_per_node=1),))
    plan = make_plan(Goal(0.02, 900.0), file, PAPER)
    args = load_config(written(plan, file, tmp_path))
    handles = build(args)._bound_deployment.init_args[1]._bound_deployment.init_kwargs
    assert len({id(handles[name]) for name in STAGE_NAMES}) == 1
    replica = handles["i2v"]._bound_deployment.init_kwargs
    assert set(replica["guests"]) == {"t2i", "v2v", "vfi"}
    assert replica["finished"] == "vfi"
    assert replica["finisher"].endswith("Mp4Finisher")
    assert [need.stage for need in stage_needs(args) if need.stage] == ["i2v"]


def test_shares_of_a_gpu_leave_each_replica_its_share_of_the_cpus(tmp_path: Path) -> None:
    parts = {"t2i": 0.7, "vfi": 0.3}
    file = PoolFile(pools=(pool("big", 3.0, 2, accelerator="H100", gpus_per_node=8, fraction=parts),))
    plan = make_plan(Goal(0.1, 900.0), file, PAPER)
    config = written(plan, file, tmp_path)
    stages = load_config(config).stages
    assert (stages["t2i"].num_gpus, stages["vfi"].num_gpus) == (0.7, 0.3)
    assert stages["vfi"].num_cpus == 7  # of 190 / 8 CPUs a GPU; the config asks for 8
    render(file, config.read_text(), image_name="magicvideo:1")


def test_a_fallback_is_written_rendered_and_asked_of_ray(tmp_path: Path) -> None:
    sure = pool("sure", 3.0, 2, accelerator="H100", gpus_per_node=8)
    spot = pool("spot", 1.0, 2, accelerator="H100", gpus_per_node=8, fallback="sure")
    file = PoolFile(pools=(sure, spot.model_copy(update={"spot": parse_spot()})))
    plan = make_plan(Goal(0.05, 900.0), file, PAPER)
    assert {choice.pool for choice in plan.choices} == {"spot"}
    config = written(plan, file, tmp_path)
    args = load_config(config)
    assert args.stages["v2v"].fallback_pool == "sure"
    handles = build(args)._bound_deployment.init_args[1]._bound_deployment.init_kwargs
    options = handles["v2v"]._bound_deployment.ray_actor_options
    assert options["label_selector"] == {"pool": "spot"}
    assert options["fallback_strategy"] == [{"label_selector": {"pool": "sure"}}]
    files, _ = render(file, config.read_text(), image_name="magicvideo:1")
    service = yaml.safe_load(files["kubernetes/rayservice.yaml"])
    groups = {own["groupName"]: own for own in service["spec"]["rayClusterConfig"]["workerGroupSpecs"]}
    assert {"sure", "spot"} <= set(groups)
    pods = {name: groups[name]["template"]["spec"] for name in ("sure", "spot")}
    assert pods["spot"]["terminationGracePeriodSeconds"] == 90
    assert pods["sure"]["terminationGracePeriodSeconds"] > 1000
    keys = {name: {own["key"] for own in spec["tolerations"]} for name, spec in pods.items()}
    assert "cloud.google.com/gke-spot" in keys["spot"] - keys["sure"]
    types = yaml.safe_load(files["ray-up-aws.yaml"])["available_node_types"]
    market = {name: types[name]["node_config"].get("InstanceMarketOptions") for name in ("sure", "spot")}
    assert market == {"sure": None, "spot": {"MarketType": "spot"}}
    with pytest.raises(SiteError, match="pool=gone"):
        render(file, config.read_text().replace("fallback_pool: sure", "fallback_pool: gone"), image_name="m:1")


def parse_spot() -> object:
    return GpuPool.model_validate(
        {**pool("x", 1.0).model_dump(), "spot": {"interruptions_per_hour": 0.2, "notice_s": 90}}
    ).spot


# The twin's word


def test_the_twin_holds_the_goal_with_no_more_than_the_formulas_buy() -> None:
    file = PoolFile(pools=(pool("H100", 3.0, 64, gpus_per_node=1),))
    plan = make_plan(Goal(0.2, 150.0), file, PAPER)
    found = refine(plan, file, PAPER)
    assert found.p95_s <= 150.0
    assert found.plan.cost_per_hour <= found.bought_by_formulas == plan.cost_per_hour
    assert look(found.plan, file, PAPER)[0] == found.p95_s  # the same plan gives the same runs


def test_a_plan_that_the_twin_does_not_hold_is_bought_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    file = PoolFile(pools=(pool("H100", 3.0, 64, gpus_per_node=1),))
    plan = make_plan(Goal(0.2, 200.0), file, PAPER)

    def slower(own: Plan, *_: object) -> tuple[float, dict[str, float], int]:
        seen_s = 190.0 if own.gpus > plan.gpus else 210.0
        return seen_s, {"": seen_s}, 1500

    monkeypatch.setattr("cluster.planner.refine.look", slower)
    found = refine(plan, file, PAPER)
    assert (found.p95_s, found.plan.gpus > plan.gpus, found.plan.goal.p95_s) == (190.0, True, 200.0)


def test_shared_replicas_are_one_station_of_the_twin() -> None:
    file = PoolFile(pools=(pool("H100", 3.0, 4, monolith=True, gpus_per_node=1),))
    plan = make_plan(Goal(0.02, 900.0, (Kind(0.5), Kind(0.5, ("t2i",)))), file, PAPER)
    scenario = scenario_of(plan, file, PAPER)
    name = "t2i+i2v+v2v+vfi"
    assert list(scenario.stages) == [name]
    whole, still = (scenario.kinds[kind][name] for kind in ("1", "2"))
    assert whole == pytest.approx(1.0)
    alone = PAPER.on("H100").stages
    assert still == pytest.approx(alone["t2i"].job_s / sum(alone[own].job_s for own in STAGE_NAMES))
    found: Seen = see(plan, file, PAPER)
    assert found.by_kind["2"] < found.by_kind["1"]


# Money


def test_a_budget_buys_the_least_p95_within_it() -> None:
    file = PoolFile(pools=(pool("H100", 3.0, 64, gpus_per_node=1),))
    goal = Goal(0.1, 1.0)
    for budget in (30.0, 45.0, 90.0):
        plan = within(budget, goal, file, PAPER)
        assert plan.cost_per_hour <= budget
        with pytest.raises(GoalError, match=r"above --budget|cannot be held"):
            judge_budget(budget, make_plan(Goal(0.1, 0.97 * plan.p95_s), file, PAPER), file, PAPER)
    with pytest.raises(GoalError, match=r"--budget 13 an hour is too little: .*nearest rate is 0\.0\d+ .*raise it to"):
        within(13.0, goal, file, PAPER)
    stands = PoolFile(pools=(pool("H100", 3.0, 4, gpus_per_node=8, nodes=Nodes(min=1, max=4)),))
    with pytest.raises(GoalError, match=r"below 24\.00 an hour, which the nodes that always stand"):
        within(20.0, goal, stands, PAPER)


# An accelerator by its data sheet


def test_an_unknown_accelerator_is_as_fast_as_the_slower_of_its_two_numbers() -> None:
    name, sheet = parse_gpu("B200=1978.8,3350,180")
    device = with_gpu(PAPER, name, sheet).on("B200")
    assert (device.gib, device.stages["v2v"].step_s) == (180.0, PAPER.on("H100").stages["v2v"].step_s)  # memory binds
    twice = with_gpu(PAPER, *parse_gpu("B200=1978.8,6700,180")).on("B200")
    assert twice.stages["v2v"].step_s == pytest.approx(PAPER.on("H100").stages["v2v"].step_s / 2)
    with pytest.raises(GoalError, match="--gpu names H100, which the profile of preset paper has"):
        with_gpu(PAPER, *parse_gpu("H100=1,1,1"))
    with pytest.raises(GoalError, match="cannot be compared: the profile of preset tiny has cpu"):
        with_gpu(load_profile("cpu-tiny"), *parse_gpu("B200=1,1,1"))


# What a stranger may write


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rate", "0/min", "--p95", "60"], "--rate is '0/min'; it must be above 0"),
        (["--rate=-1/s", "--p95", "60"], "--rate is '-1/s'; it must be above 0"),
        (["--rate", "nan/s", "--p95", "60"], "--rate is 'nan/s'; it must be above 0"),
        (["--rate", "inf/s", "--p95", "60"], "--rate is 'inf/s'; it must be above 0"),
        (["--rate", "1e300/s", "--p95", "60"], "cannot carry 1e+300 jobs a second"),
        (["--rate", "1e-300/s", "--p95", "0"], "The p95 is 0 s; it must be above 0"),
        (["--rate", "1/min,till=t2i", "--p95", "60"], "'till=t2i' says nothing"),
        (["--rate", "1/min,until=t3i", "--p95", "60"], "until= names a stage, one of t2i, i2v, v2v, vfi"),
        (["--rate", "1/min,from=vfi,until=t2i", "--p95", "60"], "from=vfi comes after until=t2i"),
        (["--rate", "1/min,seconds=99", "--p95", "60"], "--rate: '99' seconds is not allowed with preset 'paper'"),
        (["--rate", "1/min,size=1x1", "--p95", "60"], "--rate: Size '1x1' is not allowed"),
        (["--rate", "1/min"], "Neither --p95 nor --budget is given"),
        (["--rate", "1/min", "--p95", "nan"], "The p95 is nan s; it must be above 0"),
        (["--rate", "1/min", "--budget", "0/h"], "--budget is '0/h'; it must be above 0"),
        (["--rate", "1/min", "--budget", "nan"], "--budget is 'nan'; it must be above 0"),
        (["--rate", "1/min", "--budget", "much"], "--budget is 'much'; write it like 50/h"),
        (["--rate", "1/min", "--budget", "0.01/h"], "--budget 0.01 an hour is too little"),
        (["--rate", "6/min", "--p95", "60", "--budget", "16/h"], "above --budget 16"),
        (["--rate", "1/min", "--p95", "60", "--gpu", "B200"], "--gpu is 'B200'; write it like B200=2250,8000,180"),
        (["--rate", "1/min", "--p95", "60", "--gpu", "B=1,nan,2"], "each above 0 and finite"),
        (["--rate", "1/min", "--p95", "60", "--gpu", "B=1,0,2"], "each above 0 and finite"),
        (["--rate", "1/min", "--p95", "60", "--gpu", "B=1,1,2"], "--gpu names B, but the pools of"),
        (["--rate", "1/min", "--p95", "60", "--plot", "-"], "A file is stdout, where the plan goes"),
        (["--rate", "1/min", "--p95", "60", "--preset", "huge"], "no profile of preset 'huge'"),
        (["--rate", "1/min", "--p95", "60", "--plot", "x.txt"], "x.txt ends in .txt"),
    ],
)
def test_what_cannot_be_planned_is_one_sentence(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *words, "--formulas"]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1


def test_the_command_draws_and_says_both_of_p95(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "plan.png"
    words = ["--rate", "4/min", "--rate", "2/min,until=t2i", "--p95", "400", "--plot", str(picture)]
    assert main(["plan", *words]) == 0
    said = capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "s by the formulas; " in said
    assert "s in the twin (" in said
    assert "By kind: " in said
    assert main(["plan", *words[:6], "--budget", "400/h", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["twin"]["p95_s"] <= 400.0
    assert document["currency"] == "USD"
    assert document["goal"]["budget_per_hour"] == 400.0
    assert main(["plan", *words[:4], "--budget", "20/h", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["cost_per_hour"] <= 20.0
    assert document["goal"]["p95_s"] >= document["twin"]["p95_s"]  # what the budget buys is what the twin saw


def test_sums_are_read() -> None:
    assert [parse_money(text) for text in ("50", "50/h", "1200/d")] == [50.0, 50.0, 50.0]


def test_what_brute_force_looks_at_has_every_layout() -> None:
    file = PoolFile(pools=(pool("H100", 3.0, 2, monolith=True, time_shared=True, lives_with={"v2v": "i2v"}),))
    for layout in HOSTS:
        assert all(options_of(Goal(0.01, 900.0), file, PAPER, layout=layout).values()) or layout == "shared"
    assert load_pools(Path("cluster/pools.yaml")).currency == "USD"
