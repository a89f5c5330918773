"""V2V in I2V's replicas, live: one deployment for both, the same video, and both are counted where they live."""

from collections.abc import Iterator

import pytest
from ray import serve

from deployments.settings.application import StorageArgs
from tests.e2e.rig import Rig, SecondApp

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def app(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecondApp]:
    folder = tmp_path_factory.mktemp("together")
    guest = rig.args.stages["v2v"].model_copy(update={"lives_with": "i2v"})
    storage = StorageArgs(database_url=f"sqlite:///{folder}/jobs.sqlite", artifacts_url=f"file://{folder}/files")
    changed = {"stages": {**rig.args.stages, "v2v": guest}, "storage": storage}
    made = SecondApp(rig, "together", rig.args.model_copy(update=changed))
    yield made
    made.close()


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
