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
from dataclasses import dataclass, replace
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
from stages.unsaid import Found, left_out

_PIECE = re.compile(r"[^\W\d_]+|\d|[^\s\w]+|_")  # what CLIP's tokenizer cuts a text into: at least a token each

__all__ = ["Reading", "Vocabulary", "cut_prompt", "load_vocabulary", "spelt_words"]

_LEAST_LETTERS = 5  # of a word that may be a misspelling of another
_LONGEST = 6  # words of a phrase
_SHOWN = 8
_ONCE = ("motion", "place", "time", "weather", "camera", "style")  # slots that a caption has once, in its order
_LOOKS = ("count", "look", "colour")  # slots of a subject, in the order of its noun phrase
_JOINS = frozenset({"and", "with", "next", "beside"})  # stand between two subjects that are both drawn


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


class Vocabulary:
    """What `stages.training.tiny.words` and `stages.training.default.words` write; the latter says what entries are."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._read: Mapping[str, Mapping[str, str]] = table["read"]
        self._taught = {slot: frozenset(phrases) for slot, phrases in table["taught"].items()}
        self._write: Mapping[str, Mapping[str, Sequence[str]]] = table["write"]
        self._weak, self._strict, self._blocked, self._heads, self._verbs, self._through, self._spelt = (
            frozenset(table.get(name, ()))
            for name in ("weak", "strict", "blocked", "heads", "verbs", "through", "spelt")
        )
        self._deeds, self._coloured, self._lone, self._meets = (
            frozenset(table.get(name, ())) for name in ("deeds", "coloured", "lone", "meets")
        )
        self._instead: Mapping[str, Sequence[str]] = table.get("instead", {})
        self._does: Mapping[str, str] = table.get("does", {})
        self._plurals: Mapping[str, str] = table.get("plurals", {})
        self._many = {_plain(many): ours for ours, many in self._plurals.items() if many != ours}
        self._bare_plural: str = table.get("bare_plural", "")
        self._near: Mapping[str, Sequence[str]] = table.get("near", {})
        self._most: int = table.get("most_subjects", 1)
        self.examples: Sequence[str] = table.get("examples", ())
        self.world: str = table.get("world", "first")  # the made-up world that the weights beside it were trained on
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
        found = [*self._phrases(tokens)]
        inside = {at for one in found for at in range(one.start, one.end) if tokens[at].word in NEGATORS}
        negated = negated_in([replace(token, word="-") if at in inside else token for at, token in enumerate(tokens)])
        wanted = [one for one in found if one.start not in negated]
        heroes = self._heroes(tokens, [one for one in wanted if one.slot == "subject"])
        used = {slot: one for slot in _ONCE if (one := self._best(slot, wanted)) is not None}
        for one in (one for one in wanted if one.slot == "place" and one is not used["place"]):
            slot, ours = self._instead.get(one.ours, ("place", ""))
            used.setdefault(slot, replace(one, slot=slot, ours=ours, taught=False))
        looks = [one for one in wanted if one.slot in _LOOKS and self._adjoins(tokens, one, heroes)]
        kept = [*heroes, *used.values(), *looks]
        barred = [one for one in found if one.start in negated and one.slot not in _LOOKS]
        lone = len(heroes) == 1
        replaced = [self._told(prompt, tokens, one, looks, lone) for one in sorted(kept, key=lambda one: one.start)]
        texts = [prompt[tokens[one.start].start : tokens[one.end - 1].end] for one in barred]
        unknown = left_out(prompt, tokens, kept, barred, _JOINS if len(heroes) > 1 else ())
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
        return tuple(dict.fromkeys(self._bare(one) for one in found)), left_out(prompt, tokens, found, ())

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

    def _phrases(self, tokens: Sequence[Token]) -> Iterator[Found]:
        """What is named, from left to right, the longest phrase first."""
        index = 0
        while index < len(tokens):
            found = self._entry_at(tokens, index)
            if found is not None and found.ours and self._holds(tokens, found):
                yield found
            index = index + 1 if found is None else found.end

    def _entry_at(self, tokens: Sequence[Token], index: int) -> Found | None:
        """The longest phrase that begins there, whatever it means there."""
        if not tokens[index].word or tokens[index].word in ARTICLES:
            return None
        words: list[str] = []
        ends: list[int] = []
        crossed = 0
        for end in range(index, len(tokens)):
            word = tokens[end].word
            if not word or len(words) == _LONGEST:
                break
            if word not in ARTICLES:
                words.append(word)
                ends.append(end + 1)
            elif words[-1].endswith("ing"):
                crossed = crossed or len(words)  # "man riding a horse", which is no "riding horse"
            elif words[-1] not in WITHIN and words[-1] != "of":
                break
        entries = (
            self._known(tokens, words[:count], index, ends[count - 1], whole=not crossed or count <= crossed)
            for count in range(len(words), 0, -1)
        )
        return next((found for found in entries if found is not None), None)

    def _known(
        self, tokens: Sequence[Token], words: Sequence[str], start: int, end: int, *, whole: bool
    ) -> Found | None:
        """The entry for exactly these words, or for the singular of the last."""
        *before, last = words
        for number, form in enumerate((last, *singulars(last))):
            phrase = " ".join((*before, form))
            if whole and phrase in self._blocked:
                return Found("", start, end, "")
            if number == 0 and phrase in self._many:
                ours = self._many[phrase]
                return Found("subject", start, end, ours, _plain(ours) in self._taught["subject"], True)
            for slot, entries in self._read.items():
                if slot == "subject" and len(words) == 1 and last in self._deeds and self._is_deed(tokens, start):
                    continue
                if phrase in entries and (number == 0 or slot in ("subject", "place")):
                    many = slot == "subject" and number > 0
                    return Found(slot, start, end, entries[phrase], phrase in self._taught.get(slot, ()), many)
        if len(words) == 1 and not self._is_english(last) and (meant := self._misspelt(last)):
            slot = next(slot for slot, entries in self._read.items() if meant in entries)
            return Found(slot, start, end, self._read[slot][meant], True, False, True)
        return None

    def _is_deed(self, tokens: Sequence[Token], index: int) -> bool:
        """Whether a word that may be a noun or a verb is a verb: "birds fly", and not "a fly", "two black flies"."""
        before = tokens[index - 1].word if index else ""
        opens = before in ARTICLES | WITHIN | SILENT or not before
        return not opens and not any(before in self._read.get(slot, ()) for slot in _LOOKS)

    def _misspelt(self, word: str) -> str | None:
        """The word that the model was taught, one letter away."""
        if len(word) < _LEAST_LETTERS or not word.isascii() or not word.isalpha():
            return None
        return next((ours for ours in self._listed if one_letter_apart(word, ours)), None)

    def _holds(self, tokens: Sequence[Token], found: Found) -> bool:
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

    def _is_first_half(self, tokens: Sequence[Token], found: Found) -> bool:
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

    def _heroes(self, tokens: Sequence[Token], subjects: Sequence[Found]) -> list[Found]:
        """The subjects that are drawn: first what is not said to be beside, on or under something."""
        if not subjects:
            return []
        free = [one for one in subjects if preposition_before(tokens, one.start) not in WITHIN]
        first = (free or subjects)[0]
        chosen = [first]
        for one in subjects[subjects.index(first) + 1 :]:
            between = {token.word for token in tokens[chosen[-1].end : one.start]} - ARTICLES
            joined = between & (_JOINS | self._meets) and not between & (WITHIN - _JOINS)
            if len(chosen) < self._most and joined and one.ours != first.ours:
                chosen.append(one)
        return chosen

    def _best(self, slot: str, found: Sequence[Found]) -> Found | None:
        mine = [one for one in found if one.slot == slot]
        return min(mine, key=lambda one: (one.ours in self._weak, not one.taught), default=None)

    def _adjoins(self, tokens: Sequence[Token], look: Found, heroes: Sequence[Found]) -> bool:
        """Whether only words of the same noun phrase stand between an adjective or a count and its subject."""
        hero = next((one for one in heroes if one.start >= look.end), None)
        between = tokens[look.end : hero.start] if hero is not None else ()
        stops = SILENT | WITHIN
        if hero is None or not all(token.word and token.word not in stops for token in between):
            return False
        plain = look.slot == "colour" and hero.ours not in self._coloured
        return not plain and not (look.slot in self._lone and len(heroes) > 1)

    def _told(
        self, prompt: str, tokens: Sequence[Token], one: Found, looks: Sequence[Found], lone: bool
    ) -> tuple[str, str] | None:
        """What the note says of a phrase; None where the model was taught it."""
        counted = any(look.slot == "count" and self._adjoins(tokens, look, [one]) for look in looks)
        theirs = prompt[tokens[one.start].start : tokens[one.end - 1].end]
        if one.slot == "subject" and one.many and not counted:
            said = f"{self._bare_plural} {self._plural(one.ours)}" if self._bare_plural and lone else f"a {one.ours}"
            return theirs, with_articles(said)
        if one.taught and not one.misspelt:
            return None
        article, _, bare = self._bare(one).partition(" ")
        return theirs, bare if article in AT else self._bare(one)

    def _sentence(self, heroes: Sequence[Found], used: Mapping[str, Found], looks: Sequence[Found]) -> str:
        """The caption."""
        nouns = []
        for number, hero in enumerate(heroes):
            start = heroes[number - 1].end if number else -1
            mine = sorted(
                (look for look in looks if start <= look.start < hero.start), key=lambda look: _LOOKS.index(look.slot)
            )
            counted = any(look.slot == "count" for look in mine)
            words = [look.ours for look in mine]
            if hero.many and not counted and self._bare_plural and len(heroes) == 1:
                counted, words = True, [self._bare_plural, *words]
            said = " ".join((*dict.fromkeys(words), self._plural(hero.ours) if counted else hero.ours))
            nouns.append(said if counted else f"a {said}")
        deed = used["motion"].ours if "motion" in used else self._does.get(heroes[0].ours, "") if heroes else ""
        if deed and "motion" not in used:
            used = {**used, "motion": Found("motion", 0, 0, deed)}
        moves = deed in self._through
        parts = [" and ".join(nouns)]
        tails: list[str] = []
        for slot in _ONCE:
            if slot in used:
                ways = self._write.get(slot, {}).get(used[slot].ours, (used[slot].ours,))
                text = ways[-1] if slot == "place" and moves else ways[0]
                (tails if text.startswith(",") else parts).append(text)
        return with_articles(" ".join(part for part in parts if part) + "".join(tails)).strip(", ")

    def _plural(self, ours: str) -> str:
        return self._plurals.get(ours) or plural(ours)

    def _bare(self, one: Found) -> str:
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
    """The vocabulary in a file of a weights folder."""
    return Vocabulary(json.loads(path.read_text(encoding="utf-8")))


@lru_cache(maxsize=64)
def read_prompt(path: Path, prompt: str) -> Reading:
    """What the vocabulary in a file makes of a prompt: read once, however many judge the same request."""
    return load_vocabulary(path).read(prompt)


def _plain(text: str) -> str:
    """As a prompt is compared with it: without articles."""
    return " ".join(token.word for token in tokens_of(text) if token.word not in ARTICLES)


def spelt_words(*phrases: Iterable[str]) -> list[str]:
    """The words of which a misspelling is understood: long ones that stand alone."""
    words = {phrase for some in phrases for phrase in some if phrase.isascii() and phrase.isalpha()}
    return sorted(word for word in words if len(word) >= _LEAST_LETTERS)


def _listed(words: Sequence[str]) -> str:
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return ", ".join(words[:_SHOWN]) + more
