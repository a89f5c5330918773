"""The README's commands, as they stand there: each is run, or the reason why not stands here."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest

from stages.types import UInt8
from tests.e2e.rig import Rig

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.partition("  #")[0].rstrip()
    for block in re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    for line in block.strip().splitlines()
]
NOT_HERE = {
    "make test": "it is what runs this",
    "make serve": "it serves for ever; `make demo` starts the same server",
    "make serve PRESET=paper": "it needs a GPU; tests/e2e/test_box.py runs its command on pretended ones",
    ".venv/bin/serve deploy serve_config.yaml": "it needs four pools of GPU nodes; tests/deployments reads that file",
}
CLIENT = [command for command in COMMANDS if "magicvideo" in command or command.startswith("curl")]
TABLES = [command for command in COMMANDS if "-m stages weights" in command or "-m stages cost" in command]
CLUSTER = [command for command in COMMANDS if "-m cluster" in command]
VIDEO = [command for command in COMMANDS if command.startswith("make demo") or '-m stages "' in command]


def test_every_command_is_run_or_has_its_reason() -> None:
    assert sorted(COMMANDS) == sorted([*NOT_HERE, *CLIENT, *TABLES, *CLUSTER, *VIDEO])


def test_the_five_numbers_are_those_of_the_results() -> None:
    table = README.partition("## Five numbers")[2].partition("## Licence")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text()
    assert len(rows) == 5
    for figure in (figure for row in rows for figure in re.findall(r"\d+\.\d+|\d+(?=,)", row)):
        assert re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d])", results), figure


def test_the_readme_has_at_most_900_words() -> None:
    assert len(README.split()) <= 900


def test_links_lead_somewhere() -> None:
    for path in (ROOT / "README.md", *ROOT.glob("*/README.md"), ROOT / "stages" / "weights" / "MODEL_CARD.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            assert "://" in target or (path.parent / target).exists(), f"{path}: {target}"


def test_make_knows_the_targets_that_texts_name() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("*/README.md")):
        named = set(re.findall(r"`make (\w+)", path.read_text()))
        assert named <= targets, path


@pytest.mark.slow
@pytest.mark.parametrize("command", CLIENT)
def test_the_clients_commands(rig: Rig, tmp_path: Path, command: str) -> None:
    words = command.replace("http://127.0.0.1:8000", rig.url).replace(".venv/bin/", f"{ROOT}/.venv/bin/")
    done = subprocess.run(
        ["sh", "-c", words],
        cwd=tmp_path,
        env={**os.environ, "MAGICVIDEO_URL": rig.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if command.startswith("curl"):
        assert json.loads(done.stdout)["object"] == "video"


@pytest.mark.slow
@pytest.mark.parametrize("command", CLUSTER)
def test_the_commands_that_plan_and_simulate(tmp_path: Path, command: str) -> None:
    python, *words = shlex.split(command)
    done = subprocess.run(
        [str(ROOT / python), *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "v2v" in done.stdout or (tmp_path / "out" / "burst" / "queues.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", TABLES)
def test_the_commands_that_print_a_table(command: str) -> None:
    done = subprocess.run(shlex.split(command), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "i2v" in done.stdout or "motion" in done.stdout


@pytest.mark.slow
def test_the_commands_that_make_a_video_make_the_same_moving_picture(tmp_path: Path) -> None:
    """The real thing: the committed weights on the server that `make serve` starts, and without any server."""
    served, local = (frames_of(tmp_path, command) for command in VIDEO)
    assert served.shape == (46, 256, 256, 3)
    assert served.std(axis=(1, 2)).mean() > 10, "the frames are nearly of one colour"
    changes = np.abs(np.diff(served.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
    assert changes.max() > 0.1, "nothing moves"
    assert np.median(changes) < 40, "the frames have nothing to do with each other"
    apart = np.abs(served.astype(np.int16) - local).mean()
    assert apart < 3.0, "more than the encoder does, which writes one by windows and the other at once"


def frames_of(folder: Path, command: str) -> UInt8:
    """Of the video that it makes."""
    out = folder / "made.mp4"
    words = re.sub(r"out/\w+\.mp4", str(out), command)
    assert str(out) in words
    done = subprocess.run(shlex.split(words), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    with av.open(str(out)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
