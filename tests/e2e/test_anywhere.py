"""Jobs that begin, end and pause at any stage, on a real server with stand-in stages: no stage runs that need not."""

import io
import itertools
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
import PIL.Image
import pytest

from client.schema import Video
from deployments.settings.application import AppArgs, StorageArgs
from stages.local.mp4 import write_mp4
from stages.types import Clip
from tests.e2e.rig import WINDOWS, Rig, SecondApp, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def app(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecondApp]:
    made = SecondApp(rig, "anywhere", with_storage(rig.args, tmp_path_factory.mktemp("anywhere")))
    yield made
    made.close()


def with_storage(args: AppArgs, folder: Any) -> AppArgs:
    storage = StorageArgs(database_url=f"sqlite:///{folder}/jobs.sqlite", artifacts_url=f"file://{folder}/files")
    stages = {
        name: stage.model_copy(update={"options": {**stage.options, "run_s": 0.2}})
        for name, stage in args.stages.items()
    }
    return args.model_copy(update={"storage": storage, "stages": stages})


def ran(app: SecondApp, video_id: str) -> Counter[str]:
    """How many outputs of each stage the job computed."""
    return Counter(e.data["stage"] for e in app.journal.events(video_id) if e.kind == "stage_output")


def completed(app: SecondApp, video_id: str) -> Video:
    video = app.ended(video_id)
    assert (video.status, video.error) == ("completed", None)
    return video


def content(app: SecondApp, video_id: str, **query: str) -> Any:
    answer = app.http.get(f"/v1/videos/{video_id}/content", params=query)
    assert answer.status_code == 200, answer.text
    return answer


def frames_in(data: bytes) -> int:
    with av.open(io.BytesIO(data)) as container:
        return sum(1 for _ in container.decode(video=0))


def post(app: SecondApp, path: str, **body: Any) -> str:
    answer = app.http.post(f"/v1/videos/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


@pytest.mark.parametrize(
    ("until", "media_type", "stages", "frames"),
    [
        ("t2i", "image/png", {"t2i": 1}, 1),
        ("i2v", "video/mp4", {"t2i": 1, "i2v": 1}, 16),
        ("v2v", "video/mp4", {"t2i": 1, "i2v": 1, "v2v": WINDOWS, "vfi": WINDOWS}, 16),
    ],
)
def test_a_job_ends_where_it_is_told_to(
    app: SecondApp, until: str, media_type: str, stages: dict[str, int], frames: int
) -> None:
    video = completed(app, app.create(seed=1, until=until))
    assert ran(app, video.id) == stages
    assert (video.frames, video.until) == (frames, until)
    answer = content(app, video.id)
    assert answer.headers["content-type"] == media_type
    if media_type == "video/mp4":
        assert frames_in(answer.content) == frames
    else:
        assert PIL.Image.open(io.BytesIO(answer.content)).format == "PNG"
    assert [s.status for s in video.stages if s.name not in stages] == ["skipped"] * (4 - len(stages))


def test_a_paused_job_uses_no_device_until_a_candidate_is_chosen(app: SecondApp) -> None:
    video_id = app.create(seed=5, pause_after="t2i", candidates=3)
    paused = wait_for("the pause", lambda: video if (video := app.video(video_id)).paused_after else None)
    assert (paused.status, paused.paused_after, paused.candidates) == ("paused", "t2i", 3)
    assert ran(app, video_id) == {"t2i": 3}
    pictures = {content(app, video_id, variant="keyframe", candidate=str(k)).content for k in range(3)}
    assert len(pictures) == 3
    wrong = app.http.post(f"/v1/videos/{video_id}/continue", json={"candidate": 3})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "candidate")
    post(app, f"{video_id}/continue", candidate=2)
    completed(app, video_id)
    assert ran(app, video_id) == {"t2i": 3, "i2v": 1, "v2v": WINDOWS, "vfi": WINDOWS}
    again = app.http.post(f"/v1/videos/{video_id}/continue")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "video_not_paused")


@pytest.mark.parametrize("stage", ["i2v", "v2v"])
def test_a_job_pauses_after_any_stage_and_ends_as_if_it_had_not(app: SecondApp, stage: str) -> None:
    straight = app.create(seed=6)
    video_id = app.create(seed=6, pause_after=stage)
    wait_for("the pause", lambda: app.video(video_id).paused_after == stage)
    assert ran(app, video_id)["vfi"] == 0
    post(app, f"{video_id}/continue")
    completed(app, video_id)
    completed(app, straight)
    assert ran(app, video_id) == {"t2i": 1, "i2v": 1, "v2v": WINDOWS, "vfi": WINDOWS}
    assert frames_in(content(app, video_id).content) == frames_in(content(app, straight).content)


def test_a_remix_runs_exactly_the_stages_that_change_and_outlives_its_parent(app: SecondApp) -> None:
    parent = completed(app, app.create(seed=7))
    runs = {"t2i": 1, "i2v": 1, "v2v": WINDOWS, "vfi": WINDOWS}
    children = {
        "t2i": post(app, f"{parent.id}/remix", prompt="a red fox"),
        "i2v": post(app, f"{parent.id}/remix", prompt="a red fox", from_stage="i2v"),
        "v2v": post(app, f"{parent.id}/remix", seed=8, from_stage="v2v"),
        "vfi": post(app, f"{parent.id}/remix", factor=2),
    }
    assert app.http.delete(f"/v1/videos/{parent.id}").status_code == 200
    assert app.http.get(f"/v1/videos/{parent.id}").status_code == 404
    names = list(runs)
    for stage, child in children.items():
        video = completed(app, child)
        assert video.remixed_from_video_id == parent.id
        assert ran(app, child) == {name: runs[name] for name in names[names.index(stage) :]}, stage
    assert frames_in(content(app, children["vfi"]).content) == 2 * 15 + 1
    nothing = app.http.post(f"/v1/videos/{children['vfi']}/remix", json={})
    assert (nothing.status_code, nothing.json()["error"]["param"]) == (400, "prompt")


def test_files_go_with_the_last_job_that_uses_them(app: SecondApp) -> None:
    parent = completed(app, app.create(seed=9))
    child = completed(app, post(app, f"{parent.id}/remix", factor=2))
    folder = app.args.storage.artifacts_url.removeprefix("file://")
    own = [record["key"] for stage in app.journal.get(child.id).outputs.values() for record in stage.values()]
    paths = [f"{folder}/{key}" for key in own]
    app.http.delete(f"/v1/videos/{parent.id}")
    assert [path for path in paths if not exists(path)] == []
    app.http.delete(f"/v1/videos/{child.id}")
    assert [path for path in paths if exists(path)] == []


def exists(path: str) -> bool:
    try:
        with open(path, "rb"):
            return True
    except FileNotFoundError:
        return False


def test_a_picture_takes_the_place_of_t2i(app: SecondApp) -> None:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (300, 200), (200, 40, 40)).save(buffer, "PNG")
    answer = app.http.post(
        "/v1/videos",
        data={"prompt": "a fox"},
        files={"input_reference": ("../../a.png", buffer.getvalue(), "image/png")},
    )
    assert answer.status_code == 200, answer.text
    video = completed(app, answer.json()["id"])
    assert ran(app, video.id) == {"i2v": 1, "v2v": WINDOWS, "vfi": WINDOWS}
    assert video.stages[0].origin == "uploaded"
    shown = np.asarray(PIL.Image.open(io.BytesIO(content(app, video.id, variant="keyframe").content)))
    assert shown.shape == (256, 256, 3)
    assert np.abs(shown.astype(int) - [200, 40, 40]).max() <= 1


@pytest.mark.parametrize(
    ("enter", "runs", "frames"), [("v2v", {"v2v": 1, "vfi": 1}, 24), ("vfi", {"vfi": 3}, 4 * 23 + 1)]
)
def test_a_video_enters_at_v2v_or_vfi(
    app: SecondApp, tmp_path: Any, enter: str, runs: dict[str, int], frames: int
) -> None:
    ramp = np.broadcast_to(np.arange(24, dtype=np.uint8)[:, None, None, None] * 10, (24, 48, 64, 3))
    write_mp4(tmp_path / "own.mp4", [Clip(ramp, 24.0)])
    data = {"prompt": "a fox", "enter": enter, **({"factor": "4"} if enter == "vfi" else {})}
    answer = app.http.post("/v1/videos", data=data, files={"input_video": (tmp_path / "own.mp4").read_bytes()})
    assert answer.status_code == 200, answer.text
    video = completed(app, answer.json()["id"])
    assert ran(app, video.id) == runs
    assert frames_in(content(app, video.id).content) == frames == video.frames


def test_a_video_is_extended_from_its_last_frame(app: SecondApp) -> None:
    parent = completed(app, app.create(seed=10))
    child = completed(app, post(app, f"{parent.id}/extend", prompt="a fox runs away"))
    assert ran(app, child.id) == {"i2v": 1, "v2v": WINDOWS, "vfi": WINDOWS}
    assert parent.frames is not None
    assert child.frames == 2 * parent.frames
    with av.open(io.BytesIO(content(app, child.id).content)) as container:
        times = [frame.pts * Fraction(frame.time_base) for frame in container.decode(video=0)]
    assert len(times) == child.frames
    assert {b - a for a, b in itertools.pairwise(times)} == {Fraction(1, 24)}


def test_identical_jobs_compute_once_where_the_tenant_allows_it(app: SecondApp) -> None:
    twins = [app.create(seed=11, reuse=True) for _ in range(3)]
    for twin in twins:
        completed(app, twin)
    assert sum((ran(app, twin) for twin in twins), Counter()) == {"t2i": 1, "i2v": 1, "v2v": WINDOWS, "vfi": WINDOWS}
    assert len({content(app, twin).content for twin in twins}) == 1
    later = completed(app, app.create(seed=11, reuse=True, factor=2))
    assert ran(app, later.id) == {"vfi": WINDOWS}
    assert {stage.origin for stage in later.stages[:3]} == {"reused"}
    apart = completed(app, app.create(seed=11))
    assert ran(app, apart.id)["t2i"] == 1


def test_a_job_that_is_done_ends_before_the_windows_of_the_next(app: SecondApp) -> None:
    """The last one here: VFI is slow from now on."""
    vfi = app.args.stages["vfi"]
    slow = vfi.model_copy(update={"options": {**vfi.options, "run_s": 1.5}})
    app.args = app.args.model_copy(update={"stages": {**app.args.stages, "vfi": slow}})
    app.deploy()
    ids = [app.create(seed=1), app.create(seed=2)]
    assert [app.ended(video_id).error for video_id in ids] == [None, None]
    events = [app.journal.events(video_id) for video_id in ids]
    made = [[e.at for e in own if (e.kind, e.data.get("stage")) == ("stage_output", "vfi")] for own in events]
    assert [len(own) for own in made] == [WINDOWS, WINDOWS]
    one = made.index(min(made, key=max))  # either may come first, and windows of both in turn
    end = next(event.at for event in events[one] if event.kind == "completed")
    assert end < min(at for at in made[1 - one] if at > max(made[one]))
