"""How a program in a kit tells what worked: a line of JSON for each operation."""

import json
from collections.abc import Callable
from typing import TypeVar

Made = TypeVar("Made")


def attempt(operation: str, act: Callable[[], Made]) -> Made | None:
    """What `act` gives; None where it raises, and then later operations that need it fail too."""
    try:
        made, error = act(), None
    except Exception as failure:
        made, error = None, f"{type(failure).__name__}: {failure}"
    print(json.dumps({"operation": operation, "error": error}), flush=True)
    return made


def check(holds: bool, what: object) -> None:
    """Fail an operation whose answer is not what a client wants."""
    if not holds:
        raise RuntimeError(f"unexpected answer: {what}")
