"""The wire contract of the automatic numbers of a study's videos, beside what people say of them."""

from typing import Literal

from pydantic import Field

from .schema import Answer


class Relation(Answer):
    """An automatic number beside the votes."""

    number: str
    means: dict[str, float] = Field(description="By system.")
    goes_with: Literal["preference", "same"] = Field(
        default="preference",
        description="A video's number: a pair's difference in it with the votes for one. A pair's own number, as VMAF: "
        "with its share of votes for the same.",
    )
    correlation: float | None = Field(default=None, description="Spearman's, over the pairs that have both.")
    pairs: int


class Between(Answer):
    """Automatic numbers of two systems' videos as wholes."""

    a: str
    b: str
    numbers: dict[str, float]


class VideoNumbers(Answer):
    """Automatic numbers of one video."""

    system: str
    prompt: str
    take: int
    numbers: dict[str, float]


class PairNumbers(Answer):
    """Automatic numbers of two videos of one prompt."""

    a: str
    b: str
    prompt: str
    take: int
    numbers: dict[str, float]


class StudyNumbers(Answer):
    """Body of `GET` and `POST /v1/studies/{id}/numbers`. Those of pixels are there from the beginning."""

    object: Literal["study.numbers"] = "study.numbers"
    id: str
    state: Literal["pixels", "measuring", "complete"]
    videos: list[VideoNumbers] = Field(default_factory=list)
    pairs: list[PairNumbers] = Field(default_factory=list)
    sets: list[Between] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list, description="What could not be measured, and why.")
