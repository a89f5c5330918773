"""How a small model, which knows few words, reads a prompt: in its own words, and it says what it changed.

A `Vocabulary` is one file beside the weights. For each slot of a caption (subject, place, motion, time, style, and what
else the model was taught) it holds phrases and the model's own words for them: synonyms and kinds of what the model
knows, nothing that is merely like it. `read` fills the slots from a prompt and writes a caption such as the model was
trained on. What fills no slot is left out, what is negated goes to the negative prompt, and `Reading.note` tells both.
A preset whose text encoder knows the language has no vocabulary. Knows nothing of torch.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from stages.english import (
    ADVERBS,
    ARTICLES,
    AT,
    NEGATORS,
    PRONOUNS,
    SILENT,
    WITHIN,
    Token,
    negated_in,
    one_letter_apart,
    plural,
    preposition_before,
    singulars,
    tokens_of,
    with_articles,
)
from stages.tongues import Tongues

_PIECE = re.compile(r"[^\W\d_]+|\d|[^\s\w]+|_")  # what CLIP's tokenizer cuts a text into: at least a token each

__all__ = ["Reading", "Vocabulary", "cut_prompt", "load_vocabulary", "spelt_words"]

_LEAST_LETTERS = 5  # of a word that may be a misspelling of another
_LONGEST = 6  # words of a phrase
_SHOWN = 8
_ONCE = ("motion", "place", "time", "weather", "camera", "style")  # slots that a caption has once, in its order


@dataclass(frozen=True)
class Reading:
    """A prompt in the model's own words."""

    text: str
    negative: tuple[str, ...] = ()  # what was asked to be absent, in the model's words
    replaced: tuple[tuple[str, str], ...] = ()  # words of the prompt, what stands for them
    unknown: tuple[str, ...] = ()  # left out
    negated: tuple[str, ...] = ()  # words of the prompt that went to the negative prompt
    without_subject: bool = False
    near: tuple[tuple[str, tuple[str, ...]], ...] = ()  # left out, with subjects that are like it

    @property
    def note(self) -> str:
        """What a user should know, in a sentence or two; empty where the model knew every word."""
        parts = []
        if self.replaced:
            parts.append("reads " + _listed([f"{theirs!r} as {ours!r}" for theirs, ours in self.replaced]))
        if self.unknown:
            parts.append("leaves out " + _listed([repr(words) for words in self.unknown]))
        if self.negated:
            parts.append(f"puts {_listed([repr(words) for words in self.negated])} into the negative prompt")
        *first, last = parts or [""]
        said = f"This model knows few words: it {', '.join(first)}{' and ' if first else ''}{last}." if parts else ""
        return f"{said} No subject that it knows is left.".strip() if self.without_subject else said


@dataclass(frozen=True)
class _Found:
    """A phrase of the prompt that fills a slot; `ours` is empty for what is known to be something else."""

    slot: str
    start: int  # tokens
    end: int
    ours: str
    taught: bool = False
    many: bool = False
    misspelt: bool = False


class Vocabulary:
    """What `stages.training.tiny.words` writes; its `build_words` says what each entry is."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._read: Mapping[str, Mapping[str, str]] = table["read"]
        self._taught = {slot: frozenset(phrases) for slot, phrases in table["taught"].items()}
        self._write: Mapping[str, Mapping[str, Sequence[str]]] = table["write"]
        self._weak, self._strict, self._blocked, self._heads, self._verbs, self._through, self._spelt = (
            frozenset(table.get(name, ()))
            for name in ("weak", "strict", "blocked", "heads", "verbs", "through", "spelt")
        )
        self._near: Mapping[str, Sequence[str]] = table.get("near", {})
        self._most: int = table.get("most_subjects", 1)
        self.examples: Sequence[str] = table.get("examples", ())
        self._tongues = Tongues(table.get("names", {}), table.get("small", {}), self._is_english)
        self._listed = spelt_words(
            self._taught.get("subject", ()), self._read.get("place", ()), self._read.get("time", ())
        )
        begins = frozenset(word.split()[0] for words in self._read.values() for word in words)
        self._english = begins | self._heads | self._spelt | self._near.keys()

    def read(self, prompt: str) -> Reading:
        """Understand a prompt."""
        tokens = tokens_of(prompt)
        names = self._tongues.names_in(prompt, [token for token in tokens if token.word])
        if names is not None:
            return self._read_foreign(prompt, names)
        negated = negated_in(tokens)
        found = [*self._phrases(tokens)]
        wanted = [one for one in found if one.start not in negated]
        heroes = self._heroes(tokens, [one for one in wanted if one.slot == "subject"])
        used = {slot: one for slot in _ONCE if (one := self._best(slot, wanted)) is not None}
        looks = [one for one in wanted if one.slot in ("look", "count") and self._adjoins(tokens, one, heroes)]
        kept = [*heroes, *used.values(), *looks]
        barred = [one for one in found if one.start in negated and one.slot not in ("look", "count")]
        replaced = [self._told(prompt, tokens, one, looks) for one in sorted(kept, key=lambda one: one.start)]
        texts = [prompt[tokens[one.start].start : tokens[one.end - 1].end] for one in barred]
        unknown = _left_out(prompt, tokens, kept, barred)
        text = self._sentence(heroes, used, looks)
        return Reading(
            text,
            tuple(dict.fromkeys(self._bare(one) for one in barred)),
            tuple(dict.fromkeys(pair for pair in replaced if pair is not None)),
            unknown,
            tuple(dict.fromkeys(texts)),
            not heroes,
            tuple(self._offers(tokens)),
        )

    def absent(self, prompt: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Of a negative prompt, what the model knows, in its own words, and what is left out."""
        tokens = tokens_of(prompt)
        found = [*self._phrases(tokens)]
        return tuple(dict.fromkeys(self._bare(one) for one in found)), _left_out(prompt, tokens, found, ())

    @property
    def draws(self) -> Mapping[str, Sequence[str]]:
        """What the model knows of each slot, as its captions say it."""
        return {
            slot: sorted({self._write.get(slot, {}).get(ours, (ours,))[0].strip(", ") for ours in words.values()})
            for slot, words in self._read.items()
        }

    def _is_english(self, word: str) -> bool:
        closed = word in SILENT or word in WITHIN or word in NEGATORS or word in PRONOUNS
        return closed or any(form in self._english for form in (word, *singulars(word)))

    def _read_foreign(self, prompt: str, names: Sequence[tuple[int, int, str]]) -> Reading:
        """Of a prompt in another language, the first subject that it names."""
        kept, text = names[:1], ""
        if kept:
            text = with_articles(f"a {kept[0][2]}")
        gaps = [0, *(edge for start, end, _ in kept for edge in (start, end)), len(prompt)]
        rest = [prompt[start:end].strip(" ,.!?;:。、！？") for start, end in zip(gaps[::2], gaps[1::2], strict=True)]
        replaced = tuple((prompt[start:end], ours) for start, end, ours in kept)
        return Reading(
            text, (), replaced, tuple(words for words in rest if not self._tongues.says_nothing(words)), (), not kept
        )

    def _phrases(self, tokens: Sequence[Token]) -> Iterator[_Found]:
        """What is named, from left to right, the longest phrase first."""
        index = 0
        while index < len(tokens):
            found = self._entry_at(tokens, index)
            if found is not None and found.ours and self._holds(tokens, found):
                yield found
            index = index + 1 if found is None else found.end

    def _entry_at(self, tokens: Sequence[Token], index: int) -> _Found | None:
        """The longest phrase that begins there, whatever it means there."""
        if not tokens[index].word or tokens[index].word in ARTICLES:
            return None
        words: list[str] = []
        ends: list[int] = []
        for end in range(index, len(tokens)):
            word = tokens[end].word
            if not word or len(words) == _LONGEST:
                break
            if word not in ARTICLES:
                words.append(word)
                ends.append(end + 1)
            elif words[-1] not in WITHIN and words[-1] != "of":
                break
        entries = (self._known(words[:count], index, ends[count - 1]) for count in range(len(words), 0, -1))
        return next((found for found in entries if found is not None), None)

    def _known(self, words: Sequence[str], start: int, end: int) -> _Found | None:
        """The entry for exactly these words, or for the singular of the last."""
        *before, last = words
        for number, form in enumerate((last, *singulars(last))):
            phrase = " ".join((*before, form))
            if phrase in self._blocked:
                return _Found("", start, end, "")
            for slot, entries in self._read.items():
                if phrase in entries and (number == 0 or slot in ("subject", "place")):
                    many = slot == "subject" and number > 0
                    return _Found(slot, start, end, entries[phrase], phrase in self._taught.get(slot, ()), many)
        if len(words) == 1 and not self._is_english(last) and (meant := self._misspelt(last)):
            slot = next(slot for slot, entries in self._read.items() if meant in entries)
            return _Found(slot, start, end, self._read[slot][meant], True, False, True)
        return None

    def _misspelt(self, word: str) -> str | None:
        """The word that the model was taught, one letter away."""
        if len(word) < _LEAST_LETTERS or not word.isascii() or not word.isalpha():
            return None
        return next((ours for ours in self._listed if one_letter_apart(word, ours)), None)

    def _holds(self, tokens: Sequence[Token], found: _Found) -> bool:
        """Whether the phrase means here what it names: a verb no noun, and not the first half of "cat food"."""
        before = tokens[found.start - 1].word if found.start else ""
        after = tokens[found.end].word if found.end < len(tokens) else ""
        word = tokens[found.end - 1].word
        if found.slot == "subject":
            verb = tokens[found.start].word in self._verbs and before in PRONOUNS | {"to"}
            return not verb and (found.many or not self._is_first_half(tokens, found))
        if found.slot == "place":
            strict = (
                tokens[found.start].word not in WITHIN
                and word in self._strict
                and preposition_before(tokens, found.start)
                not in WITHIN
                - {
                    "with",
                    "like",
                    "for",
                }
            )
            return not {after, *singulars(after)} & self._heads and not (strict and before)
        if found.slot == "style" and word in ("painting", "sketch") and found.end == found.start + 1:
            return after in ("of", "style") or before in ARTICLES or before in ("", "in", "as")
        bare = found.slot == "motion" and found.end == found.start + 1 and not word.endswith(("ing", "ed"))
        return not (bare and (before in ARTICLES or before in WITHIN))

    def _is_first_half(self, tokens: Sequence[Token], found: _Found) -> bool:
        """Whether the next noun makes something else of a subject: "dog house", "horse farm", "robot dog"."""
        after = tokens[found.end].word if found.end < len(tokens) else ""
        forms = {after, *singulars(after)}
        if tokens[found.end - 1].possessive or forms & self._heads:
            return True
        other = self._entry_at(tokens, found.end) if after and after not in WITHIN | ADVERBS else None
        if other is None or (forms & self._verbs and after not in self._verbs):
            return False
        named = found.start > 0 and tokens[found.start - 1].word in ARTICLES
        return other.slot == "subject" or (other.slot == "place" and named)

    def _heroes(self, tokens: Sequence[Token], subjects: Sequence[_Found]) -> list[_Found]:
        """The subjects that are drawn: first what is not said to be beside, on or under something."""
        if not subjects:
            return []
        free = [one for one in subjects if preposition_before(tokens, one.start) not in WITHIN]
        first = (free or subjects)[0]
        chosen = [first]
        for one in subjects[subjects.index(first) + 1 :]:
            between = {token.word for token in tokens[chosen[-1].end : one.start]} - ARTICLES
            joined = between & {"and", "with"} and not between & (WITHIN - {"with"})
            if len(chosen) < self._most and joined and one.ours != first.ours:
                chosen.append(one)
        return chosen

    def _best(self, slot: str, found: Sequence[_Found]) -> _Found | None:
        mine = [one for one in found if one.slot == slot]
        return min(mine, key=lambda one: (one.ours in self._weak, not one.taught), default=None)

    def _adjoins(self, tokens: Sequence[Token], look: _Found, heroes: Sequence[_Found]) -> bool:
        """Whether only words of the same noun phrase stand between an adjective or a count and its subject."""
        hero = next((one for one in heroes if one.start >= look.end), None)
        between = tokens[look.end : hero.start] if hero is not None else ()
        stops = SILENT | WITHIN
        return hero is not None and all(token.word and token.word not in stops for token in between)

    def _told(
        self, prompt: str, tokens: Sequence[Token], one: _Found, looks: Sequence[_Found]
    ) -> tuple[str, str] | None:
        """What the note says of a phrase; None where the model was taught it."""
        counted = any(look.slot == "count" and self._adjoins(tokens, look, [one]) for look in looks)
        theirs = prompt[tokens[one.start].start : tokens[one.end - 1].end]
        if one.slot == "subject" and one.many and not counted:
            return theirs, with_articles(f"a {one.ours}")
        if one.taught and not one.misspelt:
            return None
        article, _, bare = self._bare(one).partition(" ")
        return theirs, bare if article in AT else self._bare(one)

    def _sentence(self, heroes: Sequence[_Found], used: Mapping[str, _Found], looks: Sequence[_Found]) -> str:
        """The caption."""
        nouns = []
        for number, hero in enumerate(heroes):
            start = heroes[number - 1].end if number else -1
            mine = [look for look in looks if start <= look.start < hero.start]
            counted = any(look.slot == "count" for look in mine)
            said = " ".join((*dict.fromkeys(look.ours for look in mine), plural(hero.ours) if counted else hero.ours))
            nouns.append(said if counted else f"a {said}")
        moves = used["motion"].ours in self._through if "motion" in used else False
        parts = [" and ".join(nouns)]
        tails: list[str] = []
        for slot in _ONCE:
            if slot in used:
                ways = self._write.get(slot, {}).get(used[slot].ours, (used[slot].ours,))
                text = ways[-1] if slot == "place" and moves else ways[0]
                (tails if text.startswith(",") else parts).append(text)
        return with_articles(" ".join(part for part in parts if part) + "".join(tails)).strip(", ")

    def _bare(self, one: _Found) -> str:
        return str(self._write.get(one.slot, {}).get(one.ours, (one.ours,))[0]).strip(", ")

    def _offers(self, tokens: Sequence[Token]) -> Iterator[tuple[str, tuple[str, ...]]]:
        for token in tokens:
            for form in (token.word, *singulars(token.word)):
                if form in self._near:
                    yield form, tuple(self._near[form])
                    break


def cut_prompt(text: str, most: int) -> tuple[str, str]:
    """The part of a prompt that a text encoder of `most` tokens reads, and the words behind it.

    Exact for words that are a token each, as those of a vocabulary are; else more may be left unread than is said.
    """
    pieces = list(_PIECE.finditer(text))
    if len(pieces) <= most:
        return text, ""
    end = pieces[most].start()
    return text[:end].rstrip(" ,.-"), text[end:].strip()


@cache
def load_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary in a file that `stages.training.tiny.words` wrote."""
    return Vocabulary(json.loads(path.read_text(encoding="utf-8")))


@lru_cache(maxsize=64)
def read_prompt(path: Path, prompt: str) -> Reading:
    """What the vocabulary in a file makes of a prompt: read once, however many judge the same request."""
    return load_vocabulary(path).read(prompt)


def _left_out(
    prompt: str, tokens: Sequence[Token], kept: Sequence[_Found], barred: Sequence[_Found]
) -> tuple[str, ...]:
    """Runs of words that say something and fill no slot, as they stand in the prompt."""
    used = {at for one in (*kept, *barred) for at in range(one.start, one.end)}
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


def _is_silent(
    tokens: Sequence[Token], at: int, run: Sequence[int], starts: set[int], barred: Sequence[_Found]
) -> bool:
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


def spelt_words(*phrases: Iterable[str]) -> list[str]:
    """The words of which a misspelling is understood: long ones that stand alone."""
    words = {phrase for some in phrases for phrase in some if phrase.isascii() and phrase.isalpha()}
    return sorted(word for word in words if len(word) >= _LEAST_LETTERS)


def _listed(words: Sequence[str]) -> str:
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return ", ".join(words[:_SHOWN]) + more
