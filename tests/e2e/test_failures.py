"""Jobs that cannot end well, that a shutdown interrupts, or whose pipeline dies, on an application of their own.

A job whose executor dies goes on from its checkpoints: no finished stage or window is computed again. The platform's
troubles cost no job: it waits, says for what, and nothing that was made is made again.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from ray import serve

from deployments.jobs.values import Job
from deployments.settings.application import StorageArgs
from stages.types import StageName
from tests.e2e.faulty import HANGS, POISONS, RAISES, STUMBLES
from tests.e2e.rig import WINDOWS, Rig, SecondApp, slowly, wait_for

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
    video_id = app.create(seed=13, **slowly("v2v"))
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
    undisturbed = app.create(seed=13, **slowly("v2v"))
    app.ended(undisturbed)
    assert content(app, video_id) == content(app, undisturbed) != b""


def test_a_checkpoint_that_is_gone_is_made_again(app: SecondApp) -> None:
    video_id = app.create(seed=14, **slowly("v2v"))
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


# The platform's troubles


def made(app: SecondApp, video_id: str) -> Counter[str]:
    """Outputs that were computed, by stage."""
    return Counter(event.data["stage"] for event in app.journal.events(video_id) if event.kind == "stage_output")


def store_of(app: SecondApp) -> Path:
    return Path(app.args.storage.artifacts_url.removeprefix("file://"))


def problems(app: SecondApp) -> list[str]:
    return [str(problem) for problem in app.http.get("/healthz").json()["problems"]]


ONCE = {"t2i": 1, "i2v": 1, "v2v": WINDOWS, "vfi": WINDOWS}


def test_a_store_that_takes_no_video_is_waited_for_and_nothing_is_computed_again(app: SecondApp) -> None:
    app.ended(app.create(seed=30))
    videos, aside = store_of(app) / "videos", store_of(app) / "aside"
    videos.rename(aside)
    videos.write_text("no folder")
    video_id = app.create(seed=40)
    try:
        job = wait_for("the job to be put off", lambda: j if (j := app.journal.get(video_id)).claims == 0 else None)
        why = wait_for("a reason", lambda: app.video(video_id).waits_for)
        assert why.startswith(f"The artifact store {app.args.storage.artifacts_url} cannot be used: ")
        assert any(why in problem for problem in problems(app))
        wait_for("a second try", lambda: kinds(app, video_id).count("put_off") >= 2)
        assert job.state in ("queued", "running")
    finally:
        videos.unlink()
        aside.rename(videos)
    video = app.ended(video_id)
    assert (video.status, video.error, video.waits_for) == ("completed", None, None)
    assert made(app, video_id) == ONCE
    assert problems(app) == []


def test_a_store_that_takes_nothing_from_the_middle_of_a_job_on_is_waited_for(app: SecondApp) -> None:
    video_id = app.create(seed=50, **slowly("v2v"))
    wait_for("kept keyframes", lambda: len(app.journal.get(video_id).outputs.get("i2v", {})) == 1)
    store, aside = store_of(app), store_of(app).with_name("elsewhere")
    store.rename(aside)
    store.write_text("no folder")
    try:
        wait_for("every chunk", lambda: made(app, video_id)["vfi"] == WINDOWS)
        wait_for("a reason", lambda: app.video(video_id).waits_for)
    finally:
        store.unlink()
        aside.rename(store)
    assert app.ended(video_id).status == "completed"
    assert made(app, video_id) == ONCE


def test_a_replica_that_is_killed_more_often_than_it_may_fail_costs_no_job(app: SecondApp) -> None:
    video_id = app.create(seed=60, **slowly("v2v"))
    killed: set[int] = set()

    def computing() -> psutil.Process | None:
        """V2V's replica while it computes, another one than those that were killed."""
        [pool] = [one for one in app.http.get("/v1/pools").json()["stages"] if one["stage"] == "v2v"]
        replica = Rig.replica("v2v", app.name)
        return replica if pool["running"] and replica is not None and replica.pid not in killed else None

    for _ in range(app.args.pipeline.stage_failures + 1):
        victim = wait_for("V2V to compute", computing)
        victim.kill()
        killed.add(victim.pid)
        victim.wait(timeout=120)
    assert app.ended(video_id).status == "completed"


def test_calls_whose_caller_died_stop_at_their_next_step(app: SecondApp) -> None:
    handle = serve.get_deployment_handle("v2v", app.name)

    def ended() -> dict[str, int]:
        counted: dict[str, int] = handle.ended.remote().result(timeout_s=120)
        return counted

    wait_for("V2V", lambda: Rig.replica("v2v", app.name))
    before = ended()
    video_id = app.create(seed=80, **slowly("v2v"))
    wait_for("V2V to compute", lambda: bool(app.told(video_id, "stage_started", "v2v")))
    victim = wait_for("the pipeline's process", lambda: Rig.replica("pipeline", app.name))
    victim.kill()
    app.http.post(f"/v1/videos/{video_id}/cancel")
    wait_for("the calls to stop", lambda: ended().get("cancelled", 0) > before.get("cancelled", 0))
    video = app.ended(video_id)
    assert video.error is not None
    assert video.error.code == "cancelled"
    assert ended().get("completed", 0) - before.get("completed", 0) < WINDOWS


def test_a_stage_that_fails_to_deploy_is_waited_for(app: SecondApp) -> None:
    args, t2i = app.args, app.args.stages["t2i"]
    broken = t2i.model_copy(update={"options": {**t2i.options, "nonsense": 1}})
    app.args = args.model_copy(update={"stages": {**args.stages, "t2i": broken}})
    with pytest.raises(RuntimeError):
        app.deploy()
    ids = [app.create(seed=seed) for seed in range(10, 13)]
    assert any("nonsense" in problem for problem in problems(app))
    app.args = args
    app.deploy()
    assert {app.ended(video_id).status for video_id in ids} == {"completed"}


def kinds(app: SecondApp, video_id: str) -> list[str]:
    return [event.kind for event in app.journal.events(video_id)]
