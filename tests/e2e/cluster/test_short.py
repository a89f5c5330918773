"""serve_config.yaml on a cluster of seven nodes: where it runs, and what a roll-out and a lost node cost."""

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from client.schema import Video
from cluster.manifests.command import render
from cluster.planner.options import Goal
from cluster.planner.profiles import load_profile
from cluster.planner.search import make_plan
from cluster.planner.writing import write_config
from cluster.pools.file import PoolFile
from cluster.server_process import ServerProcess
from deployments.settings.reading import CONFIG_PATH
from stages.types import STAGE_NAMES
from tests.e2e.cluster.nodes import ONCE, ONE, STAGES, Nodes, rehearsed
from tests.e2e.rig import wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with Nodes(tmp_path_factory.mktemp("nodes")) as made:
        made.deploy()
        made.ready()
        yield made


def test_every_deployment_runs_in_its_pool_and_a_video_is_made(nodes: Nodes) -> None:
    for name in ("ingress", "pipeline", "keeper"):
        assert [nodes.pool_of(one["node_id"]) for one in nodes.replicas(name)] == ["control"]
    for name, count in STAGES.items():
        assert [nodes.pool_of(one["node_id"]) for one in nodes.replicas(name)] == [name] * count
    video_id = nodes.create()
    nodes.ended(video_id)
    assert nodes.computed(video_id) == ONCE
    assert nodes.ask(f"/v1/videos/{video_id}/content").status_code == 200


def test_a_changed_setting_of_http_restarts_nothing_and_http_stays_up(nodes: Nodes) -> None:
    before, stop, failures = nodes.running(), threading.Event(), list[str]()
    video_id = nodes.create()

    def ask() -> None:
        while not stop.wait(0.05):
            answer = nodes.http.get(f"/v1/videos/{video_id}")
            if answer.status_code != 200:
                failures.append(answer.text)

    asking = threading.Thread(target=ask)
    asking.start()
    args = nodes.args()
    args["ingress"]["poll_after_ms"] = 1234
    try:
        nodes.deploy(args)
        queued = nodes.create()
        wait_for(
            "the new setting",
            lambda: nodes.http.get(f"/v1/videos/{queued}").headers.get("openai-poll-after-ms") in ("1234", None),
        )
    finally:
        stop.set()
        asking.join()
    nodes.ended(video_id, queued)
    assert failures == []
    assert nodes.running() == before
    assert nodes.computed(video_id) == ONCE


def test_a_changed_stage_restarts_alone_and_a_bad_one_costs_nothing(nodes: Nodes) -> None:
    """Its pool has one GPU: there is no room for a replica more, so the old one stops first."""
    before, good = nodes.running(), nodes.args()
    bad = nodes.args()
    bad["stages"]["t2i"]["options"]["nonsense"] = 1
    bad["stages"]["t2i"]["max_start_attempts"] = 1
    nodes.deploy(bad, waits=False)
    wait_for("the deploy to fail", lambda: nodes.application()["status"] == "DEPLOY_FAILED")
    ids = [nodes.create(seed=seed) for seed in range(3)]
    wait_for("a word of it", lambda: any("nonsense" in one for one in nodes.ask("/healthz").json()["problems"]))
    nodes.deploy(good)
    nodes.ended(*ids)
    after = nodes.running()
    assert {name for name in before if before[name] != after[name]} == {"t2i"}
    assert all(nodes.computed(video_id) == ONCE for video_id in ids)


def test_a_node_that_dies_under_a_call_costs_that_call_alone(nodes: Nodes) -> None:
    args = nodes.args()
    args["stages"]["v2v"]["options"]["run_s"] = 3.0
    nodes.deploy(args)
    video_id = nodes.create(seed=5)
    nodes.computes(video_id, "v2v")
    nodes.kill(nodes.node_with("v2v"))
    nodes.add("v2v")
    nodes.ended(video_id)
    made = nodes.computed(video_id)
    assert (made["t2i"], made["i2v"]) == (1, 1)
    wait_for("every replica", lambda: nodes.ask("/healthz").json().get("stages") == STAGES)


@pytest.mark.parametrize(
    "layout",
    [{"fraction": {"t2i": 0.5, "vfi": 0.5}, "gpus_per_node": 5}, {"monolith": True, "gpus_per_node": 1}],
    ids=("shares", "monolith"),
)
def test_a_plan_is_rendered_and_served(nodes: Nodes, layout: dict[str, object], tmp_path: Path) -> None:
    """Stages on halves of a GPU, and all four in one replica."""
    if ONE not in nodes.nodes:
        nodes.add(ONE)
    kind = {"accelerator": "H100", "gib": 80, "machine": {"cpus": 10, "memory_gib": 64}}
    given = {"name": ONE, **kind, "nodes": {"max": 4}, "price_per_hour": 3.0, "stages": STAGE_NAMES, **layout}
    file = PoolFile.model_validate({"pools": [given]})
    config = tmp_path / "serve_config.yaml"
    config.write_text(CONFIG_PATH.read_text())
    plan = make_plan(Goal(0.01, 600.0), file, load_profile("paper-estimate", "paper"))
    write_config(plan, file, config)
    files, _ = render(file, config.read_text(), image_name="magicvideo:1")
    service = yaml.safe_load(files["kubernetes/rayservice.yaml"])
    application = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"][0]
    args = nodes.args()
    args["scaling"] = application["args"].get("scaling")
    for name, stage in args["stages"].items():
        kept = {key: stage[key] for key in ("factory", "options")}
        args["stages"][name] = {**application["args"]["stages"][name], **kept}
    if "autoscaling_policy" not in application:
        nodes.document["applications"][0].pop("autoscaling_policy", None)
    nodes.deploy(args)
    video_id = nodes.create(seed=9)
    nodes.ended(video_id)
    assert nodes.computed(video_id) == ONCE
    assert nodes.ask(f"/v1/videos/{video_id}/content").status_code == 200
    there = {name for name in STAGE_NAMES if name in nodes.running()}
    assert there == ({"i2v"} if "monolith" in layout else set(STAGE_NAMES))
    for name in there:
        assert {nodes.pool_of(one["node_id"]) for one in nodes.replicas(name)} == {ONE}


def test_the_command_that_serves_finds_every_pool_and_ends_on_sigterm(nodes: Nodes, tmp_path: Path) -> None:
    """After the others: what they deployed goes first."""
    nodes.rest.delete("/api/serve/applications/").raise_for_status()
    wait_for("the end of Serve", lambda: not nodes.processes("ServeController"))
    config, errors = tmp_path / "serve.yaml", tmp_path / "stderr"
    config.write_text(yaml.safe_dump(rehearsed(tmp_path, nodes.port)))
    server = ServerProcess("--cluster", "--address", nodes.cluster.address, "--config", config, log=errors)
    with server, httpx.Client(base_url=server.url, timeout=60.0) as http:
        assert server.alive()
        wait_for("every replica", lambda: http.get("/healthz").json()["problems"] == [])
        assert http.get("/healthz").json()["stages"] == STAGES
        path = f"/v1/videos/{http.post('/v1/videos', json={'prompt': 'a fox'}).json()['id']}"
        wait_for("the video", lambda: http.get(path).json()["status"] in ("completed", "failed"))
        video = Video.model_validate(http.get(path).json())
        assert (video.status, video.error, video.model) == ("completed", None, "paper")
        assert http.get(f"{path}/content").status_code == 200
    server.stop()  # once more is nothing
    said = errors.read_text()  # until SIGTERM, and of it
    assert (server.alive(), server.returncode) == (False, 0), said
    assert "Traceback" not in said
