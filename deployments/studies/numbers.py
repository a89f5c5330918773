"""Automatic numbers beside the votes: what pixels alone say of a video, a plug for what needs a model, and how far each
number goes with what people say.

None of these is a quality: a still video has little flicker, a noisy one is sharp. That is why the correlation with the
votes stands beside each. `Measure` is the plug: a function from frames and a prompt to named numbers, such as a CLIP
score; nothing here bears the name of what it is not.
"""

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from client.schema_studies import Relation
from deployments.errors import ConfigError
from deployments.studies.plan import Plan
from stages.types import UInt8

LEAST_PAIRS = 5  # for a correlation

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


def relations(
    plan: Plan, mean: NDArray[np.float64], total: NDArray[np.int64], measured: Mapping[int, Mapping[str, float]]
) -> list[Relation]:
    """Each number's mean by system, and how a pair's difference in it goes with the pair's votes.

    Args:
        mean: of each pair's votes, 1 where all are for a and -1 for b.
        total: votes of each pair.
    """
    names = dict.fromkeys(name for values in measured.values() for name in values)
    made = []
    for name in names:
        values = {video: numbers[name] for video, numbers in measured.items() if name in numbers}
        means = {
            system: float(np.mean(own))
            for number, system in enumerate(plan.systems)
            if (own := [v for i in range(len(plan.items)) if (v := values.get(plan.video(number, i))) is not None])
        }
        both = [
            (values[one] - values[other], mean[number])
            for number, pair in enumerate(plan.pairs)
            if total[number]
            and (one := plan.video(pair.a, pair.item)) in values
            and (other := plan.video(pair.b, pair.item)) in values
        ]
        made.append(Relation(number=name, means=means, correlation=_spearman(both), pairs=len(both)))
    return made


def _spearman(both: list[tuple[float, float]]) -> float | None:
    if len(both) < LEAST_PAIRS or any(len({one[side] for one in both}) < 2 for side in (0, 1)):
        return None
    found = float(stats.spearmanr(*zip(*both, strict=True)).statistic)
    return found if np.isfinite(found) else None
