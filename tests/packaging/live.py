"""A live server for the wheel's tests: `python -m deployments serve` with stages that only take time.

The whole of serving is real, Ray, journal, HTTP and encoding; `stages.replay` stands in for the models, which the
client cannot tell apart. `live_server(folder)` gives the URL and stops the process at the end.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.server_process import ServerProcess


def config(folder: Path) -> Path:
    """A Serve config file (JSON is YAML) whose stages are replayed."""
    stages = {
        name: {
            "factory": "stages.replay:ReplayStage",
            "options": {"stage": name, "run_s": 0.2, "steps": 4, "bytes_out": 200_000},
        }
        for name in ("t2i", "i2v", "v2v", "vfi")
    }
    application = {"name": "magicvideo", "import_path": "deployments.app:build", "args": {"stages": stages}}
    path = folder / "replay.yaml"
    path.write_text(json.dumps({"applications": [application]}))
    return path


@contextmanager
def live_server(folder: Path) -> Iterator[str]:
    """The URL of a server that answers; its files lie in `folder`."""
    options = ("--laptop", "--config", config(folder), "--data-dir", folder / "data")
    with ServerProcess(*options, log=folder / "server.log") as server:
        yield server.url
