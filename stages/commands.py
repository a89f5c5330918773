"""What the commands below `python -m stages` share: the preset and the device that are asked for, and how they end."""

import argparse
import functools
import logging
import os
import re
from collections.abc import Callable, Sequence

from client._shell.ending import FAILED, OUTSIDE, WRONG, Parser, end
from client._shell.terminal import make_console
from stages.base import InputError, StageError, WeightsError
from stages.presets import PRESETS, RequestError
from stages.speed import SpeedError

CODES: dict[type[BaseException], int] = {
    RequestError: WRONG,
    SpeedError: WRONG,
    InputError: WRONG,
    WeightsError: OUTSIDE,
    StageError: OUTSIDE,
    FloatingPointError: FAILED,
}
ENDS = "Exit status: 0 done, 1 it failed, 2 a wrong argument or file, 3 trouble from outside, 130 interrupted."
errors = make_console(stderr=True)
Command = Callable[[list[str]], int]


def preset_parser(name: str, about: str | None, preset: str) -> argparse.ArgumentParser:
    """Of `python -m stages <name>`, with `--preset`; `about` is a docstring, whose first line is shown."""
    parser = Parser(prog=f"python -m stages {name}", description=(about or "").partition("\n")[0], epilog=ENDS)
    parser.add_argument("--preset", default=preset, help=f"one of: {', '.join(PRESETS)} (default: {preset})")
    return parser


def add_speed(parser: argparse.ArgumentParser) -> None:
    """`--speed`, for `stages.speed.from_words`."""
    parser.add_argument(
        "--speed",
        action="append",
        default=[],
        metavar="KNOB=VALUE",
        help="faster or smaller than the preset: offload=model of every stage, i2v.cache=first_block of one",
    )


def hush_diffusers() -> None:
    """Let it and what it imports log errors alone; it sets its own level when it is imported."""
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    for name in ("diffusers", "torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)


def reports_errors(command: Command, stopped: str = "Interrupted.") -> Callable[..., int]:
    """`command` as a main function, of these words or sys.argv's, with its errors as one sentence and a status."""

    @functools.wraps(command)
    def main(words: Sequence[str] | None = None) -> int:
        return end(command, words, codes=CODES, stopped=stopped)

    return main


def device(text: str) -> str:
    """The form of a device's name, for argparse. Raises: ArgumentTypeError."""
    if not re.fullmatch(r"cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no device; it must be cpu, cuda or cuda:1")
    return text


def check_device(name: str) -> None:
    """That torch can use it, before anything is loaded.

    Raises:
        InputError: this machine has no such device.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name != "cpu" and int(name.partition(":")[2] or 0) >= count:
        raise InputError(f"The device is {name}, and torch finds {count} CUDA devices here; use --device cpu.")


def positive(text: str) -> int:
    """For argparse. Raises: ArgumentTypeError."""
    try:
        value = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from error
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value
