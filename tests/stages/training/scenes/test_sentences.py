"""What the next default model can be asked for: tables that fit together, scenes that may be trained on, captions."""

import random
from itertools import pairwise

import pytest

from stages.training.scenes.backgrounds import PAINTED
from stages.training.scenes.captions import TIMES as PAINTED_TIMES
from stages.training.scenes.composing import FLYING, place
from stages.training.scenes.sentences import (
    COLOURS,
    MOTIONS,
    NO_WEATHER,
    PLACES,
    STYLES,
    THROUGH,
    TIMES,
    WEATHER,
    Scene,
    draw_scene,
    plural,
    subjects,
    write_caption,
)
from stages.training.scenes.styles import DRAWN


def test_everything_that_can_be_said_can_be_drawn() -> None:
    assert len(subjects()) == 424
    assert set(PLACES) == set(PAINTED)
    assert set(THROUGH) | NO_WEATHER <= set(PLACES)
    assert list(TIMES) == list(PAINTED_TIMES)
    assert set(STYLES) == set(DRAWN)
    assert set(subjects()) >= FLYING


def test_what_is_held_out_is_never_drawn_and_is_three_triples_in_ten() -> None:
    rng = random.Random(0)
    scenes = [draw_scene(rng) for _ in range(2000)]
    assert not any(scene.held_out for scene in scenes)
    assert not any(scene.weather != "none" and scene.place in NO_WEATHER for scene in scenes)
    seen = {len(scene.subjects) for scene in scenes}
    assert seen == {1, 2, 3}
    assert {scene.colour for scene in scenes} == {"", *COLOURS}
    triples = [Scene((name,), place, motion=motion) for name in subjects() for place in PLACES for motion in MOTIONS]
    held = sum(scene.held_out for scene in triples) / len(triples)
    assert held == pytest.approx(0.3, abs=0.01)


def test_a_caption_says_what_is_there() -> None:
    rng = random.Random(1)
    for _ in range(300):
        scene = draw_scene(rng)
        caption = write_caption(scene, rng)
        assert scene.colour in caption
        assert any(words in caption for words in (*PLACES[scene.place], *THROUGH.get(scene.place, ())))
        assert any(words in caption for words in STYLES[scene.style])
        assert any(words in caption for words in TIMES[scene.time])
        assert any(words in caption for words in WEATHER[scene.weather])
        names = subjects()[scene.subjects[0]].words
        assert any(word in caption or plural(word) in caption for word in names)
        assert "  " not in caption


def test_plurals() -> None:
    wanted = {"fox": "foxes", "person running": "people running", "woman with red hair": "women with red hair"}
    assert {noun: plural(noun) for noun in wanted} == wanted


@pytest.mark.parametrize("count", [1, 2, 3])
def test_subjects_stand_side_by_side_in_the_picture(count: int) -> None:
    for seed in range(50):
        placed = place(Scene(("fox",) * count, "beach"), random.Random(seed))
        assert [one.name for one in placed] == ["fox"] * count
        lefts = [one.left for one in placed]
        assert all(0 <= left <= 256 - placed[0].side for left in lefts)
        assert all(b - a >= placed[0].side - 16 for a, b in pairwise(lefts)), "three may touch"
        assert all(one.top + one.side <= 256 for one in placed)
