"""`/v1/files`: sent once, named by several jobs, seen by its tenant alone, bounded, gone at its time."""

import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import select, update

from client.schema import File
from deployments.errors import UploadNotFoundError
from deployments.jobs.values import JobRequest, NewJob, Source
from deployments.journal.journal import Journal
from deployments.journal.owners import Owned, hand_over
from deployments.journal.sweeps import Sweeps
from deployments.journal.tables import checkpoints, uploads
from deployments.settings.application import AppArgs
from deployments.settings.inputs import FileArgs
from deployments.tenants.uploads import NewUpload, UploadBook
from stages.local.mp4 import write_mp4
from stages.types import Clip
from tests.deployments.api.test_creating import PNG
from tests.deployments.rig import Rig, error_of

FORM = {"purpose": "vision"}


async def sent(client: httpx.AsyncClient, data: bytes = PNG, name: str = "fox.png", **fields: str) -> httpx.Response:
    return await client.post(
        "/v1/files", data={**FORM, **fields}, files={"file": (name, io.BytesIO(data), "image/png")}
    )


async def used(client: httpx.AsyncClient, file_id: str, **body: Any) -> httpx.Response:
    return await client.post("/v1/videos", json={"prompt": "a fox", "input_reference": {"file_id": file_id}, **body})


def stored(rig: Rig) -> list[Path]:
    return list(rig.folder.glob("artifacts/uploads/*/*"))


async def test_several_jobs_begin_from_a_file_that_was_sent_once(rig: Rig) -> None:
    answer = await sent(rig.http)
    file = File.model_validate_json(answer.content)
    assert (file.bytes, file.filename, file.purpose, file.status) == (len(PNG), "fox.png", "vision", "processed")
    assert (file.kind, file.size, file.expires_at) == ("picture", "40x20", file.created_at + 7 * 86_400)
    ids = [(await used(rig.http, file.id)).json()["id"] for _ in range(2)]
    sources = [rig.journal.get(video_id).request.source for video_id in ids]
    assert sources[0] is not None
    assert (sources[0] == sources[1], sources[0].enters, len(stored(rig))) == (True, "i2v", 1)
    content = await rig.http.get(f"/v1/files/{file.id}/content")
    assert (content.content, content.headers["content-type"]) == (PNG, "image/png")
    assert (await rig.http.delete(f"/v1/files/{file.id}")).json() == {"id": file.id, "object": "file", "deleted": True}
    error_of(await rig.http.get(f"/v1/files/{file.id}"), 404)
    assert error_of(await used(rig.http, file.id), 404).code == "file_not_found"
    for video_id, left in zip(ids, (1, 0), strict=True):  # the last job takes the bytes with it
        for _ in range(2):
            assert (await rig.http.delete(f"/v1/videos/{video_id}")).status_code == 200
        assert len(stored(rig)) == left


async def test_a_job_that_is_refused_takes_no_file_with_it(rig: Rig) -> None:
    file_id = (await sent(rig.http)).json()["id"]
    assert error_of(await used(rig.http, file_id, until="t2i"), 400).param == "until"
    assert (await used(rig.http, file_id)).status_code == 200
    for _ in range(2):
        answer = await rig.http.post(
            "/v1/videos",
            json={"prompt": "a fox", "input_reference": {"file_id": file_id}},
            headers={"idempotency-key": "k"},
        )
        assert answer.status_code == 200
    assert len(stored(rig)) == 1


async def test_a_video_enters_where_it_may_and_a_picture_does_not(rig: Rig, tmp_path: Path) -> None:
    write_mp4(tmp_path / "two.mp4", [Clip(np.zeros((16, 128, 128, 3), np.uint8), 8.0)])
    video = (await sent(rig.http, (tmp_path / "two.mp4").read_bytes(), "two.mp4")).json()
    assert (video["kind"], video["frames"], video["size"]) == ("video", 16, "128x128")
    body = {"prompt": "a fox", "input_video": {"file_id": video["id"]}, "enter": "vfi"}
    made = await rig.http.post("/v1/videos", json=body)
    assert made.status_code == 200, made.text
    source = rig.journal.get(made.json()["id"]).request.source
    assert source is not None
    assert (source.kind, source.enters) == ("video", "vfi")
    edited = await rig.http.post("/v1/videos/edits", json={"prompt": "a red fox", "video": {"file_id": video["id"]}})
    assert rig.journal.get(edited.json()["id"]).request.enter == "v2v"
    said = error_of(await used(rig.http, video["id"]), 400).message
    assert said == f"input_reference holds a picture and the file {video['id']} is a video."
    picture = (await sent(rig.http)).json()["id"]
    wrong = {**body, "input_video": {"file_id": picture}}
    assert "is a picture" in error_of(await rig.http.post("/v1/videos", json=wrong), 400).message


async def test_another_tenants_file_does_not_exist(rig: Rig) -> None:
    studio, other = rig.tenant("studio"), rig.tenant("other")
    file_id = (await sent(studio)).json()["id"]
    assert error_of(await used(other, file_id), 404).code == "file_not_found"
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        error_of(await other.request(method, f"/v1/files/{file_id}{path}"), 404)
    assert (await other.get("/v1/files")).json()["data"] == []
    assert error_of(await other.get(f"/v1/files?after={file_id}"), 404).param == "after"
    assert (await studio.get(f"/v1/files/{file_id}")).status_code == 200


async def test_files_are_listed_in_pages(rig: Rig) -> None:
    ids = [(await sent(rig.http, purpose=purpose)).json()["id"] for purpose in ("vision", "user_data", "vision")]
    page = (await rig.http.get("/v1/files?limit=2")).json()
    assert ([one["id"] for one in page["data"]], page["has_more"]) == ([ids[2], ids[1]], True)
    rest = (await rig.http.get(f"/v1/files?limit=2&after={page['last_id']}")).json()
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == ([ids[0]], False)
    vision = (await rig.http.get("/v1/files?order=asc&purpose=vision")).json()
    assert [one["id"] for one in vision["data"]] == [ids[0], ids[2]]


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_a_list_goes_on_behind_files_that_went(rig: Rig, order: str) -> None:
    studio, other = rig.tenant("studio"), rig.tenant("other")
    ids = [(await sent(studio)).json()["id"] for _ in range(4)]
    seen, after = [], ""
    while len(page := (await studio.get(f"/v1/files?limit=1&order={order}{after}")).json()["data"]):
        seen.append(page[0]["id"])
        after = f"&after={seen[-1]}"
        if len(seen) % 2:
            assert (await studio.delete(f"/v1/files/{seen[-1]}")).status_code == 200
        else:  # as at its time
            with rig.database.write() as connection:
                connection.execute(update(uploads).where(uploads.c.id == seen[-1]).values(expires_at=0.0))
            assert Sweeps(rig.database).uploads() == 1
    assert seen == (ids if order == "asc" else ids[::-1])
    error_of(await other.get(f"/v1/files?after={ids[0]}"), 404)


async def test_a_tenant_has_so_many_files_and_bytes(rig: Rig) -> None:
    rig.app = rig.served(AppArgs(files=FileArgs(max_files=2, max_bytes=3 * len(PNG))))
    studio, other = rig.tenant("studio"), rig.tenant("other")
    first, _ = [(await sent(studio)).json()["id"] for _ in range(2)]
    error = error_of(await sent(studio), 403)
    assert (error.code, "limits are 2 files" in error.message) == ("files_full", True)
    assert (await sent(other)).status_code == 200
    assert len(stored(rig)) == 3  # what was refused is not kept
    await studio.delete(f"/v1/files/{first}")
    assert (await sent(studio)).status_code == 200
    rig.app = rig.served(AppArgs(files=FileArgs(max_bytes=len(PNG))))
    assert f"{len(PNG)} bytes. Delete some" in error_of(await sent(rig.tenant("studio")), 403).message


@pytest.mark.parametrize(
    ("files", "fields", "param", "said"),
    [
        ([], {}, "file", "must be a file"),
        ([("file", ("a.png", b""))], {}, "file", "is empty"),
        ([("file", ("a.png", b"nonsense"))], {}, "file", "no PNG, JPEG or WebP picture"),
        ([("file", ("a.mp4", b"\0\0\0\x18ftypnonsense"))], {}, "file", "no MP4 or WebM video"),
        ([("mask", ("a.png", PNG))], {}, "mask", "Unknown field 'mask'"),
        ([("file", ("a.png", PNG)), ("file", ("b.png", PNG))], {}, "file", "given twice"),
        ([("file", ("a.png", PNG))], {"expires_after[seconds]": "5"}, "expires_after", "'5' seconds; it must be 60 to"),
        ([("file", ("a.png", PNG))], {"expires_after[seconds]": "9999999"}, "expires_after", "60 to 604800"),
    ],
)
async def test_what_is_no_file_is_refused_with_a_sentence(
    rig: Rig, files: list[tuple[str, Any]], fields: dict[str, str], param: str, said: str
) -> None:
    parts = [*files, ("purpose", (None, "vision")), *((name, (None, value)) for name, value in fields.items())]
    error = error_of(await rig.http.post("/v1/files", files=parts), 400)
    assert error.param == param
    assert said in error.message
    assert stored(rig) == []


async def test_a_file_is_not_kept_for_longer_than_a_clock_says(rig: Rig) -> None:
    rig.app = rig.served(AppArgs(files=FileArgs(keep_s=None)))
    for seconds in ("9" * 400, "1" + "0" * 12):
        error = error_of(await sent(rig.client(), PNG, "fox.png", **{"expires_after[seconds]": seconds}), 400)
        assert (error.param, "it must be 60 to 1000000000" in error.message) == ("expires_after", True)
    assert (await rig.client().get("/v1/files")).json()["data"] == []
    assert stored(rig) == []


async def test_a_body_that_is_no_form_is_refused(rig: Rig) -> None:
    error = error_of(await rig.http.post("/v1/files", json={"file": "a"}), 400)
    assert error.code == "unsupported_content_type"


def upload(book: UploadBook, file_id: str, keep_s: float | None, tenant: str = "") -> None:
    source = Source(key=f"uploads/{file_id}/source.png", sha256="0", kind="picture", enters="i2v", width=40, height=20)
    book.add(NewUpload(file_id, tenant, 10, "a", "vision", source), keep_s=keep_s, max_files=9, max_bytes=999)


def test_a_file_goes_at_its_time_and_its_bytes_with_the_last_job(journal: Journal) -> None:
    book, sweeps = UploadBook(journal.database), Sweeps(journal.database)
    for file_id, keep_s in (("used", 3600.0), ("unused", 3600.0), ("later", 7200.0), ("never", None)):
        upload(book, file_id, keep_s)
    source = book.get("used", tenant="").source
    request = JobRequest(
        prompt="a fox", model="tiny", size="256x256", seconds="2", seed=7, source=source, enter=source.enters
    )
    video_id = journal.submit(NewJob(request, upload_id="used"))[0].id
    assert sweeps.uploads() == 0
    with journal.database.write() as connection:
        connection.execute(update(uploads).where(uploads.c.expires_at.is_not(None)).values(expires_at=1.0))
        connection.execute(update(uploads).where(uploads.c.id == "later").values(expires_at=9e9))
    assert (sweeps.uploads(), sweeps.uploads()) == (2, 0)
    erased: list[str] = []
    sweeps.erase(erased.append)
    assert erased == ["uploads/unused/source.png"]
    assert sweeps.unnamed([source.key, "uploads/never/source.png"]) == set()
    with pytest.raises(UploadNotFoundError):
        journal.submit(NewJob(request, upload_id="used"))
    journal.request_cancel(video_id)
    journal.delete(video_id)
    sweeps.erase(erased.append)
    assert erased[1:] == [source.key]


def test_a_file_whose_time_is_over_is_gone_before_any_sweep(journal: Journal) -> None:
    book = UploadBook(journal.database)
    for file_id in ("over", "there"):
        upload(book, file_id, 3600.0)
    source = book.get("over", tenant="").source
    request = JobRequest(
        prompt="a fox", model="tiny", size="256x256", seconds="2", seed=7, source=source, enter=source.enters
    )
    with journal.database.write() as connection:
        connection.execute(update(uploads).where(uploads.c.id == "over").values(expires_at=1.0))
    for refused in (
        lambda: journal.submit(NewJob(request, upload_id="over")),
        lambda: book.get("over", tenant=""),
        lambda: book.delete("over", tenant=""),
    ):
        with pytest.raises(UploadNotFoundError):
            refused()
    page = book.page(tenant="", after="over", limit=9, order="asc", purpose=None)  # a list goes on behind it
    assert [found.id for found in page[0]] == ["there"]
    source = book.get("there", tenant="").source
    new = NewUpload("new", "", 10, "a", "vision", source.model_copy(update={"key": "uploads/new"}))
    book.add(new, keep_s=None, max_files=2, max_bytes=20)  # what is over counts no more
    assert Sweeps(journal.database).uploads() == 1


def test_files_of_nobody_are_handed_over_with_the_videos(journal: Journal) -> None:
    book = UploadBook(journal.database)
    upload(book, "one", None)
    assert hand_over(journal.database, "studio") == Owned(files=1)
    assert book.get("one", tenant="studio").id == "one"
    with journal.database.read() as connection:
        assert connection.execute(select(checkpoints.c.tenant)).scalar_one() == "studio"
