"""The windows of one job on several V2V replicas: all are used, the file stays the same, a lost one costs its windows.

First with replayed stages, then with the trained V2V.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from deployments.settings.application import AppArgs, StorageArgs
from deployments.settings.reading import load_config
from deployments.settings.variants import laptop, rehearsal
from stages.model.sampling.windows import plan_windows
from stages.presets import TINY, plan
from tests.e2e.rig import PROFILES, Rig, SecondApp, wait_for

pytestmark = pytest.mark.slow

REPLICAS = 3
V2V_S = 5.0  # of a replayed clip: no window ends while a test looks at another
VIDEO_S = 400.0  # of the real stage, on a busy machine


def windows_of(seconds: str) -> int:
    return len(plan_windows(plan(TINY, "a fox", seconds=seconds).i2v.frames, TINY.v2v_windows))


def with_v2v(args: AppArgs, replicas: int, folder: Path) -> AppArgs:
    stages = {**args.stages, "v2v": args.stages["v2v"].model_copy(update={"replicas": replicas})}
    storage = StorageArgs(database_url=f"sqlite:///{folder}/jobs.sqlite", artifacts_url=f"file://{folder}/files")
    return args.model_copy(update={"stages": stages, "storage": storage})


def content(app: SecondApp, video_id: str) -> bytes:
    return app.http.get(f"/v1/videos/{video_id}/content").content


def outputs(app: SecondApp, video_id: str) -> list[dict[str, Any]]:
    return app.told(video_id, "stage_output", "v2v")


def has_replicas(app: SecondApp, count: int) -> bool:
    return bool(app.http.get("/healthz").json()["stages"]["v2v"] == count)


@pytest.fixture(scope="module")
def app(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecondApp]:
    slow = rehearsal(rig.args, {**PROFILES, "v2v": replace(PROFILES["v2v"], run_s=V2V_S)})
    slow = slow.model_copy(update={"pipeline": slow.pipeline})
    made = SecondApp(rig, "spread", with_v2v(slow, REPLICAS, tmp_path_factory.mktemp("spread")))
    yield made
    made.close()


@pytest.mark.parametrize("seconds", ["4", "8"])
def test_one_job_uses_every_idle_replica_and_gives_the_frames_of_one_replica(
    rig: Rig, app: SecondApp, seconds: str
) -> None:
    spread, alone = app.create(seed=5, seconds=seconds), rig.create(seed=5, seconds=seconds).id
    video = app.ended(spread)
    assert (video.status, video.error) == ("completed", None)
    made = outputs(app, spread)
    assert sorted(output["index"] for output in made) == list(range(windows_of(seconds)))
    calls = Counter(output["replica"] for output in made)
    assert len(calls) == REPLICAS
    assert max(calls.values()) <= (len(made) + 1) // 2, calls  # evenly, as far as a busy machine lets them
    assert rig.ended(alone).frames == video.frames
    assert content(app, spread) == rig.http.get(f"/v1/videos/{alone}/content").content != b""


def test_under_load_a_job_gives_the_same_file_as_alone(rig: Rig, app: SecondApp) -> None:
    """More jobs than replicas."""
    seeds = [20 + number for number in range(REPLICAS + 1)]
    many = [app.create(seed=seed, seconds="4") for seed in seeds]
    alone = [rig.create(seed=seed, seconds="4").id for seed in seeds]
    for video_id, other in zip(many, alone, strict=True):
        assert app.ended(video_id, VIDEO_S).error is None
        assert rig.ended(other).error is None
        made = [output["index"] for output in outputs(app, video_id)]
        assert sorted(made) == list(range(windows_of("4")))
        assert content(app, video_id) == rig.http.get(f"/v1/videos/{other}/content").content != b""


def test_one_replica_takes_the_windows_in_their_order(rig: Rig) -> None:
    """Nearly: a call that a full replica turned away may be overtaken by those that have a place already."""
    video_id = rig.create(seconds="8").id
    assert rig.ended(video_id).status == "completed"
    made = [e.data["index"] for e in rig.events(video_id) if (e.kind, e.data.get("stage")) == ("stage_output", "v2v")]
    assert sorted(made) == list(range(windows_of("8")))
    slots = rig.args.stages["v2v"].max_ongoing_requests
    moved = sum(abs(place - window) for place, window in enumerate(made))
    assert moved <= slots * len(made), made


def test_a_killed_replica_costs_the_windows_it_had_and_no_other(app: SecondApp) -> None:
    wait_for("three replicas", partial(has_replicas, app, REPLICAS))
    video_id = app.create(seed=6, seconds="8")
    first = wait_for("a first window", lambda: next(iter(outputs(app, video_id)), None))
    host_and_pid = str(first["replica"])
    victim = Rig.replica("v2v", app.name, pid=int(host_and_pid.rpartition(":")[2]))
    assert victim is not None
    victim.kill()
    video = app.ended(video_id)
    assert (video.status, video.error) == ("completed", None)
    lost = [retry["index"] for retry in app.told(video_id, "stage_retried", "v2v")]
    assert 1 <= len(lost) <= app.args.stages["v2v"].max_ongoing_requests
    made = outputs(app, video_id)
    assert sorted(output["index"] for output in made) == list(range(windows_of("8")))
    assert all(output["replica"] != host_and_pid for output in made if output["index"] in lost)
    undisturbed = app.create(seed=6, seconds="8")
    app.ended(undisturbed)
    assert content(app, video_id) == content(app, undisturbed) != b""


def test_the_trained_v2v_gives_the_same_file_with_one_and_with_two_replicas(app: SecondApp, tmp_path: Path) -> None:
    """The last one here. The replayed VFI's frames are made of what V2V gave it."""
    assert windows_of("2") >= 2
    trained = laptop(load_config(), data_dir=tmp_path).stages["v2v"]
    files, used = [], []
    for replicas in (2, 1):  # in this order the second has nothing to load
        stages = {**app.args.stages, "v2v": trained.model_copy(update={"replicas": replicas})}
        app.args = app.args.model_copy(update={"stages": stages})
        app.deploy()
        wait_for(f"{replicas} replicas", partial(has_replicas, app, replicas))
        video_id = app.create(seed=7, seconds="2", steps=1)
        assert app.ended(video_id, VIDEO_S).error is None
        files.append(content(app, video_id))
        used.append({output["replica"] for output in outputs(app, video_id)})
    assert [len(replicas) for replicas in used] == [2, 1]
    assert files[0] == files[1] != b""
