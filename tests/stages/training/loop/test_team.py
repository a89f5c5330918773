"""Two real processes over gloo, started by accelerate: they learn as one, and the commands run under the launcher."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cluster.server_process import free_port
from stages.training.loop.team import Team
from tests.stages.training.footage_files import folder_of_clips
from tests.stages.training.two_ranks import main as train_alone

ROOT = Path(__file__).resolve().parents[4]


FLAGS = [
    "--multi_gpu",
    "--num_processes",
    "2",
    "--num_machines",
    "1",
    "--mixed_precision",
    "no",
    "--dynamo_backend",
    "no",
]


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder that two processes wrote, and what they said: one start for all tests, since it takes ten seconds."""
    folder = tmp_path_factory.mktemp("two")
    folder_of_clips(folder)
    files = ["--data", str(folder / "clips.jsonl"), "--out", str(folder / "out"), "--latents", str(folder / "latents")]
    small = ["--frames", "2", "--size", "64x64", "--steps", "2", "--sample-every", "2", "--samples", "1"]
    asked = ["i2v", *files, *small, "--picture-batch", "2", "--device", "cpu"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *FLAGS, "--main_process_port", str(free_port())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [*command, "-m", "tests.stages.training.two_ranks", str(folder), "1", *asked],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done.stderr


@pytest.mark.slow
def test_two_processes_learn_as_one_with_twice_the_batches(launched: tuple[Path, str], tmp_path: Path) -> None:
    folder, told = launched
    assert re.findall(r"two: .* steps (.*)", told) == ["0-4 on 2 processes", "4-10 on 2 processes"]
    first, second = (torch.load(folder / f"rank{rank}of2.pt", weights_only=True) for rank in (0, 1))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    with (folder / "two.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert len(losses) == 5
    assert losses[-1] < losses[0]
    train_alone(tmp_path, 2)  # in this process: the same draws, as two batches a step
    summed: dict[str, Tensor] = torch.load(tmp_path / "rank0of1.pt", weights_only=True)
    for name, tensor in summed.items():
        assert torch.allclose(tensor, first[name], atol=2e-3), name
    assert any(not torch.equal(summed[name], torch.zeros_like(tensor)) for name, tensor in first.items())


@pytest.mark.slow
def test_a_command_runs_under_the_launcher(launched: tuple[Path, str]) -> None:
    folder, told = launched
    assert re.findall(r"i2v: .* steps (.*)", told) == ["0-2 on 2 processes"]
    assert told.count("motion in") == 1  # only the first process speaks
    assert (folder / "out" / "motion" / "diffusion_pytorch_model.safetensors").is_file()
    assert (folder / "out" / "samples" / "i2v-000002.webp").is_file()


def test_alone_nothing_is_spread() -> None:
    team, layer = Team(), torch.nn.Linear(1, 1)
    assert team.spread(layer) is layer
    assert (team.leads, team.mean(3.5)) == (True, 3.5)
    made: list[int] = []
    team.once(lambda: made.append(1))
    assert made == [1]
