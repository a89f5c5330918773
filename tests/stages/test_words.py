"""How prompts are read in a small model's words: 200 graded by hand, every caption, and a larger vocabulary."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages import presets
from stages.__main__ import main
from stages.model.weights.loading import load_tokenizer
from stages.presets import PAPER, TINY, WEIGHTS, RequestError, check_subject, plan
from stages.training.scenes.captions import ADJECTIVES, Scene, all_scenes, plain_caption, write_caption
from stages.words import Vocabulary, cut_prompt, load_vocabulary

GRADED = [line.split("\t") for line in (Path(__file__).parent / "prompts.tsv").read_text().splitlines()]
TINY_WORDS = load_vocabulary(WEIGHTS / TINY.vocabulary)


def test_two_hundred_prompts_are_graded() -> None:
    assert len({prompt for prompt, *_ in GRADED}) == len(GRADED) >= 200


@pytest.mark.parametrize(("prompt", "text", "negative", "replaced", "unknown"), GRADED)
def test_an_ordinary_prompt(prompt: str, text: str, negative: str, replaced: str, unknown: str) -> None:
    """`text` begins with "! " where no subject is left and the prompt is refused."""
    reading = TINY_WORDS.read(prompt)
    read = ("! " if reading.without_subject else "") + reading.text, "; ".join(reading.negative)
    told = "; ".join(f"{theirs}={ours}" for theirs, ours in reading.replaced), "; ".join(reading.unknown)
    assert (*read, *told) == (text, negative, replaced, unknown)


def test_a_plain_caption_is_read_as_it_stands() -> None:
    for scene in all_scenes()[::7]:
        reading = TINY_WORDS.read(plain_caption(scene))
        assert (reading.text, reading.note) == (plain_caption(scene), "")


def test_every_caption_that_was_taught_is_read_as_its_scene() -> None:
    rng = random.Random(0)
    for scene in rng.choices(all_scenes(), k=1500):
        caption = write_caption(scene, rng)
        reading = TINY_WORDS.read(caption)
        assert not reading.without_subject
        assert (reading.replaced, reading.unknown, reading.negative) == ((), (), ()), caption
        place = plain_caption(Scene(scene.subject, scene.place, "day")).removesuffix(" by day").split(" ", 2)[-1]
        assert place.split()[-1] in reading.text, caption


def test_no_reading_is_longer_than_what_the_text_encoder_reads() -> None:
    looks = " ".join(word for word in ADJECTIVES if word)
    longest = f"a {looks} teddy bear drifting in the air on the shore of the ocean by day, camera zoom, oil painting"
    context = json.loads((WEIGHTS / "tiny/text_encoder/config.json").read_text())["max_position_embeddings"]
    assert len(TINY_WORDS.read(longest).text.replace(",", " ,").split()) + 2 <= context


def test_the_note_names_what_was_changed_left_out_and_denied() -> None:
    said = TINY_WORDS.read("two dogs on a sofa in Paris without cars").note
    assert said == (
        "This model knows few words: it reads 'dogs' as 'a dog', 'Paris' as 'a city', leaves out 'two', 'on a sofa' "
        "and puts 'cars' into the negative prompt."
    )
    assert TINY_WORDS.read("a fox in a city").note == ""
    many = TINY_WORDS.read(", ".join(f"w{'x' * n}z" for n in range(12)) + ", a fox")
    assert "and 4 more" in many.note


@pytest.mark.parametrize(
    "prompt", ["", " ", "\x00<|endoftext|> fox", "a" * 1000, "fox " * 250, "🦊" * 1000, "-'-", "fox\n\nfox"]
)
def test_no_text_breaks_it(prompt: str) -> None:
    assert TINY_WORDS.read(prompt).text in ("", "a fox")


LARGER = Vocabulary(
    {
        "read": {
            "subject": {"fox": "fox", "girl": "girl", "woman": "woman", "wolf": "wolf", "vixen": "fox"},
            "count": {"two": "two", "three": "three", "pair": "two"},
            "look": {"red": "red", "crimson": "red", "old": "old"},
            "place": {"park": "park", "snow": "snow"},
            "motion": {"walking": "walking", "dancing": "dancing"},
            "time": {"dawn": "dawn"},
            "weather": {"rain": "rain", "drizzle": "rain"},
            "style": {"watercolour": "watercolour"},
        },
        "taught": {
            "subject": ["fox", "girl", "woman", "wolf"],
            "count": ["two", "three"],
            "look": ["red", "old"],
            "place": ["park"],
            "motion": ["walking", "dancing"],
            "time": ["dawn"],
            "weather": ["rain"],
            "style": ["watercolour"],
        },
        "write": {
            "place": {"park": ["in a park", "through a park"], "snow": ["in the snow"]},
            "time": {"dawn": ["at dawn"]},
            "weather": {"rain": ["in the rain"]},
            "style": {"watercolour": [", watercolour"]},
        },
        "through": ["walking"],
        "most_subjects": 2,
    }
)


@pytest.mark.parametrize(
    ("prompt", "text", "note"),
    [
        ("two red foxes walking in a park", "two red foxes walking through a park", ""),
        ("three women in the rain at dawn", "three women at dawn in the rain", ""),
        ("an old woman and a crimson fox in the snow", "an old woman and a red fox in the snow", "'crimson' as 'red'"),
        ("a girl dancing with two wolves, watercolour", "a girl and two wolves dancing, watercolour", ""),
        ("a girl, a fox and a wolf in drizzle", "a girl and a wolf in the rain", "'drizzle' as 'the rain'"),
    ],
)
def test_a_larger_vocabulary_is_one_table(prompt: str, text: str, note: str) -> None:
    reading = LARGER.read(prompt)
    assert reading.text == text
    assert note in reading.note


def test_a_preset_with_a_vocabulary_reads_its_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = plan(TINY, "a vixen without cars", negative_prompt="blurry dogs")
    assert (work.t2i.prompt, work.v2v.prompt) == ("a fox", "a fox")
    assert work.t2i.negative_prompt == "dog, car"
    assert "reads 'vixen' as 'fox'" in work.note
    assert "Of the negative prompt it leaves out 'blurry'." in work.note
    assert plan(PAPER, "a vixen").note == ""
    (tmp_path / "few.json").write_text('{"read": {"subject": {"fox": "fox"}}, "taught": {}, "write": {}}')
    monkeypatch.setattr(presets, "WEIGHTS", tmp_path)
    assert plan(replace(TINY, vocabulary="few.json"), "a fox in a city").t2i.prompt == "a fox"


def test_a_prompt_without_a_subject_is_refused_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RequestError) as caught:
        check_subject(TINY, "a wolf howling at the moon")
    assert caught.value.param == "prompt"
    assert str(caught.value) == (
        "Preset 'tiny' knows nothing to draw of 'a wolf howling at the moon'. Like 'wolf' it knows 'fox' and 'dog'. "
        "Name one thing, in English, as in 'a fox walking through a snowy forest at dusk' or "
        "'a robot jumping in a city at night'."
    )
    check_subject(TINY, "a fox")
    check_subject(PAPER, "a wolf")
    assert main(["waves crashing on rocks"]) == 2
    assert "knows nothing to draw" in capsys.readouterr().err


def test_a_prompt_longer_than_the_encoder_reads_says_what_is_not_read() -> None:
    note = plan(PAPER, f"{'word ' * 75}, oil painting style").note
    assert note.startswith("This model reads only the first 75 words and signs; behind them stands ")
    assert "oil painting style" in note
    assert plan(PAPER, "word " * 75).note == ""
    assert "Of the negative prompt: " in plan(PAPER, "a fox", negative_prompt="word " * 76).note


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(TINY, "tokenizer")


WORDS = sorted({word for scene in all_scenes()[::7] for word in plain_caption(scene).replace(",", "").split()})


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*WORDS, ",", ".", "'s"]), min_size=1, max_size=60))
def test_the_encoder_sees_all_of_a_prompt_that_is_cut(tokenizer: Any, words: list[str]) -> None:
    text = " ".join(words)
    kept, behind = cut_prompt(text, 30)
    assert len(tokenizer(kept).input_ids) - 2 <= 30
    assert (behind == "") == (len(tokenizer(text).input_ids) - 2 <= 30)
    assert text.startswith(kept)
