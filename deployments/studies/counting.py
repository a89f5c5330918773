"""Ballots as arrays: which system each vote is for, and what each rater's answers are worth by the plan's rule.

A vote names a side; the plan knows which system was there. Votes on training and checks never count. Who fails so many
checks as hardly anybody would who looks is left out, by scipy's exact binomial test. A check is one trial, however many
questions it has: who does not look answers all of them blindly. Repeats leave nobody out: who looks and sees no
difference contradicts themselves as often as who does not look. Pure.
"""

import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from client.schema_studies import Choice, RaterQuality
from deployments.studies.plan import Plan, PlannedTrial
from deployments.studies.votes import Ballot

LEAST_ANSWERS = 10  # before one is left out for always naming one side
_MIRRORED: Mapping[Choice, Choice] = {"left": "right", "same": "same", "right": "left"}

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Votes:
    """Votes that count, one row for each question of each trial."""

    rater: Ints  # from 0
    prompt: Ints  # of `Plan.prompts`
    pair: Ints  # of `Plan.pairs`
    a: Ints  # systems
    b: Ints
    criterion: Ints
    outcome: Ints  # 1 for a, 0 the same, -1 for b
    left: Ints  # 1 for the left, 0 the same, -1 for the right

    def __len__(self) -> int:
        return len(self.outcome)

    def where(self, which: NDArray[np.bool_]) -> "Votes":
        return Votes(**{name: values[which] for name, values in vars(self).items()})


def outcome_of(trial: PlannedTrial, choice: Choice) -> int:
    """1 for a, 0 the same, -1 for b."""
    if choice == "same":
        return 0
    return 1 if (choice == "left") != trial.flipped else -1


def count(plan: Plan, ballots: Sequence[Ballot], left_out: Collection[str] = ()) -> Votes:
    """The votes that count, of all raters but `left_out`."""
    names = [criterion.name for criterion in plan.criteria]
    numbers = {prompt: number for number, prompt in enumerate(plan.prompts)}
    raters: dict[str, int] = {}
    rows: list[tuple[int, ...]] = []
    for ballot in ballots:
        if ballot.trial.kind != "counted" or ballot.link_id in left_out:
            continue
        rater = raters.setdefault(ballot.link_id, len(raters))
        pair = plan.pairs[ballot.trial.pair]
        prompt = numbers[plan.items[pair.item][0]]
        for criterion, name in enumerate(names):
            choice = ballot.choices[name]
            side = {"left": 1, "same": 0, "right": -1}[choice]
            outcome = outcome_of(ballot.trial, choice)
            rows.append((rater, prompt, ballot.trial.pair, pair.a, pair.b, criterion, outcome, side))
    table = np.array(rows, dtype=np.int64).reshape(-1, 8)
    return Votes(*(table[:, column] for column in range(8)))


def judge_raters(plan: Plan, ballots: Sequence[Ballot]) -> list[RaterQuality]:
    """What each rater's answers are worth, and who is left out."""
    own: dict[str, list[Ballot]] = defaultdict(list)
    for ballot in ballots:
        own[ballot.link_id].append(ballot)
    crowd = _crowd(ballots)
    return [_quality(plan, link_id, some, crowd) for link_id, some in own.items()]


def _crowd(ballots: Sequence[Ballot]) -> dict[tuple[int, str], Counter[int]]:
    """How all have voted on each pair and question."""
    found: dict[tuple[int, str], Counter[int]] = defaultdict(Counter)
    for ballot in ballots:
        if ballot.trial.kind == "counted":
            for name, choice in ballot.choices.items():
                found[ballot.trial.pair, name][outcome_of(ballot.trial, choice)] += 1
    return found


def _quality(
    plan: Plan, link_id: str, own: Sequence[Ballot], crowd: Mapping[tuple[int, str], Counter[int]]
) -> RaterQuality:
    by_kind: dict[str, list[Ballot]] = defaultdict(list)
    for ballot in own:
        by_kind[ballot.trial.kind].append(ballot)
    counted, alike = by_kind["counted"], by_kind["identical"]
    first = {ballot.trial.pair: ballot.choices for ballot in counted}
    repeats: list[tuple[Any, Any]] = [
        (first[ballot.trial.pair][name], choice)
        for ballot in by_kind["swapped"]
        if ballot.trial.pair in first
        for name, choice in ballot.choices.items()
    ]
    told_apart = [[choice != "same" for choice in ballot.choices.values()] for ballot in alike]
    contradicted = ["same" not in both and both[1] != _MIRRORED[both[0]] for both in repeats]
    sides = Counter(choice for ballot in counted for choice in ballot.choices.values())
    missed = [
        [choice != ballot.choices[name] for name, choice in plan.expected(ballot.trial).items()]
        for ballot in by_kind["spoiled"]
    ]
    answers, named = sides.total(), sides["left"] + sides["right"]
    one_side = max(sides["left"], sides["right"]) / answers if answers else None
    with_most = [agrees for ballot in counted for agrees in _with_most(ballot, crowd)]
    failed = [sum(2 * sum(wrong) > len(wrong) for wrong in checks) for checks in (told_apart, missed)]
    checks, rule = len(told_apart) + len(missed), plan.exclusion
    excluded = None
    if checks and stats.binomtest(sum(failed), checks, rule.lapses, alternative="greater").pvalue < rule.error:
        excluded = (
            f"failed {sum(failed)} of {checks} checks: told {failed[0]} of {len(told_apart)} identical pairs apart, "
            f"missed {failed[1]} of {len(missed)} spoiled videos"
        )
    elif one_side is not None and answers >= LEAST_ANSWERS and one_side > rule.max_one_side:
        excluded = f"named one side in {one_side:.0%} of {answers} answers"
    return RaterQuality(
        rater=own[0].slot + 1,
        link=link_id,
        votes=len(counted),
        identical=sum(map(len, told_apart)),
        told_apart=sum(map(sum, told_apart)),
        repeated=len(contradicted),
        contradicted=sum(contradicted),
        spoiled=sum(map(len, missed)),
        missed=sum(map(sum, missed)),
        checks=checks,
        failed=sum(failed),
        left=sides["left"] / named if named else None,
        one_side=one_side,
        agreement=statistics.fmean(with_most) if with_most else None,
        median_watched_s=statistics.median(ballot.watched_s for ballot in counted) if counted else None,
        excluded=excluded,
    )


def _with_most(ballot: Ballot, crowd: Mapping[tuple[int, str], Counter[int]]) -> list[bool]:
    """For each question whether the vote is that of most others, where there is such."""
    found = []
    for name, choice in ballot.choices.items():
        outcome = outcome_of(ballot.trial, choice)
        others = Counter(crowd[ballot.trial.pair, name])
        others[outcome] -= 1
        (most, votes), *rest = others.most_common()
        if votes > 1 and (not rest or rest[0][1] < votes):
            found.append(most == outcome)
    return found
