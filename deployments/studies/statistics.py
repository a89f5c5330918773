"""What votes say, by libraries of the field: scipy (exact sign test, bootstrap), statsmodels (Fleiss' kappa, power),
NLTK (Krippendorff's alpha), choix (Bradley-Terry).

Votes of one rater are alike, and so are votes on one prompt. Intervals therefore resample raters and prompts, both, and
keep what is between them: Owen's pigeonhole bootstrap (2007, Annals of Applied Statistics 1, 386-411), whose variance
is never too small. Takes counts, gives plain numbers; None where they say nothing.
"""

import math
from collections.abc import Callable
from typing import Any

import choix
import numpy as np
from nltk.metrics.agreement import AnnotationTask
from nltk.metrics.distance import interval_distance
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.inter_rater import fleiss_kappa
from statsmodels.stats.power import normal_sample_size_one_tail
from statsmodels.stats.proportion import proportion_effectsize

from client.schema_studies import Interval

RESAMPLES, RANKED = 4000, 1000
CONFIDENCE = 0.95
_BATCH = 250
_PRIOR = 1e-3  # keeps a system that never lost at a finite strength

Floats = NDArray[np.float64]


def ratio(good: Any, same: Any, bad: Any) -> Any:
    """(good + same) / (bad + same), the figure of the paper; of numbers or arrays."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(np.add(good, same), np.add(bad, same))


def preference(good: Any, same: Any, bad: Any) -> Any:
    """The share for good, a tie counting half."""
    with np.errstate(invalid="ignore"):
        return np.divide(np.add(good, np.multiply(same, 0.5)), np.add(np.add(good, same), bad))


def preference_untied(good: Any, bad: Any) -> Any:
    """The share for good of the votes that name one."""
    with np.errstate(invalid="ignore"):
        return np.divide(good, np.add(good, bad))


def sign_test(one: int, other: int) -> float | None:
    """The exact two-sided p of so many against so many, were both equally likely."""
    return float(stats.binomtest(one, one + other).pvalue) if one + other else None


def intervals(
    good: Floats, same: Floats, bad: Floats, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Interval | None, Interval | None, Interval | None]:
    """Of ratio, preference and untied preference, from votes by rater and prompt: (R, P) each."""

    def figures(*resampled: Any, axis: int = -1) -> Any:
        g, s, b = (_weighted(table, *resampled) for table in (good, same, bad))
        return np.stack([ratio(g, s, b), preference(g, s, b), preference_untied(g, b)])

    found = _bootstrapped(good.shape[0], good.shape[1], figures, resamples, seed)
    return (None, None, None) if found is None else (found[0], found[1], found[2])


def _bootstrapped(
    raters: int, prompts: int, figures: Callable[..., Any], resamples: int, seed: int
) -> list[Interval | None] | None:
    if min(raters, prompts) < 2:
        return None
    made = stats.bootstrap(
        (np.arange(raters), np.arange(prompts)),
        figures,
        n_resamples=resamples,
        batch=_BATCH,
        vectorized=True,
        method="percentile",
        confidence_level=CONFIDENCE,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return [_finite(low, high) for low, high in zip(np.atleast_1d(made.low), np.atleast_1d(made.high), strict=True)]


def _finite(low: float, high: float) -> Interval | None:
    return (float(low), float(high)) if math.isfinite(low) and math.isfinite(high) else None


def _shares(places: Any, count: int) -> Floats:
    """How often each of `count` was drawn, a row for each resample."""
    drawn = np.atleast_2d(places)
    offsets = np.arange(len(drawn))[:, None] * count
    counts = np.bincount((drawn + offsets).ravel(), minlength=len(drawn) * count)
    return counts.reshape(len(drawn), count).astype(np.float64)


def _weighted(table: Floats, raters: Any, prompts: Any) -> Any:
    """The sum of a table (R, P) over what was drawn; of one draw a number."""
    by_rater, by_prompt = _shares(raters, table.shape[0]), _shares(prompts, table.shape[1])
    total = np.asarray(((by_rater @ table) * by_prompt).sum(axis=1), np.float64)
    return total if np.ndim(raters) > 1 else total[0]


def supposed_interval(good: float, same: float, bad: float, independent: int, seed: int = 0) -> Interval:
    """Of the ratio, if only so many votes (or pairs that all agree on) were independent of each other."""
    shares = np.array([good, same, bad]) / (good + same + bad)
    drawn = stats.multinomial(independent, shares).rvs(100_000, random_state=np.random.default_rng(seed))
    low, high = np.quantile(ratio(*drawn.T), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def agreement(table: NDArray[np.int64]) -> tuple[float | None, float | None]:
    """Fleiss' kappa and Krippendorff's alpha of votes by pair and answer (for b, same, for a; one step each): (N, 3).

    Kappa wants as many votes on each pair: it takes those pairs that have as many as most have.
    """
    several = table[table.sum(axis=1) >= 2]
    if not len(several) or (several.sum(axis=0) > 0).sum() < 2:
        return None, None
    answers = [(pair, answer) for (pair, answer), votes in np.ndenumerate(several) for _ in range(votes)]
    labelled = [(number, pair, answer) for number, (pair, answer) in enumerate(answers)]  # who said it is no matter
    alpha = float(AnnotationTask(labelled, distance=interval_distance).alpha())
    numbers, counts = np.unique(several.sum(axis=1), return_counts=True)
    alike = several[several.sum(axis=1) == numbers[np.argmax(numbers * counts)]]
    if len(alike) < 2 or (alike.sum(axis=0) > 0).sum() < 2:
        return None, alpha
    return float(fleiss_kappa(alike)), alpha


def strengths(wins: Floats) -> Floats:
    """Bradley-Terry strengths, mean 0, of how often each of k systems won over each other: (k, k), a tie half each."""
    found = np.asarray(choix.ilsr_pairwise_dense(wins, alpha=_PRIOR), np.float64)
    return found - float(found.mean())


def strength_intervals(wins: Floats, *, resamples: int = RANKED, seed: int = 0) -> list[Interval | None] | None:
    """Of `strengths`, from wins by rater and prompt: (R, P, k, k)."""
    raters, prompts, systems, _ = wins.shape

    def figures(*resampled: Any, axis: int = -1) -> Any:
        by_rater, by_prompt = _shares(resampled[0], raters), _shares(resampled[1], prompts)
        sums = np.einsum("br,rpij,bp->bij", by_rater, wins, by_prompt, optimize=True)
        found = np.stack([strengths(one) for one in sums], axis=-1)
        return found if np.ndim(resampled[0]) > 1 else found[:, 0]

    if systems < 2:
        return None
    return _bootstrapped(raters, prompts, figures, resamples, seed)


def votes_needed(difference: float, ties: float, power: float, alpha: float = 0.05) -> int:
    """Independent votes that show a difference, the share for the better one less that for the other, by a two-sided
    test of those that name one.
    """
    untied = 1 - ties
    share = 0.5 + difference / (2 * untied)
    if share >= 1:
        share = 1 - 1e-6
    effect = proportion_effectsize(share, 0.5)
    named = normal_sample_size_one_tail(effect, power, alpha / 2)  # closed: a search for a root ends at no number
    return math.ceil(max(float(named), 6) / untied)  # fewer than 6 of one mind are no p below 0.05
