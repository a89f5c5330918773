"""A stopped training goes on to the same weights, precision and batching do what they say, and everything is logged."""

import csv
import random
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from stages.base import InputError
from stages.training.loop.loop import LossFn, Options, Schedule, load_average, train


class Line(nn.Module):
    """y = x W; tells in which dtype it computed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.line = nn.Linear(3, 1)
        self.seen: set[torch.dtype] = set()

    def forward(self, inputs: Tensor) -> Tensor:
        said: Tensor = self.line(inputs)
        self.seen.add(said.dtype)
        return said


def sum_of_inputs(model: Line, stop_at: int | None = None) -> LossFn:
    def loss_of(step: int, rng: random.Random) -> Tensor:
        if step == stop_at:
            raise KeyboardInterrupt
        inputs = torch.randn(8, 3)
        loss: Tensor = ((model(inputs).float() - inputs.sum(1, keepdim=True) * rng.random()) ** 2).mean()
        return loss

    return loss_of


def fit(folder: Path, steps: int, stop_at: int | None = None, options: Options | None = None) -> Tensor:
    model = Line()
    train("fit", model, sum_of_inputs(model, stop_at), Schedule(steps, 1e-2, every=10), folder, options=options)
    return model.line.weight.detach().clone()


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "fit.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("precision", ["no", "fp16"])
def test_a_stopped_run_ends_with_the_same_weights(tmp_path: Path, precision: str) -> None:
    options = Options(precision=precision, accumulate=2)  # type: ignore[arg-type]
    whole = fit(tmp_path / "whole", 40, options=options)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "parts", 40, stop_at=27, options=options)
    assert load_average("fit", Line(), tmp_path / "parts") == 20
    assert torch.equal(fit(tmp_path / "parts", 40, options=options), whole)


def test_the_plain_steps_are_adamw_and_an_average(tmp_path: Path) -> None:
    """The loop written out, without any of its options."""
    model, schedule = Line(), Schedule(12, 1e-2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.99), weight_decay=0.01)
    mean = model.line.weight.detach().clone()
    loss_of = sum_of_inputs(model)
    for step in range(12):
        torch.manual_seed(step)
        optimizer.param_groups[0]["lr"] = schedule.rate(step)
        loss = loss_of(step, random.Random(f"fit/0/{step}"))
        assert isinstance(loss, Tensor)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        decay = min(0.998, (1 + step) / (10 + step)) if step else 0.0
        mean.sub_(mean - model.line.weight.detach(), alpha=1 - decay)
    assert torch.equal(fit(tmp_path, 12), mean)


def gradients_of_one_step(folder: Path, batches: int) -> list[Tensor]:
    model = Line()
    seen: list[Tensor] = []
    model.line.weight.register_hook(lambda gradient: seen.append(gradient.clone()))  # type: ignore[no-untyped-call]
    train("fit", model, sum_of_inputs(model), Schedule(1, 1e-2), folder, options=Options(accumulate=batches))
    return seen


def test_several_batches_a_step_are_drawn_apart_and_averaged(tmp_path: Path) -> None:
    four, alone = gradients_of_one_step(tmp_path / "four", 4), gradients_of_one_step(tmp_path / "one", 1)
    assert len(four) == 4
    assert not torch.equal(four[0], four[1])
    assert torch.equal(four[0] * 4, alone[0])


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_mixed_precision_computes_low_and_keeps_high(tmp_path: Path, precision: str, dtype: torch.dtype) -> None:
    model = Line()
    options = Options(precision=precision, row_every=1)  # type: ignore[arg-type]
    train("fit", model, sum_of_inputs(model), Schedule(60, 3e-2, warmup=1), tmp_path, options=options)
    assert model.seen == {dtype}
    assert model.line.weight.dtype == torch.float32
    losses = [float(row["loss"]) for row in rows(tmp_path)]
    assert losses[-1] < losses[0]


def test_everything_is_logged(tmp_path: Path) -> None:
    model = Line()

    def loss_of(step: int, rng: random.Random) -> tuple[Tensor, dict[str, float]]:
        return model(torch.ones(1, 3)).square().mean(), {"reward": 3.0}

    options = Options(row_every=2, tensorboard=True)
    train("fit", model, loss_of, Schedule(6, 1e-2), tmp_path, options=options)
    found = rows(tmp_path)
    assert [row["step"] for row in found] == ["2", "4", "6"]
    assert {row["reward"] for row in found} == {"3.00000"}
    events = list((tmp_path / "tensorboard" / "fit").glob("events.out.tfevents.*"))
    assert len(events) == 1
    assert all(tag in events[0].read_bytes() for tag in (b"fit/loss", b"fit/reward", b"fit/rate"))


def test_samples_are_drawn_with_the_averages_and_change_nothing(tmp_path: Path) -> None:
    model = Line()
    seen: list[tuple[int, bool, Tensor]] = []

    def sample(step: int) -> None:
        torch.manual_seed(99)
        seen.append((step, model.training, model.line.weight.detach().clone()))

    options = Options(sample=sample, sample_every=10)
    train("fit", model, sum_of_inputs(model), Schedule(30, 1e-2), tmp_path / "with", options=options)
    assert [(step, training) for step, training, _ in seen] == [(10, False), (20, False), (30, False)]
    assert torch.equal(seen[-1][2], model.line.weight)
    assert torch.equal(fit(tmp_path / "without", 30), model.line.weight)


def test_a_diverged_run_names_the_step(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    with pytest.raises(FloatingPointError, match="fit diverged at step 0"):
        train("fit", model, lambda step, rng: model.weight.sum() * float("nan"), Schedule(5, 1e-3), tmp_path)


def test_nothing_to_train_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fit has no parameter to train"):
        train("fit", Line().requires_grad_(False), lambda step, rng: torch.zeros(()), Schedule(5, 1e-3), tmp_path)
    with pytest.raises(InputError, match="does not depend on any trained parameter at step 0"):
        train("fit", Line(), lambda step, rng: torch.zeros(()), Schedule(5, 1e-3), tmp_path)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    fit(tmp_path, 10)
    with pytest.raises(InputError, match=r"fit\.pt holds 2 tensors of 4 numbers, this model trains 2 of 6"):
        train("fit", nn.Linear(5, 1), lambda step, rng: torch.zeros(()), Schedule(5, 1e-3), tmp_path)
