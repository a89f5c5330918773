"""Ctrl-C at a terminal: the command asks whether to cancel the job, and does not wait long for an answer."""

import codecs
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.client.rig import DEADLINE_S, until
from tests.client.wire import Wire

ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.skipif(not hasattr(os, "openpty"), reason="a terminal of its own needs a POSIX system")


class Terminal:
    """The command at a terminal: what it shows there, and keys for it."""

    def __init__(self, wire: Wire, *words: str, program: Sequence[str] = ("-m", "client")) -> None:
        self._main, side = pty.openpty()
        self.seen = ""
        self._decode = codecs.getincrementaldecoder("utf-8")().decode  # a piece may end within a letter
        self.process = subprocess.Popen(
            [sys.executable, *program, *words],
            cwd=ROOT,
            env={**os.environ, "MAGICVIDEO_URL": wire.url, "COLUMNS": "200"},
            stdin=side,
            stdout=subprocess.PIPE,
            stderr=side,
        )
        os.close(side)

    def until(self, text: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while text not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} never came: {self.seen[-500:]!r}"
            if select.select([self._main], [], [], 0.1)[0]:
                self.seen += self._decode(os.read(self._main, 65536))

    def press(self, keys: str) -> None:
        os.write(self._main, keys.encode())

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Its exit code; all that it showed is read."""
        deadline = time.monotonic() + DEADLINE_S
        while self.process.poll() is None or select.select([self._main], [], [], 0)[0]:
            assert time.monotonic() < deadline, f"it does not end: {self.seen[-500:]!r}"
            if select.select([self._main], [], [], 0.1)[0]:
                try:
                    self.seen += self._decode(os.read(self._main, 65536))
                except OSError:  # the other end is closed
                    break
        return self.process.wait(timeout=DEADLINE_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        os.close(self._main)


@pytest.fixture
def terminal(wire: Wire, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    """`generate`, stopped once while its job runs."""
    program = getattr(request, "param", ("-m", "client"))
    wire.standin.ticks = 1_000_000
    started = Terminal(wire, "generate", "a fox", "-o", str(tmp_path / "fox.mp4"), program=program)
    try:
        until(wire, "GET /v1/videos/", 2)  # from the first on it runs
        started.until("t2i picture")
        started.interrupt()
        started.until(f"Cancel {wire.last.id} too? [y/N]")
        yield started
    finally:
        started.close()


def test_yes_cancels_the_job(terminal: Terminal, wire: Wire) -> None:
    terminal.press("y\n")
    assert terminal.end() == 130
    assert terminal.seen.rstrip().endswith(f"{wire.last.id} is being cancelled.")
    assert wire.count("POST .*/cancel") == 1


@pytest.mark.parametrize("answer", ["n\n", "\n", "\x04"])
def test_anything_else_leaves_it_running(terminal: Terminal, wire: Wire, answer: str) -> None:
    terminal.press(answer)
    assert terminal.end() == 130
    assert f"the job goes on. Fetch its video later with: magicvideo download {wire.last.id} --wait" in terminal.seen
    assert wire.count("POST .*/cancel") == 0


def test_a_second_ctrl_c_leaves_it_running_at_once(terminal: Terminal, wire: Wire) -> None:
    terminal.interrupt()
    assert terminal.end() == 130
    assert f"magicvideo download {wire.last.id} --wait" in terminal.seen
    assert wire.count("POST .*/cancel") == 0


HASTY = "from client.cli import main; from client.commands import interrupt; interrupt.ANSWER_S = 1.0; main()"


@pytest.mark.slow  # it waits for an answer that never comes
@pytest.mark.parametrize("terminal", [("-c", HASTY)], indirect=True)
def test_no_answer_leaves_it_running(terminal: Terminal, wire: Wire) -> None:
    assert "(1 s, then it goes on)" in terminal.seen
    assert terminal.end() == 130
    assert f"magicvideo download {wire.last.id} --wait" in terminal.seen
    assert wire.count("POST .*/cancel") == 0
