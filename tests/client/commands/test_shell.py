"""The command among others: outputs that are no plain files, pipes, proxies, and names with signs in them."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client._core.options import is_loopback
from client.cli import app
from tests.client.shell import Shell
from tests.client.standin import streamed
from tests.client.wire import Wire

ROOT = Path(__file__).resolve().parents[3]
SILENT = "http://127.0.0.1:9"  # nobody listens at the port of `discard`


def run(wire: Wire, *words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    kept = {name: value for name, value in os.environ.items() if not name.upper().endswith("_PROXY")}
    return subprocess.run(
        [sys.executable, "-m", "client", *words],
        cwd=ROOT,
        env={**kept, "MAGICVIDEO_URL": wire.url, **environment},
        capture_output=True,
        check=False,
    )


@pytest.mark.slow
def test_a_dash_is_stdout_and_nothing_else_is_said_there(wire: Wire) -> None:
    done = run(wire, "download", wire.finished(), "-o", "-")
    assert (done.returncode, done.stdout) == (0, wire.payload)
    done = run(wire, "generate", "a fox", "-o", "/dev/stdout")
    assert (done.returncode, done.stdout) == (0, wire.payload)
    done = run(wire, "generate", "a fox", "-o", "-", "-q")
    assert (done.returncode, done.stdout) == (0, wire.payload)
    assert not (ROOT / "-").exists()


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["generate", "a fox", "-o", "fox.mp4", "--contact-sheet", "-"], 1),
        (["generate", "a fox", "-q", "-o", "fox.mp4", "--keyframe", "-"], 1),
        (["generate", "a fox", "--pause-after", "t2i", "--candidates", "2", "--keyframe", "-"], 2),
        (["generate", "a fox", "--pause-after", "t2i", "-q", "--keyframe", "/dev/stdout"], 1),
        (["watch", "last", "--keyframe", "-"], 1),
        (["download", "last", "-o", "fox.mp4", "--contact-sheet", "-"], 1),
    ],
)
def test_a_picture_on_stdout_is_alone_there(shell: Shell, wire: Wire, words: list[str], count: int) -> None:
    wire.finished()
    done = CliRunner().invoke(app, words, env={"MAGICVIDEO_URL": wire.url}, catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    assert (done.stdout_bytes[:4], done.stdout_bytes[-8:-4]) == (b"\x89PNG", b"IEND")
    assert done.stdout_bytes.count(b"\x89PNG") == count
    assert [path.name for path in Path().iterdir()] in ([], ["fox.mp4"])


def test_pictures_of_candidates_go_into_a_device_and_not_beside_it(shell: Shell) -> None:
    words = ["--pause-after", "t2i", "--candidates", "2", "--keyframe", "/dev/null", "-q"]
    assert shell("generate", "a fox", *words) == 0
    assert not [path for path in Path("/dev").iterdir() if path.name.startswith("null-")]


def test_the_lines_of_a_load_are_alone_on_stdout(shell: Shell) -> None:
    assert shell("load", "--rate", "40", "--duration", "0.2", "--accept-only", "-q", "--out", "-") == 0
    head, *lines = shell.out.splitlines()
    assert {line.count(",") for line in lines} == {head.count(",")}
    assert "seconds until" in shell.err


def test_a_device_a_pipe_and_a_link_stay_what_they_are(shell: Shell, wire: Wire) -> None:
    known = wire.finished()
    assert shell("download", known, "-o", "/dev/null", "--json") == 0
    assert shell.document["bytes"] == len(wire.payload)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    Path("real.mp4").write_text("old")
    Path("link.mp4").symlink_to("real.mp4")
    assert shell("download", known, "-o", "link.mp4") == 0
    assert Path("link.mp4").is_symlink()
    assert Path("real.mp4").read_bytes() == wire.payload


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["generate", "a fox", "-o", "fox.gif"], "fox.gif would hold an mp4; name it like fox.m"),
        (["generate", "a fox", "--until", "t2i", "-o", "fox.mp4"], "fox.mp4 would hold a picture"),
        (["generate", "a fox", "-o", "a.mp4", "--contact-sheet", "a.mp4"], "a.mp4 is to be written twice"),
        (["generate", "a fox", "-o", "-", "--contact-sheet", "/dev/stdout"], "/dev/stdout is to be written twice"),
        (["generate", "a fox", "-o", "/dev/stdout", "--json"], "--json and a file that is - both want stdout"),
        (["generate", "a fox", "-o", "-", "--json"], "--json and a file that is - both want stdout"),
        (["generate", "a fox", "-o", "absent/fox.mp4"], "There is no folder absent for fox.mp4"),
        (["generate", "a fox", "-o", "."], ". is a folder"),
        (["download", "video_1", "--variant", "keyframe", "-o", "a.mp4"], "a.mp4 would hold a picture"),
        (["stream", "video_1", "-o", "absent/fox.mp4"], "There is no folder absent"),
        (["batch", "prompts.jsonl", "--out", "file/folder"], "file is a file, so there can be no folder"),
        (["load", "--rate", "1", "--duration", "1", "--out", "absent/a.csv"], "There is no folder absent"),
    ],
)
def test_outputs_are_judged_before_a_server_is_asked(shell: Shell, wire: Wire, words: list[str], sentence: str) -> None:
    Path("file").write_text("")
    before = sorted(os.listdir())
    assert shell(*words) == 2
    assert sentence in shell.err
    assert not wire.seen
    assert sorted(os.listdir()) == before


def test_a_stream_that_breaks_leaves_the_old_file(shell: Shell, wire: Wire) -> None:
    Path("fox.mp4").write_text("old")
    assert shell("stream", "video_9999", "-o", "fox.mp4") == 2
    assert Path("fox.mp4").read_text() == "old"


def test_a_reader_that_has_enough_is_no_error(wire: Wire) -> None:
    pieces = f"{sys.executable} -m client stream {wire.finished()} | head -c 10 | wc -c; echo ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "MAGICVIDEO_URL": wire.url}
    done = subprocess.run(["bash", "-c", pieces], cwd=ROOT, env=environment, capture_output=True, check=True)
    assert done.stderr == b""
    assert done.stdout.split()[0] == b"10"
    assert done.stdout.split()[1] in (b"0", b"141")  # all was in the pipe before it broke, or not
    assert len(streamed()) > 10


@pytest.mark.parametrize(
    "proxy", [{"ALL_PROXY": "socks5://127.0.0.1:9"}, {"HTTP_PROXY": SILENT}, {"all_proxy": "nonsense"}]
)
def test_a_proxy_is_not_asked_for_this_machine(wire: Wire, proxy: dict[str, str]) -> None:
    assert run(wire, "health", **proxy).returncode == 0


@pytest.mark.parametrize(
    "host", ["localhost", "localhost.", "a.localhost", "127.0.0.9", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"]
)
def test_this_machine_has_many_names(host: str) -> None:
    assert is_loopback(host)
    assert not any(
        map(is_loopback, ("localhost.example", "127.0.0.1.example", "10.0.0.1", "::ffff:10.0.0.1", "2001::1"))
    )


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSLKEYLOGFILE"])
def test_a_file_for_tls_that_is_not_there_is_a_sentence(wire: Wire, name: str) -> None:
    done = run(wire, "health", "--url", "https://server.example", **{name: "/missing/file"})
    assert done.returncode == 2
    said = done.stderr.decode()
    assert (name in said, "names cannot be used (No such file or directory); unset it" in said) == (True, True), said


@pytest.mark.parametrize("value", ["socks5://127.0.0.1:9", "ftp://127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used_is_a_sentence(wire: Wire, value: str) -> None:
    done = run(wire, "health", "--url", "http://server.example:8000", "--json", ALL_PROXY=value)
    assert done.returncode == 2
    assert done.stderr.decode().startswith("Error: The proxy in ALL_PROXY cannot be used (")
    assert done.stderr.count(b"\n") == 1
    assert json.loads(done.stdout)["error"]["code"] == "InvalidArgumentError"


@pytest.mark.slow
def test_debug_shows_where_an_error_came_from(wire: Wire) -> None:
    for words in (["--debug", "health"], ["health", "--debug"]):
        done = run(wire, *words, "--url", SILENT)
        assert done.returncode == 3
        assert b"Traceback" in done.stderr
    done = run(wire, "health", "--url", SILENT)
    assert b"Traceback" not in done.stderr


def test_signs_that_steer_a_terminal_are_not_sent_to_one(wire: Wire) -> None:
    script = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
    for words in (["download", "video_1", "-o", "\x1b[31m/a.mp4"], ["health", "--\x1b[31m"], ["\x1b[31m"]):
        command = [sys.executable, "-c", script, sys.executable, "-m", "client", *words]
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "MAGICVIDEO_URL": wire.url}, capture_output=True, check=False
        )
        assert done.returncode == 2, done.stdout
        assert b"\x1b[31m" not in done.stdout
