"""What every benchmark begins and ends with: its command, and the last line `RESULT {"name": ..., "figures": {...}}`.

Figures are numbers, or None for what could not be measured. One that is not finite is refused: JSON has no word for it,
and a benchmark that computed one is wrong.
"""

import argparse
import json
import math
from collections.abc import Mapping

__all__ = ["parser_of", "result"]


def parser_of(name: str, doc: str, *, quick: str) -> argparse.ArgumentParser:
    """The command `python -m benchmarks.NAME` with `--quick`, which does what `quick` says; `doc` is the module's."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=doc.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help=quick)
    return parser


def result(name: str, figures: Mapping[str, float | int | None]) -> None:
    """Print the figures of one run, floats rounded to four digits behind the point.

    Raises:
        ValueError: a figure is infinite or not a number.
    """
    broken = [key for key, value in figures.items() if value is not None and not math.isfinite(value)]
    if broken:
        raise ValueError(f"Benchmark {name!r} measured no finite {', '.join(broken)}; nothing is reported.")
    rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in figures.items()}
    print("RESULT " + json.dumps({"name": name, "figures": rounded}), flush=True)
