"""Whether an SQLite file can be trusted, before anything is written to it.

SQLite reads its write-ahead log up to the first frame whose checksum is wrong and drops the rest without a word. After
a power cut that is right: the last transaction was not whole. With two or more commits behind such a frame it is
damage: each was on disk before the next began, and jobs that were accepted would be gone.
The log's format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

import sqlite3
import struct
import sys
from array import array
from pathlib import Path

from deployments.errors import ConfigError

_LITTLE, _BIG = 0x377F0682, 0x377F0683  # magic numbers: the order of bytes in what is summed
_HEADER, _FRAME = struct.Struct(">8I"), struct.Struct(">6I")
_TO_DO = "stop the server, keep the files, and put back the newest backup: python -m deployments restore FILE."


def judge_log(database: Path) -> None:
    """Raises:
    ConfigError: the write-ahead log is damaged.
    """
    path = database.with_name(f"{database.name}-wal")
    try:
        data = path.read_bytes()
    except OSError:
        return  # nothing is in it
    if len(data) < _HEADER.size:
        return
    magic, _, page, _, *salts, _, _ = _HEADER.unpack_from(data)
    if magic not in (_LITTLE, _BIG):
        return
    swapped = (magic == _LITTLE) != (sys.byteorder == "little")
    sums, broken, behind = _summed(data[: _HEADER.size - 8], (0, 0), swapped), 0, 0
    for number, start in enumerate(range(_HEADER.size, len(data) - page - _FRAME.size + 1, page + _FRAME.size), 1):
        _, commit, *own_salts, first, second = _FRAME.unpack_from(data, start)
        if own_salts != salts:
            break  # of an earlier round
        if not broken:
            content = start + _FRAME.size
            sums = _summed(data[start : start + 8] + data[content : content + page], sums, swapped)
            broken = 0 if sums == (first, second) else number
        if broken and commit:
            behind += 1
    if behind > 1:
        raise ConfigError(
            f"{path} is damaged: frame {broken} has a wrong checksum and {behind} transactions stand from there on, "
            f"which SQLite would drop; {_TO_DO}"
        )


def judge_file(connection: sqlite3.Connection) -> None:
    """Raises:
    ConfigError: pages or indexes of the file do not fit together.
    """
    try:
        found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise damaged(found)


def damaged(found: str) -> ConfigError:
    return ConfigError(f"The journal's SQLite file is damaged ({' '.join(found.split())}); {_TO_DO}")


def _summed(data: bytes, sums: tuple[int, int], swapped: bool) -> tuple[int, int]:
    words = array("I", data)
    if swapped:
        words.byteswap()
    one, two = sums
    for place in range(0, len(words), 2):
        one = (one + words[place] + two) & 0xFFFFFFFF
        two = (two + words[place + 1] + one) & 0xFFFFFFFF
    return one, two
