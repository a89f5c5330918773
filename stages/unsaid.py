"""What of a prompt fills a slot of a small model's caption, and what of it is left out.

Takes the tokens of `stages.english` and the phrases that were found among them. Knows nothing of a vocabulary.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from stages.english import ARTICLES, AT, NEGATORS, SILENT, WITHIN, Token

__all__ = ["Found", "left_out"]


@dataclass(frozen=True)
class Found:
    """A phrase of the prompt that fills a slot; `ours` is empty for what is known to be something else."""

    slot: str
    start: int  # tokens
    end: int
    ours: str
    taught: bool = False
    many: bool = False
    misspelt: bool = False


def left_out(
    prompt: str, tokens: Sequence[Token], kept: Sequence[Found], barred: Sequence[Found], joins: Collection[str] = ()
) -> tuple[str, ...]:
    """Runs of words that say something and fill no slot, as they stand in the prompt.

    `joins` are the words that may stand between two subjects that are both drawn.
    """
    used = {at for one in (*kept, *barred) for at in range(one.start, one.end)}
    used |= {at for at, token in enumerate(tokens) if token.word in joins}
    starts = {one.start for one in kept if one.slot in ("time", "style", "weather")}
    nouns = starts | {one.start for one in kept if one.slot == "place"}
    runs: list[list[int]] = [[]]
    for at, token in enumerate(tokens):
        if not token.word or at in used:
            runs.append([])
        else:
            runs[-1].append(at)
    said = []
    for run in runs:
        silent = {at for at in run if _is_silent(tokens, at, run, starts, barred)}
        alone = [at for at in run if tokens[at].word in WITHIN][1:] == [] and run[-1:] and run[-1] + 1 in nouns
        while (
            run and run[0] in silent and (tokens[run[0]].word not in WITHIN or (alone and tokens[run[0]].word in AT))
        ):  # "in a dark" forest
            run = run[1:]
        while run and run[-1] in silent:
            run = run[:-1]
        if any(at not in silent for at in run):
            said.append(prompt[tokens[run[0]].start : tokens[run[-1]].end])
    return tuple(dict.fromkeys(said))


def _is_silent(tokens: Sequence[Token], at: int, run: Sequence[int], starts: set[int], barred: Sequence[Found]) -> bool:
    """Whether a word says nothing by itself: "the", "and", "in", "under" before a time, "no" before what is barred."""
    word = tokens[at].word
    if word in NEGATORS or word in ("free", "instead", "rather"):
        return any(at < one.start <= run[-1] + 1 for one in barred)
    if (
        word in WITHIN
        and run[-1] + 1 in starts
        and all(tokens[other].word in ARTICLES for other in range(at + 1, run[-1] + 1))
    ):
        return True
    mark = len(word) == 1 and not word.isalnum() and (ord(word) < 0x2190 or word in "\u200d\ufe0f")
    return mark or word in SILENT or word in AT or word in ("with", "during", "from", "for", "like", "than")
