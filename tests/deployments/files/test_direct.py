"""Files past the page cache: every length, every cut, and file systems that refuse."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from deployments.files.direct import write_direct

ROOM = 2**20


@pytest.mark.parametrize("length", [0, 1, 4095, 4096, 4097, ROOM - 1, ROOM, ROOM + 1, 3 * ROOM + 17])
@pytest.mark.parametrize("cut", [0, 1, 5000, ROOM])
def test_a_file_holds_the_pieces_and_nothing_else(tmp_path: Path, length: int, cut: int) -> None:
    data = os.urandom(length)
    pieces = [memoryview(data[:cut]), memoryview(data[cut:])]
    size, sha256 = write_direct(tmp_path / "file", pieces)
    assert (tmp_path / "file").read_bytes() == data
    assert (size, sha256) == (length, hashlib.sha256(data).hexdigest())


def test_a_file_system_without_direct_writes_is_written_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refusing(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no direct writes here")
        return real(path, flags, mode)

    monkeypatch.setattr("os.open", refusing)
    assert write_direct(tmp_path / "file", [memoryview(b"abc")])[0] == 3
    assert (tmp_path / "file").read_bytes() == b"abc"


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int, _data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.write", full)
    with pytest.raises(OSError, match="No space"):
        write_direct(tmp_path / "file", [memoryview(b"abc")])
