"""Statistics: the paper's table, its intervals, and simulated crowds whose preference is known."""

import numpy as np
import pytest

from client.schema_numbers import PairNumbers, StudyNumbers, VideoNumbers
from client.schema_studies import Choice
from deployments.studies import statistics as numbers
from deployments.studies.counting import count, judge_raters
from deployments.studies.crowd import Crowd, vote_all
from deployments.studies.results import power_of, results_of
from deployments.studies.votes import Ballot
from tests.deployments.studies.plans import plan_for, record_of

# good, same, bad; the ratio that the paper prints; its interval if votes were independent, if 100 pairs are
PAPER = {
    "MoonValley": ((4099, 1242, 759), 2.67, (2.56, 2.79), (1.98, 3.83)),
    "Pika 1.0": ((4263, 927, 1010), 2.68, None, (1.93, 3.95)),
    "Morph": ((4129, 1230, 741), 2.72, None, (2.00, 3.92)),
    "Gen-2": ((3448, 1279, 1373), 1.78, None, (1.34, 2.44)),
    "SVD-XT": ((3169, 1591, 1340), 1.62, None, (1.25, 2.18)),
}


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_table_comes_out(name: str) -> None:
    counts, printed, independent, of_pairs = PAPER[name]
    assert round(float(numbers.ratio(*counts)), 2) == printed
    assert numbers.supposed_interval(*counts, independent=100) == pytest.approx(of_pairs, abs=0.04)
    if independent is not None:
        assert numbers.supposed_interval(*counts, independent=sum(counts)) == pytest.approx(independent, abs=0.012)


def test_intervals_are_wider_where_raters_or_prompts_are_of_one_mind() -> None:
    chance = np.random.default_rng(1)

    def width(votes: "np.ndarray[tuple[int, int], np.dtype[np.int64]]") -> float:
        made = numbers.intervals(*((votes == outcome) * 1.0 for outcome in (1, 0, -1)))[1]
        assert made is not None
        return made[1] - made[0]

    alone = chance.choice([1, 0, -1], (40, 60), p=[0.5, 0.2, 0.3])
    by_prompt = np.repeat(chance.choice([1, 0, -1], (1, 60), p=[0.5, 0.2, 0.3]), 40, axis=0)
    by_rater = np.repeat(chance.choice([1, 0, -1], (40, 1), p=[0.5, 0.2, 0.3]), 60, axis=1)
    # of 2400 votes: 2 * 1.96 * sqrt(0.19 / 2400), a factor of sqrt(3) for the bootstrap's caution; of 60, of 40
    assert width(alone) == pytest.approx(2 * 1.96 * (0.19 * 3 / 2400) ** 0.5, rel=0.2)
    assert width(by_prompt) == pytest.approx(2 * 1.96 * (0.19 / 60) ** 0.5, rel=0.3)
    assert width(by_rater) == pytest.approx(2 * 1.96 * (0.19 / 40) ** 0.5, rel=0.3)


def test_agreement_and_strength_of_what_is_known() -> None:
    one_mind = np.array([[5, 0, 0], [0, 5, 0], [0, 0, 5], [5, 0, 0]])
    assert numbers.agreement(one_mind) == pytest.approx((1.0, 1.0))
    assert numbers.agreement(np.array([[5, 0, 0], [5, 0, 0]])) == (None, None)  # nobody ever said anything else
    chance = np.random.default_rng(0)
    kappa, alpha = numbers.agreement(chance.multinomial(10, [1 / 3] * 3, 400))
    assert (kappa, alpha) == pytest.approx((0, 0), abs=0.03)
    uneven = np.array([[3, 0, 0], [0, 3, 0], [0, 4, 1], [0, 0, 3], [1, 0, 0]])  # kappa takes those with three
    assert numbers.agreement(uneven)[0] == pytest.approx(1.0)
    wins = np.array([[0, 75, 90], [25, 0, 75], [10, 25, 0]], dtype=float)  # odds 3, 3 and 9
    assert numbers.strengths(wins) == pytest.approx([np.log(3), 0, -np.log(3)], abs=0.01)


def test_power_is_that_of_a_text_book_and_of_the_crowd() -> None:
    assert numbers.votes_needed(0.2, 0.0, 0.8) == pytest.approx(194, abs=2)  # 60 % against 40 %
    assert numbers.votes_needed(0.2, 0.5, 0.8) == pytest.approx(194 / 4 / 0.5, rel=0.1)
    assert numbers.votes_needed(0.7059, 0.2899, 0.5) == 9  # so few that a search for them finds no number
    found = power_of(0.2, 0.25, 0.8)
    assert [one.raters for one in found.designs] == sorted(one.raters for one in found.designs)
    pairs = [one.pairs for one in found.designs]
    assert pairs == sorted(pairs, reverse=True)


def crowd_results(seed: int, shares: tuple[float, float, float]) -> tuple[bool, bool, int, int]:
    """Whether the known preference lies in its interval, whether there is said to be no difference, how many of six
    spammers were found, and how many of 55 others were left out.
    """
    plan = plan_for(prompts=100, raters=61, trials=50, identical=8, swapped=4, seed=seed)
    crowd = Crowd(shares=shares, spammers=6, seed=seed)
    ballots, spam = vote_all(plan, crowd)
    results = results_of(record_of(plan), ballots)
    [found] = results.comparisons
    assert found.preference_interval is not None
    known = crowd.expected[0] + crowd.expected[1] / 2
    low, high = found.preference_interval
    left_out = {rater.link for rater in results.quality if rater.excluded}
    return low <= known <= high, found.verdict == "no difference", len(left_out & spam), len(left_out - spam)


def test_a_known_preference_is_recovered_a_null_kept_and_spammers_are_found() -> None:
    made = [crowd_results(seed, (0.45, 0.25, 0.30)) for seed in range(5)]
    assert sum(recovered for recovered, *_ in made) >= 4
    assert sum(kept for _, kept, *_ in made) == 0
    assert sum(caught for *_, caught, _ in made) >= 28  # of 30
    assert sum(wronged for *_, wronged in made) <= 11  # of 275, of whom some look less than the rule supposes
    assert sum(crowd_results(seed, (0.35, 0.30, 0.35))[1] for seed in range(5)) >= 4


def test_too_few_votes_say_how_many_are_missing_and_no_p_value() -> None:
    plan = plan_for(prompts=10, raters=2)
    ballots, _ = vote_all(plan, Crowd())
    [found] = results_of(record_of(plan), ballots[:13]).comparisons
    assert found.verdict == "too few votes"
    assert found.missing > 0
    assert (found.p_value, found.ratio_interval, found.preference_interval) == (None, None, None)
    [nothing] = results_of(record_of(plan), []).comparisons
    assert (nothing.missing, nothing.ratio, nothing.p_value) == (30, None, None)
    plan = plan_for(prompts=2, raters=4, criteria=None, systems=("one", "two", "three"))
    results = results_of(record_of(plan), vote_all(plan, Crowd(reliability=1.0))[0])
    assert (results.votes, results.raters) == (24, 4)  # of three questions each
    assert (results.side_bias.p_value, results.ranking) == (None, [])


def test_six_thousand_votes_on_three_questions_and_systems_are_ranked() -> None:
    plan = plan_for(prompts=34, raters=61, criteria=None, systems=("one", "two", "three"))
    ballots, _ = vote_all(plan, Crowd(seed=3))
    results = results_of(record_of(plan), ballots)
    assert results.votes == 61 * 34 * 3
    assert [c.criterion for c in results.comparisons[:4]] == [
        *("all", "frame_quality", "temporal_consistency", "structural_errors"),
    ]
    assert results.comparisons[0].p_value is None
    assert [one.system for one in results.ranking] == ["one", "two", "three"]
    assert all(one.interval and one.interval[0] <= one.strength <= one.interval[1] for one in results.ranking)
    assert sum(one.good + one.same + one.bad for one in results.prompts) == results.votes * 3
    assert results.agreement[0].krippendorff_alpha is not None


def test_checks_and_training_never_count_and_every_side_is_known() -> None:
    plan = plan_for(prompts=8, raters=4, training=3, identical=3, swapped=3)
    ballots, _ = vote_all(plan, Crowd(shares=(1.0 - 2e-9, 1e-9, 1e-9), reliability=1.0, spread=1e6))
    votes = count(plan, ballots)
    assert len(votes) == 4 * 8
    assert set(votes.outcome.tolist()) == {1}
    assert votes.left.sum() == 0  # a was on the left in half of them
    quality = judge_raters(plan, ballots)
    assert all((one.told_apart, one.contradicted, one.excluded) == (0, 0, None) for one in quality)


def test_numbers_that_go_with_the_votes_are_told_from_those_that_do_not() -> None:
    plan = plan_for(prompts=12, raters=6, identical=0, swapped=0, training=0, spoiled=0)
    better = {pair.item: pair.item / 11 for pair in plan.pairs}  # share of raters who vote for a
    ballots = [
        Ballot(f"{slot}", slot, number, trial, {"overall": _side(trial.flipped, for_a=for_a)}, 4, 0, 0)
        for slot, trials in enumerate(plan.raters)
        for number, trial in enumerate(trials)
        for for_a in [slot < 6 * better[trial.pair]]
    ]
    chance = np.random.default_rng(0)
    videos = [
        VideoNumbers(
            system=name, prompt=prompt, take=0, numbers={"told": (1 - at) * item, "noise": float(chance.random())}
        )
        for at, name in enumerate(plan.systems)
        for item, (prompt, _) in enumerate(plan.items)
    ]
    likeness = [
        PairNumbers(a="one", b="two", prompt=prompt, take=0, numbers={"vmaf": 50.0 + item})
        for item, (prompt, _) in enumerate(plan.items)
    ]
    numbers = StudyNumbers(id="study", state="complete", videos=videos, pairs=likeness)
    found = {one.number: one for one in results_of(record_of(plan), ballots, numbers).numbers}
    assert found["told"].correlation == pytest.approx(1, abs=0.05)
    assert abs(found["noise"].correlation or 0) < 0.7
    assert found["told"].pairs == found["noise"].pairs == 12
    assert found["told"].means == {"one": 5.5, "two": 0.0}
    assert (found["vmaf"].goes_with, found["vmaf"].correlation, found["vmaf"].pairs) == ("same", None, 12)  # no "same"


def _side(flipped: bool, *, for_a: bool) -> Choice:
    return "left" if flipped != for_a else "right"
