"""What a training run tells: a progress bar or lines, a CSV file, and TensorBoard's events where they are asked for.

Takes the loss of every step, and figures that a recipe adds (a reward, a margin); keeps running means. Knows nothing of
models.
"""

import csv
import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from stages.base import InputError
from stages.commands import errors

console = errors

ROW_EVERY = 50  # steps
_KEPT = 0.98  # of a running mean, a step


class Journal:
    """A context for one run, from step `start` to `steps`.

    `<name>.csv` has the columns step, loss, rate, seconds, then the figures by name; a run that goes on appends to it.

    Raises:
        InputError: TensorBoard's events are asked for and their package is missing.
    """

    def __init__(
        self, name: str, folder: Path, start: int, steps: int, *, every: int = ROW_EVERY, tensorboard: bool = False
    ) -> None:
        self.name, self.start, self.steps, self.every = name, start, steps, every
        self._folder = folder
        self._means: dict[str, float] = {}
        self._began = time.monotonic()
        self._events = _open_events(folder / "tensorboard" / name) if tensorboard else None
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(), TimeRemainingColumn(), console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task(name, total=steps, completed=start, told="")

    def __enter__(self) -> Self:
        file = self._folder / f"{self.name}.csv"
        self._log = file.open("a", newline="")
        self._rows = csv.writer(self._log)
        self._header = file.stat().st_size == 0
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        self._log.close()
        if self._events is not None:
            self._events.close()

    @property
    def loss(self) -> float:
        """Running mean."""
        return self._means.get("loss", math.nan)

    def note(self, step: int, loss: float, rate: float, figures: Mapping[str, float]) -> None:
        """One step, counted from 0, is done."""
        for key, value in {"loss": loss, **figures}.items():
            self._means[key] = _KEPT * self._means[key] + (1 - _KEPT) * value if key in self._means else value
        told = " ".join(f"{key} {value:.4f}" for key, value in self._means.items())
        self._bar.update(self._task, completed=step + 1, told=told)
        if self._events is not None:
            for key, value in {"loss": loss, **figures, "rate": rate}.items():
                self._events.add_scalar(f"{self.name}/{key}", value, step + 1)
        if (step + 1) % self.every == 0 or step + 1 == self.steps:
            self._row(step, rate, told)

    def _row(self, step: int, rate: float, told: str) -> None:
        seconds = time.monotonic() - self._began
        extra = sorted(key for key in self._means if key != "loss")
        if self._header:
            self._rows.writerow(["step", "loss", "rate", "seconds", *extra])
            self._header = False
        figures = [f"{self._means[key]:.5f}" for key in extra]
        self._rows.writerow([step + 1, f"{self.loss:.5f}", f"{rate:.2e}", f"{seconds:.0f}", *figures])
        self._log.flush()
        if not console.is_terminal:
            pace = seconds / (step + 1 - self.start)
            left = pace * (self.steps - step - 1) / 60
            console.print(f"{self.name} {step + 1}/{self.steps} {told} {pace:.2f} s/step {left:.0f} min left")


def _open_events(folder: Path) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise InputError(
            "--tensorboard needs the package tensorboardX, which is not installed; "
            "run `pip install tensorboardX`, or leave the option out: the same figures are in the CSV file."
        ) from error
    return SummaryWriter(str(folder))
