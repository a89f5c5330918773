"""The journal's schema: made and changed by alembic, on SQLite and PostgreSQL, by whoever comes first."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, Table, create_engine, select, text
from sqlalchemy.exc import IntegrityError

from deployments.errors import ConfigError
from deployments.jobs.plans import plan_of, planned_of
from deployments.jobs.values import JobRequest
from deployments.journal import tables
from deployments.journal.database import SCHEMA, Database, driver_url
from deployments.journal.journal import Journal
from deployments.journal.outputs import held_bytes
from deployments.journal.tables import metadata
from tests.journals import KINDS
from tests.postgres import new_database

REQUEST = JobRequest(prompt="a fox", model="tiny", size="256x256", seconds="2", seed=7)


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/jobs.sqlite" if request.param == "sqlite" else new_database()


def test_the_migrations_make_what_the_code_says(url: str) -> None:
    database = Database(url)
    with database.write() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == SCHEMA
    database.close()


def test_the_newest_revision_is_the_one_that_the_code_names() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(tables.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA]


def test_a_journal_from_before_the_migrations_is_taken_over_with_its_jobs(url: str) -> None:
    engine = create_engine(driver_url(url))
    with engine.begin() as connection:
        upgrade(connection, "0001")
        connection.execute(text("DROP TABLE alembic_version"))
        values = {"tenant": "", "body_hash": "", "priority": 0, "start_stage": 0, "cancel_requested": False}
        counts = {"fence": 0, "not_before": 0.0, "claims": 0, "created_at": 1.0}
        old = Table("jobs", MetaData(), autoload_with=connection)
        connection.execute(
            old.insert(),
            [
                {"id": name, "state": state, "request": REQUEST.model_dump(), "finished_at": at, **values, **counts}
                for name, state, at in (("old", "queued", None), ("one", "failed", 2.0), ("two", "failed", 2.0))
            ],
        )
    engine.dispose()
    again = Database(url)
    job = Journal(again).get("old")
    assert (job.request, job.planned) == (REQUEST, planned_of(REQUEST, plan_of(REQUEST)))
    assert Journal(again).counts() == {"queued": 1, "failed": 2}
    with again.write() as connection:
        filled = select(tables.jobs.c.id, tables.jobs.c.preset, tables.jobs.c.expired).order_by(tables.jobs.c.id)
        found = connection.execute(filled).tuples().all()
        assert found == [("old", "tiny", False), ("one", "tiny", True), ("two", "tiny", True)]
        twice = tables.jobs.insert().values(state="queued", request={}, tenant="", idem_key="k", created_at=1.0)
        connection.execute(twice.values(id="first"))
        with pytest.raises(IntegrityError), connection.begin_nested():
            connection.execute(twice.values(id="second"))
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == SCHEMA
    again.close()


def test_bytes_that_were_kept_before_they_were_counted_are_counted(url: str) -> None:
    engine = create_engine(driver_url(url))
    shared, video = {"key": "a", "bytes": 3_000_000_000}, {"key": "b", "size_bytes": 4}
    with engine.begin() as connection:
        upgrade(connection, "0006")
        kept = Table("checkpoints", MetaData(), autoload_with=connection)
        place = {"number": 0, "tenant": "a", "digest": ""}
        connection.execute(
            kept.insert(),
            [
                {**place, "job_id": job_id, "idx": idx, "key": file["key"], "record": file}
                for job_id, idx, file in (("one", 0, shared), ("two", 0, shared), ("two", 4, video))
            ],
        )
    engine.dispose()
    database = Database(url)
    with database.read() as connection:
        assert (held_bytes(connection, "a"), held_bytes(connection, "b")) == (3_000_000_004, 0)
    database.close()


def upgrade(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(tables.__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def test_a_journal_of_a_newer_server_is_refused(url: str) -> None:
    database = Database(url)
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'ffff'"))
    database.close()
    with pytest.raises(ConfigError, match=f"has schema 'ffff', which this server, whose newest is '{SCHEMA}'"):
        Database(url)


def _open(url: str) -> float:
    database = Database(url)
    with database.read() as connection:
        now = database.now(connection)
        assert connection.execute(tables.jobs.select()).all() == []
    database.close()
    return now


@pytest.mark.slow
def test_two_processes_may_make_the_schema_at_once(url: str) -> None:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        one, other = pool.map(_open, [url, url])
    assert abs(one - other) < 60


def test_another_database_is_refused_and_the_driver_is_ours(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is 'mysql'; it must be 'sqlite' or 'postgresql'"):
        Database("mysql://localhost/jobs")
    assert driver_url("postgres://u:p@h/d").drivername == driver_url("postgresql://h/d").drivername
    assert driver_url("postgresql://h/d").drivername == "postgresql+psycopg"
    assert driver_url(f"sqlite:///{tmp_path}/a").drivername == "sqlite"
