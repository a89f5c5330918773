"""How long a call will take: what calls of its shape took of late, else what the stage takes for so much work.

A shape is all parameters but the texts and the number of the window; the work of one is steps times pixels times
frames, as far as its parameters say. Fed with whole calls, read in seconds. Pure bookkeeping.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from stages.types import StageName

_WEIGHT = 0.3  # of the newest call in the mean
_SHAPES = 1000  # that are remembered, those that came last
_OTHER = frozenset({"prompt", "negative_prompt", "part"})


class Pace:
    """One for each pipeline replica."""

    def __init__(self, declared_s: Mapping[StageName, float] | None = None) -> None:
        """`declared_s`: of a call of each stage, until one has been measured."""
        self._declared_s = dict(declared_s or {})
        self._shapes: dict[tuple[StageName, str], float] = {}
        self._per_work: dict[StageName, float] = {}

    def learn(self, stage: StageName, params: Any, run_s: float) -> None:
        """A call took so long, all its parts together."""
        shape, work = (stage, _shape(params)), _work(params)
        self._shapes[shape] = _mean(self._shapes.pop(shape, None), run_s)
        if len(self._shapes) > _SHAPES:
            del self._shapes[next(iter(self._shapes))]
        self._per_work[stage] = _mean(self._per_work.get(stage), run_s / work)

    def seconds(self, stage: StageName, params: Any, else_s: float | None = None) -> float | None:
        """Of a call; None where nothing is known. `else_s`: what others know, where no such call was seen here."""
        known = self._shapes.get((stage, _shape(params)), else_s)
        if known is None and stage in self._per_work:
            return self._per_work[stage] * _work(params)
        return known if known is not None else self._declared_s.get(stage)


def _shape(params: Any) -> str:
    if not dataclasses.is_dataclass(params):
        return repr(params)
    fields = {field.name: getattr(params, field.name) for field in dataclasses.fields(params)}
    return repr({name: value for name, value in fields.items() if name not in _OTHER})


def _work(params: Any) -> float:
    width, height = getattr(params, "size", (1, 1))
    denoising, frames = getattr(params, "denoising", None), getattr(params, "frames", 1)
    return float((denoising.steps if denoising is not None else 1) * width * height * frames)


def _mean(before: float | None, newest: float) -> float:
    return newest if before is None else (1 - _WEIGHT) * before + _WEIGHT * newest
