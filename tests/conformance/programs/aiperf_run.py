"""One run of AIPerf against a server: `python aiperf_run.py URL FOLDER`."""

import json
import subprocess
import sys
from pathlib import Path

from report import attempt, check

TOKENIZER = Path(__file__).parents[3] / "stages" / "weights" / "tiny" / "tokenizer"  # its own would be fetched


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
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    check(ran.returncode == 0, (ran.stdout + ran.stderr)[-6000:])
    [told] = (folder / "out").rglob("profile_export_aiperf.json")
    figures = json.loads(told.read_text())
    check(figures["request_count"]["avg"] == 2, figures)
    check(not figures.get("error_summary"), figures.get("error_summary"))


attempt("create", profile)
