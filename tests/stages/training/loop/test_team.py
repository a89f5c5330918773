"""Two real processes over gloo, started by accelerate: they learn as one, and the commands run under the launcher."""

import csv
import os
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


def launch(*arguments: str) -> str:
    """The command in two processes; what it says. Fails where one of them fails."""
    flags = [
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
    flags += ["--main_process_port", str(free_port())]
    command = [sys.executable, "-m", "accelerate.commands.launch", *flags, "-m"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


@pytest.mark.slow
def test_two_processes_learn_as_one_with_twice_the_batches(tmp_path: Path) -> None:
    launch("tests.stages.training.two_ranks", str(tmp_path), "1")
    first, second = (torch.load(tmp_path / f"rank{rank}of2.pt", weights_only=True) for rank in (0, 1))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    with (tmp_path / "two.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert len(losses) == 5
    assert losses[-1] < losses[0]
    alone = tmp_path / "alone"
    alone.mkdir()
    train_alone(alone, 2)  # in this process: the same draws, as two batches a step
    summed: dict[str, Tensor] = torch.load(alone / "rank0of1.pt", weights_only=True)
    for name, tensor in summed.items():
        assert torch.allclose(tensor, first[name], atol=2e-3), name
    assert any(not torch.equal(summed[name], torch.zeros_like(tensor)) for name, tensor in first.items())


@pytest.mark.slow
def test_a_command_runs_under_the_launcher(tmp_path: Path) -> None:
    folder_of_clips(tmp_path)
    out = tmp_path / "out"
    files = ["--data", str(tmp_path / "clips.jsonl"), "--out", str(out), "--latents", str(tmp_path / "latents")]
    small = ["--frames", "2", "--size", "64x64", "--steps", "4", "--save-every", "2", "--sample-every", "4"]
    told = launch("stages.training", "i2v", *files, *small, "--picture-batch", "2", "--device", "cpu", "--samples", "1")
    assert "steps 0-4 on 2 processes" in told
    assert told.count("motion in") == 1  # only the first process speaks
    assert (out / "motion" / "diffusion_pytorch_model.safetensors").is_file()
    assert (out / "samples" / "i2v-000004.webp").is_file()
    again = launch("stages.training", "i2v", *files, *small, "--picture-batch", "2", "--device", "cpu")
    assert "steps 4-4 on 2 processes" in again


def test_alone_nothing_is_spread() -> None:
    team, layer = Team(), torch.nn.Linear(1, 1)
    assert team.spread(layer) is layer
    assert (team.leads, team.mean(3.5)) == (True, 3.5)
    made: list[int] = []
    team.once(lambda: made.append(1))
    assert made == [1]
