"""What a small model does with words that it was not taught: the nearest that it knows, and says so.

A `Vocabulary` is a file beside the weights: the words of the training captions, and for some thousand others the
nearest of them. `read` rewrites a prompt into words that the model knows and tells what it changed, so that a prompt
outside the vocabulary still gives a video of something, never noise. A preset whose text encoder knows the language
has none. Knows nothing of torch.
"""

import difflib
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["Reading", "Vocabulary", "cut_prompt", "load_vocabulary"]

_PIECE = re.compile(r"[^\W\d_]+|\d|[^\s\w]+|_")  # what CLIP's tokenizer cuts a text into: at least a token each

_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_LEAST_LIKENESS, _LEAST_LETTERS = 0.82, 4  # of a word that is taken for a misspelling of another
_SHOWN = 8
_ENDINGS = (("ies", ("y",)), ("ves", ("f", "fe")), ("es", ("",)), ("s", ("",)), ("ing", ("", "e")), ("ed", ("", "e")))


@dataclass(frozen=True)
class Reading:
    """A prompt in the model's own words."""

    text: str
    replaced: tuple[tuple[str, str], ...]  # word of the prompt, what stands for it
    unknown: tuple[str, ...]  # left out
    without_subject: bool

    @property
    def note(self) -> str:
        """What a user should know, in a sentence or two; empty where the model knew every word."""
        parts = []
        if self.replaced:
            parts.append("reads " + _listed([f"{theirs!r} as {ours!r}" for theirs, ours in self.replaced]))
        if self.unknown:
            parts.append("leaves out " + _listed([repr(word) for word in self.unknown]))
        said = f"This model does not know every word: it {' and '.join(parts)}." if parts else ""
        return f"{said} No subject that it knows is left.".strip() if self.without_subject else said


class Vocabulary:
    """`known` words, of which `subjects` can be the hero of a video, `nearest` for other words, `silent` ones.

    `alone`: what stands for a known word where the captions' own phrase is not around it, as (another word of that
    phrase, what stands for it).
    """

    def __init__(
        self,
        known: set[str],
        subjects: set[str],
        nearest: dict[str, str],
        silent: set[str],
        alone: dict[str, tuple[str, str]] | None = None,
    ) -> None:
        self._known, self._subjects, self._nearest, self._silent = known, subjects, nearest, silent
        self._alone = alone or {}
        self._listed = sorted(word for word in known if len(word) >= _LEAST_LETTERS)

    def read(self, prompt: str) -> Reading:
        """The prompt in known words; punctuation stays where it was."""
        replaced: dict[str, str] = {}
        unknown: dict[str, None] = {}
        used: set[str] = set()
        said = {match[0].lower() for match in _WORD.finditer(prompt)}

        def of(match: re.Match[str]) -> str:
            word = match[0].lower().removesuffix("'s")
            if word in self._silent:
                return ""
            ours = self._find(word)
            if ours is None:
                unknown.setdefault(match[0])
                return ""
            beside, instead = self._alone.get(ours, ("", ""))
            if instead and beside not in said and not said & set(instead.split()):
                ours = instead
            if ours != word and not _same_word(word, ours):
                replaced[match[0]] = ours
            used.update(ours.split())
            return ours

        text = _WORD.sub(of, prompt)
        text = re.sub(r"[^\w\s,.'-]|_", " ", text)
        text = re.sub(r"\s+([,.])", r"\1", " ".join(text.split())).strip(" ,.'-")
        text = re.sub(r"(,\s*)+", ", ", text)
        return Reading(text, tuple(replaced.items()), tuple(unknown), not used & self._subjects)

    def _find(self, word: str) -> str | None:
        """The known words for `word`; None where nothing is near."""
        if word in self._known:
            return word
        for form in (word, *_stems(word)):
            if form in self._known:
                return form
            if form in self._nearest:
                return self._nearest[form]
        if len(word) >= _LEAST_LETTERS and word.isascii():
            begun = [ours for ours in self._listed if ours[0] == word[0]]  # "rain" is no misspelt "train"
            alike = difflib.get_close_matches(word, begun, 1, _LEAST_LIKENESS)
            return alike[0] if alike else None
        return None


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
    kept = json.loads(path.read_text(encoding="utf-8"))
    return Vocabulary(set(kept["known"]), set(kept["subjects"]), kept["nearest"], set(kept["silent"]), kept["alone"])


def _stems(word: str) -> list[str]:
    """Forms that `word` may be the plural, the participle or the past of."""
    found = []
    for ending, others in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 2:
            stem = word.removesuffix(ending)
            found += [stem + other for other in others]
            if ending in ("ing", "ed") and len(stem) > 3 and stem[-1] == stem[-2]:
                found.append(stem[:-1])
    return found


def _same_word(theirs: str, ours: str) -> bool:
    return ours in _stems(theirs)


def _listed(words: list[str]) -> str:
    shown = words[:_SHOWN]
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return ", ".join(shown) + more
