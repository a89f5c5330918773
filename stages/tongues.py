"""Names of things in other languages, found in a prompt that is not English.

Takes names by language and each language's small words; gives where a prompt names what. Scripts without spaces are
searched, others word by word, with the endings that words take. Knows nothing of the rest of a sentence, so a part of
it that denies something names nothing.
"""

import re
from collections.abc import Callable, Mapping, Sequence

from stages.english import Token

__all__ = ["Tongues"]

_LEAST_STEM, _LONGEST_ENDING = 4, 2  # letters
_BEGINS = 3  # letters that no ending changes
_DENIES_LAST = ("ja", "ko", "hi", "bn")  # languages that deny what they have named
_PART = re.compile("[^,.;:!?\u3001\u3002\uff0c\uff01\uff1f\n]+")
_KANA, _HAN, _HANGUL, _THAI = "\u30a1-\u30fa\u30fc", "\u3400-\u9fff", "\uac00-\ud7af", "\u0e00-\u0e7f"
_LETTER = "\\w\u0300-\u036f\u0900-\u09ff"  # also the marks of Hindi and Bengali
# what stands before and after a noun of Chinese
_COUNTED = (
    "\u4e00\u4e8c\u4e24\u5169\u4e09\u53ea\u96bb\u5339\u5934\u982d\u6761\u689d\u7684\u5c0f\u5927\u767d\u9ed1\u7ea2\u7d05"
)
_FOLLOWS = "\u5728\u548c\u7684\u4e0e\u8207\u8d70\u8dd1\u8df3\u98de\u98db\u5750\u7ad9\u7761\u6b63\u4ece\u5f9e\u7a7f"
_RUSSIAN_ENDINGS = "\u0430\u0435\u0438\u043e\u0443\u044b\u044e\u044f\u044c\u0439\u0456\u0457"
_PARTICLE = "\uac00\uc774\ub294\uc740\ub97c\uc744\uc640\uacfc\uc758\ub3c4"  # of Korean


class Tongues:
    """`names`: language -> name -> ours. `small`: language -> its articles and prepositions; those after "|" deny."""

    def __init__(
        self, names: Mapping[str, Mapping[str, str]], small: Mapping[str, str], is_english: Callable[[str], bool]
    ) -> None:
        self._names, self._is_english = names, is_english
        self._small = {tongue: frozenset(words.replace("|", " ").split()) for tongue, words in small.items()}
        self._denying = {tongue: frozenset(words.partition("|")[2].split()) for tongue, words in small.items()}

    def names_in(self, prompt: str, words: Sequence[Token]) -> list[tuple[int, int, str]] | None:
        """(start, end, ours) of every name, in order; None where the prompt is English, or unknown."""
        tongue = self._tongue(words)
        if tongue is None:
            return None
        denying = self._denying.get(tongue, frozenset())
        found = []
        for part in _PART.finditer(prompt):
            stops = [
                token.start for token in words if token.word in denying and part.start() <= token.start < part.end()
            ]
            stops += [part.start() + part[0].find(word) for word in denying if not _is_spaced(word) and word in part[0]]
            until = part.end() if not stops else part.start() if tongue in _DENIES_LAST else min(stops)
            names = self._of(tongue, prompt[part.start() : until])
            found += [(start + part.start(), end + part.start(), ours) for start, end, ours in names]
        return found

    def says_nothing(self, words: str) -> bool:
        """Whether these are small words of some language alone."""
        return all(any(word in small for small in self._small.values()) for word in words.lower().split())

    def _tongue(self, words: Sequence[Token]) -> str | None:
        """The language whose words these are more than English ones."""
        best, most = None, sum(self._is_english(token.word) for token in words)
        if 2 * most > len(words):
            return None
        text = " ".join(token.word for token in words)
        for tongue in self._names:
            small = self._small.get(tongue, frozenset())
            score = sum(token.word in small for token in words) + len(self._of(tongue, text))
            if score > most:
                best, most = tongue, score
        return best

    def _of(self, tongue: str, text: str) -> list[tuple[int, int, str]]:
        """(start, end, ours) of every name in a text; an expression of all names would take a second to compile."""
        text = text.lower()
        begun = {name: ours for name, ours in self._names[tongue].items() if name[:_BEGINS] in text}
        if not begun:
            return []
        ours = list(begun.values())
        matches = re.finditer("|".join(f"({_form(name)})" for name in begun), text)
        return [(*match.span(), ours[(match.lastindex or 1) - 1]) for match in matches]


def _is_spaced(word: str) -> bool:
    return not re.search(f"[{_KANA}\u3040-\u309f{_HAN}{_HANGUL}{_THAI}]", word)


def _form(name: str) -> str:
    """The expression that finds a name, with the endings of its language, and not inside another word."""
    plain, one = re.escape(name), len(name) == 1
    if re.search(f"[{_HANGUL}]", name):
        return rf"(?<!\w){plain}[{_PARTICLE}]?(?!\w)" if one else rf"(?<!\w){plain}\w{{0,3}}"
    if re.search(f"[{_THAI}]", name):
        return f"{plain}(?![\u0e31\u0e34-\u0e3a\u0e47-\u0e4e])"
    if re.search(f"[{_KANA}]", name):
        return f"(?<![{_KANA}]){plain}(?![{_KANA}])"
    if one:  # a Chinese character is most often a part of a word
        return f"(?:(?<=[{_COUNTED}])|(?<![{_HAN}])){plain}(?:(?=[{_FOLLOWS}])|(?![{_HAN}]))"
    if not _is_spaced(name):
        return plain
    if re.search("[\u0430-\u0457]", name):
        stem = name.rstrip(_RUSSIAN_ENDINGS)
        inflected = len(stem) >= _LEAST_STEM or (stem != name and len(stem) >= _LEAST_STEM - 1)
        return rf"(?<!\w){stem}(?:[{_RUSSIAN_ENDINGS}]\w{{0,2}})?(?!\w)" if inflected else rf"(?<!\w){plain}(?!\w)"
    stem = name[:-1] if len(name) > _LEAST_STEM else name
    ending = _LONGEST_ENDING + len(name) - len(stem) if len(name) >= _LEAST_STEM else 0
    return rf"(?<![{_LETTER}]){re.escape(stem)}\w{{0,{ending}}}(?![{_LETTER}])"
