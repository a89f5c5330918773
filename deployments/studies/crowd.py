"""A simulated crowd: raters of known reliability who vote as a known preference says, and some who do not look.

It tests the machine. A study that it has voted on says nothing of any video. Pure: chance is a seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from client.schema_studies import Choice
from deployments.studies.plan import Plan, PlannedTrial
from deployments.studies.votes import Ballot


@dataclass(frozen=True)
class Crowd:
    """Who votes, and how.

    A pair has a share of votes for a, the same and b around `shares`; a rater who looks votes by it, or with
    1 - reliability by no look at all. An identical pair is "the same" to who looks, and a spoiled copy worse. Spammers
    never look; a third of them always name one side, a third always say "the same".
    """

    shares: tuple[float, float, float] = (0.45, 0.25, 0.30)  # for a, the same, for b
    reliability: float = 0.85  # mean over raters, who differ by 0.05
    spammers: int = 0
    spread: float = 20.0  # of pairs: Dirichlet's concentration; the more, the more alike
    seed: int = 0
    unlooked: tuple[float, float, float] = field(default=(1 / 3, 1 / 3, 1 / 3), init=False)

    @property
    def expected(self) -> tuple[float, float, float]:
        """Shares of votes of those who look, with what they do not look at."""
        mixed = [
            self.reliability * share + (1 - self.reliability) * blind
            for share, blind in zip(self.shares, self.unlooked, strict=True)
        ]
        return mixed[0], mixed[1], mixed[2]


def vote_all(plan: Plan, crowd: Crowd) -> tuple[list[Ballot], set[str]]:
    """Every rater's ballots, on one question that stands for all, and the links of the spammers."""
    chance = np.random.default_rng(crowd.seed)
    of_pairs = chance.dirichlet(np.array(crowd.shares) * crowd.spread, len(plan.pairs))
    raters = len(plan.raters)
    spammers = set(chance.permutation(raters)[: crowd.spammers].tolist())
    ballots: list[Ballot] = []
    for slot, trials in enumerate(plan.raters):
        looks = 0.0 if slot in spammers else float(np.clip(chance.normal(crowd.reliability, 0.05), 0, 1))
        kinds: tuple[Choice | None, ...] = ("left", "same", None)
        always = kinds[slot % 3] if slot in spammers else None
        for number, trial in enumerate(trials):
            choices: dict[str, Choice] = {
                criterion.name: always
                or _choice(trial, of_pairs[trial.pair], looks, crowd, chance, plan.expected(trial).get(criterion.name))
                for criterion in plan.criteria
            }
            ballots.append(Ballot(f"{slot:024x}", slot, number, trial, choices, 4.0, 0, 0.0))
    return ballots, {f"{slot:024x}" for slot in spammers}


def _choice(
    trial: PlannedTrial,
    shares: Sequence[float],
    looks: float,
    crowd: Crowd,
    chance: np.random.Generator,
    known: Choice | None,
) -> Choice:
    if chance.random() >= looks:
        shares = crowd.unlooked
    elif trial.kind == "identical":
        return "same"
    elif known is not None:
        return known
    drawn = int(np.searchsorted(np.cumsum(shares)[:2], chance.random(), side="right"))  # for a, the same, for b
    if drawn == 1:
        return "same"
    return "left" if (drawn == 0) != trial.flipped else "right"
