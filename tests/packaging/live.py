"""A live server for the wheel's tests: `python -m deployments serve` with stages that only take time.

The whole of serving is real, Ray, journal, HTTP and encoding; `cluster.replay` stands in for the models, which the
client cannot tell apart. `live_server(folder)` gives the URL and stops the process at the end.
"""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STOP_S = 90.0


def config(folder: Path) -> Path:
    """A Serve config file (JSON is YAML) whose stages are replayed."""
    stages = {
        name: {
            "factory": "cluster.replay:ReplayStage",
            "options": {"stage": name, "run_s": 0.2, "steps": 4, "bytes_out": 200_000},
        }
        for name in ("t2i", "i2v", "v2v", "vfi")
    }
    application = {"name": "magicvideo", "import_path": "deployments.app:build", "args": {"stages": stages}}
    path = folder / "replay.yaml"
    path.write_text(json.dumps({"applications": [application]}))
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def live_server(folder: Path) -> Iterator[str]:
    """The URL of a server that answers; its files lie in `folder`."""
    options = ["--laptop", "--config", config(folder), "--port", free_port(), "--data-dir", folder / "data"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "deployments", "serve", *map(str, options)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    try:
        ready = process.stdout.readline()  # the server prints its address, or ends
        assert " at http://" in ready, f"the server did not start: {ready!r}\n{(folder / 'server.log').read_text()}"
        yield ready.rsplit(" at ", 1)[1].strip()
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            process.stdout.close()
