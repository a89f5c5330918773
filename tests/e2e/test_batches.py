"""Two ways to need fewer replicas, live, on one application: the videos stay what they were.

T2I's calls of several jobs are computed together on one replica; V2V lives in I2V's replicas, is no deployment of its
own, and is counted where it lives.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from ray import serve

from deployments.settings.application import BatchArgs, StorageArgs
from deployments.settings.variants import rehearsal
from stages.types import StageName
from tests.e2e.rig import PROFILES, Rig, SecondApp, wait_for

pytestmark = pytest.mark.slow

SIZE = 4


@pytest.fixture(scope="module")
def app(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecondApp]:
    folder = tmp_path_factory.mktemp("batches")
    slow = rehearsal(rig.args, {**PROFILES, "t2i": replace(PROFILES["t2i"], run_s=2.0, batch_fixed=0.9)})
    changed: dict[StageName, dict[str, object]] = {"t2i": {"batch": BatchArgs(size=SIZE)}, "v2v": {"lives_with": "i2v"}}
    stages = {name: stage.model_copy(update=changed.get(name, {})) for name, stage in slow.stages.items()}
    storage = StorageArgs(database_url=f"sqlite:///{folder}/jobs.sqlite", artifacts_url=f"file://{folder}/files")
    made = SecondApp(rig, "batches", slow.model_copy(update={"stages": stages, "storage": storage}))
    yield made
    made.close()


def batch_of(app: SecondApp, video_id: str) -> int:
    (made,) = app.told(video_id, "stage_output", "t2i")
    return int(made.get("batch", 1))


def test_calls_that_wait_are_computed_together_and_give_what_they_give_alone(rig: Rig, app: SecondApp) -> None:
    seeds = list(range(40, 46))
    ids = [app.create(seed=seed) for seed in seeds]
    cancelled = app.create(seed=50)
    app.http.delete(f"/v1/videos/{cancelled}")
    alone = [rig.create(seed=seed).id for seed in seeds]
    assert [app.ended(video_id).error for video_id in ids] == [None] * len(ids)
    assert app.ended(cancelled).status == "failed"
    sizes = [batch_of(app, video_id) for video_id in ids]
    assert 2 <= max(sizes) <= SIZE, sizes
    for video_id, other in zip(ids, alone, strict=True):
        assert rig.ended(other).error is None
        files = [
            server.http.get(f"/v1/videos/{name}/content").content for server, name in ((app, video_id), (rig, other))
        ]
        assert files[0] == files[1] != b""


def test_a_call_that_comes_alone_is_computed_alone(app: SecondApp) -> None:
    video_id = app.create(seed=60)
    wait_for("the picture", lambda: app.told(video_id, "stage_output", "t2i") or None)
    assert batch_of(app, video_id) == 1
    assert app.ended(video_id).status == "completed"


def test_the_video_is_the_same_and_there_is_one_deployment_fewer(rig: Rig, app: SecondApp) -> None:
    ids = [app.create(seed=seed) for seed in (70, 71)]
    other = rig.create(seed=70).id
    videos = [app.ended(video_id) for video_id in ids]
    assert [video.error for video in videos] == [None, None]
    assert [stage.status for stage in videos[0].stages] == ["completed"] * 4
    assert rig.ended(other).error is None
    files = [
        app.http.get(f"/v1/videos/{ids[0]}/content").content,
        rig.http.get(f"/v1/videos/{other}/content").content,
    ]
    assert files[0] == files[1] != b""
    deployments = serve.status().applications[app.name].deployments
    assert "i2v" in deployments
    assert "v2v" not in deployments
    assert app.http.get("/healthz").json()["stages"] == {"t2i": 1, "i2v": 1, "v2v": 1, "vfi": 1}
    assert {pool["stage"]: pool["replicas"] for pool in app.http.get("/v1/pools").json()["stages"]}["v2v"] == 1
