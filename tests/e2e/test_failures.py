"""Jobs that cannot end well, on an application of their own beside the shared one; and one that is interrupted."""

from collections.abc import Iterator

import pytest
from ray import serve

from deployments.settings.application import StorageArgs
from stages.types import StageName
from tests.e2e.faulty import HANGS, POISONS, RAISES, STUMBLES
from tests.e2e.rig import Rig, SecondApp, wait_for

pytestmark = pytest.mark.slow

APP = "faulty"


@pytest.fixture(scope="module")
def app(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecondApp]:
    folder = tmp_path_factory.mktemp("faulty")
    changes: dict[StageName, dict[str, object]] = {"i2v": {"run_timeout_s": 1.0}, "v2v": {}}
    faulty = {
        name: rig.args.stages[name].model_copy(update={"factory": "tests.e2e.faulty:Faulty", **change})
        for name, change in changes.items()
    }
    storage = StorageArgs(database_url=f"sqlite:///{folder}/jobs.sqlite", artifacts_url=f"file://{folder}/files")
    args = rig.args.model_copy(update={"stages": {**rig.args.stages, **faulty}, "storage": storage})
    made = SecondApp(rig, APP, args)
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
    assert "more than 1 s" in video.error.message
    assert "stages.i2v.run_timeout_s" in video.error.message
    handle = serve.get_deployment_handle("i2v", APP)
    wait_for("i2v to stop", lambda: handle.ended.remote().result(timeout_s=30).get("cancelled") == 1)
    assert app.ended(app.create(seed=7)).status == "completed"


def test_a_job_that_a_shutdown_interrupts_is_done_after_the_next_start(app: SecondApp) -> None:
    video_id = app.create(seed=7)
    wait_for("a running job", lambda: app.journal.get(video_id).state == "running")
    serve.delete(APP)
    given_back = app.journal.get(video_id)
    assert (given_back.state, given_back.claims) == ("queued", 0)
    app.deploy()
    assert app.ended(video_id).status == "completed"
