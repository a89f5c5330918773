"""The wire contract of studies: what `/v1/studies` takes and gives, and what a rater's page sees (`/v1/rate`).

A study asks people which of two videos is better. A rater's answer names sides, never systems. It imports pydantic,
`schema` and `schema_numbers`, and nothing else of the project.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from .schema import Answer
from .schema_numbers import Between, Relation

Choice = Literal["left", "same", "right"]
CHOICES: tuple[Choice, ...] = ("left", "same", "right")
QUESTIONS: dict[str, str] = {
    "frame_quality": "Which video has the better frame quality?",
    "temporal_consistency": "Which video moves more consistently over time?",
    "structural_errors": "Which video has fewer structural errors?",
    "overall": "Which video is better?",
}
"""The three of the paper, and one for all."""
_TAKES = ConfigDict(extra="forbid", frozen=True)


class Criterion(Answer):
    """One question that every pair is asked."""

    name: str = Field(min_length=1, max_length=40, pattern=r"^[a-z][a-z0-9_]*$")
    question: str = Field(min_length=1, max_length=300)


PAPER_CRITERIA = tuple(
    Criterion(name=name, question=question) for name, question in QUESTIONS.items() if name != "overall"
)


class StudyVideo(BaseModel):
    """One video of a system: a completed job or a file that was sent. Those of one `prompt` and `take` are compared."""

    model_config = _TAKES

    prompt: str = Field(min_length=1, max_length=4000, pattern=r"\S")
    take: int = Field(default=0, ge=0, description="Which video of that prompt: 0 the first seed, and so on.")
    video_id: str | None = Field(default=None, description="A completed video of this server.")
    file_id: str | None = Field(default=None, description="A video of `POST /v1/files`; the study keeps a copy.")


class StudySystem(BaseModel):
    """What is compared: a model, a number of steps, another product."""

    model_config = _TAKES

    name: str = Field(min_length=1, max_length=80, pattern=r"\S", description="For results; raters never see it.")
    videos: list[StudyVideo] = Field(min_length=1, max_length=2000)


class Exclusion(BaseModel):
    """Which raters are left out of the results; part of the plan, so that nobody chooses it after the votes."""

    model_config = _TAKES

    lapses: float = Field(
        default=0.1, gt=0, lt=1, description="Share of checks, identical and spoiled ones, that who looks may fail."
    )
    error: float = Field(
        default=0.01,
        gt=0,
        lt=0.5,
        description="How often one who fails that share is left out at most: of an exact binomial test.",
    )
    max_one_side: float = Field(default=0.95, ge=0.5, le=1, description="Share of answers that may name one side.")


class CreateStudy(BaseModel):
    """Body of `POST /v1/studies`."""

    model_config = _TAKES

    title: str = Field(default="Which is better?", min_length=1, max_length=200)
    instructions: str = Field(default="", max_length=4000, description="For raters, above the first pair.")
    systems: list[StudySystem] = Field(min_length=2, max_length=8)
    criteria: list[Criterion] | None = Field(default=None, min_length=1, max_length=8, description="The paper's three.")
    raters: int = Field(default=10, ge=1, le=1000, description="Links that can be made.")
    trials: int | None = Field(default=None, ge=1, le=5000, description="Pairs that a rater votes on; else all.")
    training: int = Field(default=2, ge=0, le=20, description="Trials before those that count.")
    identical: int = Field(default=8, ge=0, le=50, description="Checks with one video on both sides.")
    swapped: int = Field(default=4, ge=0, le=50, description="Checks that repeat a pair with its sides swapped.")
    spoiled: int = Field(
        default=6,
        ge=0,
        le=50,
        description="Checks with a video beside a spoiled copy, whose answer is known for the paper's questions and "
        "`overall`; a study of other questions has none.",
    )
    min_watch_s: float = Field(default=2.0, ge=0, le=120, description="Before a vote is taken.")
    show_prompt: bool = Field(default=False, description="Whether raters read the prompt.")
    exclusion: Exclusion = Exclusion()
    seed: int | None = Field(default=None, ge=0, lt=2**32, description="Of order and sides; drawn when left out.")


StudyState = Literal["preparing", "ready", "failed"]


class Media(Answer):
    """What every video of a study is, so that nothing but the picture tells two sides apart."""

    width: int
    height: int
    fps: float
    frames: int
    seconds: float
    kbit_s: int = Field(description="Of the file on average.")


class Study(Answer):
    """A study and its frozen plan."""

    id: str
    object: Literal["study"] = "study"
    title: str
    state: StudyState
    error: str | None = Field(default=None, description="Why its videos could not be prepared.")
    created_at: int
    digest: str = Field(description="SHA-256 of the plan: pairs, order, sides, questions, exclusion; never changes.")
    systems: list[str]
    criteria: list[Criterion]
    pairs: int = Field(description="Pairs of videos that can be voted on.")
    prompts: int
    raters: int
    trials: int = Field(description="Of one rater, those that count.")
    checks: int = Field(description="Of one rater, mixed in and never counted.")
    training: int
    exclusion: Exclusion
    videos: int
    prepared: int = Field(description="Videos that are ready to be shown.")
    media: Media | None = None
    note: str | None = Field(default=None, description="What was encoded anew, and why.")
    links: int = Field(default=0, description="Links that work.")
    votes: int = Field(default=0, description="Trials that were answered, training and checks too.")


class StudyList(Answer):
    """Body of `GET /v1/studies`: the newest first."""

    object: Literal["list"] = "list"
    data: list[Study]


class DeletedStudy(Answer):
    id: str
    object: Literal["study.deleted"] = "study.deleted"
    deleted: bool = True


class MakeLinks(BaseModel):
    """Body of `POST /v1/studies/{id}/links`."""

    model_config = _TAKES

    count: int | None = Field(default=None, ge=1, le=1000, description="All that are still free when left out.")
    days: float = Field(default=30.0, gt=0, le=365, description="Until they expire.")


class RaterLink(Answer):
    """One rater's link."""

    id: str
    rater: int = Field(description="Place in the plan, from 1.")
    url: str | None = Field(default=None, description="Only in the answer that makes it and in the list.")
    created_at: int
    expires_at: int
    revoked: bool = False
    done: int = 0
    total: int


class RaterLinks(Answer):
    """Body of `GET` and `POST /v1/studies/{id}/links`."""

    object: Literal["list"] = "list"
    data: list[RaterLink]


# What a rater's page sees.


class Trial(Answer):
    """A pair to vote on. Addresses are relative to where `/v1` stands."""

    id: str
    number: int = Field(description="From 1.")
    training: bool
    prompt: str | None = None
    left: str
    right: str


class Feedback(Answer):
    """What is known of a practice pair, to be read after the vote on it."""

    trial: str
    expected: dict[str, Choice] = Field(description="By question; one that is not here has no known answer.")
    reason: str


class Progress(Answer):
    done: int
    total: int


class Rating(Answer):
    """Body of `GET /v1/rate`, and of the answer to a vote: where a rater stands."""

    object: Literal["rating"] = "rating"
    title: str
    instructions: str
    criteria: list[Criterion]
    choices: tuple[Choice, ...] = CHOICES
    min_watch_s: float
    show_prompt: bool
    media: Media
    progress: Progress
    next: Trial | None = None
    after: Trial | None = None
    feedback: Feedback | None = Field(default=None, description="Only after a vote on a practice pair.")
    complete: bool
    expires_at: int


Layout = Literal["beside", "stacked"]


class Vote(BaseModel):
    """Body of `POST /v1/rate/votes`."""

    model_config = _TAKES

    trial: str = Field(min_length=1, max_length=80)
    choices: dict[str, Choice]
    watched_s: float = Field(ge=0, le=86400, allow_inf_nan=False)
    replays: int = Field(default=0, ge=0, le=100_000)
    layout: Layout | None = Field(default=None, description="stacked: what is called left was above.")


# Results.

Verdict = Literal["a", "b", "no difference", "too few votes"]
Interval = tuple[float, float]
"""Of 95 %."""


class Comparison(Answer):
    """One system against another by one question, or by all of them together ("all")."""

    a: str
    b: str
    criterion: str
    good: int = Field(description="Votes for a.")
    same: int
    bad: int = Field(description="Votes for b.")
    ratio: float | None = Field(description="(good + same) / (bad + same), as the paper has it.")
    ratio_interval: Interval | None = None
    preference: float | None = Field(description="Share for a; a tie counts half.")
    preference_interval: Interval | None = None
    preference_untied: float | None = Field(description="Share for a of the votes that name one.")
    preference_untied_interval: Interval | None = None
    p_value: float | None = Field(
        default=None,
        description="Exact sign test of the votes that name one, each taken as independent; intervals are not so kind.",
    )
    verdict: Verdict = Field(description="By the interval of `preference`.")
    missing: int = Field(default=0, description="Votes that are missing before anything is said.")


class PromptCount(Answer):
    """What was voted on one prompt, of all questions together."""

    a: str
    b: str
    prompt: str
    good: int
    same: int
    bad: int


class RaterQuality(Answer):
    """What one rater's answers are worth."""

    rater: int
    link: str
    votes: int
    identical: int = Field(description="Answers to checks with one video on both sides.")
    told_apart: int = Field(description="Those of them that named a side.")
    repeated: int = Field(description="Answers to swapped repeats.")
    contradicted: int = Field(description="Those of them that were for the other video than before.")
    spoiled: int = Field(default=0, description="Answers to checks with a spoiled copy.")
    missed: int = Field(default=0, description="Those of them that did not name the sound side.")
    checks: int = Field(default=0, description="Identical and spoiled pairs that were answered, whatever was asked.")
    failed: int = Field(default=0, description="Those of them of which most answers were wrong.")
    left: float | None = Field(description="Share of left among the answers that name a side.")
    one_side: float | None = Field(description="Share of the side that was named more often, among all answers.")
    agreement: float | None = Field(description="Share of votes that are those of most others on that pair.")
    median_watched_s: float | None
    excluded: str | None = Field(default=None, description="Why, by the plan's rule.")


class Agreement(Answer):
    """How far raters agree, by one question."""

    criterion: str
    fleiss_kappa: float | None
    krippendorff_alpha: float | None = Field(description="Of for a, same, for b, one step each.")


class Strength(Answer):
    """Of one system in the Bradley-Terry model: the mean of all is 0, and exp of a difference is the odds."""

    system: str
    strength: float
    interval: Interval | None = None


class SideBias(Answer):
    left: int
    right: int
    p_value: float | None = Field(default=None, description="Exact sign test of left against right.")


class StudyResults(Answer):
    """Body of `GET /v1/studies/{id}/results`."""

    id: str
    object: Literal["study.results"] = "study.results"
    title: str
    digest: str
    votes: int = Field(description="Trials that count.")
    raters: int = Field(description="Whose votes count.")
    comparisons: list[Comparison]
    prompts: list[PromptCount] = Field(default_factory=list)
    agreement: list[Agreement] = Field(default_factory=list)
    side_bias: SideBias
    quality: list[RaterQuality] = Field(default_factory=list)
    ranking: list[Strength] = Field(default_factory=list)
    numbers: list[Relation] = Field(default_factory=list)
    between: list[Between] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)


class Design(Answer):
    """One way to gather the votes that are needed."""

    raters: int
    pairs: int = Field(description="Each rater votes on every one.")


class Power(Answer):
    """Body of `GET /v1/studies/power`: what a study needs to see a difference."""

    object: Literal["study.power"] = "study.power"
    difference: float = Field(description="Share of votes for the better one less that for the other.")
    ties: float
    power: float
    alpha: float
    independent_votes: int = Field(description="That would do if no two votes had a rater or a prompt in common.")
    designs: list[Design]
    note: str
