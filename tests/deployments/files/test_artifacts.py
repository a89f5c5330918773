"""The artifact store: whole files or none, exact ranges, and no key that leaves its folder."""

import hashlib
import os
from pathlib import Path

import pytest

from deployments.files.store import ArtifactError, ArtifactStore
from tests.s3 import new_bucket

KEY = "videos/video_1/3.mp4"
DATA = bytes(range(256)) * 2000  # longer than one piece


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "made.mp4"
    path.write_bytes(DATA)
    return path


@pytest.fixture(params=["file", "memory", pytest.param("s3", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    urls = {"file": lambda: f"file://{tmp_path}/kept", "memory": lambda: f"memory://{tmp_path.name}", "s3": new_bucket}
    return ArtifactStore(urls[request.param]())


def test_what_is_kept_is_read_back(store: ArtifactStore, source: Path) -> None:
    assert not store.exists(KEY)
    made = store.put_file(source, KEY)
    assert (made.size_bytes, made.sha256) == (len(DATA), hashlib.sha256(DATA).hexdigest())
    assert b"".join(store.read(KEY, 0, len(DATA))) == DATA
    assert b"".join(store.read(KEY, 1000, 1003)) == DATA[1000:1003]
    store.delete(KEY)
    store.delete(KEY)
    assert not store.exists(KEY)
    with pytest.raises(ArtifactError, match="is not in"):
        list(store.read(KEY, 0, 1))


@pytest.mark.parametrize("how", ["file", "bytes", "pieces"])
def test_bytes_then_name_then_folders_are_on_the_disk_once_it_is_kept(
    tmp_path: Path, source: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, int]] = []
    sync, move = os.fsync, os.replace

    def synced(fd: int) -> None:
        sync(fd)
        done.append(("synced", os.fstat(fd).st_ino))

    def moved(old: str, new: str) -> None:
        done.append(("moved", os.stat(old).st_ino))
        move(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", moved)
    store = ArtifactStore(f"file://{tmp_path}/kept")
    if how == "file":
        store.put_file(source, KEY)
    elif how == "bytes":
        store.put_bytes(DATA, KEY, "video/mp4")
    else:
        store.put_pieces([memoryview(DATA)], KEY, "video/mp4")
    kept = tmp_path / "kept"
    own = (kept / KEY).stat().st_ino
    folders = [(kept / name).stat().st_ino for name in ("videos/video_1", "videos", ".")]
    assert done == [("synced", own), ("moved", own), *(("synced", folder) for folder in folders)]


def test_nothing_half_written_stays_behind(tmp_path: Path, source: Path) -> None:
    store = ArtifactStore(f"file://{tmp_path}/kept")
    store.put_file(source, KEY)
    with pytest.raises(FileNotFoundError):
        store.put_file(tmp_path / "absent.mp4", "videos/video_2/1.mp4")
    assert [path.name for path in (tmp_path / "kept").rglob("*") if path.is_file()] == ["3.mp4"]


def test_a_file_that_became_shorter_is_not_sent_as_if_whole(tmp_path: Path, source: Path) -> None:
    store = ArtifactStore(f"file://{tmp_path}/kept")
    store.put_file(source, KEY)
    (tmp_path / "kept" / KEY).write_bytes(b"short")
    with pytest.raises(ArtifactError, match="ended 5 bytes before byte 10"):
        list(store.read(KEY, 0, 10))


@pytest.mark.parametrize(
    "key", ["../up.mp4", "videos/../../up.mp4", "/etc/passwd", "videos/a b.mp4", "x.mp4", "videos//a.mp4", ""]
)
def test_a_key_that_we_did_not_make_is_refused(tmp_path: Path, source: Path, key: str) -> None:
    store = ArtifactStore(f"file://{tmp_path}/kept")
    with pytest.raises(ArtifactError, match="not an artifact key"):
        store.put_file(source, key)


def test_bytes_are_kept_and_forgotten(store: ArtifactStore) -> None:
    keys = [f"checkpoints/video_1/1-t2i-{number}.bin" for number in range(2)]
    for key in keys:
        made = store.put_bytes(DATA, key, "application/octet-stream")
        assert (made.size_bytes, made.sha256) == (store.size(key), hashlib.sha256(DATA).hexdigest())
    store.put_bytes(b"x", "checkpoints/video_2/1.bin", "application/octet-stream")
    for key in (*keys, *keys):
        store.delete(key)
    assert [store.exists(key) for key in keys] == [False, False]
    assert store.exists("checkpoints/video_2/1.bin")
    with pytest.raises(ArtifactError, match="is not in"):
        store.size(keys[0])


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ArtifactStore(f"file://{tmp_path}")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        store.put_bytes(DATA, "checkpoints/video_1/1.bin", "application/octet-stream")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
