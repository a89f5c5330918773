"""Jobs that cannot end well, that a shutdown interrupts, or whose pipeline dies, on an application of their own.

A job whose executor dies goes on from its checkpoints: no finished stage or window is computed again.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ray import serve

from deployments.jobs.values import Job
from deployments.settings.application import StorageArgs
from stages.types import StageName
from tests.e2e.faulty import HANGS, POISONS, RAISES, STUMBLES
from tests.e2e.rig import WINDOWS, Rig, SecondApp, wait_for

pytestmark = pytest.mark.slow

APP = "faulty"
LEASE_S = 4.0


@pytest.fixture(scope="module")
def app(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecondApp]:
    folder = tmp_path_factory.mktemp("faulty")
    changes: dict[StageName, dict[str, object]] = {"i2v": {"run_timeout_s": 3.0}, "v2v": {}}
    faulty = {
        name: rig.args.stages[name].model_copy(update={"factory": "tests.e2e.faulty:Faulty", **change})
        for name, change in changes.items()
    }
    storage = StorageArgs(database_url=f"sqlite:///{folder}/jobs.sqlite", artifacts_url=f"file://{folder}/files")
    pipeline = rig.args.pipeline.model_copy(update={"lease_s": LEASE_S})
    changed = {"stages": {**rig.args.stages, **faulty}, "storage": storage, "pipeline": pipeline}
    made = SecondApp(rig, APP, rig.args.model_copy(update=changed))
    yield made
    made.close()


def test_a_stage_that_raises_fails_its_job_with_its_own_words_and_no_other(app: SecondApp) -> None:
    bad, good = app.create(seed=RAISES), app.create(seed=7)
    video = app.ended(bad)
    assert video.error is not None
    assert video.error.code == "stage_failed"
    assert video.error.message == "Stage v2v failed: InputError: The keyframes are wrong."
    states = {stage.name: stage.status for stage in video.stages}
    assert (states["t2i"], states["i2v"], states["v2v"]) == ("completed", "completed", "failed")
    assert app.ended(good).status == "completed"


def test_a_stage_that_stumbles_is_asked_again(app: SecondApp) -> None:
    video_id = app.create(seed=STUMBLES)
    assert app.ended(video_id).status == "completed"
    assert [data["reason"] for data in app.told(video_id, "stage_retried", "v2v")] == ["RuntimeError"]
    assert app.journal.get(video_id).failures == {"v2v": 1}


def test_a_job_that_no_replica_can_do_ends_when_its_budget_is_spent(app: SecondApp) -> None:
    video_id = app.create(seed=POISONS)
    video = app.ended(video_id)
    assert video.error is not None
    assert (video.error.code, video.error.message) == (
        "stage_failed",
        "Stage v2v failed: RuntimeError: The device has hiccups.",
    )
    assert len(app.told(video_id, "stage_retried", "v2v")) == app.args.pipeline.stage_failures


def test_a_stage_that_computes_too_long_is_stopped_and_its_limit_is_named(app: SecondApp) -> None:
    video = app.ended(app.create(seed=HANGS))
    assert video.error is not None
    assert video.error.code == "stage_timeout"
    assert "more than 3 s" in video.error.message
    assert "stages.i2v.run_timeout_s" in video.error.message
    handle = serve.get_deployment_handle("i2v", APP)
    wait_for("i2v to stop", lambda: handle.ended.remote().result(timeout_s=120).get("cancelled") == 1)
    assert app.ended(app.create(seed=7)).status == "completed"


def test_a_job_that_a_shutdown_interrupts_is_done_after_the_next_start(app: SecondApp) -> None:
    video_id = app.create(seed=7)
    wait_for("a running job", lambda: app.journal.get(video_id).state == "running")
    serve.delete(APP)
    given_back = app.journal.get(video_id)
    assert (given_back.state, given_back.claims) == ("queued", 0)
    app.deploy()
    assert app.ended(video_id).status == "completed"


def content(app: SecondApp, video_id: str) -> bytes:
    return app.http.get(f"/v1/videos/{video_id}/content").content


def kept(app: SecondApp, video_id: str, stage: StageName) -> int:
    job: Job = app.journal.get(video_id)
    return len(job.outputs.get(stage, {}))


def kill_pipeline(app: SecondApp) -> None:
    victim = wait_for("the pipeline's process", lambda: Rig.replica("pipeline", app.name))
    victim.kill()
    victim.wait(timeout=120)


def test_a_job_whose_pipeline_is_killed_goes_on_where_it_was(app: SecondApp) -> None:
    video_id = app.create(seed=13)
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
    undisturbed = app.create(seed=13)
    app.ended(undisturbed)
    assert content(app, video_id) == content(app, undisturbed) != b""


def test_a_checkpoint_that_is_gone_is_made_again(app: SecondApp) -> None:
    video_id = app.create(seed=14)
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
