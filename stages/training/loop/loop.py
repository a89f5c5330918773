"""One training loop for every recipe: AdamW, a flat learning rate that falls at the end, EMA, and checkpoints.

Takes modules and a function that gives a loss for a step; gives the modules with their averaged weights. A run that is
stopped goes on from its last checkpoint, bit for bit, in a folder outside the repository. Alone on a CPU or spread over
GPUs (`team`), in mixed precision or not, several batches a step or one. Knows nothing of what is trained.
"""

import random
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from stages.base import InputError, derive_seed
from stages.training.loop.journal import ROW_EVERY, Journal, console
from stages.training.loop.team import Team

__all__ = ["LossFn", "Options", "Precision", "Schedule", "console", "load_average", "train"]

Precision = Literal["no", "bf16", "fp16"]
_DTYPES: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


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


@dataclass(frozen=True)
class Options:
    """How the steps are run; the defaults are one process, float32, one batch a step.

    `bf16` and `fp16` compute in that type and keep weights, averages and AdamW's state in float32.
    """

    team: Team = field(default_factory=Team)
    precision: Precision = "no"
    accumulate: int = 1  # batches a step, in each process
    tensorboard: bool = False
    row_every: int = ROW_EVERY
    sample: Callable[[int], None] | None = None  # (step) -> None, with the averaged weights in place
    sample_every: int = 0  # steps; 0 for never
    optimizer: Callable[[list[nn.Parameter], float], torch.optim.Optimizer] | None = None  # (parameters, rate); AdamW


LossFn = Callable[[int, random.Random], Tensor | tuple[Tensor, Mapping[str, float]]]


class _Losses(nn.Module):
    """The loss as a module's forward, which is where torch's data parallelism hooks in."""

    def __init__(self, modules: nn.Module, loss_of: LossFn) -> None:
        super().__init__()
        self.inner = modules
        self._loss_of = loss_of

    def forward(self, step: int, rng: random.Random) -> tuple[Tensor, dict[str, float]]:
        said = self._loss_of(step, rng)
        return (said, {}) if isinstance(said, Tensor) else (said[0], dict(said[1]))


def train(
    name: str,
    modules: nn.Module,
    loss_of: LossFn,
    schedule: Schedule,
    folder: Path,
    *,
    seed: int = 0,
    options: Options | None = None,
) -> None:
    """Train the parameters of `modules` that require gradients; on return they hold their averages.

    Args:
        loss_of: (step, generator of that step) -> scalar loss, or that and figures to log; called with gradients on.
        folder: keeps `<name>.pt` (everything to go on from) and `<name>.csv`, see `Journal`.

    Raises:
        InputError: nothing to train, or a checkpoint of another model.
        FloatingPointError: the loss is not finite.
    """
    options = options or Options()
    team = options.team
    parameters = [p for p in modules.parameters() if p.requires_grad]
    if not parameters:
        raise InputError(f"{name} has no parameter to train; choose at least one part.")
    folder.mkdir(parents=True, exist_ok=True)
    losses = team.spread(_Losses(modules, loss_of))  # before the average is taken: it may change the weights
    optimizer = (options.optimizer or _adamw)(parameters, schedule.learning_rate)
    average = EMAModel(parameters, schedule.ema, foreach=True)
    scaler = torch.amp.GradScaler(team.device.type, enabled=options.precision == "fp16")
    run = _Run(folder / f"{name}.pt", parameters, average, optimizer, scaler)
    start = run.load()
    team.wait()
    if team.leads:
        millions = sum(p.numel() for p in parameters) / 1e6
        among = f" on {team.size} processes" if team.size > 1 else ""
        console.print(f"{name}: {millions:.2f}M parameters, steps {start}-{schedule.steps}{among}")
    journal = Journal(
        name, folder, start, schedule.steps, every=options.row_every, tensorboard=options.tensorboard
    ) if team.leads else None  # fmt: skip
    modules.train()
    with journal or nullcontext():
        for step in range(start, schedule.steps):
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(step)
            value, figures = _gradients(losses, optimizer, scaler, name, seed, step, options)
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(parameters, 1.0)
            scaler.step(optimizer)
            scaler.update()
            average.step(parameters)
            if journal is not None:
                journal.note(step, value, schedule.rate(step), figures)
            if (step + 1) % schedule.every == 0:
                team.once(partial(run.save, step + 1))
            if options.sample is not None and options.sample_every and (step + 1) % options.sample_every == 0:
                average.store(parameters)
                average.copy_to(parameters)
                modules.eval()
                team.once(partial(options.sample, step + 1))
                modules.train()
                average.restore(parameters)
    if start < schedule.steps:
        team.once(partial(run.save, schedule.steps))
    average.copy_to(parameters)
    modules.eval()


def _adamw(parameters: list[nn.Parameter], rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.99), weight_decay=0.01)


def _gradients(
    losses: nn.Module, optimizer: Any, scaler: Any, name: str, seed: int, step: int, options: Options
) -> tuple[float, dict[str, float]]:
    """Fill the gradients of one step; the mean loss and figures over its batches and processes."""
    team = options.team
    dtype = _DTYPES.get(options.precision)
    total, figures = 0.0, dict[str, float]()
    for batch in range(options.accumulate):
        turn = team.rank * options.accumulate + batch
        torch.manual_seed(seed * 1_000_003 + step if turn == 0 else derive_seed(seed, step, turn))
        rng = random.Random(f"{name}/{seed}/{step}" + (f"/{turn}" if turn else ""))
        last = batch == options.accumulate - 1
        with nullcontext() if last else team.hold(losses):
            with torch.autocast(team.device.type, dtype) if dtype else nullcontext():
                loss, extra = losses(step, rng)
            if batch == 0:
                optimizer.zero_grad(set_to_none=True)
            if not loss.requires_grad:
                raise InputError(
                    f"The loss of {name} does not depend on any trained parameter at step {step}; "
                    f"choose other parts to train, or data that reaches them."
                )
            scaler.scale(loss / options.accumulate if options.accumulate > 1 else loss).backward()
        total += float(loss.detach()) / options.accumulate
        for key, value in extra.items():
            figures[key] = figures.get(key, 0.0) + float(value) / options.accumulate
    value = team.mean(total)
    if not abs(value) < float("inf"):
        raise FloatingPointError(f"{name} diverged at step {step}: loss {value}; lower the learning rate.")
    return value, {key: team.mean(figures[key]) for key in sorted(figures)}


class _Run:
    """The file that a stopped run goes on from."""

    def __init__(self, file: Path, parameters: list[nn.Parameter], average: Any, optimizer: Any, scaler: Any) -> None:
        self._file = file
        self._parameters, self._average, self._optimizer, self._scaler = parameters, average, optimizer, scaler

    def save(self, step: int) -> None:
        state = {
            "parameters": [p.detach() for p in self._parameters],
            "average": self._average.shadow_params,
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "step": step,
        }
        torch.save(state, self._file.with_suffix(".tmp"))
        self._file.with_suffix(".tmp").replace(self._file)

    def load(self) -> int:
        """The step to go on from; 0 where there is no file."""
        if not self._file.exists():
            return 0
        state = torch.load(self._file, weights_only=True, map_location=self._parameters[0].device)
        _check_fit(self._file, state["parameters"], self._parameters)
        with torch.no_grad():
            for parameter, saved in zip(self._parameters, state["parameters"], strict=True):
                parameter.copy_(saved)
        self._average.shadow_params, self._average.optimization_step = state["average"], state["step"]
        self._optimizer.load_state_dict(state["optimizer"])
        if state.get("scaler"):
            self._scaler.load_state_dict(state["scaler"])
        return int(state["step"])


def _check_fit(file: Path, saved: list[Tensor], parameters: list[nn.Parameter]) -> None:
    theirs, ours = ([tuple(tensor.shape) for tensor in tensors] for tensors in (saved, parameters))
    if theirs != ours:
        raise InputError(
            f"The checkpoint {file} holds {len(theirs)} tensors of {sum(t.numel() for t in saved)} numbers, this model "
            f"trains {len(ours)} of {sum(p.numel() for p in parameters)}; go on with the same parts, or choose another "
            f"folder."
        )


def load_average(name: str, modules: nn.Module, folder: Path) -> int:
    """Put the averaged weights of an unfinished run into `modules`; the step they come from, 0 if there is none.

    Raises:
        InputError: a checkpoint of another model.
    """
    file = folder / f"{name}.pt"
    if not file.exists():
        return 0
    state = torch.load(file, weights_only=True)
    parameters = [p for p in modules.parameters() if p.requires_grad]
    _check_fit(file, state["parameters"], parameters)
    with torch.no_grad():
        for parameter, mean in zip(parameters, state["average"], strict=True):
            parameter.copy_(mean)
    return int(state["step"])
