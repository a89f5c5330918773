"""A stopped training goes on to the same weights, and a diverged one says so."""

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from stages.training.loop import Schedule, load_average, train


def fit(folder: Path, steps: int, stop_at: int | None = None) -> Tensor:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)

    def loss_of(step: int, rng: random.Random) -> Tensor:
        if step == stop_at:
            raise KeyboardInterrupt
        inputs = torch.randn(8, 3)
        loss: Tensor = ((model(inputs) - inputs.sum(1, keepdim=True) * rng.random()) ** 2).mean()
        return loss

    train("fit", model, loss_of, Schedule(steps, 1e-2, every=10), folder)
    return model.weight.detach().clone()


def test_a_stopped_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", 40)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "parts", 40, stop_at=27)
    assert load_average("fit", nn.Linear(3, 1), tmp_path / "parts") == 20
    assert torch.equal(fit(tmp_path / "parts", 40), whole)


def test_a_diverged_run_names_the_step(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    with pytest.raises(FloatingPointError, match="fit diverged at step 0"):
        train("fit", model, lambda step, rng: model.weight.sum() * float("nan"), Schedule(5, 1e-3), tmp_path)
