"""The pictures of cluster/README.md; its commands run in `tests/e2e/test_experiment.py`."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "cluster" / "README.md").read_text()
PLOTS = ROOT / "cluster" / "plots"


def test_the_pictures_of_the_readme_are_small_and_of_this_folder() -> None:
    shown = set(re.findall(r"plots/(\w+\.png)", README))
    assert shown == {path.name for path in PLOTS.iterdir()} == {"throughput.png", "queues.png"}
    assert all(path.stat().st_size < 100_000 for path in PLOTS.iterdir())
