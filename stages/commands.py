"""What the commands below `python -m stages` share: the preset that is asked for, and how an error ends them."""

import argparse
import functools
from collections.abc import Callable
from typing import ParamSpec

from rich.console import Console

from stages.base import StageError
from stages.presets import PRESETS, RequestError

P = ParamSpec("P")
errors = Console(stderr=True)


def preset_parser(name: str, about: str | None, preset: str) -> argparse.ArgumentParser:
    """Of `python -m stages <name>`, with `--preset`; `about` is a docstring, whose first line is shown."""
    parser = argparse.ArgumentParser(prog=f"python -m stages {name}", description=(about or "").partition("\n")[0])
    parser.add_argument("--preset", default=preset, help=f"one of: {', '.join(PRESETS)} (default: {preset})")
    return parser


def reports_errors(command: Callable[P, int]) -> Callable[P, int]:
    """`command` with its errors as one sentence on stderr and a status: 1 a stage failed, 2 a wrong argument."""

    @functools.wraps(command)
    def told(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            return command(*args, **kwargs)
        except (StageError, FloatingPointError, RequestError) as error:
            errors.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
            return 2 if isinstance(error, RequestError) else 1

    return told
