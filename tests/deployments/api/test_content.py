"""Content over HTTP: the file whole or in parts, and what there is to look at of a job."""

import asyncio
import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from sqlalchemy import update

from deployments.files.keeper import Keeper
from deployments.journal.sweeps import Sweeps
from deployments.journal.tables import jobs
from stages.local.mp4 import write_mp4
from stages.types import Clip, Image, Keyframes
from tests.deployments.rig import CONTENT, Rig, error_of


async def test_the_content_of_an_unfinished_video_is_a_conflict(rig: Rig) -> None:
    video = await rig.create()
    error = error_of(await rig.http.get(f"/v1/videos/{video.id}/content"), 409)
    assert (error.code, error.type) == ("video_not_ready", "conflict_error")
    assert "queued" in error.message


async def test_content_that_is_gone_for_good_says_so(rig: Rig) -> None:
    expired = await rig.finished()
    with rig.database.write() as connection:
        connection.execute(update(jobs).values(finished_at=0.0))
    assert Sweeps(rig.database).results(ttl_s=60.0) == 1
    lost = await rig.finished()
    [file] = rig.folder.glob(f"artifacts/videos/{lost}/*")
    file.unlink()
    for job_id, why in ((expired, "retention.results_s"), (lost, "not in the artifact store")):
        for asked in ("content", "content?variant=thumbnail", "stream"):
            error = error_of(await rig.http.get(f"/v1/videos/{job_id}/{asked}"), 410)
            assert (error.code, error.type) == ("video_gone", "not_found_error")
            assert why in error.message
    assert (await rig.http.get(f"/v1/videos/{expired}")).json()["status"] == "completed"


async def test_content_comes_whole_in_parts_and_never_from_another_file(rig: Rig) -> None:
    path = f"/v1/videos/{await rig.finished()}/content"
    whole = await rig.http.get(path)
    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, CONTENT, "video/mp4")
    assert (whole.headers["accept-ranges"], whole.headers["content-length"]) == ("bytes", str(len(CONTENT)))
    part = await rig.http.get(path, headers={"range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, CONTENT[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(CONTENT)}"
    tail = await rig.http.get(path, headers={"range": "bytes=-24", "if-range": whole.headers["etag"]})
    assert (tail.status_code, tail.content) == (206, CONTENT[-24:])
    changed = await rig.http.get(path, headers={"range": "bytes=-24", "if-range": '"another"'})
    assert (changed.status_code, changed.content) == (200, CONTENT)
    behind = await rig.http.get(path, headers={"range": f"bytes={len(CONTENT)}-"})
    error_of(behind, 416)
    assert behind.headers["content-range"] == f"bytes */{len(CONTENT)}"
    head = await rig.http.head(path)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(CONTENT)))
    assert error_of(await rig.http.get(path, params={"variant": "frames"}), 400).param == "variant"


def file_of(rig: Rig, job_id: str) -> Path:
    result = rig.journal.get(job_id).result
    assert result is not None
    return rig.folder / "artifacts" / str(result["key"])


@pytest.mark.parametrize("left", [None, b"", CONTENT[:-1], CONTENT + b"x", b"x" + CONTENT[1:]])
async def test_a_file_that_is_not_what_was_recorded_is_made_again_or_gone(rig: Rig, left: bytes | None) -> None:
    job_id = await rig.finished()
    path, file = f"/v1/videos/{job_id}/content", file_of(rig, job_id)
    file.unlink() if left is None else file.write_bytes(left)
    for variant in ("video", "thumbnail"):
        error = error_of(await rig.http.get(path, params={"variant": variant}), 410)
        why = "its file is not in the artifact store" if left is None else "its file is damaged"
        assert error.message == (
            f"The content of video {job_id} is gone: {why}, and what it was made of is not kept; make it again, with "
            "the same seed for the same video."
        )
    rig.remade[job_id] = b"x" * len(CONTENT)
    assert error_of(await rig.http.get(path), 410).code == "video_gone"  # another video is not that one
    rig.remade[job_id] = CONTENT
    assert (await rig.http.get(path)).content == CONTENT


async def test_a_file_that_vanishes_after_it_was_read_is_made_again(rig: Rig) -> None:
    job_id = await rig.finished()
    path = f"/v1/videos/{job_id}/content"
    assert (await rig.http.get(path)).content == CONTENT
    file_of(rig, job_id).unlink()
    rig.remade[job_id] = CONTENT
    answers = await asyncio.gather(*(rig.http.get(path) for _ in range(4)))
    assert {answer.content for answer in answers} == {CONTENT}


async def test_a_contact_sheet_is_made_of_the_finished_video(rig: Rig, tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.arange(11, dtype=np.uint8)[:, None, None, None] * 20, (11, 32, 64, 3))
    write_mp4(tmp_path / "ramp.mp4", [Clip(ramp, 24.0)])
    path = f"/v1/videos/{await rig.finished((tmp_path / 'ramp.mp4').read_bytes())}/content"
    answer = await rig.http.get(path, params={"variant": "spritesheet"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    thumbnail = await rig.http.get(path, params={"variant": "thumbnail"})
    assert (thumbnail.status_code, thumbnail.headers["content-type"]) == (200, "image/webp")
    assert np.asarray(PIL.Image.open(io.BytesIO(thumbnail.content))).shape == (32, 64, 3)
    sheet = np.asarray(PIL.Image.open(io.BytesIO(answer.content)))
    assert sheet.shape == (32, 6 * 64, 3)
    assert np.abs(sheet[16, 32::64].mean(-1) - [0, 40, 80, 120, 160, 200]).max() < 6


async def test_a_keyframe_is_shown_before_the_video_is_there(rig: Rig) -> None:
    video = await rig.create()
    path = f"/v1/videos/{video.id}/content"
    early = error_of(await rig.http.get(path, params={"variant": "keyframe"}), 409)
    assert "has no output 0 of t2i to show: it is not made yet" in early.message
    held = rig.claim()
    pixels = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    keeper = Keeper(rig.store.url)
    rig.leases.keep(held, "t2i", 0, await keeper.keep(Image(pixels), f"checkpoints/{video.id}/1.bin"))
    clip = Keyframes(None, Clip(np.zeros((4, 17, 33, 3), np.uint8), 8.0))
    rig.leases.keep(held, "i2v", 0, await keeper.keep(clip, f"checkpoints/{video.id}/2.bin"))
    shown = await rig.http.get(path, params={"variant": "keyframe"})
    assert np.array_equal(np.asarray(PIL.Image.open(io.BytesIO(shown.content))), pixels)
    again = await rig.http.get(path, params={"variant": "keyframe"}, headers={"if-none-match": shown.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    preview = await rig.http.get(path, params={"variant": "preview"})
    assert (preview.headers["content-type"], preview.content[4:8]) == ("video/mp4", b"ftyp")
    (rig.folder / "artifacts" / f"checkpoints/{video.id}/2.bin").write_bytes(b"x")
    gone = error_of(await rig.http.get(path, params={"variant": "preview"}), 410)
    assert "output 0 of i2v is missing or damaged" in gone.message
    wrong = error_of(await rig.http.get(path, params={"variant": "keyframe", "candidate": "1"}), 400)
    assert "candidate is 1; video" in wrong.message
