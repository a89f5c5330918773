"""As much of English as reading a prompt needs: words of closed classes, plurals, articles, tokens, what is denied.

Takes and gives strings. Knows nothing of a model or of its vocabulary.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = [
    "ADVERBS",
    "ARTICLES",
    "AT",
    "NEGATORS",
    "PRONOUNS",
    "SILENT",
    "WITHIN",
    "Token",
    "negated_in",
    "one_letter_apart",
    "plural",
    "preposition_before",
    "singulars",
    "tokens_of",
    "with_articles",
]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ARTICLES = _words("a an the this that these those its his her their my your our")
SILENT = ARTICLES | _words(
    "and or of is are was be being been has have having which who there it he she they very some please "
    "show shows showing shown see seen i want me us to as while video clip scene image picture animation "
    "where but just only also front one"
)
# what stands before a place without changing it, and what says where else a thing is
AT = _words("in on at by through along across past among amid into onto down around within inside near beside")
WITHIN = AT | _words(
    "over under above below beneath behind beyond underneath outside between against upon atop off from "
    "toward towards with next opposite up out after before during like for about against via unlike "
    "inside"
)
ADVERBS = _words(
    "downtown uptown outdoors indoors underwater"
)  # of place: they make nothing else of a noun before them
NEGATORS = _words(
    "no not without never none nobody nothing neither nor minus lacking except excluding avoid isn't "
    "aren't wasn't don't doesn't didn't cannot can't won't ain't hasn't haven't"
)
PRONOUNS = _words("it he she they we you i who can will must could would should may might")
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*|[,.;:!?()\[\]\n|/]|[^\w\s]|_")
_BREAK = frozenset(",.;:!?()[]\n|/")
_IRREGULAR = {
    "geese": "goose",
    "mice": "mouse",
    "oxen": "ox",
    "octopi": "octopus",
    "cacti": "cactus",
    "children": "child",
    "men": "man",
    "women": "woman",
    "people": "person",
}


@dataclass(frozen=True)
class Token:
    """A word, a sign that breaks a sentence (`word` is empty), or one character of another kind."""

    word: str  # lower case, without a possessive
    start: int
    end: int
    possessive: bool = False


def tokens_of(text: str) -> list[Token]:
    """The tokens of `text`, in order."""
    found = []
    for match in _WORD.finditer(text.replace("\u2019", "'")):
        word = match[0].lower()
        own = word.endswith("'s") and word != "it's"
        word = "" if word in _BREAK else word.removesuffix("'s")
        found.append(Token(unicodedata.normalize("NFKC", word), *match.span(), own))
    return found


def singulars(word: str) -> list[str]:
    """What `word` may be the plural of, the likeliest first."""
    if word in _IRREGULAR:
        return [_IRREGULAR[word]]
    if len(word) < 4 or not word.endswith(("s", "men")) or word.endswith("ss"):
        return []
    found = []
    for ending, others in (("ies", ("y", "ie")), ("ves", ("f", "fe")), ("men", ("man",)), ("es", ("",)), ("s", ("",))):
        if word.endswith(ending):
            found += [word.removesuffix(ending) + other for other in others]
    return found


def plural(word: str) -> str:
    """The plural of a noun of one or more words."""
    if word.endswith("man"):
        return word.removesuffix("man") + "men"
    if re.search("[^aeiou]y$", word):
        return word.removesuffix("y") + "ies"
    if word.endswith("wolf"):
        return word.removesuffix("f") + "ves"
    return word + ("es" if word.endswith(("s", "x", "ch", "sh")) else "s")


def with_articles(sentence: str) -> str:
    """The sentence with "an" for "a" where a vowel is heard next."""
    words = sentence.split(" ")
    for index, (article, word) in enumerate(pairwise(words)):
        if article == "a" and word[:1] in "aeiou" and not word.startswith(("uni", "ufo", "one")):
            words[index] = "an"
    return " ".join(words)


def negated_in(tokens: Sequence[Token]) -> set[int]:
    """The tokens of what is said to be absent: from "no" or "without" to the end of the noun phrase."""
    found: set[int] = set()
    for index, token in enumerate(tokens):
        free = (
            token.word in ("free", "instead", "rather")
            and index + 1 < len(tokens)
            and tokens[index + 1].word in ("of", "than")
        )
        if token.word not in NEGATORS and not free:
            continue
        content = False
        for at in range(index, len(tokens)):
            word = tokens[at].word
            follows = tokens[at + 1].word if at + 1 < len(tokens) else ""
            joins = word in ("but", "while", "although") or (word == "and" and follows in ARTICLES)
            if not word or (content and (joins or word in WITHIN)):
                break
            found.add(at)
            content = content or (at > index + free and word not in SILENT | WITHIN)
    return found


def preposition_before(tokens: Sequence[Token], index: int) -> str:
    """The preposition whose noun phrase begins before token `index`; empty where there is none."""
    for at in range(index - 1, max(-1, index - 5), -1):
        word = tokens[at].word
        if not word or word in WITHIN or (word in SILENT and word not in ARTICLES):
            return word if word in WITHIN else ""
    return ""


def one_letter_apart(word: str, other: str) -> bool:
    """Whether one letter more, less or other, or two exchanged, makes one word of the other; the first stays."""
    if word[0] != other[0] or abs(len(word) - len(other)) > 1:
        return False
    at = next((i for i, (a, b) in enumerate(zip(word, other, strict=False)) if a != b), min(len(word), len(other)))
    rest, its = word[at:], other[at:]
    return rest[1:] in (its, its[1:]) or rest == its[1:] or (rest[:2] == its[:2][::-1] and rest[2:] == its[2:])
