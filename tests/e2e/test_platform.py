"""The platform's troubles cost no job: it waits, says for what, and nothing that was made is made again."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from ray import serve

from deployments.settings.application import AppArgs, StorageArgs
from tests.e2e.rig import WINDOWS, Rig, SecondApp, wait_for

pytestmark = pytest.mark.slow

LEASE_S = 5.0


@pytest.fixture(scope="module")
def app(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecondApp]:
    folder = tmp_path_factory.mktemp("platform")
    made = SecondApp(rig, "platform", arguments(rig.args, folder))
    yield made
    made.close()


def arguments(args: AppArgs, folder: Path) -> AppArgs:
    storage = StorageArgs(database_url=f"sqlite:///{folder}/jobs.sqlite", artifacts_url=f"file://{folder}/files")
    pipeline = args.pipeline.model_copy(update={"lease_s": LEASE_S})
    return args.model_copy(update={"storage": storage, "pipeline": pipeline})


def made(app: SecondApp, video_id: str) -> Counter[str]:
    """Outputs that were computed, by stage."""
    return Counter(event.data["stage"] for event in app.journal.events(video_id) if event.kind == "stage_output")


def store_of(app: SecondApp) -> Path:
    return Path(app.args.storage.artifacts_url.removeprefix("file://"))


def problems(app: SecondApp) -> list[str]:
    return [str(problem) for problem in app.http.get("/healthz").json()["problems"]]


ONCE = {"t2i": 1, "i2v": 1, "v2v": WINDOWS, "vfi": WINDOWS}


def test_a_store_that_takes_no_video_is_waited_for_and_nothing_is_computed_again(app: SecondApp) -> None:
    app.ended(app.create(seed=3))
    videos, aside = store_of(app) / "videos", store_of(app) / "aside"
    videos.rename(aside)
    videos.write_text("no folder")
    video_id = app.create(seed=4)
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
    video_id = app.create(seed=5)
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
    video_id = app.create(seed=6)
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
    video_id = app.create(seed=8)
    wait_for("V2V to compute", lambda: bool(app.told(video_id, "stage_started", "v2v")))
    victim = wait_for("the pipeline's process", lambda: Rig.replica("pipeline", app.name))
    victim.kill()
    app.http.post(f"/v1/videos/{video_id}/cancel")
    wait_for("the calls to stop", lambda: ended().get("cancelled", 0) > before.get("cancelled", 0))
    video = app.ended(video_id)
    assert video.error is not None
    assert video.error.code == "cancelled"
    assert ended().get("completed", 0) - before.get("completed", 0) < WINDOWS


def test_a_stage_that_fails_to_deploy_is_waited_for(rig: Rig, tmp_path: Path) -> None:
    args = arguments(rig.args, tmp_path)
    app = SecondApp(rig, "rollout", args)
    try:
        t2i = args.stages["t2i"]
        broken = t2i.model_copy(update={"options": {**t2i.options, "nonsense": 1}})
        app.args = args.model_copy(update={"stages": {**args.stages, "t2i": broken}})
        with pytest.raises(RuntimeError):
            app.deploy()
        ids = [app.create(seed=seed) for seed in range(3)]
        assert any("nonsense" in problem for problem in problems(app))
        app.args = args
        app.deploy()
        assert {app.ended(video_id).status for video_id in ids} == {"completed"}
    finally:
        app.close()


def kinds(app: SecondApp, video_id: str) -> list[str]:
    return [event.kind for event in app.journal.events(video_id)]
