"""The last line of every benchmark: `RESULT {"name": ..., "figures": {...}}`, for people and for scripts.

Takes a name and figures (numbers, or None for what could not be measured); prints, and gives nothing back. A figure
that is not finite is refused: JSON has no word for it, and a benchmark that computed one is wrong.
"""

import json
import math
from collections.abc import Mapping

__all__ = ["result"]


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
