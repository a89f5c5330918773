"""How far each automatic number goes with what people say."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from client.schema_numbers import Relation, StudyNumbers
from deployments.studies.plan import Plan

LEAST_PAIRS = 5  # for a correlation


@dataclass(frozen=True)
class Said:
    """What was voted on each pair: (pairs,)."""

    total: NDArray[np.int64]
    mean: NDArray[np.float64]  # 1 where all are for a and -1 for b
    same: NDArray[np.float64]  # share for the same


def relations(plan: Plan, said: Said, numbers: StudyNumbers) -> list[Relation]:
    """Each number's mean by system, and how a pair's difference in it goes with the pair's votes; of a number that a
    pair has itself, how it goes with the pair's votes for the same.
    """
    measured = {video: one.numbers for video, one in enumerate(numbers.videos)}
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
            (values[one] - values[other], float(said.mean[number]))
            for number, pair in enumerate(plan.pairs)
            if said.total[number]
            and (one := plan.video(pair.a, pair.item)) in values
            and (other := plan.video(pair.b, pair.item)) in values
        ]
        made.append(Relation(number=name, means=means, correlation=_spearman(both), pairs=len(both)))
    for name in dict.fromkeys(name for one in numbers.pairs for name in one.numbers):
        by_pair = {(one.a, one.b, one.prompt, one.take): one.numbers[name] for one in numbers.pairs}
        both = [
            (by_pair[key], float(said.same[number]))
            for number, pair in enumerate(plan.pairs)
            if said.total[number]
            and (key := (plan.systems[pair.a], plan.systems[pair.b], *plan.items[pair.item])) in by_pair
        ]
        made.append(Relation(number=name, means={}, goes_with="same", correlation=_spearman(both), pairs=len(both)))
    return made


def _spearman(both: list[tuple[float, float]]) -> float | None:
    if len(both) < LEAST_PAIRS or any(len({one[side] for one in both}) < 2 for side in (0, 1)):
        return None
    found = float(stats.spearmanr(*zip(*both, strict=True)).statistic)
    return found if np.isfinite(found) else None
