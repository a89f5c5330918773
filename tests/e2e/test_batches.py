"""T2I's calls of several jobs on one replica, live: they are computed together, and the videos stay what they were."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from deployments.settings.application import BatchArgs, StorageArgs
from deployments.settings.variants import rehearsal
from tests.e2e.rig import PROFILES, Rig, SecondApp, wait_for

pytestmark = pytest.mark.slow

SIZE = 4


@pytest.fixture(scope="module")
def app(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecondApp]:
    folder = tmp_path_factory.mktemp("batches")
    slow = rehearsal(rig.args, {**PROFILES, "t2i": replace(PROFILES["t2i"], run_s=2.0, batch_fixed=0.9)})
    stages = {**slow.stages, "t2i": slow.stages["t2i"].model_copy(update={"batch": BatchArgs(size=SIZE)})}
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
