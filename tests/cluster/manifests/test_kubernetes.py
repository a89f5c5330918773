"""What is applied to Kubernetes: it keeps to the published schemas, whoever reads it, and gives nobody too much."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from ruamel.yaml import YAML

from cluster.__main__ import main
from cluster.manifests.command import render, to_yaml
from cluster.planner.command import POOLS as SHIPPED_POOLS
from cluster.pools.file import load_pools
from deployments.app import build
from deployments.settings.reading import CONFIG_PATH
from stages.types import STAGE_NAMES
from tests.cluster.manifests.test_render import CONFIG, IMAGE, POOLS

KUBERNETES = "1.35"
S3 = ("file:///var/lib/magicvideo/artifacts", "s3://bucket/magicvideo")
# Words and numbers of YAML 1.1, of 1.2 and of Go's reader, where one of them reads no string.
TRAPS = (
    "",
    "yes",
    "No",
    "on",
    "OFF",
    "y",
    "n",
    "true",
    "null",
    "~",
    "=",
    "012",
    "0o14",
    "0x1f",
    "1_000",
    "1:30",
    "1e3",
)
DIGITS = (".5", "-.inf", "1.10", "2026-01-01", "+1", "NaN", ".nan", "-1", "0b1")
CONFINED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
STRINGS = ("args", "command", "env", "labels", "matchLabels", "nodeSelector", "rayStartParams", "limits", "requests")


def rendered(pools: Path = POOLS, config: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """The documents below kubernetes/, as a reader of YAML 1.1 sees them."""
    files, _site = render(load_pools(pools), config or CONFIG.read_text(), image_name=IMAGE)
    return {name: list(yaml.safe_load_all(text)) for name, text in files.items() if name.startswith("kubernetes/")}


@functools.cache
def everything() -> list[dict[str, Any]]:
    with_s3 = CONFIG.read_text().replace(*S3)
    files = (rendered(), rendered(config=with_s3), rendered(SHIPPED_POOLS, CONFIG_PATH.read_text()))
    return [document for found in files for documents in found.values() for document in documents]


def cluster_of(documents: list[dict[str, Any]]) -> dict[str, Any]:
    (service,) = [document for document in documents if document["kind"] == "RayService"]
    found: dict[str, Any] = service["spec"]["rayClusterConfig"]
    return found


def pods(documents: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod's template by a name: head, control, the pools, Job and StatefulSet."""
    for document in documents:
        if document["kind"] == "RayService":
            cluster = document["spec"]["rayClusterConfig"]
            yield "head", cluster["headGroupSpec"]["template"]
            yield from ((group["groupName"], group["template"]) for group in cluster["workerGroupSpecs"])
        elif "template" in document.get("spec", {}):
            yield document["kind"], document["spec"]["template"]


def by_name(config: str | None = None) -> dict[str, dict[str, Any]]:
    documents = [document for found in rendered(config=config).values() for document in found]
    return {name: template["spec"] for name, template in pods(documents)}


def secrets(pod: dict[str, Any]) -> set[str]:
    variables = pod["containers"][0].get("env", [])
    return {v["valueFrom"]["secretKeyRef"]["key"] for v in variables if "valueFrom" in v}


def test_every_document_and_every_pod_keeps_to_the_strict_schema() -> None:
    documents = everything()
    for document in documents:
        if document["kind"] != "RayService":
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
    templates = list(pods(documents))
    assert {name for name, _ in templates} >= {"head", "control", "small", "big", "Job", "StatefulSet"}
    for name, template in templates:
        alone = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name.lower()}, "template": template}
        kubernetes_validate.validate(alone, KUBERNETES, strict=True)


def test_strings_stay_strings() -> None:
    def leaves(value: Any, *, told: bool) -> Iterator[Any]:
        if isinstance(value, dict):
            for key, item in value.items():
                yield from leaves(item, told=told or key in STRINGS)
        elif isinstance(value, list):
            for item in value:
                yield from leaves(item, told=told)
        elif told:
            yield value

    given = [value for document in everything() for value in leaves(document, told=False)]
    assert "yes" in given  # of Redis
    assert [value for value in given if not isinstance(value, (str, bool)) or value is False] == []


@pytest.mark.parametrize("word", [*TRAPS, *DIGITS])
def test_a_word_that_yaml_may_read_as_something_else_is_quoted(word: str) -> None:
    text = to_yaml([{"args": [word], "env": [{"name": word, "value": word}]}], head="")
    assert text.count(f"'{word}'") == 3
    for version in ((1, 1), (1, 2)):
        reader = YAML(typ="safe", pure=True)
        reader.version = version
        assert reader.load(text) == {"args": [word], "env": [{"name": word, "value": word}]} == yaml.safe_load(text)


def test_every_pod_keeps_the_restricted_rules_and_runs_one_image_by_its_digest() -> None:
    for name, template in pods(everything()):
        pod = template["spec"]
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert all(set(volume) & {"emptyDir", "persistentVolumeClaim"} for volume in pod.get("volumes", []))
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert pod.get("automountServiceAccountToken", name == "head") is (name == "head")
        (container,) = pod["containers"]
        assert container["image"] == IMAGE
        assert container["securityContext"] == CONFINED
        written = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert written & {"/tmp", "/data"}
    scaler = cluster_of(rendered()["kubernetes/rayservice.yaml"])["autoscalerOptions"]
    assert scaler["securityContext"] == CONFINED
    assert [mount["mountPath"] for mount in scaler["volumeMounts"]] == ["/tmp"]


def test_ray_asks_for_a_token_out_of_the_secret() -> None:
    cluster = cluster_of(rendered()["kubernetes/rayservice.yaml"])
    assert cluster["authOptions"] == {"mode": "token", "secretName": "magicvideo"}


def test_a_pod_is_told_no_secret_but_its_own() -> None:
    jobs, files = {"database-url", "webhook-secret"}, {"aws-access-key-id", "aws-secret-access-key"}
    assert {name: secrets(pod) for name, pod in by_name().items()} == {
        "head": jobs,  # where Serve builds the application
        "control": jobs,
        "small": set(),
        "big": set(),
        "Job": set(),
        "StatefulSet": {"redis-password"},
    }
    with_s3 = by_name(CONFIG.read_text().replace(*S3))
    assert {name: secrets(pod) & files for name, pod in with_s3.items() if secrets(pod) & files} == {
        "control": files,
        "small": files,  # of VFI, which writes the video
    }
    for name in ("control", "small"):
        variables = with_s3[name]["containers"][0]["env"]
        keys = [v["valueFrom"]["secretKeyRef"] for v in variables if v["name"].startswith("AWS_")]
        assert all(key["optional"] for key in keys)  # else there would be no workload identity
        assert with_s3[name]["serviceAccountName"] == "magicvideo"


def test_nobody_reaches_ray_and_redis_but_who_must() -> None:
    documents = rendered()["kubernetes/access.yaml"]
    policies = {d["metadata"]["name"]: d["spec"] for d in documents if d["kind"] == "NetworkPolicy"}
    for name, template in pods([d for found in rendered().values() for d in found]):
        if name == "Job":
            continue  # it listens nowhere
        labels = template["metadata"]["labels"]
        held = [p for p in policies.values() if p["podSelector"]["matchLabels"].items() <= labels.items()]
        assert any("Ingress" in policy["policyTypes"] for policy in held), name
        for rule in (rule for policy in held for rule in policy["ingress"]):
            if "from" not in rule:
                assert [port["port"] for port in rule["ports"]] == [8000]
    redis = policies["magicvideo-redis"]
    assert (redis["policyTypes"], redis.get("egress")) == (["Ingress", "Egress"], None)
    head = {"app.kubernetes.io/name": "magicvideo", "magicvideo/pool": "head"}
    assert redis["ingress"][0]["from"] == [{"podSelector": {"matchLabels": head}}]


def test_a_node_told_to_stop_lets_the_slowest_call_of_its_stages_end() -> None:
    for name, slowest_s in {"small": 180, "big": 1200, "control": 20}.items():
        pod = by_name()[name]
        told = {v["name"]: v.get("value") for v in pod["containers"][0]["env"]}
        drain_s = int(told["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
        assert slowest_s <= drain_s < pod["terminationGracePeriodSeconds"]


def test_ingress_pipeline_and_keeper_run_on_the_control_group_alone() -> None:
    config = yaml.safe_load(CONFIG_PATH.read_text())
    ingress = build(config["applications"][0]["args"])._bound_deployment
    pipeline = ingress.init_args[1]._bound_deployment
    keeper = pipeline.init_kwargs["keeper"]._bound_deployment
    cluster = cluster_of(rendered(SHIPPED_POOLS, CONFIG_PATH.read_text())["kubernetes/rayservice.yaml"])
    groups = {group["groupName"]: group["labels"] for group in cluster["workerGroupSpecs"]}
    for deployment in (ingress, pipeline, keeper):
        selector = deployment.ray_actor_options["label_selector"]
        assert [name for name, labels in groups.items() if selector.items() <= labels.items()] == ["control"]


@pytest.mark.parametrize("goal", [("6/min", "300"), ("30/min", "240"), ("6/min", "120")])
def test_the_shipped_pools_and_config_plan_render_and_build(goal: tuple[str, str], tmp_path: Path) -> None:
    config = tmp_path / "serve.yaml"
    config.write_text(CONFIG_PATH.read_text())
    shipped = ["--pools", str(SHIPPED_POOLS), "--config", str(config), "--out"]
    assert main(["render", *shipped, str(tmp_path / "before")]) == 0
    assert main(["plan", "--rate", goal[0], "--p95", goal[1], "--write", str(config)]) == 0
    assert main(["render", *shipped, str(tmp_path / "after")]) == 0
    assert set(STAGE_NAMES) <= set(
        build(yaml.safe_load(config.read_text())["applications"][0]["args"])
        ._bound_deployment.init_args[1]
        ._bound_deployment.init_kwargs
    )
