"""A Serve config file for a server process: the whole of serving is real, `stages.replay` stands in for the models."""

import json
from pathlib import Path


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
