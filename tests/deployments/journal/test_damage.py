"""A damaged SQLite file is refused in a sentence; what a crash leaves is not."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from deployments.errors import ConfigError
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from tests.deployments.journal.job_acts import submit

JOBS = 20  # fewer than make SQLite begin its log anew


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The files of a journal with a log of many transactions, as a kill leaves them."""
    database = Database(f"sqlite:///{tmp_path}/jobs.sqlite")
    for _ in range(JOBS):
        submit(Journal(database))
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in ("jobs.sqlite", "jobs.sqlite-wal"):
        shutil.copy(tmp_path / name, folder / name)
    database.close()
    return folder


def flip(path: Path, place: Callable[[int], int]) -> None:
    data = bytearray(path.read_bytes())
    data[place(len(data))] ^= 0xFF
    path.write_bytes(data)


def test_a_log_with_transactions_behind_a_damaged_place_is_refused(copied: Path) -> None:
    flip(copied / "jobs.sqlite-wal", lambda size: size // 2)
    with pytest.raises(ConfigError, match=r"jobs.sqlite-wal is damaged: frame \d+ .* \d+ transactions .* restore FILE"):
        Database(f"sqlite:///{copied}/jobs.sqlite")


@pytest.mark.parametrize("harm", ["none", "cut in the last transaction", "wrong in the last transaction"])
def test_what_a_crash_leaves_is_opened(copied: Path, harm: str) -> None:
    log = copied / "jobs.sqlite-wal"
    if harm.startswith("cut"):
        log.write_bytes(log.read_bytes()[:-100])
    elif harm.startswith("wrong"):
        flip(log, lambda size: size - 100)
    database = Database(f"sqlite:///{copied}/jobs.sqlite", check=True)
    assert Journal(database).counts()["queued"] >= JOBS - 1
    database.close()


def test_a_damaged_file_is_refused_where_all_of_it_is_read(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/jobs.sqlite")
    for _ in range(JOBS):
        submit(Journal(database))
    database.close()
    path = tmp_path / "jobs.sqlite"
    data = path.read_bytes()
    half = len(data) // 2 // 4096 * 4096
    path.write_bytes(data[:half] + b"\xff" * 3 * 4096 + data[half + 3 * 4096 :])
    with pytest.raises(ConfigError, match=r"The journal's SQLite file is damaged \(.*\); stop the server"):
        Database(f"sqlite:///{path}", check=True)
