"""The plug for numbers that need downloads, such as a CLIP score: a function of a user's, named "module:function".

It is given frames (T, H, W, 3) uint8, frames a second and the prompt, and gives numbers by name. Nothing here bears the
name of what it is not.
"""

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module

import numpy as np

from stages.measures.pixels import of_pixels
from stages.types import UInt8

Measure = Callable[[UInt8, float, str], Mapping[str, float]]


class MeasureError(ValueError):
    """A measure that is not there, or files that cannot be measured; the message says what to do."""


def plugged(path: str) -> Measure:
    """The function that "module:function" names.

    Raises:
        MeasureError: there is no such function.
    """
    module, _, name = path.partition(":")
    try:
        found: Measure = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise MeasureError(f"{path!r} names no measure ({error}); write it as 'module:function'.") from error
    return found


def measure(frames: UInt8, fps: float, prompt: str, more: Iterable[Measure] = ()) -> dict[str, float]:
    """All numbers of one clip's pixels, then those of `more`; of two with one name the later stands.

    Raises:
        MeasureError: one of `more` failed.
    """
    found: dict[str, float] = of_pixels(frames)
    for one in more:
        try:
            made = one(frames, fps, prompt)
            found |= {name: float(value) for name, value in made.items() if np.isfinite(value)}
        except Exception as error:  # whatever a function of a user's raises
            called = f"{one.__module__}:{getattr(one, '__name__', one)}"
            raise MeasureError(f"The measure {called} failed ({type(error).__name__}: {error}).") from error
    return found
