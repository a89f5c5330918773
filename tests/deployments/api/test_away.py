"""What is answered while the journal's database or the artifact store is away."""

from pathlib import Path

import pytest
from sqlalchemy import text

from deployments.journal.database import DATABASE_AWAY, IDLE_LIMIT_MS, STATEMENT_LIMIT_MS, Database
from deployments.journal.sweeps import Sweeps
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
