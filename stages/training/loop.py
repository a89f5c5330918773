"""One training loop for every recipe: AdamW, a flat learning rate that falls at the end, EMA, a log, and checkpoints.

Takes modules and a function that gives a loss for a step; gives the modules with their averaged weights. A run that is
stopped goes on from its last checkpoint, in a folder outside the repository. Knows nothing of what is trained.
"""

import csv
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

console = Console(stderr=True)


@dataclass(frozen=True)
class Schedule:
    """How long and how fast. `steps` already holds the dial."""

    steps: int
    learning_rate: float
    warmup: int = 100
    decay: float = 0.3  # the last part of the run, in which the rate falls to zero
    ema: float = 0.998
    every: int = 250  # steps between checkpoints

    def rate(self, step: int) -> float:
        rise = min(1.0, (step + 1) / self.warmup)
        left = (self.steps - step) / max(1.0, self.decay * self.steps)
        return self.learning_rate * rise * min(1.0, left)


LossFn = Callable[[int, random.Random], Tensor]


class _Average:
    """Exponential moving average of the trained parameters."""

    def __init__(self, parameters: list[nn.Parameter], decay: float) -> None:
        self.shadow = [p.detach().clone() for p in parameters]
        self.decay = decay

    @torch.no_grad()
    def update(self, parameters: list[nn.Parameter], step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.shadow, [p.detach() for p in parameters], 1 - decay)


def train(name: str, modules: nn.Module, loss_of: LossFn, schedule: Schedule, folder: Path, *, seed: int = 0) -> None:
    """Train the parameters of `modules` that require gradients; on return they hold their averages.

    Args:
        loss_of: (step, generator of that step) -> scalar loss; called with gradients on.
        folder: keeps `<name>.pt` (everything to go on from) and `<name>.csv` (step, loss, rate, seconds).
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.pt"
    parameters = [p for p in modules.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=schedule.learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
    average = _Average(parameters, schedule.ema)
    start = 0
    if file.exists():
        state = torch.load(file, weights_only=True)
        with torch.no_grad():
            for parameter, saved in zip(parameters, state["parameters"], strict=True):
                parameter.copy_(saved)
        average.shadow = state["average"]
        optimizer.load_state_dict(state["optimizer"])
        start = int(state["step"])
    console.print(f"{name}: {sum(p.numel() for p in parameters) / 1e6:.2f}M parameters, steps {start}-{schedule.steps}")

    def save(step: int) -> None:
        state = {
            "parameters": [p.detach() for p in parameters],
            "average": average.shadow,
            "optimizer": optimizer.state_dict(),
            "step": step,
        }
        torch.save(state, file.with_suffix(".tmp"))
        file.with_suffix(".tmp").replace(file)

    recent = math.nan
    began = time.monotonic()
    modules.train()
    with (folder / f"{name}.csv").open("a", newline="") as log:
        rows = csv.writer(log)
        for step in range(start, schedule.steps):
            torch.manual_seed(seed * 1_000_003 + step)
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(step)
            loss = loss_of(step, random.Random(f"{name}/{seed}/{step}"))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            average.update(parameters, step)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise FloatingPointError(f"{name} diverged at step {step}: loss {value}; lower the learning rate.")
            recent = value if math.isnan(recent) else 0.98 * recent + 0.02 * value
            if (step + 1) % 50 == 0:
                seconds = time.monotonic() - began
                rows.writerow([step + 1, f"{recent:.5f}", f"{schedule.rate(step):.2e}", f"{seconds:.0f}"])
                log.flush()
                pace = seconds / (step + 1 - start)
                left = pace * (schedule.steps - step - 1) / 60
                console.print(
                    f"{name} {step + 1}/{schedule.steps} loss {recent:.4f} {pace:.2f} s/step {left:.0f} min left"
                )
            if (step + 1) % schedule.every == 0:
                save(step + 1)
    if start < schedule.steps:
        save(schedule.steps)
    with torch.no_grad():
        for parameter, mean in zip(parameters, average.shadow, strict=True):
            parameter.copy_(mean)
    modules.eval()


def load_average(name: str, modules: nn.Module, folder: Path) -> int:
    """Put the averaged weights of an unfinished run into `modules`; the step they come from, 0 if there is none."""
    file = folder / f"{name}.pt"
    if not file.exists():
        return 0
    state = torch.load(file, weights_only=True)
    parameters = [p for p in modules.parameters() if p.requires_grad]
    with torch.no_grad():
        for parameter, mean in zip(parameters, state["average"], strict=True):
            parameter.copy_(mean)
    return int(state["step"])
