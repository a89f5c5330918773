"""Writes the vocabulary of the next default model (`stages.words`): `python -m stages.training.default.words`.

What a prompt may say, and the model's words for it, from the sentences that it is taught (`scenes/sentences`), our
tables of other words for them, WordNet's kinds of animals and things, and the names of subjects in other languages.
Knows nothing of models.
"""

import argparse
import json
from collections.abc import Collection, Iterator
from pathlib import Path

from stages.english import ARTICLES, SILENT, WITHIN, plural, tokens_of
from stages.presets import WEIGHTS
from stages.training.default import meanings, surroundings
from stages.training.scenes import sentences
from stages.training.scenes.fetch import cache_folder
from stages.training.tiny import meanings as common
from stages.training.tiny.tongues import SMALL, names_of_subjects
from stages.training.tiny.wordnet import WordNet
from stages.training.tiny.words import forms_of
from stages.words import spelt_words

__all__ = ["build_words", "main"]

TARGET = WEIGHTS / "scenes" / "words.json"
# which sense of WordNet's a subject is, counted from 1; 0: none, its kinds would mislead
_SENSES = {
    "dolphin": 2, "hedgehog": 2, "peacock": 2, "pumpkin": 1, "ghost": 3, "alien": 3, "flying saucer": 1,
    "star": 0, "sun": 0, "cloud": 0, "wave": 0, "fire": 0, "planet": 0, "hut": 0, "watch": 0, "droplet": 0, "camera": 0,
    "compass": 0, "skull": 0, "umbrella": 0, "fountain": 0, "robot": 0, "rainbow": 0, "hourglass": 0, "plane": 0,
    "jet": 0, "big wheel": 0, "teddy": 0, "comet": 0, "ship": 0, "coffee": 0, "saturn": 0, "tornado": 0, "snowflake": 0,
    "boat": 0, "yacht": 0, "tram": 0, "devil": 0, "ogre": 0, "goblin": 0, "pony": 0, "bunny": 0, "t-rex": 0, "ufo": 0,
    "christmas tree": 0,
}  # fmt: skip
# emoji that name a subject too: of the same animal, of a person of no trade
_TWINS = {
    "rabbit": "1f430", "cat": "1f431", "dog": "1f436", "tiger": "1f42f", "horse": "1f434", "cow": "1f42e",
    "pig": "1f437", "monkey": "1f435", "whale": "1f433", "dragon": "1f432", "camel": "1f42b", "snowman": "26c4",
}  # fmt: skip
_MAN = "man standing"
_LEAST_USES = 3  # in WordNet's counted texts, of a noun that a subject may stand before: "cat food"
_LONGEST_NAME = 24  # letters, in another language
_MOVES = ("walking", "running")  # motions that go through a place


def build_words(cache: Path) -> dict[str, object]:
    """What the file holds; fetches WordNet and the emoji's names on first use.

    `world`: of whose scenes it is. `read`: slot -> phrase -> ours. `taught`: slot -> the phrases of captions.
    `write`: slot -> ours -> the words of a caption, for places also those of a motion in `through`. `plurals`:
    subjects whose plural is no rule. `blocked`: phrases that mean none of it. `heads`: nouns that make something else
    of the subject before them. `verbs`: subjects that are verbs too; `deeds` are so wherever nothing says otherwise.
    `meets`: verbs between two subjects that are both drawn. `does`: what a subject does whose name says so. `weak`:
    places that give way to others, what `instead` makes of them then; `strict`: those that need a preposition.
    `spelt`: words of English one letter from ours. `coloured`: subjects that may have a colour, `lone`: slots that
    only an only subject has, `bare_plural`: how many a plural without a number is. `near`: word -> subjects to offer.
    `names`, `small`: see `stages.tongues`.
    """
    wordnet = WordNet(cache)
    taught = {slot: dict(phrases) for slot, phrases in _taught()}
    read = {slot: dict(phrases) for slot, phrases in taught.items()}
    for slot, phrase, ours in _others(set(read["subject"])):
        first, _, rest = phrase.partition(" ")
        if not (slot == "subject" and first in taught["colour"] and rest in taught["subject"]):  # "red fox"
            read[slot].setdefault(phrase, ours)
    none, looks = {*_split(common.NO_KIND)}, taught["look"].keys() | taught["colour"].keys()
    for phrase, ours in wordnet.kinds(_anchors(wordnet)).items():
        if phrase not in none and phrase.split()[0] not in looks and len(phrase.split()) < 3:
            read["subject"].setdefault(phrase, ours)
    del read["subject"]["horse racing"]  # a horse that races; a jockey has other words
    subjects = {word for word in read["subject"] if " " not in word}
    known = {phrase for slot in read.values() for phrase in slot}
    words = {word for phrase in known for word in phrase.split()}
    spelt = {*spelt_words(taught["subject"], read["place"], read["time"])}
    return {
        "world": "wide",
        "read": read,
        "taught": {slot: sorted(phrases) for slot, phrases in taught.items()},
        "write": dict(_write()),
        "plurals": {word: many for word in _words() if (many := sentences.plural(word)) != plural(word)},
        "through": [verb for motion in _MOVES for verb in sentences.MOTIONS[motion]],
        "weak": list(surroundings.WEAK),
        "strict": surroundings.STRICT.split(),
        "blocked": sorted({*wordnet.compounds(subjects), *_split(common.BLOCKED), *_split(meanings.BLOCKED)} - known),
        "heads": sorted({*wordnet.nouns(_LEAST_USES)} - words - {*common.NO_HEADS.split()} - SILENT - WITHIN),
        "verbs": sorted(word for word in subjects if wordnet.is_verb(word)),
        "deeds": meanings.DEEDS.split(),
        "meets": meanings.MEETS.split(),
        "does": meanings.DOES,
        "instead": surroundings.INSTEAD,
        "spelt": sorted({*wordnet.near_misses(spelt)} - words),
        "coloured": sorted(word for word in _words() if word in _colourable()),
        "lone": ["count", "colour"],
        "bare_plural": "two",
        "near": _near(read["subject"]),
        "names": _names(cache),
        "small": SMALL,
        "most_subjects": 2,
        "examples": list(meanings.EXAMPLES),
    }


def _words() -> list[str]:
    """Every word of captions for a subject."""
    return [word for subject in sentences.subjects().values() for word in subject.words]


def _colourable() -> set[str]:
    kinds = ("animal", "vehicle")
    return {word for one in sentences.subjects().values() if one.kind in kinds for word in one.words}


def _taught() -> Iterator[tuple[str, Iterator[tuple[str, str]]]]:
    """slot -> (phrase, ours), from the captions."""
    yield "subject", _subjects()
    yield "place", _places()
    times = [(ours, text) for ours, texts in sentences.TIMES.items() for text in texts if text]
    yield (
        "time",
        ((phrase, ours) for ours, text in times for phrase in {_plain(text), _content(text)} - {"day", "stars"}),
    )
    weather = [(ours, text) for ours, texts in sentences.WEATHER.items() for text in texts if text]
    yield "weather", ((phrase, ours) for ours, text in weather for phrase in {_plain(text), _content(text)})
    verbs = {verb for verbs in sentences.MOTIONS.values() for verb in verbs if verb}
    yield "motion", ((_plain(verb), verb) for verb in sorted(verbs))
    yield "camera", ((phrase, "zoom") for phrase in (*map(_plain, sentences.CAMERA), *_split(common.ZOOM)))
    styles = [(ours, _plain(text)) for ours, texts in sentences.STYLES.items() for text in texts if text]
    yield "style", ((phrase, ours) for ours, text in styles for phrase in (text, text.removesuffix(" style")))
    yield "look", ((text, text) for text in sentences.ADJECTIVES if text)
    yield "colour", ((colour, colour) for colour in sentences.COLOURS)
    yield "count", iter((("two", "two"), ("three", "three"), ("pair of", "two"), ("group of three", "three")))


def _subjects() -> Iterator[tuple[str, str]]:
    for name, subject in sentences.subjects().items():
        yield from ((_plain(word), word) for word in subject.words)
        yield "".join(chr(int(point, 16)) for point in subject.code.split("-")), name
    yield from ((chr(int(code, 16)), name) for name, code in _TWINS.items())


def _places() -> Iterator[tuple[str, str]]:
    for table in (sentences.PLACES, sentences.THROUGH):
        for ours, texts in table.items():
            ours_of = {"in the snow": "snow", "through the snow": "snow", "in a winter forest": "snowy forest"}
            for text in texts:
                for phrase in (_plain(text), _content(text)):
                    if phrase not in surroundings.DROPPED:
                        yield phrase, ours_of.get(text, ours)


def _others(taught: set[str]) -> Iterator[tuple[str, str, str]]:
    """(slot, phrase, ours) of the tables, the next default model's own first."""
    tables = {
        "subject": meanings.SUBJECTS, "look": meanings.LOOKS, "colour": meanings.COLOURS, "count": meanings.COUNTS,
        "time": surroundings.TIMES, "weather": surroundings.WEATHER, "style": surroundings.STYLES,
    }  # fmt: skip
    for slot, table in tables.items():
        yield from ((slot, phrase, ours) for ours, phrases in table.items() for phrase in _split(phrases))
    for ours, phrases in surroundings.PLACES.items():
        yield from (("place", phrase, ours) for phrase in (ours, *_split(phrases)))
    for ours, phrases in common.SUBJECTS.items():
        if ours in taught:
            yield from (("subject", phrase, ours) for phrase in _split(phrases))
    for ours, phrases in common.TIMES.items():
        yield from (("time", phrase, ours) for phrase in _split(phrases))
    for ours, verbs in meanings.MOTIONS.items():
        own = {**common.FORMS, **meanings.FORMS}
        yield from (("motion", form, ours) for verb in _split(verbs) for form in forms_of(verb, own))


def _anchors(wordnet: WordNet) -> dict[str, str]:
    """Animals, vehicles and things, and what WordNet calls them; of persons it knows too many kinds."""
    words = [word for one in sentences.subjects().values() if one.kind != "person" for word in one.words]
    senses = {
        word: wordnet.sense("domestic cat" if word == "cat" else word, _SENSES.get(word))
        for word in words
        if _SENSES.get(word) != 0
    }
    return {word: sense for word, sense in senses.items() if sense is not None}


def _split(phrases: str) -> list[str]:
    return [phrase for part in phrases.split(",") if (phrase := _plain(part))]


def _plain(text: str) -> str:
    """As a prompt is compared with it: its words without articles, "children's" without its ending."""
    return " ".join(token.word for token in tokens_of(text) if token.word and token.word not in ARTICLES)


def _content(text: str) -> str:
    """A phrase of a caption without the words before its nouns."""
    words = _plain(text).split()
    while len(words) > 1 and words[0] in WITHIN | {"front", "of", "while", "it"}:
        del words[0]
    return " ".join(words)


def _write() -> Iterator[tuple[str, dict[str, list[str]]]]:
    """slot -> ours -> how a caption says it."""
    through = sentences.THROUGH
    places = {name: [texts[0], *through.get(name, ())[:1]] for name, texts in sentences.PLACES.items()}
    winter = ["in a winter forest", "through a winter forest"]
    sea = ["on the shore of the ocean", "along the seaside"]
    yield "place", places | {"snow": ["in the snow", "through the snow"], "winter": winter, "ocean": sea}
    yield "time", {name: [texts[0]] for name, texts in sentences.TIMES.items()}
    yield "weather", {name: [texts[0]] for name, texts in sentences.WEATHER.items() if texts[0]}
    yield "camera", {"zoom": [f", {sentences.CAMERA[0]}"]}
    yield "style", {name: [f", {next(filter(None, texts))}"] for name, texts in sentences.STYLES.items()}


def _names(cache: Path) -> dict[str, dict[str, str]]:
    table = sentences.subjects()
    plain = ("person", "child", "girl", "boy", "woman", _MAN)  # of others' names, which begin with theirs, too
    codes = {name: subject.code for name, subject in table.items() if name not in plain}
    codes |= {name: table[name].code for name in plain} | {_MAN: "1f468"}
    alone = [name for name, subject in table.items() if subject.kind != "animal"]
    found = names_of_subjects(cache, codes, alone)
    return {
        tongue: {name: ours for name, ours in names.items() if ":" not in name and len(name) <= _LONGEST_NAME}
        for tongue, names in found.items()
    }


def _near(known: Collection[str]) -> dict[str, list[str]]:
    """word -> the subjects that are like it."""
    found: dict[str, list[str]] = {}
    for table in (meanings.NEAR, common.NEAR):
        for ours, others in table.items():
            for other in others.split():
                if other not in known and ours in known:
                    found.setdefault(other, []).append(ours)
    return dict(sorted(found.items()))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.training.default.words", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="data")
    parser.add_argument("--out", type=Path, default=TARGET, help="the file to write")
    args = parser.parse_args()
    text = json.dumps(build_words(args.cache), ensure_ascii=False, indent=0, separators=(",", ":"))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
