"""One `python -m deployments serve` as a process of its own, on a free port of this machine.

    with ServerProcess("--laptop", "--data-dir", "out/demo") as server:
        server.url

It is started and ended as an operator would: by the command, and by SIGTERM. Experiments, benchmarks, the demo and the
tests start a server in no other way, but for those that stay in one process with it (`deployments.server`). Standard
library only; knows nothing of what is served.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parents[1]
START_S, STOP_S = 240.0, 120.0


class ServerError(RuntimeError):
    """A server that did not start, in one sentence."""


def free_port() -> int:
    """A port of this machine that nothing listens on.

    Below those that the system hands out: Ray's processes take hundreds of those before a server comes to its own.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class ServerProcess:
    """The command with these options; `url` is the same over every start."""

    def __init__(
        self,
        *options: object,
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
        own_session: bool = False,
    ) -> None:
        """What it says goes to `log`, or to the terminal; in a session of its own Ctrl-C reaches it by us alone."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.pid = 0  # of the last start
        self.returncode: int | None = None
        self._options = [*map(str, options), "--port", str(self.port)]
        self._log, self._environment, self._own_session = log, {**os.environ, **(environment or {})}, own_session
        self._process: subprocess.Popen[bytes] | None = None
        self._asked_to_stop = False

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def ended(self, limit_s: float) -> bool:
        """Whether it has ended by itself, which is waited for so long."""
        with suppress(subprocess.TimeoutExpired):
            if self._process is not None:
                self._process.wait(limit_s)
        return not self.alive()

    def start(self) -> Self:
        """Returns when it serves.

        Raises:
            ServerError: it ended instead, or was silent for `START_S`.
        """
        self._asked_to_stop = False
        log = None if self._log is None else self._log.open("wb")
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "deployments", "serve", *self._options],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                start_new_session=self._own_session,
            )
        finally:
            if log is not None:
                log.close()
        self.pid = self._process.pid
        assert self._process.stdout is not None
        limit = threading.Timer(START_S, self._process.kill)
        limit.start()
        try:
            ready = self._process.stdout.readline()  # its address, or nothing where it ended with a sentence
        except BaseException:  # Ctrl-C
            self.stop()
            raise
        finally:
            limit.cancel()
        if b" at http://" not in ready:
            raise ServerError(f"The server did not start: {self._last_words()}")
        return self

    def stop(self) -> None:
        """It ends as on SIGTERM; if it does not within `STOP_S`, it is killed. May be called again."""
        process = self._process
        if process is None:
            return
        if process.poll() is None and not self._asked_to_stop:
            process.terminate()
            self._asked_to_stop = True
        try:
            self.returncode = process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            if self._own_session:
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            self.returncode = process.wait()
        if process.stdout is not None:
            process.stdout.close()
        self._process = None

    def _last_words(self) -> str:
        self.stop()
        if self._log is None:
            return f"it ended with exit code {self.returncode}; see above why."
        lines = self._log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        return f"{lines[-1].removeprefix('error: ')} (all of it: {self._log})"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
