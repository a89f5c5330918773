"""`/healthz`: 200 only while a new job can be accepted and made; else 503 and what is missing."""

import asyncio
import threading

import pytest

from client.schema import Health
from cluster.pools.needs import Lack, find_lacks
from deployments.api.pools import Readiness
from deployments.on_ray.health import judge_health, stage_needs
from deployments.on_ray.ray_internals import Replicas
from deployments.settings.application import AppArgs
from tests.deployments.rig import Rig

ALL = ("t2i", "i2v", "v2v", "vfi", "pipeline", "keeper")
LONG_S = 60.0


def found(**running: int) -> dict[str, Replicas]:
    """Every deployment with one replica, but for these."""
    return {name: Replicas(running.get(name, 1), max(1, running.get(name, 1))) for name in ALL}


def with_v2v(**changes: object) -> AppArgs:
    return AppArgs.model_validate({"stages": {"v2v": changes}})


FROM_ZERO = {"autoscaling": {"min_replicas": 0, "max_replicas": 2}}


def test_all_that_is_needed_is_ok_with_what_runs_and_what_is_wanted() -> None:
    health = judge_health(AppArgs(), {**found(), "v2v": Replicas(1, 3)}, (), was_ok=True)
    assert (health.status, health.problems) == ("ok", [])
    assert health.stages == dict.fromkeys(("t2i", "i2v", "v2v", "vfi"), 1)
    assert health.wanted == {"t2i": 1, "i2v": 1, "v2v": 3, "vfi": 1}


@pytest.mark.parametrize("name", ALL)
def test_what_has_no_replica_is_named_and_no_job_can_be_made(name: str) -> None:
    for was_ok, status in ((True, "degraded"), (False, "starting")):
        health = judge_health(AppArgs(), found(**{name: 0}), (), was_ok)
        assert health.status == status
        (problem,) = health.problems
        assert f"{name} has" in problem


def test_nothing_is_found_while_the_application_starts() -> None:
    health = judge_health(AppArgs(), {}, (), was_ok=False)
    assert (health.status, len(health.problems)) == ("starting", len(ALL))


def test_fewer_replicas_than_configured_are_told_and_turn_nobody_away() -> None:
    health = judge_health(with_v2v(replicas=3), found(v2v=2), (), was_ok=True)
    assert health.status == "ok"
    assert health.problems == ["Stage v2v has 2 running replicas, it needs 3; look into its log if this lasts."]


def test_a_stage_that_scales_from_zero_needs_no_replica() -> None:
    health = judge_health(with_v2v(**FROM_ZERO), found(v2v=0), (), was_ok=True)
    assert (health.status, health.problems) == ("ok", [])


@pytest.mark.parametrize(("missing_pool", "status"), [("refuse", "degraded"), ("degraded", "ok")])
def test_a_pool_that_is_missing_stops_a_stage_at_zero_unless_its_nodes_come_by_themselves(
    missing_pool: str, status: str
) -> None:
    args = AppArgs.model_validate({"stages": {"v2v": {**FROM_ZERO, "pool": "big"}}, "missing_pool": missing_pool})
    lacks = tuple(lack for lack in find_lacks(stage_needs(args), ()) if lack.stage == "v2v")
    health = judge_health(args, found(v2v=0), lacks, was_ok=True)
    assert health.status == status
    assert "Stage v2v needs a node labelled pool=big" in health.problems[0]
    assert judge_health(args, found(v2v=1), (Lack("v2v", "It is too small."),), was_ok=True).status == "ok"


def test_without_a_keeper_nobody_misses_one() -> None:
    args = AppArgs.model_validate({"keeper": {"enabled": False}})
    assert judge_health(args, found(keeper=0), (), was_ok=True).status == "ok"


def test_a_stage_in_the_replicas_of_another_has_those() -> None:
    health = judge_health(with_v2v(lives_with="i2v"), {**found(i2v=1), "v2v": Replicas(0, 0)}, (), was_ok=True)
    assert (health.status, health.stages["v2v"], health.wanted["v2v"]) == ("ok", 1, 1)


@pytest.mark.parametrize("status", ["ok", "degraded", "starting"])
async def test_only_ok_is_a_200_and_the_body_is_the_same(rig: Rig, status: str) -> None:
    rig.health = Health.model_validate({**rig.health.model_dump(), "status": status, "problems": ["v2v is away."]})
    answer = await rig.http.get("/healthz")
    assert answer.status_code == (200 if status == "ok" else 503)
    assert Health.model_validate_json(answer.content) == rig.health


async def test_a_journal_that_does_not_answer_is_a_503(rig: Rig) -> None:
    rig.journal.database.close()
    for file in rig.folder.glob("jobs.sqlite*"):
        file.write_bytes(b"no database at all" * 100)
    answer = await rig.http.get("/healthz")
    health = Health.model_validate_json(answer.content)
    assert (answer.status_code, health.status, health.stages) == (503, "degraded", {"t2i": 1})
    assert "The journal's database does not answer (DatabaseError); look at it." in health.problems


async def test_a_ray_serve_that_fails_or_hangs_is_a_503_and_is_asked_once(rig: Rig) -> None:
    services, asked, go_on = rig.app.state.services, 0, threading.Event()

    def hang() -> Health:
        nonlocal asked
        asked += 1
        assert go_on.wait(LONG_S)
        raise ConnectionError

    services.health = hang
    services.at_serve.wait_s = 0.05
    readiness = Readiness(services)
    told = await asyncio.gather(*(readiness.check() for _ in range(20)))
    assert {health.status for health in told} == {"degraded"}
    assert "Ray Serve has not answered for 0.05 s" in told[0].problems[0]
    assert asked == 1
    go_on.set()
    answer = await rig.http.get("/healthz")
    assert answer.status_code == 503
    assert "Ray Serve fails (ConnectionError)" in answer.text
