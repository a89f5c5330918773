"""Writes the tiny model's vocabulary (`stages.words`): what a prompt may say, and the model's words for it.

Everything comes from the captions that the model was taught (`training/scenes`), so that a larger world of captions
makes a larger vocabulary: their words as they are, other words for them from our tables and from WordNet, the names
of subjects in other languages from the CLDR. Knows nothing of models.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from stages.english import ARTICLES, SILENT, WITHIN
from stages.training.scenes.captions import (
    ADJECTIVES,
    CAMERA,
    MOTIONS,
    PLACES,
    STYLES,
    SUBJECT_WORDS,
    SUBJECTS,
    THROUGH,
    TIMES,
)
from stages.training.tiny import meanings
from stages.training.tiny.tongues import SMALL, names_of_subjects
from stages.training.tiny.wordnet import WordNet
from stages.words import spelt_words

_SENSES = {"dolphin": 2, "hedgehog": 2, "ghost": 3, "alien": 3, "peacock": 2, "flying saucer": 1, "pumpkin": 1}  # ranks
_PLAIN = ("christmas tree", "jack-o-lantern", "pony", "spook", "bunny", "t-rex", "ufo")  # WordNet means others
# emoji of the same animals, as people write them
_FACES = {
    "rabbit": 0x1F430, "cat": 0x1F431, "dog": 0x1F436, "tiger": 0x1F42F, "horse": 0x1F434, "cow": 0x1F42E,
    "pig": 0x1F437, "monkey": 0x1F435, "whale": 0x1F433, "dragon": 0x1F432, "camel": 0x1F42B, "dinosaur": 0x1F995,
    "snowman": 0x26C4,
}  # fmt: skip
_LEAST_USES = 3  # in WordNet's counted texts, of a noun that a subject may stand before: "cat food"


def build_words(cache_folder: Path) -> dict[str, object]:
    """What the file holds; fetches WordNet and the emoji's names on first use.

    `read`: slot -> phrase -> ours. `taught`: slot -> the phrases of captions. `write`: slot -> ours -> the words of a
    caption, for places also those of a motion in `through`. `blocked`: phrases that mean none of it. `heads`: nouns
    that make something else of the subject before them. `verbs`: subjects that are verbs too. `weak`: places that
    give way to others, `strict`: those that need a preposition. `spelt`: words of English one letter from ours.
    `near`: word -> subjects to offer. `names`, `small`: see `stages.tongues`.
    """
    wordnet = WordNet(cache_folder)
    taught = {slot: dict(phrases) for slot, phrases in _taught()}
    read = {slot: dict(phrases) for slot, phrases in taught.items()}
    none = {*_split(meanings.NO_KIND)}
    kinds = (("subject", *kind) for kind in wordnet.kinds(_anchors(wordnet)).items())
    for slot, phrase, ours in (*_others(), *kinds):
        if phrase not in none and not (slot == "subject" and phrase.split()[0] in taught["look"]):  # "little owl"
            read[slot].setdefault(phrase, ours)
    for ours, verbs in meanings.MOTIONS.items():
        for form in (
            form for verb in _split(verbs) for form in forms_of(verb) if ours.startswith(verb.removesuffix("e"))
        ):
            taught["motion"].setdefault(form, ours)
    subjects = {word for word in read["subject"] if " " not in word}
    known = {phrase for slot in read.values() for phrase in slot}
    words = {word for phrase in known for word in phrase.split()}
    spelt = {*spelt_words(taught["subject"], read["place"], read["time"])}
    return {
        "read": read,
        "taught": {slot: sorted(phrases) for slot, phrases in taught.items()},
        "write": dict(_write()),
        "through": ["walking", "moving", "wandering", "strolling"],
        "weak": list(meanings.WEAK),
        "strict": meanings.STRICT.split(),
        "blocked": sorted({*wordnet.compounds(subjects), *_split(meanings.BLOCKED)} - known),
        "heads": sorted({*wordnet.nouns(_LEAST_USES)} - words - {*meanings.NO_HEADS.split()} - SILENT - WITHIN),
        "verbs": sorted(word for word in subjects if wordnet.is_verb(word)),
        "spelt": sorted({*wordnet.near_misses(spelt)} - words),
        "near": _near(),
        "names": names_of_subjects(cache_folder),
        "small": SMALL,
        "most_subjects": 1,
        "examples": list(meanings.EXAMPLES),
    }


def write_words(cache_folder: Path, file: Path) -> None:
    """The vocabulary as a file of the preset."""
    text = json.dumps(build_words(cache_folder), ensure_ascii=False, indent=0, separators=(",", ":"))
    file.write_text(text + "\n", encoding="utf-8")


def _taught() -> Iterator[tuple[str, Iterator[tuple[str, str]]]]:
    """slot -> (phrase, ours), from the captions."""
    yield "subject", _subjects()
    places = [(ours, text) for table in (PLACES, THROUGH) for ours, texts in table.items() for text in texts]
    yield "place", ((phrase, ours) for ours, text in places for phrase in (_plain(text), _content(text)))
    times = [(ours, text) for ours, texts in TIMES.items() for text in texts if text]
    yield "time", ((phrase, ours) for ours, text in times for phrase in _time(text))
    verbs = {verb for ours, texts in MOTIONS.items() for verb in texts if verb}
    yield "motion", ((_plain(verb), verb) for verb in sorted(verbs))
    yield "camera", ((phrase, "zoom") for phrase in (*map(_plain, CAMERA), *_split(meanings.ZOOM)))
    yield "style", ((text, ours) for ours, texts in STYLES.items() for text in texts if text)
    yield "look", ((text, text) for text in ADJECTIVES if text)


def _subjects() -> Iterator[tuple[str, str]]:
    for name, code in SUBJECTS.items():
        yield from ((word, word) for word in (name, *SUBJECT_WORDS.get(name, ())))
        points = [int(point, 16) for point in code.split("-") if point != "fe0f"]
        if len(points) == 1:
            yield chr(points[0]), name
    yield from ((chr(point), name) for name, point in _FACES.items())


def _content(text: str) -> str:
    """A phrase of a caption without the words before its nouns, and without articles."""
    words = _plain(text).split()
    while words[0] in WITHIN | {"front", "of"}:
        del words[0]
    return " ".join(words)


def _time(text: str) -> set[str]:
    return {_plain(text), _content(text)} - {"day", "stars"}  # "one day", "five stars"


def _anchors(wordnet: WordNet) -> dict[str, str]:
    """Words for subjects, and what WordNet calls them."""
    words = [word for name in SUBJECTS for word in (name, *SUBJECT_WORDS.get(name, ())) if word not in _PLAIN]
    senses = {word: wordnet.sense("domestic cat" if word == "cat" else word, _SENSES.get(word)) for word in words}
    return {word: sense for word, sense in senses.items() if sense is not None}


def _others() -> Iterator[tuple[str, str, str]]:
    """(slot, phrase, ours) of our own tables."""
    tables = {"subject": meanings.SUBJECTS, "time": meanings.TIMES, "style": meanings.STYLES, "look": meanings.LOOKS}
    for slot, table in tables.items():
        yield from ((slot, phrase, ours) for ours, phrases in table.items() for phrase in _split(phrases))
    for ours, phrases in meanings.PLACES.items():
        yield from (("place", phrase, ours) for phrase in (ours, *_split(phrases)))
    for ours, verbs in meanings.MOTIONS.items():
        yield from (("motion", form, ours) for verb in _split(verbs) for form in forms_of(verb))


def _split(phrases: str) -> list[str]:
    """The phrases between commas, as a vocabulary holds them."""
    return [phrase for part in phrases.split(",") if (phrase := _plain(part))]


def _plain(text: str) -> str:
    """A phrase without articles."""
    return " ".join(word for word in text.split() if word not in ARTICLES)


def forms_of(verb: str, known: Mapping[str, str] = meanings.FORMS) -> Iterable[str]:
    """The forms of a verb; `known` has those that are not made by a rule, between commas."""
    if verb in known:
        return (verb, *_split(known[verb]))
    stem = verb.removesuffix("e")
    return verb, verb + ("es" if verb.endswith(("sh", "ch")) else "s"), stem + "ing", stem + "ed"


def _write() -> Iterator[tuple[str, dict[str, list[str]]]]:
    """slot -> ours -> how a caption says it."""
    places = {name: [texts[0], THROUGH[name][0]] for name, texts in PLACES.items()}
    same = dict.fromkeys(("forest", "snow", "winter"), places["snowy forest"])
    yield "place", places | same | {"ocean": ["on the shore of the ocean", "along the seaside"]}
    yield "time", {name: [texts[0]] for name, texts in TIMES.items()}
    yield "camera", {"zoom": [f", {CAMERA[0]}"]}
    yield "style", {name: [f", {next(text for text in texts if text)}"] for name, texts in STYLES.items()}


def _near() -> dict[str, list[str]]:
    """word -> the subjects that are like it."""
    found: dict[str, list[str]] = {}
    for ours, others in meanings.NEAR.items():
        for other in others.split():
            found.setdefault(other, []).append(ours)
    return dict(sorted(found.items()))
