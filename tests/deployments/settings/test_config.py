"""serve_config.yaml is what Ray Serve and our own types accept; the laptop's variant follows from it."""

from pathlib import Path

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from deployments.app import build
from deployments.errors import ConfigError
from deployments.on_ray.health import stage_needs
from deployments.settings.application import AppArgs
from deployments.settings.placement import Place, Placement
from deployments.settings.reading import (
    CONFIG_PATH,
    FORBIDDEN_ENV,
    check_environment,
    load_config,
    parse_args,
    with_environment,
)
from deployments.settings.variants import box, laptop, rehearsal
from stages.replay import ReplayProfile
from stages.types import STAGE_NAMES, StageName


def test_the_committed_file_is_a_serve_config_for_four_pools() -> None:
    schema = ServeDeploySchema.model_validate(yaml.safe_load(CONFIG_PATH.read_text()))
    assert [app.import_path for app in schema.applications] == ["deployments.app:build"]
    args = load_config()
    assert args.preset == "paper"
    assert {name: stage.pool for name, stage in args.stages.items()} == {name: name for name in STAGE_NAMES}
    for stage in args.stages.values():
        assert stage.autoscaling is not None
        assert stage.num_gpus > 0
        assert stage.max_ongoing_requests == 2
        assert stage.run_timeout_s >= stage.graceful_shutdown_timeout_s > stage.stall_limit_s / 2
    assert "runtime_env" not in schema.applications[0].model_dump(exclude_unset=True)
    policy = schema.applications[0].autoscaling_policy
    assert policy is not None
    assert policy["policy_function"] == "cluster.policy.autoscaler:Scaler"
    assert args.scaling is not None
    least = sum(stage.least_replicas * stage.num_gpus for stage in args.stages.values())
    assert args.scaling.budget_gpus is not None
    assert least <= args.scaling.budget_gpus


def test_the_graph_has_the_seven_deployments_with_the_options_of_the_file() -> None:
    graph = build(yaml.safe_load(CONFIG_PATH.read_text())["applications"][0]["args"])
    ingress = graph._bound_deployment
    pipeline = ingress.init_args[1]._bound_deployment
    stages = {name: app._bound_deployment for name, app in pipeline.init_kwargs.items()}
    assert (ingress.name, pipeline.name, tuple(stages)) == ("ingress", "pipeline", (*STAGE_NAMES, "keeper"))
    assert pipeline.max_ongoing_requests >= 1000
    assert stages.pop("keeper").name == "keeper"
    for name, stage in stages.items():
        assert stage.name == name
        assert stage.ray_actor_options["label_selector"] == {"pool": name}
        assert stage.max_ongoing_requests == 4  # two calls, and two words to it
        router = stage._deployment_config.request_router_config
        assert (router.initial_backoff_s, router.max_backoff_s) == (0.005, 0.02)
    assert stages["v2v"]._deployment_config.autoscaling_config.min_replicas == 2


def test_the_laptop_needs_no_gpu_no_pool_and_keeps_the_rest(tmp_path: Path) -> None:
    args = laptop(load_config(), data_dir=tmp_path, threads=2)
    assert (args.preset, args.router) == ("tiny", load_config().router)
    assert args.scaling is None  # fixed replicas: there is nothing to scale
    for stage in args.stages.values():
        assert (stage.pool, stage.num_gpus, stage.device) == (None, 0.0, "cpu")
        assert (stage.autoscaling, stage.least_replicas, stage.max_ongoing_requests) == (None, 1, 2)
    assert {name: stage.torch_threads for name, stage in args.stages.items()} == {
        "t2i": 2,
        "i2v": 2,
        "v2v": 1,
        "vfi": 1,
    }
    assert {args.device(name) for name in STAGE_NAMES} == {"cpu"}
    assert args.storage.artifacts_url == f"file://{tmp_path}/artifacts"
    assert args.stages["t2i"].run_timeout_s == load_config().stages["t2i"].run_timeout_s


def test_a_box_has_the_stages_where_they_were_placed(tmp_path: Path) -> None:
    places: dict[StageName, Place] = {
        "t2i": Place((0,), 8.0, "model"),
        "i2v": Place((1,), 30.0),
        "v2v": Place((1,), 0.0, lives_with="i2v"),
        "vfi": Place((0,), 2.0),
    }
    args = box(load_config(), Placement(places, share=0.5), data_dir=tmp_path, preset="paper", max_jobs=3)
    assert (args.preset, args.pipeline.max_jobs, args.scaling) == ("paper", 3, None)
    assert {name: (s.gpu, s.speed["offload"], s.num_gpus, s.device) for name, s in args.stages.items()} == {
        "t2i": ("0", "model", 0.5, "cuda"),
        "i2v": ("1", "none", 0.5, "cuda"),
        "v2v": ("1", "none", 0.5, "cuda"),
        "vfi": ("0", "none", 0.5, "cuda"),
    }
    assert [args.device(name) for name in STAGE_NAMES] == ["gpu 0", "gpu 1", "gpu 1", "gpu 0"]
    ingress = build(args)._bound_deployment
    made = ingress.init_args[1]._bound_deployment.init_kwargs
    first, second = made["t2i"]._bound_deployment, made["v2v"]._bound_deployment
    assert (first.init_kwargs["gpu"], first.init_kwargs["speeds"]) == ("0", {"t2i": {"offload": "model"}})
    assert (second.name, second.init_kwargs["gpu"], set(second.init_kwargs["guests"])) == ("i2v", "1", {"v2v"})
    assert first.ray_actor_options["num_gpus"] == 0.5


def test_a_box_leaves_to_ray_which_of_many_gpus_a_replica_gets(tmp_path: Path) -> None:
    places = {name: Place((number,), 8.0, chosen_by_ray=True) for number, name in enumerate(STAGE_NAMES)}
    places["v2v"] = Place((2, 4), 8.0, chosen_by_ray=True)
    args = box(load_config(), Placement(places, share=1.0), data_dir=tmp_path, preset="paper")
    v2v = args.stages["v2v"]
    assert (v2v.gpu, v2v.replicas, v2v.num_gpus, v2v.surge_percent) == (None, 2, 1.0, 0)
    assert v2v.run_timeout_s == load_config().stages["v2v"].run_timeout_s


def test_a_rehearsal_replaces_the_stages_alone(tmp_path: Path) -> None:
    args = laptop(load_config(), data_dir=tmp_path)
    played = rehearsal(args, {"v2v": ReplayProfile(run_s=9.0, steps=3)})
    assert played.factory("t2i") == "stages.replay:ReplayStage"
    assert played.stages["v2v"].options["run_s"] == 9.0
    assert played.stages["v2v"].options["stage"] == "v2v"
    assert (played.storage, played.pipeline) == (args.storage, args.pipeline)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"preset": "huge"}, ("preset", "'huge'", "tiny, paper")),
        ({"stages": {"t2i": {"replicas": -1}}}, ("stages.t2i.replicas", "-1")),
        ({"stages": {"upscale": {}}}, ("stages.upscale", "t2i")),
        ({"stages": {"t2i": {"gpus": 1}}}, ("stages.t2i.gpus", "not permitted")),
        ({"stages": {"i2v": {"autoscaling": {"min_replicas": 3, "max_replicas": 2}}}}, ("min_replicas 3", "2")),
        ({"stages": {"t2i": {"batch": {"size": 0}}}}, ("stages.t2i.batch.size", "greater than or equal to 1", "0")),
        ({"stages": {"t2i": {"batch": {"wait_s": -1}}}}, ("stages.t2i.batch.wait_s", "-1")),
        ({"stages": {"v2v": {"batch": {"size": 2}}}}, ("v2v.batch.size is 2", "t2i alone")),
        ({"stages": {"vfi": {"lives_with": "vfi"}}}, ("vfi.lives_with is vfi", "no replicas of its own")),
        ({"stages": {"vfi": {"lives_with": "v2v"}, "v2v": {"lives_with": "i2v"}}}, ("vfi.lives_with is v2v",)),
        ({"stages": {"t2i": {"lives_with": "i2v", "batch": {"size": 2}}}}, ("a batch of 2", "leave out its batch")),
        ({"stages": {"v2v": {"pool": "a", "fallback_pool": "a"}}}, ("v2v.fallback_pool is a", "name two pools")),
        ({"stages": {"v2v": {"fallback_pool": "a"}}}, ("v2v.fallback_pool is a and its pool None",)),
        ({"stages": {"v2v": {"lives_with": "i2v"}}, "scaling": {}}, ("v2v.lives_with is i2v", "leave out one")),
        (
            {"stages": {"v2v": {"lives_with": "i2v", "autoscaling": {"min_replicas": 1, "max_replicas": 2}}}},
            ("v2v lives with i2v", "leave out stages.v2v.autoscaling"),
        ),
        ({"stages": {"v2v": {"offload": "model"}}}, ("stages.v2v", "write speed: {offload: model}")),
        ({"stages": {"v2v": {"speed": {"turbo": 1}}}}, ("stages.v2v.speed has 'turbo'", "choose from offload")),
        ({"stages": {"v2v": {"speed": {"gpus": "two"}}}}, ("stages.v2v", "speed.gpus is 'two'; it must be a whole")),
        ({"stages": {"v2v": {"speed": "fast"}}}, ("stages.v2v.speed", "valid dictionary", "'fast'")),
        ({"stages": {"v2v": {"speed": {"cache": "mag"}}}}, ("stages.v2v.speed: cache is 'mag'", "mag_ratios has 0")),
        ({"stages": {"v2v": {"speed": {"compile": True}}}}, ("speed of v2v: compile is True", "built-in network")),
        (
            {"preset": "modern", "stages": {"i2v": {"num_gpus": 2}}},
            ("stages.i2v", "num_gpus is 2, of which 1 would compute: set it to 1, or speed.gpus to 2"),
        ),
        (
            {"preset": "modern", "stages": {"i2v": {"num_gpus": 1, "speed": {"gpus": 4, "offload": "none"}}}},
            ("speed.gpus is 4, and num_gpus is 1: set num_gpus to 4",),
        ),
        (
            {"preset": "modern", "stages": {"i2v": {"num_gpus": 2, "speed": {"gpus": 2}}}},
            ("stages.i2v.speed: gpus is 2 and offload is 'model'; several GPUs",),
        ),
        ({"pipeline": {"max_jobs": 0}}, ("pipeline.max_jobs", "0")),
        ({"external_scaler": True, "scaling": {}}, ("external_scaler excludes", "it has scaling")),
        (
            {
                "stages": {"v2v": {"num_gpus": 1, "autoscaling": {"min_replicas": 6, "max_replicas": 7}}},
                "scaling": {"budget_gpus": 5},
            },
            ("budget_gpus is 5", "take 6 GPUs", "raise it to 6"),
        ),
    ],
)
def test_arguments_that_cannot_be_served_are_named_with_their_value(args: dict[str, object], words: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_args(args)
    assert all(word in str(refused.value) for word in words)


@pytest.mark.parametrize("text", ["applications: []", "just words", "{", "applications: [{import_path: other:app}]"])
def test_a_file_without_our_application_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"serve\.yaml"):
        load_config(path)
    with pytest.raises(ConfigError, match=r"absent\.yaml cannot be read"):
        load_config(tmp_path / "absent.yaml")


@pytest.mark.parametrize("name", FORBIDDEN_ENV)
def test_settings_that_would_send_frames_by_value_are_refused(name: str) -> None:
    check_environment({name: "0"})
    with pytest.raises(ConfigError, match=f"{name}=1 makes"):
        check_environment({name: "1"})


def test_a_replica_admits_a_batch_on_its_device_and_one_behind_it(tmp_path: Path) -> None:
    args = laptop(load_config(), data_dir=tmp_path)
    assert {stage.batch.size for stage in args.stages.values()} == {1}  # off unless somebody turns it on
    batched = args.model_dump()
    batched["stages"]["t2i"]["batch"] = {"size": 4, "wait_s": 0.5}
    batched["stages"]["t2i"]["autoscaling"] = {"min_replicas": 1, "max_replicas": 3, "target_ongoing_requests": 1.5}
    pipeline = build(parse_args(batched))._bound_deployment.init_args[1]
    found = pipeline._bound_deployment.init_kwargs["t2i"]._bound_deployment
    assert found.max_ongoing_requests == 8
    assert found._deployment_config.autoscaling_config.target_ongoing_requests == 6.0
    assert found.init_kwargs["batch"] == (4, 0.5)


def test_a_stage_that_lives_with_another_has_no_deployment_of_its_own() -> None:
    given = {"i2v": {"num_gpus": 1, "stall_limit_s": 100}, "v2v": {"lives_with": "i2v", "stall_limit_s": 300}}
    args = parse_args({"stages": given})
    pipeline = build(args)._bound_deployment.init_args[1]
    handles = pipeline._bound_deployment.init_kwargs
    assert handles["v2v"] is handles["i2v"]
    replica = handles["i2v"]._bound_deployment
    assert replica.init_kwargs["guests"] == {"v2v": ("stages.v2v:V2V", {})}
    assert replica.init_kwargs["stall_limit_s"] == 300
    assert [need.stage for need in stage_needs(args)] == ["t2i", "i2v", "vfi"]
    assert [args.device(name) for name in STAGE_NAMES] == ["t2i", "i2v", "i2v", "vfi"]


def test_a_bare_default_is_complete() -> None:
    assert tuple(AppArgs().stages) == STAGE_NAMES


def test_the_database_of_the_environment_wins_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://magicvideo:secret@db/magicvideo"
    assert with_environment(AppArgs(), {}).storage.database_url == AppArgs().storage.database_url
    monkeypatch.setenv("DATABASE_URL", url)
    given = load_config()
    assert (given.storage.database(), laptop(given, data_dir=tmp_path).storage.database()) == (url, url)
    assert given.storage.artifacts_url == "file:///var/lib/magicvideo/artifacts"
