"""The command as a process: Ctrl-C, a terminal, and how light its start is."""

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.rig import DEADLINE_S, until
from tests.client.wire import Fault, Wire

ROOT = Path(__file__).resolve().parents[3]


def start(wire: Wire, *words: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "client", *words],
        cwd=ROOT,
        env={**os.environ, "MAGICVIDEO_URL": wire.url, "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=stderr,
    )


def test_ctrl_c_is_130_and_says_how_to_go_on(wire: Wire, tmp_path: Path) -> None:
    wire.standin.ticks = 1_000_000
    target = tmp_path / "fox.mp4"
    process = start(wire, "generate", "a fox", "-o", str(target), "--url", wire.url)
    until(wire, "GET /v1/videos/", 3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert err.decode().splitlines()[-1] == (
        "Stopped waiting; the job goes on. Fetch its video later with: "
        f"magicvideo download {wire.last.id} --wait -o {target} --url {wire.url}"
    )
    assert os.listdir(tmp_path) == []
    assert wire.count("DELETE") == 0


def test_ctrl_c_before_the_server_answered_says_where_to_look(wire: Wire) -> None:
    wire.faults = [Fault("POST")]
    process = start(wire, "generate", "a fox")
    until(wire, "POST", 1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert "look with: magicvideo list" in err.decode()


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="a terminal of its own needs a POSIX system")
def test_a_terminal_gets_one_bar_a_stage_and_one_for_the_download(wire: Wire, tmp_path: Path) -> None:
    main, side = pty.openpty()
    process = start(wire, "generate", "a fox", "-o", str(tmp_path / "fox.mp4"), stderr=side)
    os.close(side)
    seen = b""
    while True:
        try:
            piece = os.read(main, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        seen += piece
    os.close(main)
    process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    last = [line.rstrip() for line in re.split(r"[\r\n]+", plain) if line.strip()][-5:]
    assert [line.split("━")[0].strip() for line in last] == [
        "t2i picture",
        "i2v motion",
        "v2v detail",
        "vfi smoothness",
        "download",
    ]
    assert [line.split("━")[-1].split() for line in last] == [
        ["100", "%", "1.5", "s"],
        ["100", "%", "2.5", "s"],
        ["100", "%", "3.5", "s"],
        ["100", "%", "4.5", "s"],
        ["100", "%", "0.2", "MB"],
    ]


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("client", ("httpx", "pydantic", "rich", "typer")),
        ("client.schema", ("httpx", "rich", "typer")),
        ("client.cli", ("httpx", "pydantic", "torch", "ray")),
    ],
)
def test_imports_are_light(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*(name for name in {absent!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""
