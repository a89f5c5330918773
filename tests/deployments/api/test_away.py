"""What is answered while the journal's database or the artifact store is away."""

import io
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from sqlalchemy import text

from deployments.journal.database import DATABASE_AWAY, IDLE_LIMIT_MS, STATEMENT_LIMIT_MS, Database
from deployments.journal.sweeps import Sweeps
from deployments.settings.application import AppArgs
from tests.deployments.rig import BODY, Rig, error_of
from tests.journals import postgres_journal


@pytest.fixture
def gone(rig: Rig, tmp_path: Path) -> Path:
    """Where the database is put aside; something else lies in its place."""
    rig.database.engine.dispose()
    file, aside = tmp_path / "jobs.sqlite", tmp_path / "aside"
    for path in tmp_path.glob("jobs.sqlite-*"):
        path.unlink()
    file.rename(aside)
    file.mkdir()
    return aside


@pytest.mark.parametrize(("method", "path"), [("POST", ""), ("GET", ""), ("GET", "/video_x"), ("DELETE", "/video_x")])
async def test_a_database_that_is_away_is_503_with_retry_after_and_one_line_of_log(
    rig: Rig, gone: Path, method: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        answer = await rig.http.request(method, f"/v1/videos{path}", json=BODY if method == "POST" else None)
        error = error_of(answer, 503)
        assert (error.code, answer.headers["Retry-After"]) == ("database_away", "5")
        assert "try again in 5 s" in error.message
    assert sum("does not answer" in record.getMessage() for record in caplog.records) <= 1
    assert not any(record.exc_info for record in caplog.records)


async def test_it_goes_on_once_the_database_is_back(rig: Rig, gone: Path, tmp_path: Path) -> None:
    error_of(await rig.http.get("/v1/videos"), 503)
    (tmp_path / "jobs.sqlite").rmdir()
    gone.rename(tmp_path / "jobs.sqlite")
    rig.database.engine.dispose()
    assert (await rig.http.get("/v1/videos")).json()["data"] == []


async def test_a_video_is_forgotten_while_the_store_is_away_and_its_file_goes_later(rig: Rig) -> None:
    job_id = await rig.finished()
    key = str((rig.journal.get(job_id).result or {})["key"])
    file = rig.folder / "artifacts" / key
    file.unlink()
    file.mkdir()  # the store cannot remove it
    assert (await rig.http.delete(f"/v1/videos/{job_id}")).status_code == 200
    error_of(await rig.http.get(f"/v1/videos/{job_id}"), 404)
    sweeps = Sweeps(rig.database)
    assert sweeps.to_erase() == 1
    assert "magicvideo_files_to_erase 1" in (await rig.http.get("/metrics")).text
    file.rmdir()
    file.write_bytes(b"mp4")
    assert sweeps.erase(rig.store.delete, [key]) == 1
    assert not file.exists()
    assert sweeps.to_erase() == 0


@pytest.mark.slow
def test_postgres_is_given_up_when_its_host_vanishes() -> None:
    database = Database(postgres_journal())
    with database.read() as connection:
        driver = connection.connection.driver_connection
        asked = driver.info.get_parameters() if driver is not None else {}
        assert {name: asked[name] for name in ("connect_timeout", "tcp_user_timeout")} == {
            "connect_timeout": "5",
            "tcp_user_timeout": "20000",
        }
        for name, limit_ms in (
            ("statement_timeout", STATEMENT_LIMIT_MS),
            ("idle_in_transaction_session_timeout", IDLE_LIMIT_MS),
        ):
            assert connection.execute(text(f"SHOW {name}")).scalar_one() == f"{limit_ms // 1000}s"
    database.close()


def test_a_statement_that_takes_too_long_counts_as_away() -> None:
    database = Database(postgres_journal())
    slow = text("SELECT set_config('statement_timeout', '10', true)"), text("SELECT pg_sleep(20)")

    def wait() -> None:
        with database.read() as connection:
            for statement in slow:
                connection.execute(statement)

    with pytest.raises(DATABASE_AWAY):
        wait()
    database.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], check=False).returncode != 0:
        pytest.skip("no small disk can be made here: mounting needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Until nothing more can be written there."""
    file = os.open(folder / "filler", os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while True:
            os.write(file, bytes(4096))
    os.close(file)
    return folder / "filler"


async def test_on_a_full_disk_nothing_is_taken_in_all_is_read_and_what_deletes_works(small_disk: Path) -> None:
    rig = Rig(small_disk, AppArgs())
    picture = io.BytesIO()
    PIL.Image.effect_noise((400, 400), 100).save(picture, "PNG")
    finished = [await rig.finished(bytes(200_000)) for _ in range(2)]
    waiting = await rig.create()
    assert (await rig.http.get("/healthz")).status_code == 200
    filler = fill(small_disk)
    for body in ({}, {"input_reference": ("a.png", picture.getvalue(), "image/png")}):
        answer = await rig.http.post("/v1/videos", files={"prompt": (None, "a fox"), **body})
        error = error_of(answer, 507)
        assert (error.code, "is full" in error.message, "delete videos" in error.message) == (
            "storage_full",
            True,
            True,
        )
    health = await rig.http.get("/healthz")
    assert health.status_code == 503
    said = health.json()["problems"][0]
    assert all(part in said for part in ("the artifact store has 0 MiB left", "the journal's database has 0 MiB left"))
    assert (await rig.http.get(f"/v1/videos/{finished[0]}/content")).status_code == 200
    for video_id in (*finished, waiting.id):
        assert (await rig.http.delete(f"/v1/videos/{video_id}")).status_code == 200
    assert not list((small_disk / "artifacts").glob("videos/*/*"))
    filler.unlink()
    assert (await rig.http.get("/healthz")).status_code == 200
    assert (small_disk / "jobs.sqlite-reserve").stat().st_size > 0
    await rig.create()
    await rig.close()


async def test_an_upload_that_finds_no_room_on_the_disk_is_507(
    rig: Rig, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where large bodies lie while they come is a disk of its own in many a pod."""
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    fill(small_disk)
    for path, field in (("/v1/videos", "input_reference"), ("/v1/files", "file")):
        answer = await rig.http.post(path, data={"prompt": "a fox"}, files={field: bytes(2_000_000)})
        assert "The disk of uploads under way is full" in error_of(answer, 507).message
    await rig.create()


async def test_a_store_that_refuses_is_503_in_a_sentence(rig: Rig) -> None:
    (rig.folder / "artifacts").write_bytes(b"no folder")
    picture = io.BytesIO()
    PIL.Image.new("RGB", (32, 32)).save(picture, "PNG")
    files: Any = {"prompt": (None, "a fox"), "input_reference": ("a.png", picture.getvalue(), "image/png")}
    error = error_of(await rig.http.post("/v1/videos", files=files), 503)
    assert (error.code, error.message.startswith("The artifact store cannot be used now; try again")) == (
        "unavailable",
        True,
    )
