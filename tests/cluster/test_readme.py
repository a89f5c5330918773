"""The walk of cluster/README.md from a profile to a live experiment: its commands, in order, in an empty folder."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "cluster" / "README.md").read_text()
WALK = re.findall(r"```sh\n(.*?)```", README.partition("## Experiments")[2], flags=re.DOTALL)[0].splitlines()
PLOTS = ROOT / "cluster" / "plots"


def test_the_pictures_of_the_readme_are_small_and_of_this_folder() -> None:
    shown = set(re.findall(r"plots/(\w+\.png)", README))
    assert shown == {path.name for path in PLOTS.iterdir()} == {"throughput.png", "queues.png"}
    assert all(path.stat().st_size < 100_000 for path in PLOTS.iterdir())


@pytest.mark.slow
def test_the_walk_from_a_profile_to_a_live_experiment(tmp_path: Path) -> None:
    said = []
    assert len(WALK) == 5
    for line in WALK:
        python, *words = shlex.split(line)
        assert python == "python"
        done = subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}: {done.stderr}"
        said.append(done.stdout)
    assert "busiest: v2v" in said[1]
    for name in ("bottleneck", "twin", "live"):
        with Image.open(tmp_path / "out" / name / "throughput.png") as picture:
            assert picture.width > 400
    twin, live = (
        sorted(path.name for path in (tmp_path / "out" / name / "runs").iterdir()) for name in ("twin", "live")
    )
    assert twin == live  # the very same runs
