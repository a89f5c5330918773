"""Jobs that begin, pause and go on anywhere: what both clients send for them, files among it, and never sent twice."""

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from client import (
    APIConnectionError,
    BadRequestError,
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    Reference,
    Video,
)
from client._core import uploads
from tests.client.rig import Timeline
from tests.client.standin import keyframe, preview, sheet, thumbnail
from tests.client.wire import Fault, Wire

PNG, MP4 = keyframe(5), preview()
URL = "data:image/png;base64," + base64.b64encode(PNG).decode()


def kinds(wire: Wire) -> list[str]:
    """What each POST carried."""
    return [request.kind for request in wire.seen if request.line.startswith("POST")]


def test_every_field_reaches_the_server_and_nothing_else(api: Any, wire: Wire) -> None:
    given = {
        "model": "tiny",
        "negative_prompt": "rain",
        "size": "256x256",
        "seconds": "2",
        "seed": 7,
        "steps": 10,
        "guidance": 3.5,
        "factor": 4,
        "until": "v2v",
        "pause_after": "t2i",
        "candidates": 3,
        "priority": 5,
        "deadline_s": 60.0,
        "reuse": False,
        "webhook_url": "https://example.com/told",
    }
    video: Video = api.videos.create("a fox", **given)
    assert wire.said == {"prompt": "a fox", **given}
    assert (video.until, video.candidates, video.priority) == ("v2v", 3, 5)
    api.videos.create("a fox", **dict.fromkeys(given))
    assert wire.said == {"prompt": "a fox"}


def test_a_stage_may_be_asked_for_alone_as_an_object_or_as_its_json(api: Any, wire: Wire) -> None:
    for said in ({"i2v": {"steps": 20}}, '{"i2v": {"steps": 20}}'):
        api.videos.create("a fox", stages=said)
        assert wire.said == {"prompt": "a fox", "stages": {"i2v": {"steps": 20}}}
    with pytest.raises(InvalidArgumentError, match="stages"):
        api.videos.create("a fox", stages={"i2v": {"stepps": 20}})


def test_a_misspelt_option_is_no_silent_loss(api: Any, wire: Wire) -> None:
    with pytest.raises(TypeError, match=r"create\(\) has no option 'sede'; it takes candidates, .* seed"):
        api.videos.create("a fox", sede=7)
    with pytest.raises(TypeError, match=r"remix\(\) has no option 'size'"):
        api.videos.remix("video_0001", size="256x256")
    with pytest.raises(TypeError, match=r"upscale\(\) has no option 'enter'"):
        api.videos.upscale(MP4, enter="vfi")
    assert wire.seen == []


@pytest.mark.parametrize("form", ["path", "text", "bytes", "url", "reference"])
def test_a_picture_goes_as_a_file_in_whatever_form_it_comes(api: Any, wire: Wire, tmp_path: Path, form: str) -> None:
    file = tmp_path / "private name.png"
    file.write_bytes(PNG)
    forms = {
        "path": file,
        "text": str(file),
        "bytes": PNG,
        "url": URL,
        "reference": Reference(image_url=URL),
    }
    api.videos.create("a fox", input_reference=forms[form], seed=7, guidance=2.5, reuse=True, deadline_s=60)
    assert kinds(wire) == ["multipart/form-data"]
    told = {"prompt": "a fox", "seed": "7", "guidance": "2.5", "reuse": "true", "deadline_s": "60.0"}
    assert wire.said == {**told, "input_reference": PNG}
    assert not any(b"private" in request.body for request in wire.seen)


def test_a_video_goes_as_a_file_or_as_an_id(api: Any, wire: Wire, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "old.mp4").write_bytes(MP4)
    (tmp_path / "bare").write_bytes(MP4)
    monkeypatch.chdir(tmp_path)
    known = wire.finished("an owl")
    for given in ("old.mp4", Path("bare"), "bare", MP4, memoryview(MP4)):
        api.videos.create("a fox", input_video=given, enter="vfi")
        assert wire.said == {"prompt": "a fox", "enter": "vfi", "input_video": MP4}
    earlier: list[Any] = [known, api.videos.retrieve(known), Reference(id=known)]
    for old in earlier:
        video = api.videos.create("a fox", input_video=old, enter="v2v")
        assert wire.said == {"prompt": "a fox", "enter": "v2v", "input_video": {"id": known}}
        assert video.remixed_from_video_id == known
    assert kinds(wire) == ["multipart/form-data"] * 5 + ["application/json"] * 3
    with pytest.raises(NotFoundError, match="video_9999"):
        api.videos.create("a fox", input_video="video_9999", enter="v2v")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_reference": "absent.png"}, "input_reference: there is no file 'absent.png'; check the path"),
        ({"input_video": "absent.mp4", "enter": "vfi"}, "no file 'absent.mp4' and no video has such an id"),
        ({"input_reference": b""}, "input_reference is empty: it has 0 bytes; give a picture"),
        ({"input_reference": MP4}, r"must be a picture, but it is a video \(video/mp4\); use input_video"),
        ({"input_video": PNG, "enter": "v2v"}, r"must be a video, but it is a picture \(image/png\)"),
        ({"input_reference": PNG, "input_video": MP4, "enter": "v2v"}, "exclude each other"),
        ({"input_video": MP4}, 'input_video needs enter: "v2v" redraws it, "vfi" interpolates it'),
        ({"enter": "v2v"}, "enter is 'v2v', but there is no input_video"),
        ({"input_reference": "data:image/png,abc"}, "must look like 'data:image/png;base64"),
        ({"input_reference": "data:image/png;base64,?"}, "not valid base64"),
        ({"input_reference": 5}, "input_reference is a int; give a path, bytes, or a data: URL"),
        ({"input_reference": os.curdir}, "cannot be read"),
        ({"input_reference": Reference(id="video_1")}, "input_reference must be a picture"),
        ({"deadline_s": float("inf")}, "deadline_s is inf; it must be a finite number"),
        ({"until": "end"}, "until: Input should be 't2i', 'i2v', 'v2v' or 'vfi'"),
        ({"webhook_url": "https://\ud800"}, "webhook_url holds signs that are not UTF-8"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_sent(
    api: Any, wire: Wire, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        api.videos.create("a fox", **options)
    assert wire.seen == []


def test_a_file_that_is_too_large_is_refused_here(
    api: Any, wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_UPLOAD_BYTES", 3_000_000)
    large = tmp_path / "large.png"
    large.write_bytes(PNG.ljust(3_000_001))
    with pytest.raises(InvalidArgumentError, match=r"larger than 3 MB, .* make '.*large\.png' smaller or shorter"):
        api.videos.create("a fox", input_reference=large)
    large.write_bytes(PNG.ljust(3_000_000))
    api.videos.create("a fox", input_reference=large)
    assert len(wire.said["input_reference"]) == 3_000_000


def test_a_lost_answer_to_an_upload_makes_no_second_job(api: Any, wire: Wire) -> None:
    wire.faults = [Fault("POST", cut_after=20), Fault("POST", status=503)]
    video = api.videos.create("a fox", input_reference=PNG)
    assert (wire.count("POST"), [job.id for job in wire.jobs]) == (3, [video.id])
    assert wire.said == {"prompt": "a fox", "input_reference": PNG}


def test_remix_sends_the_changes_alone(api: Any, wire: Wire) -> None:
    known = wire.finished("a fox")
    video = api.videos.remix(known, "an owl", from_stage="i2v", seed=8, factor=3, until="vfi", priority=2)
    assert wire.said == {
        "prompt": "an owl",
        "from_stage": "i2v",
        "seed": 8,
        "factor": 3,
        "until": "vfi",
        "priority": 2,
    }
    assert (video.remixed_from_video_id, video.prompt) == (known, "an owl")
    assert api.videos.retrieve(video.id).stages[0].origin == "reused"
    api.videos.remix(known, seed=9)
    assert wire.last.request.prompt == "a fox"


def test_extend_goes_on_from_a_completed_video(api: Any, wire: Wire) -> None:
    known = wire.finished("a fox")
    video = api.videos.extend(known, "the fox runs away", seconds=4)
    assert wire.said == {"prompt": "the fox runs away", "seconds": "4"}
    assert video.remixed_from_video_id == known
    with pytest.raises(ConflictError, match="it can be extended once it is"):
        api.videos.extend(video.id)


@pytest.mark.parametrize("verb", ["remix", "extend"])
def test_a_lost_answer_makes_no_second_job(api: Any, wire: Wire, verb: str) -> None:
    known = wire.finished()
    wire.faults = [Fault("POST", cut_after=20), Fault("POST", cut_after=20)]
    getattr(api.videos, verb)(known, seed=8)
    assert (wire.count("POST"), len(wire.jobs)) == (3, 2)
    again = {"seed": 8, "idempotency_key": "mine"}
    assert getattr(api.videos, verb)(known, **again) == getattr(api.videos, verb)(known, **again)
    assert len(wire.jobs) == 3
    with pytest.raises(ConflictError, match="used with another body"):
        getattr(api.videos, verb)(known, seed=9, idempotency_key="mine")


def test_a_paused_job_is_handed_over_and_goes_on(api: Any, wire: Wire) -> None:
    held: Video = api.videos.create_and_wait("a fox", pause_after="t2i", candidates=3)
    assert (held.status, held.paused_after, held.stages[0].status) == ("paused", "t2i", "completed")
    assert api.videos.wait(held.id).paused_after == "t2i"
    with pytest.raises(BadRequestError, match="candidates 0 to 2"):
        api.videos.continue_(held.id, candidate=3)
    assert api.videos.continue_(held.id, candidate=2).paused_after is None
    assert wire.last.request.candidate == 2
    assert api.videos.wait(held.id).status == "completed"
    with pytest.raises(ConflictError, match="not paused"):
        api.videos.continue_(held.id)
    with pytest.raises(InvalidArgumentError, match=r"candidate: .*greater than or equal to 0"):
        api.videos.continue_(held.id, candidate=-1)


def test_continue_is_not_repeated_where_it_may_have_worked(api: Any, wire: Wire, timeline: Timeline) -> None:
    held = api.videos.create_and_wait("a fox", pause_after="i2v")
    wire.faults = [Fault("continue", status=503, headers={"retry-after": "2"}), Fault("continue", cut_after=5)]
    timeline.pauses.clear()
    with pytest.raises(APIConnectionError, match="may have done it"):
        api.videos.continue_(held.id)
    assert timeline.pauses == [2.0]
    assert wire.count("continue") == 2
    assert api.videos.wait(held.id).status == "completed"


def test_upscale_and_interpolate_enter_in_the_middle(api: Any, wire: Wire) -> None:
    known = wire.finished("an owl")
    assert api.videos.upscale(known).prompt == "an owl"
    assert wire.said == {"prompt": "", "enter": "v2v", "input_video": {"id": known}}
    api.videos.upscale(MP4, "a fox", seed=7, until="v2v", factor=3)
    told = {"prompt": "a fox", "enter": "v2v", "seed": "7", "until": "v2v", "factor": "3"}
    assert wire.said == {**told, "input_video": MP4}
    api.videos.interpolate(MP4, 4)
    assert wire.said == {"prompt": "a video", "enter": "vfi", "factor": "4", "input_video": MP4}
    states: list[Video] = []
    video = api.videos.wait(api.videos.interpolate(known, factor=3).id, on_progress=states.append)
    assert [(stage.status, stage.origin) for stage in video.stages] == [
        ("skipped", None),
        ("skipped", None),
        ("completed", "reused"),
        ("completed", None),
    ]


def test_variants_and_candidates_are_files(api: Any, wire: Wire, tmp_path: Path) -> None:
    target = tmp_path / "file"
    held = api.videos.create_and_wait("a fox", pause_after="t2i", candidates=2)
    for number in (0, 1):
        api.videos.download(held.id, target, variant="keyframe", candidate=number)
        assert target.read_bytes() == keyframe(number)
    for variant in ("preview", "video", "thumbnail"):
        with pytest.raises(ConflictError):
            api.videos.download(held.id, target, variant=variant)
    api.videos.continue_(held.id, candidate=1)
    api.videos.wait(held.id)
    wanted = {"keyframe": keyframe(1), "preview": preview(), "thumbnail": thumbnail(), "spritesheet": sheet()}
    for variant, content in {**wanted, "video": wire.payload}.items():
        assert api.videos.download(held.id, target, variant=variant).read_bytes() == content
    with pytest.raises(BadRequestError, match="candidate is 2; video"):
        api.videos.download(held.id, target, variant="keyframe", candidate=2)


def test_a_variant_that_there_is_not_is_refused_here(api: Any, wire: Wire, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="variant is 'poster'; it must be one of: video, thumbnail,"):
        api.videos.download("video_0001", tmp_path / "x", variant="poster")
    with pytest.raises(InvalidArgumentError, match="candidate is 1 with the variant 'preview'"):
        api.videos.download("video_0001", tmp_path / "x", variant="preview", candidate=1)
    assert (wire.seen, os.listdir(tmp_path)) == ([], [])


def test_pools(api: Any, wire: Wire) -> None:
    wire.add()
    wire.faults = [Fault("pools", status=503)]
    found = api.pools()
    assert [(pool.stage, pool.replicas) for pool in found.stages] == [("t2i", 1), ("i2v", 1), ("v2v", 1), ("vfi", 1)]
    assert found.jobs == {"queued": 1}
