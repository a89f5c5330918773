"""What `python -m cluster render` writes: the same each time, as committed, schedulable, without unknown keys."""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from cluster.__main__ import main
from cluster.manifests.command import ray_version, render
from cluster.manifests.image import FOLDERS
from cluster.manifests.site import SiteError
from cluster.pools.file import PoolFileError, load_pools
from cluster.pools.machines import AWS
from cluster.pools.needs import NodeOffer, StageNeed, find_lacks
from tests.cluster.manifests.kuberay import RayService, WorkerGroup

ROOT = Path(__file__).resolve().parents[3]
GIVEN = Path(__file__).with_name("rendered")
POOLS, CONFIG, GOLDEN = GIVEN / "pools.yaml", GIVEN / "serve_config.yaml", GIVEN / "golden"
IMAGE = f"registry.example.com/magicvideo@sha256:{'0123456789abcdef' * 4}"
AGAIN = (
    f"python -m cluster render --pools pools.yaml --config serve_config.yaml --image {IMAGE} --out golden, in rendered/"
)
FOUR = """
pools:
  - {name: t2i, accelerator: A10G, gib: 24, gpus_per_node: 1, nodes: {max: 4}, price_per_hour: 1, stages: [t2i]}
  - {name: i2v, accelerator: L40S, gib: 48, gpus_per_node: 4, nodes: {max: 2}, price_per_hour: 1, stages: [i2v]}
  - {name: v2v, accelerator: H100, gib: 80, gpus_per_node: 8, nodes: {min: 1, max: 2}, price_per_hour: 3, stages: [v2v]}
  - {name: vfi, accelerator: L4, gib: 24, gpus_per_node: 4, nodes: {max: 2}, price_per_hour: 1, stages: [vfi]}
"""


def rendered(pools: Path = POOLS, config: str | None = None) -> dict[str, str]:
    files, _site = render(load_pools(pools), config or CONFIG.read_text(), image_name="magicvideo:latest")
    return files


def documents(text: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(text))


def service_of(files: dict[str, str]) -> RayService:
    return RayService.model_validate(documents(files["kubernetes/rayservice.yaml"])[0])


def pool_groups(service: RayService) -> dict[str, WorkerGroup]:
    groups = service.spec.rayClusterConfig.workerGroupSpecs
    return {group.groupName: group for group in groups if group.groupName != "control"}


@pytest.fixture
def four(tmp_path: Path) -> Path:
    path = tmp_path / "pools.yaml"
    path.write_text(FOUR)
    return path


def test_the_committed_files_are_what_the_command_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["render", "--pools", str(POOLS), "--config", str(CONFIG), "--image", IMAGE, "--out"]
    for out in ("one", "two"):
        assert main([*arguments, str(tmp_path / out)]) == 0
    said = capsys.readouterr().out
    assert "Pool spare is left out" in said
    assert "digest" not in said

    def tree(folder: Path) -> dict[str, str]:
        return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}

    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert tree(tmp_path / "one") == tree(GOLDEN), f"if that is meant: {AGAIN}"


def test_a_group_for_each_pool_with_its_labels_gpus_and_bounds() -> None:
    service = service_of(rendered())
    groups = pool_groups(service)
    assert list(groups) == ["small", "big"]
    big = groups["big"]
    assert (big.minReplicas, big.maxReplicas, big.labels) == (3, 8, {"pool": "big", "zone": "west"})
    assert big.template.spec.containers[0].resources.limits["nvidia.com/gpu"] == "8"
    assert big.rayStartParams == {"num-cpus": "190", "num-gpus": "8"}
    assert big.template.spec.nodeSelector == {"magicvideo/pool": "big"}
    assert service.spec.rayClusterConfig.rayVersion == ray_version()
    assert service.spec.serveConfigV2 == CONFIG.read_text()
    assert service.spec.rayClusterDeletionDelaySeconds == 1200  # the longest graceful_shutdown_timeout_s


def test_the_production_config_finds_its_nodes(four: Path) -> None:
    config = (ROOT / "serve_config.yaml").read_text()
    service = service_of(rendered(four, config))
    offers = [
        NodeOffer(
            group.labels, {"GPU": int(group.rayStartParams["num-gpus"]), "CPU": int(group.rayStartParams["num-cpus"])}
        )
        for group in pool_groups(service).values()
        for _ in range(group.maxReplicas)
    ]
    stages = yaml.safe_load(service.spec.serveConfigV2)["applications"][0]["args"]["stages"]
    needs = [
        StageNeed(
            name,
            {"pool": stage["pool"]},
            {"GPU": stage["num_gpus"], "CPU": stage["num_cpus"]},
            stage["autoscaling"]["max_replicas"] if "autoscaling" in stage else stage["replicas"],
        )
        for name, stage in stages.items()
    ]
    assert find_lacks(needs, offers) == ()


def test_a_budget_lets_each_group_be_drained_node_by_node(four: Path) -> None:
    files = rendered()
    config = service_of(files).spec.rayClusterConfig
    pods = {group.groupName: group.template.metadata.labels for group in config.workerGroupSpecs}
    stand = {group.groupName: group.minReplicas for group in config.workerGroupSpecs}
    least = {}
    for budget in documents(files["kubernetes/disruption-budgets.yaml"]):
        assert (budget["apiVersion"], budget["kind"]) == ("policy/v1", "PodDisruptionBudget")
        (group,) = [name for name, labels in pods.items() if budget["spec"]["selector"]["matchLabels"] == labels]
        least[group] = budget["spec"]["minAvailable"]
        assert set(budget["spec"]) == {"minAvailable", "selector"}
        assert least[group] == stand[group] - 1 >= 1
    assert least == {"big": 2}
    assert "kubernetes/disruption-budgets.yaml" not in rendered(four, (ROOT / "serve_config.yaml").read_text())


def test_redis_and_volumes_are_those_that_the_service_names() -> None:
    files = rendered()
    config = service_of(files).spec.rayClusterConfig
    service, state = documents(files["kubernetes/redis.yaml"])
    host, _, port = config.gcsFaultToleranceOptions.redisAddress.partition(":")
    assert (service["metadata"]["name"], service["spec"]["ports"][0]["port"]) == (host, int(port))
    container = state["spec"]["template"]["spec"]["containers"][0]
    password = config.gcsFaultToleranceOptions.redisPassword.valueFrom.secretKeyRef
    assert container["env"][0]["valueFrom"]["secretKeyRef"] == {"name": password.name, "key": password.key}

    claims = {d["metadata"]["name"] for d in documents(files["kubernetes/storage.yaml"]) if d["kind"] != "Job"}
    for template in (config.headGroupSpec.template, *(group.template for group in config.workerGroupSpecs)):
        named = {v.persistentVolumeClaim.claimName for v in template.spec.volumes if v.persistentVolumeClaim}
        assert named == claims == {"magicvideo-weights", "magicvideo-artifacts"}


def test_no_volume_where_an_object_store_is_and_no_weights_where_they_are_embedded() -> None:
    config = CONFIG.read_text().replace("file:///var/lib/magicvideo/artifacts", "s3://bucket/magicvideo")
    config = config.replace("sqlite:////var/lib/magicvideo/jobs.sqlite", "postgresql://magicvideo@db/magicvideo")
    files = rendered(config=config.replace("preset: modern", "preset: tiny"))
    assert "kubernetes/storage.yaml" not in files
    for found, optional in ((files, True), (rendered(), False)):
        variables = service_of(found).spec.rayClusterConfig.headGroupSpec.template.spec.containers[0].env
        (database,) = [variable.valueFrom for variable in variables if variable.name == "DATABASE_URL"]
        assert database is not None
        assert database.secretKeyRef.optional is optional


def test_port_and_prefix_are_the_configs_own() -> None:
    files = rendered(
        config=CONFIG.read_text().replace("port: 8000", "port: 9000").replace("prefix: /", "prefix: /video")
    )
    (job,) = documents(files["prometheus/prometheus.yml"])[0]["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["magicvideo-serve-svc:9000"]}]
    assert job["metrics_path"] == "/video/metrics"
    for group in pool_groups(service_of(files)).values():
        (container,) = group.template.spec.containers
        assert {port.name: port.containerPort for port in container.ports}["serve"] == 9000
        assert container.readinessProbe.exec is not None
        assert ":9000/-/healthz" in container.readinessProbe.exec.command[-1]


def test_ray_up_obeys_the_schema_of_the_installed_ray() -> None:
    spec = importlib.util.find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    schema = json.loads((Path(spec.origin).parent / "autoscaler" / "ray-schema.json").read_text())
    document = documents(rendered()["ray-up-aws.yaml"])[0]
    jsonschema.validate(document, schema)
    types = document["available_node_types"]
    assert types["big"]["labels"] == {"pool": "big", "zone": "west"}
    assert types["big"]["resources"] == {"CPU": 190, "GPU": 8}
    assert types["control"]["labels"] == {"pool": "control"}
    assert {name for name, t in types.items() if t["node_config"].get("IamInstanceProfile")} == {*types} - {"head"}
    assert "--env RAY_AUTH_MODE=token" in document["docker"]["run_options"]
    assert "--env RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=1200" in document["docker"]["run_options"]
    assert document["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert {name: t["node_config"]["InstanceType"] for name, t in types.items() if "GPU" in t["resources"]} == {
        "small": "g5.12xlarge",
        "big": "p5.48xlarge",
    }


def test_a_pool_of_other_machines_leaves_ray_up_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pools = tmp_path / "pools.yaml"
    own = "    labels: {pool: big, zone: west}\n    machine: {cpus: 128, memory_gib: 1000}\n"
    pools.write_text(POOLS.read_text().replace("    labels: {pool: big, zone: west}\n", own))
    assert main(["render", "--pools", str(pools), "--config", str(CONFIG), "--out", str(tmp_path / "out")]) == 0
    assert "pool big names no `machine.instance`" in capsys.readouterr().out
    assert not (tmp_path / "out" / "ray-up-aws.yaml").exists()
    service = service_of({"kubernetes/rayservice.yaml": (tmp_path / "out/kubernetes/rayservice.yaml").read_text()})
    limits = pool_groups(service)["big"].template.spec.containers[0].resources.limits
    assert limits == {"cpu": "126", "memory": "850Gi", "nvidia.com/gpu": "8"}


def test_the_image_takes_what_is_there_and_is_nobody_s_root() -> None:
    files = rendered()
    lines = files["Dockerfile"].splitlines()
    copied = {name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]}
    assert set(FOLDERS) <= copied
    kept = {line[1:] for line in files["Dockerfile.dockerignore"].splitlines() if line.startswith("!")}
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)
    users = [line for line in lines if line.startswith("USER ")]
    assert users == ["USER 10001:10001"]
    assert not [line for line in lines[lines.index(users[0]) :] if line.startswith(("RUN", "COPY"))]
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", files["Dockerfile"])
    named = (ROOT / "pyproject.toml").read_text()
    assert all(re.search(rf"^{extra} = \[", named, re.MULTILINE) for extra in extras.split(","))


def test_machines_of_aws_are_sound() -> None:
    for (_kind, gpus), machine in AWS.items():
        assert machine.instance is not None
        assert machine.cpus >= 8 * gpus
        assert machine.memory_gib >= machine.cpus


@pytest.mark.parametrize(
    ("was", "now", "parts"),
    [
        ("t2i: {pool: small,", "t2i: {", ("stage t2i names no pool", "big, small, spare")),
        ("t2i: {pool: small,", "t2i: {pool: tiny,", ("pool=tiny", "big, small, spare", "plan --write")),
        ("v2v: {pool: big,", "v2v: {pool: small,", ("stage v2v on pool=small", "takes only t2i, vfi")),
        ("replicas: 8}", "replicas: 33}", ("v2v may have 33 replicas", "hold 32", "stages.v2v.replicas", "nodes.max")),
        ("max_replicas: 4}", "max_replicas: 99}", ("t2i may have 99", "hold 16", "autoscaling.max_replicas")),
        ("num_gpus: 2, speed: {gpus: 2,", "num_gpus: 16, speed: {gpus: 16,", ("takes 16 GPU", "has 8 and 190")),
        (
            "speed: {gpus: 2, offload: none}",
            "options: {}",
            ("num_gpus is 2, of which 1 would compute", "speed.gpus to 2"),
        ),
        ("replicas: 8}", "replicas: many}", ("args.stages.v2v.replicas", "'many'")),
        ("replicas: 8}", "replicas: 29}\n        x2v: {}", ("args.stages.x2v",)),
        ("replicas: 8}", "replicas: 8, replica: 9}", ("args.stages.v2v.replica:", "(got 9)")),
        ("deployments.app:build", "other.app:build", ("import_path deployments.app:build", "it has 0")),
        ("host: 0.0.0.0", "host: 127.0.0.1", ("http_options.host is '127.0.0.1'", "0.0.0.0")),
        ("control_pool: control", "pool_wait_s: 60", ("args.control_pool is None", "make it control")),
        ("EveryNode", "HeadOnly", ("proxy_location is 'HeadOnly'", "EveryNode")),
        ("port: 8000", "port: 80000", ("http_options.port is 80000",)),
        ("file:///var/lib", "file://var/lib", ("storage.artifacts_url", "object store")),
        ("applications:", "applications: [", ("no YAML",)),
    ],
)
def test_a_config_that_the_pools_do_not_hold_is_one_sentence(
    was: str, now: str, parts: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = CONFIG.read_text()
    assert was in text
    config = tmp_path / "config.yaml"
    config.write_text(text.replace(was, now, 1))
    done = main(["render", "--pools", str(POOLS), "--config", str(config), "--out", str(tmp_path / "out")])
    said = capsys.readouterr().err
    assert done == 2
    assert said.startswith("Error: ")
    assert said.count("\n") == 1
    assert all(part in said for part in parts), said
    assert not (tmp_path / "out").exists()


def test_first_replicas_of_two_stages_must_fit_together(tmp_path: Path) -> None:
    config = CONFIG.read_text().replace("min_replicas: 1, max_replicas: 16", "min_replicas: 60, max_replicas: 60")
    with pytest.raises(SiteError, match="Stage v2v needs 8 x"):
        rendered(config=config)


@pytest.mark.parametrize(
    ("was", "now", "parts"),
    [
        ("name: big", "name: Big_Ones", "'Big_Ones' cannot be a group"),
        ("name: spare", "name: control", "neither control nor head"),
        ("labels: {pool: big,", "labels: {pool: control,", "the label of the nodes without GPUs"),
        ("zone: west", "zone: 'far west'", "zone=far west is no label"),
        ("accelerator: L40S", "accelerator: V100", "no machine with 4 V100 a node is known, only with none"),
        ("gpus_per_node: 8", "gpus_per_node: 2", "only with 1, 8"),
    ],
)
def test_pools_that_cannot_be_rendered_are_one_sentence(was: str, now: str, parts: str, tmp_path: Path) -> None:
    pools = tmp_path / "pools.yaml"
    pools.write_text(POOLS.read_text().replace(was, now, 1))
    with pytest.raises((SiteError, PoolFileError)) as caught:
        rendered(pools)
    assert parts in str(caught.value)


def test_bad_places_and_names_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    given = ["render", "--pools", str(POOLS), "--config", str(CONFIG), "--out"]
    assert main([*given, str(blocked)]) == 2
    assert "is a file, so there can be no folder" in capsys.readouterr().err
    assert main([*given, str(tmp_path / "x"), "--image", "my image"]) == 2
    assert "--image is 'my image'" in capsys.readouterr().err
    missing = ["render", "--pools", str(POOLS), "--config", str(tmp_path / "none"), "--out", str(tmp_path / "x")]
    assert main(missing) == 2
    assert "cannot be read (No such file" in capsys.readouterr().err
