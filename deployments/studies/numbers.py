"""Automatic numbers of a video: what pixels alone say, and a plug for what needs a model.

None of these is a quality: a still video has little flicker, a noisy one is sharp. That is why results show each with
its correlation with the votes (`relations`). `Measure` is the plug: a function from frames and a prompt to named
numbers, such as a CLIP score; nothing here bears the name of what it is not.
"""

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module

import numpy as np

from deployments.errors import ConfigError
from stages.types import UInt8

Measure = Callable[[UInt8, float, str], Mapping[str, float]]
"""(frames (T, H, W, 3), frames a second, prompt) to numbers by name."""


def of_pixels(frames: UInt8, _fps: float, _prompt: str) -> dict[str, float]:
    """Grey levels: mean difference of neighbouring frames, mean second difference over time, and within a frame."""
    grey = frames.astype(np.float32).mean(axis=-1)
    over_time = np.diff(grey, axis=0)
    return {
        "motion_energy": float(np.abs(over_time).mean()),
        "flicker": float(np.abs(np.diff(over_time, axis=0)).mean()) if len(grey) > 2 else 0.0,
        "sharpness": float(np.abs(np.diff(grey, n=2, axis=1)).mean() + np.abs(np.diff(grey, n=2, axis=2)).mean()),
        "contrast": float(grey.std(axis=(1, 2)).mean()),
        "loop_jump": float(np.abs(grey[-1] - grey[0]).mean()),
    }


def plugged(path: str) -> Measure:
    """The function that "module:function" names.

    Raises:
        ConfigError: there is no such function.
    """
    module, _, name = path.partition(":")
    try:
        found: Measure = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{path!r} names no measure ({error}); write it as 'module:function'.") from error
    return found


def measure(frames: UInt8, fps: float, prompt: str, more: Iterable[Measure] = ()) -> dict[str, float]:
    """All numbers of one video; of two with one name the later stands."""
    found: dict[str, float] = {}
    for one in (of_pixels, *more):
        found |= {name: float(value) for name, value in one(frames, fps, prompt).items() if np.isfinite(value)}
    return found
