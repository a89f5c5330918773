"""What `make test-cluster` adds: parts of Ray that die, nodes that go with notice, pools that lack, two clusters."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster.server_process import free_port
from tests.e2e.cluster.nodes import ONCE, ONE, POOLS, STAGES, Nodes
from tests.e2e.rig import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.cluster]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with Nodes(tmp_path_factory.mktemp("nodes"), ("control", "control", *POOLS)) as made:
        args = made.args()
        args["stages"]["v2v"]["options"]["run_s"] = 4.0
        made.deploy(args)
        made.ready()
        yield made


def whole(nodes: Nodes) -> None:
    wait_for("every replica", lambda: nodes.ask("/healthz").json().get("stages") == STAGES)


def says(nodes: Nodes, words: str) -> bool:
    return any(words in problem for problem in nodes.ask("/healthz").json()["problems"])


def test_the_pipelines_node_dies(nodes: Nodes) -> None:
    ids = [nodes.create(seed=seed) for seed in (1, 2)]
    nodes.computes(ids[0], "v2v")
    nodes.kill(nodes.node_with("pipeline"))
    nodes.add("control")
    nodes.ended(*ids)
    assert nodes.rerun(*ids) == 0
    whole(nodes)


def test_controller_and_proxies_die(nodes: Nodes) -> None:
    before = nodes.running()
    ids = [nodes.create(seed=seed) for seed in (3, 4)]
    nodes.computes(ids[0], "v2v")
    for victim in (*nodes.processes("ServeController"), *nodes.processes("ProxyActor")):
        victim.kill()
    ids.append(nodes.create(seed=5))
    nodes.ended(*ids)
    assert [nodes.computed(one) for one in ids] == [ONCE] * 3
    whole(nodes)
    assert nodes.running() == before


def test_a_node_that_is_told_to_stop_ends_its_call(nodes: Nodes) -> None:
    video_id = nodes.create(seed=6)
    nodes.computes(video_id, "v2v")
    leaving = nodes.node_with("v2v")
    nodes.add("v2v")
    nodes.drain(leaving, notice_s=60.0)
    wait_for("the node to be left", lambda: leaving.node_id not in {one["node_id"] for one in nodes.replicas("v2v")})
    nodes.ended(video_id)
    assert nodes.computed(video_id) == ONCE
    nodes.kill(leaving)
    whole(nodes)


def test_a_missing_pool_is_named_and_waited_for(nodes: Nodes) -> None:
    nodes.kill(nodes.node_with("vfi"))
    video_id = nodes.create(seed=7)
    wait_for("a word of it", lambda: says(nodes, "labelled pool=vfi, but"))
    why = wait_for("the job to say so", lambda: nodes.journal.get(video_id).waits_for)
    assert why == "Stage vfi has no replica that runs; the job waits for one."
    nodes.add("vfi")
    nodes.ended(video_id)
    assert nodes.rerun(video_id) == 0
    whole(nodes)


def test_a_pool_that_is_too_small_serves_with_what_it_has(nodes: Nodes) -> None:
    before, args = nodes.running(), nodes.args()
    args["stages"]["v2v"]["autoscaling"]["min_replicas"] = 3
    nodes.deploy(args, waits=False)
    wait_for("a word of it", lambda: says(nodes, "room for 2"))
    video_id = nodes.create(seed=8)
    nodes.ended(video_id)
    args["stages"]["v2v"]["autoscaling"]["min_replicas"] = 2
    nodes.deploy(args)
    assert nodes.running() == before
    assert nodes.computed(video_id) == ONCE


def test_a_pipeline_that_is_told_to_stop_claiming_ends_what_it_has(nodes: Nodes) -> None:
    before, args = nodes.running(), nodes.args()
    under_way = nodes.create(seed=9)
    nodes.computes(under_way, "v2v")
    args["pipeline"]["claims"] = "never"
    nodes.deploy(args)
    waiting = nodes.create(seed=10)
    nodes.ended(under_way)
    wait_for("a word of it", lambda: says(nodes, "pipeline.claims is never"))
    assert nodes.journal.get(waiting).state == "queued"
    args["pipeline"]["claims"] = "newest"
    nodes.deploy(args)
    nodes.ended(waiting)
    assert nodes.running() == before


def test_of_two_clusters_on_one_journal_the_newer_claims_once_it_can(tmp_path: Path) -> None:
    def owner(nodes: Nodes, video_id: str) -> str | None:
        return next((e.data["owner"] for e in nodes.journal.events(video_id) if e.kind == "started"), None)

    with Nodes(tmp_path, ("control", ONE)) as old:
        old.deploy()
        old.ready()
        first = old.create(seed=1)
        old.ended(first)
        with Nodes(tmp_path, ("control",)) as new:  # its stages have no node yet
            args = new.args()
            for stage in args["stages"].values():
                stage.update(pool=ONE, num_cpus=1)
            new.deploy(args, waits=False)
            new.journal = old.journal
            wait_for("its pipeline", lambda: new.application().get("deployments") and new.replicas("pipeline"))
            second = old.create(seed=2)
            old.ended(second)
            assert owner(old, second) == owner(old, first)
            new.add(ONE)
            new.ready()

            def taken() -> str | None:
                """Who claimed one more video, if not the old cluster."""
                video_id = old.create()
                old.ended(video_id)
                whose = owner(old, video_id)
                return whose if whose != owner(old, first) else None

            newer = wait_for("the newer one to claim", taken)
            later = [old.create(seed=seed) for seed in range(100, 104)]
            old.ended(*later)
            assert {owner(old, one) for one in later} == {newer}
        last = old.create(seed=200)
        old.ended(last)
        assert owner(old, last) == owner(old, first)


def test_the_control_store_restarts(tmp_path: Path, redis: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_REDIS_ADDRESS", redis)
    with Nodes(tmp_path, ("control", ONE), gcs_server_port=free_port()) as nodes:
        args = nodes.args()
        args["stages"]["v2v"]["options"]["run_s"] = 4.0
        nodes.deploy(args)
        nodes.ready()
        video_id = nodes.create(seed=1)
        nodes.computes(video_id, "v2v")
        before = nodes.running()
        nodes.cluster.head_node.kill_gcs_server()
        nodes.cluster.head_node.start_gcs_server()
        later = nodes.create(seed=2)
        nodes.ended(video_id, later)
        assert [nodes.computed(one) for one in (video_id, later)] == [ONCE, ONCE]
        wait_for("Serve as it was", lambda: nodes.running() == before)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    """Debian's, for one test."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("There is no redis-server; `make redis` brings Debian's.")
    port = free_port()
    process = psutil.Popen(
        [program, "--port", str(port), "--save", "", "--dir", str(tmp_path), "--loglevel", "warning"]
    )
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
