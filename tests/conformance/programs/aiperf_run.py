"""One run of AIPerf against a server: `python aiperf_run.py URL FOLDER`."""

import json
import os
import subprocess
import sys
from pathlib import Path

from report import attempt, check

TOKENIZER = Path(__file__).parents[3] / "stages" / "weights" / "tiny" / "tokenizer"
"""A folder, which it reads only where the hub is not said to be away; its own tokenizer would be fetched."""


def profile() -> None:
    url, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir()
    prompts = folder / "prompts.jsonl"
    prompts.write_text(json.dumps({"text": "a fox in a snowy forest at dusk"}) + "\n")
    command = [str(Path(sys.executable).with_name("aiperf")), "profile", "--url", url, "--model", "tiny"]
    command += ["--endpoint-type", "video_generation", "--download-video-content", "--tokenizer", str(TOKENIZER)]
    command += ["--input-file", str(prompts), "--custom-dataset-type", "single_turn", "--ui", "none"]
    command += ["--extra-inputs", "size:256x256", "seconds:2", "num_inference_steps:4", "seed:42"]
    command += ["--concurrency", "1", "--request-count", "2", "--artifact-dir", str(folder / "out")]
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    check(ran.returncode == 0, (ran.stdout + ran.stderr)[-6000:])
    [told] = (folder / "out").rglob("profile_export_aiperf.json")
    figures = json.loads(told.read_text())
    check(figures["request_count"]["avg"] == 2, figures)
    check(not figures.get("error_summary"), figures.get("error_summary"))


attempt("create", profile)
