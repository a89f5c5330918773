"""The results of a study: everything that `deployments.studies.statistics` says of its votes, in the API's shape.

With too few votes it says how many are missing, and neither intervals nor a p-value.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from client.schema_numbers import StudyNumbers
from client.schema_studies import (
    Agreement,
    Comparison,
    Design,
    Power,
    PromptCount,
    SideBias,
    Strength,
    StudyResults,
    Verdict,
)
from deployments.studies import statistics as numbers
from deployments.studies.book import Record
from deployments.studies.counting import Votes, count, judge_raters
from deployments.studies.plan import Plan
from deployments.studies.relations import Said, relations
from deployments.studies.statistics import Floats
from deployments.studies.votes import Ballot

LEAST_VOTES, LEAST_RATERS, LEAST_PROMPTS = 30, 3, 2
ALL = "all"
RATER_SHARE, PAIR_SHARE = 0.05, 0.15  # of a vote's variance that is its rater's, its pair's: what power supposes
_RATERS = (5, 10, 20, 40, 61, 100, 200)
_MOST_PAIRS = 10_000


def results_of(study: Record, ballots: Sequence[Ballot], measured: StudyNumbers | None = None) -> StudyResults:
    """What the votes say, beside what was measured of the videos."""
    plan = study.plan
    quality = judge_raters(plan, ballots)
    left_out = {rater.link for rater in quality if rater.excluded}
    votes = count(plan, ballots, left_out)
    pairs = list(combinations(range(len(plan.systems)), 2))
    comparisons = [made for a, b in pairs for made in _comparisons(plan, votes, a, b)]
    notes = [f"Rater {rater.rater} is left out: {rater.excluded}." for rater in quality if rater.excluded]
    if study.note:
        notes.append(study.note)
    notes += _lacks(plan, votes) + (measured.notes if measured is not None else [])
    counted = [ballot for ballot in ballots if ballot.trial.kind == "counted"]
    if stacked := sum(ballot.layout == "stacked" for ballot in counted):
        notes.append(
            f"{stacked} of {len(counted)} votes were given on a narrow screen, where what is called left was above."
        )
    left, right = (int((votes.left == side).sum()) for side in (1, -1))
    raters = len(np.unique(votes.rater))
    enough = len(votes) >= LEAST_VOTES * len(plan.criteria) and raters >= LEAST_RATERS
    return StudyResults(
        id=study.id,
        title=study.title,
        digest=study.digest,
        votes=len(votes) // len(plan.criteria),
        raters=raters,
        comparisons=comparisons,
        prompts=_prompts(plan, votes),
        agreement=[
            _agreement(plan, votes.where(votes.criterion == number), criterion.name)
            for number, criterion in enumerate(plan.criteria)
        ],
        side_bias=SideBias(left=left, right=right, p_value=numbers.sign_test(left, right) if enough else None),
        quality=sorted(quality, key=lambda rater: (rater.rater, rater.link)),
        ranking=_ranking(plan, votes) if len(plan.systems) > 2 and enough else [],
        numbers=[] if measured is None else relations(plan, _said(plan, votes), measured),
        between=[] if measured is None else measured.sets,
        notes=notes,
    )


def _lacks(plan: Plan, votes: Votes) -> list[str]:
    if len(plan.prompts) >= LEAST_PROMPTS or not len(votes):
        return []
    return ["All videos are of one prompt, so nothing can be said of others: there are no intervals."]


def _comparisons(plan: Plan, votes: Votes, a: int, b: int) -> list[Comparison]:
    own = votes.where((votes.a == a) & (votes.b == b))
    names = [criterion.name for criterion in plan.criteria]
    made = [_compare(plan, own.where(own.criterion == number), a, b, name) for number, name in enumerate(names)]
    return made if len(names) == 1 else [_compare(plan, own, a, b, ALL), *made]


def _compare(plan: Plan, votes: Votes, a: int, b: int, criterion: str) -> Comparison:
    good, same, bad = (int((votes.outcome == outcome).sum()) for outcome in (1, 0, -1))
    total = good + same + bad
    questions = len(plan.criteria) if criterion == ALL else 1
    missing = max(0, LEAST_VOTES * questions - total)
    if (raters := len(np.unique(votes.rater))) < LEAST_RATERS:
        missing = max(missing, (LEAST_RATERS - raters) * max(1, total // max(1, raters)))
    found: tuple[tuple[float, float] | None, ...] = (None, None, None)
    if not missing:
        found = numbers.intervals(*_tables(plan, votes))
    return Comparison(
        a=plan.systems[a],
        b=plan.systems[b],
        criterion=criterion,
        good=good,
        same=same,
        bad=bad,
        ratio=float(numbers.ratio(good, same, bad)) if bad + same else None,
        ratio_interval=found[0],
        preference=float(numbers.preference(good, same, bad)) if total else None,
        preference_interval=found[1],
        preference_untied=float(numbers.preference_untied(good, bad)) if good + bad else None,
        preference_untied_interval=found[2],
        p_value=numbers.sign_test(good, bad) if not missing and questions == 1 else None,
        verdict=_verdict(found[1]),
        missing=missing,
    )


def _verdict(of_preference: tuple[float, float] | None) -> Verdict:
    if of_preference is None:
        return "too few votes"
    low, high = of_preference
    return "a" if low > 0.5 else "b" if high < 0.5 else "no difference"


def _tables(plan: Plan, votes: Votes) -> tuple[Floats, Floats, Floats]:
    """Good, same and bad by rater and prompt, of those who and which have any."""
    raters, prompts = (np.unique(values, return_inverse=True) for values in (votes.rater, votes.prompt))
    made = []
    for outcome in (1, 0, -1):
        table = np.zeros((len(raters[0]), len(prompts[0])))
        which = votes.outcome == outcome
        np.add.at(table, (raters[1][which], prompts[1][which]), 1.0)
        made.append(table)
    return made[0], made[1], made[2]


def _prompts(plan: Plan, votes: Votes) -> list[PromptCount]:
    found = []
    for a, b in combinations(range(len(plan.systems)), 2):
        for number, prompt in enumerate(plan.prompts):
            own = votes.outcome[(votes.a == a) & (votes.b == b) & (votes.prompt == number)]
            good, same, bad = (int((own == outcome).sum()) for outcome in (1, 0, -1))
            names = (plan.systems[a], plan.systems[b])
            found.append(PromptCount(a=names[0], b=names[1], prompt=prompt, good=good, same=same, bad=bad))
    return found


def _agreement(plan: Plan, votes: Votes, name: str) -> Agreement:
    table: NDArray[np.int64] = np.zeros((len(plan.pairs), 3), dtype=np.int64)
    np.add.at(table, (votes.pair, votes.outcome + 1), 1)
    kappa, alpha = numbers.agreement(table)
    return Agreement(criterion=name, fleiss_kappa=kappa, krippendorff_alpha=alpha)


def _ranking(plan: Plan, votes: Votes) -> list[Strength]:
    raters, rater = np.unique(votes.rater, return_inverse=True)
    systems = len(plan.systems)
    wins = np.zeros((len(raters), len(plan.prompts), systems, systems))
    half = votes.outcome / 2 + 0.5
    np.add.at(wins, (rater, votes.prompt, votes.a, votes.b), half)
    np.add.at(wins, (rater, votes.prompt, votes.b, votes.a), 1 - half)
    found = numbers.strengths(wins.sum(axis=(0, 1)))
    between = numbers.strength_intervals(wins) or [None] * systems
    ranked = [
        Strength(system=name, strength=float(strength), interval=interval)
        for name, strength, interval in zip(plan.systems, found, between, strict=True)
    ]
    return sorted(ranked, key=lambda one: -one.strength)


def _said(plan: Plan, votes: Votes) -> Said:
    total = np.bincount(votes.pair, minlength=len(plan.pairs))
    mean, same = (
        np.bincount(votes.pair, weights, len(plan.pairs)) / np.maximum(total, 1)
        for weights in (votes.outcome, votes.outcome == 0)
    )
    return Said(total, mean, same)


def power_of(difference: float, ties: float, power: float) -> Power:
    """What a study needs to see a difference."""
    needed = numbers.votes_needed(difference, ties, power)
    designs = [
        Design(raters=raters, pairs=pairs) for raters in _RATERS if (pairs := _pairs(needed, raters)) is not None
    ]
    return Power(
        difference=difference,
        ties=ties,
        power=power,
        alpha=0.05,
        independent_votes=needed,
        designs=designs,
        note=(
            f"Supposes that {PAIR_SHARE:.0%} of a vote's variance is its pair's and {RATER_SHARE:.0%} its rater's, and "
            "that each rater votes on every pair once; a pilot says better."
        ),
    )


def _pairs(needed: int, raters: int) -> int | None:
    """The fewest pairs with which so many raters are worth as many votes; None where no number is."""
    rest = 1 - PAIR_SHARE - RATER_SHARE
    left = 1 / needed - RATER_SHARE / raters  # variance that pairs may leave, of one vote
    if left <= 0:
        return None
    pairs = int(np.ceil((PAIR_SHARE + rest / raters) / left))
    return pairs if pairs <= _MOST_PAIRS else None
