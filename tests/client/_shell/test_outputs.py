"""A user's file: whole or as it was; devices, pipes and links as curl treats them; judged before any work."""

import os
import pty
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from client._shell.outputs import OutputError, flowing, is_stdout, judge_folder, judge_output, lead_to_one, written

ROOT = Path(__file__).resolve().parents[3]
IS_ROOT = os.geteuid() == 0
WRITER = "import sys; from client._shell.outputs import written\nwith written(sys.argv[1]) as d: d.write_text('new')"


def write(path: Path | str, text: str = "new") -> None:
    with written(path) as draft:
        draft.write_text(text)


def half(path: Path) -> None:
    with written(path) as draft:
        draft.write_text("half")
        assert (draft.parent, draft.suffix) == (path.parent, path.suffix)  # libraries look at the suffix
        raise KeyboardInterrupt


def run(*words: str, code: str = WRITER, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, cwd=ROOT, text=True, check=False, **options)  # type: ignore[call-overload, no-any-return]


def test_a_file_appears_whole_and_an_exception_leaves_yesterdays(tmp_path: Path) -> None:
    target = tmp_path / "fox.mp4"
    write(target, "old")
    with pytest.raises(KeyboardInterrupt):
        half(target)
    assert target.read_text() == "old"
    write(target)
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["fox.mp4"]


def test_a_new_file_has_the_mode_of_the_umask_and_an_old_one_keeps_its_own(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write(tmp_path / "a")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    (tmp_path / "a").chmod(0o604)
    write(tmp_path / "a")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o604


@pytest.mark.skipif(not IS_ROOT, reason="only root gives files away")
def test_the_owner_stays(tmp_path: Path) -> None:
    write(tmp_path / "a")
    os.chown(tmp_path / "a", 1234, 1234)
    write(tmp_path / "a")
    assert (tmp_path / "a").stat().st_uid == 1234


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_followed(tmp_path: Path, exists: bool) -> None:
    (tmp_path / "there").mkdir()
    real, link = tmp_path / "there" / "real.mp4", tmp_path / "link.mp4"
    if exists:
        real.write_text("old")
        real.chmod(0o600)
    link.symlink_to(real)
    write(link)
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert os.listdir(tmp_path / "there") == ["real.mp4"]
    assert not exists or stat.S_IMODE(real.stat().st_mode) == 0o600


def test_a_second_name_still_names_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("much longer than before")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    write(tmp_path / "a")
    assert (tmp_path / "b").read_text() == "new"


def test_a_device_is_written_into_and_stays_one() -> None:
    judge_output("/dev/null", [".mp4"])
    write("/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.parametrize("way", [written, flowing])
def test_a_named_pipe_is_written_into(tmp_path: Path, way: Callable[..., object]) -> None:
    pipe, got = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    judge_output(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    if way is written:
        write(pipe)
    else:
        with flowing(pipe) as out:
            out.write(b"new")
    reader.join(120)
    assert got == [b"new"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_stdout(name: str, tmp_path: Path) -> None:
    done = run(name, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "new", "")
    with (tmp_path / "log").open("a") as log:
        log.write("before ")
        log.flush()
        assert run(name, stdout=log).returncode == 0
    assert (tmp_path / "log").read_text() == "before new"
    assert not (ROOT / "-").exists()


def test_stdout_and_a_file_have_several_names(tmp_path: Path) -> None:
    (tmp_path / "fox.mp4").write_text("old")
    (tmp_path / "link.png").symlink_to("fox.mp4")
    assert all(map(is_stdout, ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")))
    assert not any(map(is_stdout, ("./-", "/dev/stderr", "/dev/fd/12", str(tmp_path / "fox.mp4"))))
    for one, other in (("-", "/dev/stdout"), (tmp_path / "fox.mp4", tmp_path / "link.png")):
        assert lead_to_one(one, other)
    for one, other in (("-", "./-"), ("-", "/dev/stderr"), (tmp_path / "fox.mp4", tmp_path / "new.mp4")):
        assert not lead_to_one(one, other)


def test_another_descriptor_as_the_shell_gives_one(tmp_path: Path) -> None:
    command = f"'{sys.executable}' -c \"{WRITER}\" >(cat > {tmp_path}/copy); wait $!"
    subprocess.run(["bash", "-c", command], cwd=ROOT, check=True)
    assert (tmp_path / "copy").read_text() == "new"


def test_a_terminal_is_refused() -> None:
    main, side = pty.openpty()
    code = "import sys; from client._shell.outputs import judge_output; judge_output('-')"
    done = run(code=code, stdout=side, stderr=subprocess.PIPE)
    os.close(side)
    os.close(main)
    assert done.returncode == 1
    assert "- is a terminal, which cannot show this" in done.stderr


def test_what_cannot_be_written_is_said_before(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    sentences = {
        tmp_path: "is a folder; name a file in it",
        tmp_path / "absent" / "fox.mp4": r"There is no folder .*absent for fox\.mp4; make it first",
        tmp_path / "file" / "fox.mp4": r"There is no folder .*file for fox\.mp4",
        tmp_path / "loop": "is a link that leads to itself",
        tmp_path / "fox.gif": r"ends in \.gif, and what is written is \.mp4; name it like fox\.mp4",
        tmp_path / "fox": r"has no suffix, and what is written is \.mp4",
        tmp_path / ("x" * 300 + ".mp4"): "File name too long",
        Path("/proc/fox.mp4"): "Cannot write|not writable",
        Path("/dev/fd/987"): "is not open",
    }
    for path, sentence in sentences.items():
        with pytest.raises(OutputError, match=sentence):
            judge_output(path, [".mp4"])
    with pytest.raises(OutputError, match=r"is a file, so there can be no folder"):
        judge_folder(tmp_path / "file" / "sub")
    assert judge_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert sorted(os.listdir(tmp_path)) == ["file", "loop"]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that others may enter, as pytest's own may not be."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(not IS_ROOT, reason="changes who it is")
def test_locked_folders_and_files(open_folder: Path) -> None:
    for name, mode in (("mine", 0o666), ("locked", 0o444)):
        (open_folder / name).write_text("old")
        (open_folder / name).chmod(mode)
    os.setresuid(65534, 65534, 0)
    try:
        write(open_folder / "mine")
        for name, sentence in (("new", "The folder .* is not writable"), ("locked", "is not writable for you")):
            with pytest.raises(OutputError, match=sentence):
                judge_output(open_folder / name)
        with pytest.raises(OutputError, match="is not writable"):
            judge_folder(open_folder / "sub")
    finally:
        os.setresuid(0, 0, 0)
    assert (open_folder / "mine").read_text() == "new"


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "fox.mp4").write_text("old")
    code = (
        "import resource, signal, sys; from client._shell.outputs import written\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "with written(sys.argv[1]) as d: d.write_bytes(bytes(5000))"
    )
    done = run(str(tmp_path / "fox.mp4"), code=code, capture_output=True)
    assert "OutputError: Cannot write" in done.stderr
    assert "File too large" in done.stderr
    assert (tmp_path / "fox.mp4").read_text() == "old"
    assert os.listdir(tmp_path) == ["fox.mp4"]
