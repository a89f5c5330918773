"""How far each automatic number goes with what people say."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from client.schema_studies import Relation
from deployments.studies.plan import Plan

LEAST_PAIRS = 5  # for a correlation


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
