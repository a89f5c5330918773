"""A backup holds all of one moment and goes back into either kind of database; what is no whole one writes nothing."""

import gzip
from pathlib import Path

import pytest
from sqlalchemy import select

from deployments.errors import ConfigError
from deployments.jobs.values import Update
from deployments.journal.backup import back_up, restore
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from deployments.journal.tables import metadata
from tests.deployments.journal.job_acts import claim, finished, kept, submit
from tests.journals import KINDS
from tests.postgres import new_database


def rows_of(database: Database) -> dict[str, list[tuple[object, ...]]]:
    with database.read() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
            for table in metadata.sorted_tables
        }


@pytest.fixture
def filled(journal: Journal, leases: Leases) -> Journal:
    ended = finished(journal, t2i=kept("t"))
    finished(journal)
    submit(journal)
    claim(leases)
    submit(journal)
    journal.delete(ended)
    return journal


@pytest.mark.parametrize("into", KINDS)
def test_a_backup_goes_back_whole_and_the_journal_goes_on(filled: Journal, into: str, tmp_path: Path) -> None:
    path = tmp_path / "journal.gz"
    count = back_up(filled.database, path)
    other = Database(new_database() if into == "postgres" else f"sqlite:///{tmp_path}/other.sqlite")
    assert restore(other, path) == count == sum(map(len, rows_of(filled.database).values()))
    assert rows_of(other) == rows_of(filled.database)
    journal, leases = Journal(other), Leases(other)
    held, job = claim(leases)
    leases.finish(Update(held), "failed")
    assert journal.counts() == {"succeeded": 1, "failed": 1, "running": 1}
    assert [event.kind for event in journal.events(job.id)] == ["queued", "started", "failed"]
    assert [path.name for path in tmp_path.glob("*.partial")] == []
    other.close()


def test_a_journal_that_holds_jobs_is_not_written_over(filled: Journal, tmp_path: Path) -> None:
    path = tmp_path / "journal.gz"
    back_up(filled.database, path)
    with pytest.raises(ConfigError, match=r"has rows in .* an empty one alone"):
        restore(filled.database, path)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("cut", "is no whole backup of a journal: it is cut off, or another kind of file"),
        ("short", "is no whole backup of a journal: its last line"),
        ("other", "is no whole backup of a journal: its schema is 99"),
        ("rotten", "is no whole backup of a journal: it is cut off, or another kind of file"),
        ("no object", "is no whole backup of a journal: it is cut off, or another kind of file"),
        ("no gzip", "is no whole backup of a journal: it is cut off, or another kind of file"),
        ("missing", r"cannot be read \(No such file or directory\)"),
    ],
)
def test_what_is_no_whole_backup_writes_nothing(filled: Journal, how: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "journal.gz"
    back_up(filled.database, path)
    data, lines = path.read_bytes(), gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    broken = {
        "cut": data[:-20],
        "short": gzip.compress(b"".join(lines[:-2])),
        "rotten": data[:20] + bytes(byte ^ 0xFF for byte in data[20:60]) + data[60:],
        "no object": gzip.compress(b"[]\n"),
        "no gzip": b"a fox",
        "other": gzip.compress(lines[0].replace(b"00", b"99") + b"".join(lines[1:])),
    }
    path.unlink()
    if how != "missing":
        path.write_bytes(broken[how])
    other = Database(f"sqlite:///{tmp_path}/other.sqlite")
    with pytest.raises(ConfigError, match=f"{path} {said}"):
        restore(other, path)
    assert not any(rows_of(other).values())
    other.close()
