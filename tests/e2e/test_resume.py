"""A job whose executor dies goes on from its checkpoints: no finished stage or window is computed again."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.jobs.values import Job
from deployments.settings.application import AppArgs, StorageArgs
from stages.types import StageName
from tests.e2e.rig import WINDOWS, Rig, SecondApp, wait_for

pytestmark = pytest.mark.slow

LEASE_S = 2.0


def short_lease(args: AppArgs, folder: Any) -> AppArgs:
    storage = StorageArgs(database_url=f"sqlite:///{folder}/jobs.sqlite", artifacts_url=f"file://{folder}/files")
    pipeline = args.pipeline.model_copy(update={"lease_s": LEASE_S})
    return args.model_copy(update={"storage": storage, "pipeline": pipeline})


@pytest.fixture(scope="module")
def app(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecondApp]:
    made = SecondApp(rig, "resume", short_lease(rig.args, tmp_path_factory.mktemp("resume")))
    yield made
    made.close()


def content(app: SecondApp, video_id: str) -> bytes:
    return app.http.get(f"/v1/videos/{video_id}/content").content


def kept(app: SecondApp, video_id: str, stage: StageName) -> int:
    job: Job = app.journal.get(video_id)
    return len(job.outputs.get(stage, {}))


def kill_pipeline(app: SecondApp) -> None:
    victim = wait_for("the pipeline's process", lambda: Rig.replica("pipeline", app.name))
    victim.kill()
    victim.wait(timeout=30)


def test_a_job_whose_pipeline_is_killed_goes_on_where_it_was(app: SecondApp) -> None:
    video_id = app.create(seed=3)
    wait_for("a kept window", lambda: kept(app, video_id, "v2v") >= 1)
    assert (kept(app, video_id, "t2i"), kept(app, video_id, "i2v")) == (1, 1)
    kill_pipeline(app)
    video = app.ended(video_id)
    assert (video.status, video.error) == ("completed", None)
    assert [stage.status for stage in video.stages] == ["completed"] * 4
    events = [(event.kind, event.data.get("stage")) for event in app.journal.events(video_id)]
    assert ("restarted", None) in events
    after = events[events.index(("restarted", None)) :]
    assert ("stage_restored", "t2i") in after
    assert ("stage_restored", "i2v") in after
    assert ("stage_restored", "v2v") in after
    made = [stage for kind, stage in events if kind == "stage_output"]
    assert (made.count("t2i"), made.count("i2v")) == (1, 1)
    assert made.count("v2v") <= WINDOWS + 1  # one may have been made and not yet kept
    undisturbed = app.create(seed=3)
    app.ended(undisturbed)
    assert content(app, video_id) == content(app, undisturbed) != b""


def test_a_checkpoint_that_is_gone_is_made_again(app: SecondApp) -> None:
    video_id = app.create(seed=4)
    wait_for("kept keyframes", lambda: kept(app, video_id, "i2v") == 1)
    kill_pipeline(app)
    record = app.journal.get(video_id).outputs["i2v"][0]
    folder = app.args.storage.artifacts_url.removeprefix("file://")
    with open(f"{folder}/{record['key']}", "r+b") as file:
        file.truncate(100)
    video = app.ended(video_id)
    assert (video.status, video.error) == ("completed", None)
    made = [e.data["stage"] for e in app.journal.events(video_id) if e.kind == "stage_output"]
    assert (made.count("t2i"), made.count("i2v")) == (1, 2)


def test_a_video_whose_file_is_damaged_is_made_again_of_its_checkpoints_or_gone(app: SecondApp) -> None:
    video_id = app.create(seed=5)
    assert app.ended(video_id).status == "completed"
    wait_for("kept chunks", lambda: kept(app, video_id, "vfi") == WINDOWS)
    job, folder = app.journal.get(video_id), Path(app.args.storage.artifacts_url.removeprefix("file://"))
    assert job.result is not None
    file = folder / job.result["key"]
    whole = file.read_bytes()
    file.write_bytes(whole[:1000] + bytes(10) + whole[1010:])
    assert content(app, video_id) == whole
    assert file.read_bytes() == whole
    file.unlink()
    (folder / job.outputs["vfi"][0]["key"]).unlink()
    gone = app.http.get(f"/v1/videos/{video_id}/content")
    assert (gone.status_code, gone.json()["error"]["code"]) == (410, "video_gone")
