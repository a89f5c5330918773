"""`python -m deployments serve` as an operator runs it: what cannot start says one sentence.

One that starts: test_tenancy.py, which ends it by Ctrl-C, and cluster/test_short.py by SIGTERM.
"""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import yaml

from cluster.pools.needs import StageNeed
from cluster.server_process import free_port
from deployments.errors import MissingPoolError
from deployments.on_ray.health import stage_needs
from deployments.server import ROOT, check_pools, sentence_of
from deployments.settings.application import StageArgs
from deployments.settings.reading import CONFIG_PATH, load_config
from deployments.settings.variants import laptop
from tests.e2e.rig import Rig

pytestmark = pytest.mark.slow


def run(*options: str, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deployments", "serve", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that a refused start ends with."""
    assert done.returncode in (2, 3), done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: "), done.stderr
    assert done.stdout == ""
    return last


@contextmanager
def config_with(folder: Path, **changes: object) -> Iterator[str]:
    """serve_config.yaml with other args, as a file."""
    document = yaml.safe_load(CONFIG_PATH.read_text())
    document["applications"][0]["args"].update(changes)
    path = folder / "serve.yaml"
    path.write_text(yaml.safe_dump(document))
    yield str(path)


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = refusal(run("--port", port, "--data-dir", str(tmp_path)))
    assert port in said
    assert "--port" in said


def test_another_address_needs_a_key_first(tmp_path: Path) -> None:
    said = refusal(run("--host", "0.0.0.0", "--port", str(free_port()), "--data-dir", str(tmp_path)))
    assert "`python -m deployments keys create --tenant NAME`" in said


def test_a_config_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    said = refusal(run("--config", str(tmp_path / "absent.yaml")))
    assert "absent.yaml" in said


def test_a_missing_cluster_is_named() -> None:
    address = f"127.0.0.1:{free_port()}"
    said = refusal(run("--cluster", "--address", address, "--port", str(free_port())))
    assert address in said
    assert "--laptop" in said


def test_a_broken_stage_ends_the_start_with_its_own_words(tmp_path: Path) -> None:
    broken = {
        name: {"factory": "tests.deployments.replicas.test_replica:Broken"} for name in ("t2i", "i2v", "v2v", "vfi")
    }
    with config_with(tmp_path, stages=broken) as config:
        said = refusal(
            run("--laptop", "--config", config, "--port", str(free_port()), "--data-dir", str(tmp_path / "data"))
        )
    assert "The file weights.safetensors is cut off after 3 of 9 bytes." in said


def test_a_missing_pool_is_named_and_the_running_application_stays(rig: Rig, tmp_path: Path) -> None:
    address = ray.get_runtime_context().gcs_address
    with config_with(tmp_path, pool_wait_s=0.0) as config:
        said = refusal(run("--cluster", "--config", config, "--address", address, "--port", str(free_port())))
    for stage in ("t2i", "i2v", "v2v", "vfi"):
        assert f"Stage {stage} needs a node labelled pool={stage}" in said
    assert "Ingress, pipeline and keeper need a node labelled pool=control" in said
    assert rig.http.get("/healthz").status_code == 200


def test_a_second_application_of_our_name_is_refused(rig: Rig, tmp_path: Path) -> None:
    address = ray.get_runtime_context().gcs_address
    bare = {name: {"num_cpus": 0.1} for name in ("t2i", "i2v", "v2v", "vfi")}
    with config_with(tmp_path, preset="tiny", stages=bare, control_pool=None, pool_wait_s=0.0) as config:
        said = refusal(run("--cluster", "--config", config, "--address", address, "--port", str(free_port())))
    assert "'magicvideo' already runs" in said
    assert rig.http.get("/healthz").json()["status"] in ("ok", "degraded")


def test_pools_are_judged_against_the_living_nodes(rig: Rig) -> None:
    args = rig.args
    check_pools(args, wait_s=0.0)
    stages = {**args.stages, "i2v": StageArgs(pool="nowhere"), "vfi": StageArgs(num_cpus=0.1, num_gpus=1)}
    with pytest.raises(MissingPoolError) as refused:
        check_pools(args.model_copy(update={"stages": stages}), wait_s=0.0)
    assert "Stage i2v needs a node labelled pool=nowhere" in str(refused.value)
    assert "Stage vfi needs 1 x (0.1 CPU + 1 GPU)" in str(refused.value)
    assert "Stage t2i" not in str(refused.value)


def test_the_needs_follow_the_arguments(tmp_path: Path) -> None:
    needs = stage_needs(load_config())
    assert needs[2] == StageNeed("v2v", {"pool": "v2v"}, {"CPU": 4.0, "GPU": 1.0}, replicas=2)
    assert needs[4] == StageNeed(None, {"pool": "control"}, {"CPU": 1.0})
    assert len(stage_needs(laptop(load_config(), data_dir=tmp_path))) == 4
    assert stage_needs(laptop(load_config(), data_dir=tmp_path))[2] == replace(
        needs[2], labels={}, resources={"CPU": 0.1, "GPU": 0.0}, replicas=1
    )


@pytest.mark.parametrize(
    ("report", "sentence"),
    [
        (
            "noise\n  deployments.errors.StartError: Stage x did not start: E: why\nmore",
            "Stage x did not start: E: why",
        ),
        ("Something else\nhappened", "The application did not start: Something else"),
        ("", "The application did not start: Ray Serve gave no reason."),
    ],
)
def test_our_own_words_are_found_in_what_serve_reports(report: str, sentence: str) -> None:
    assert sentence_of(report) == sentence
