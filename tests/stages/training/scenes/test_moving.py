"""Clips of made-up animations: the first frame is a picture, motions move, what stands still does, colours hold."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.training.scenes import fetch
from stages.training.scenes.animations import Animations, open_animations, plain_code
from stages.training.scenes.backgrounds import PAINTED
from stages.training.scenes.captions import TIMES
from stages.training.scenes.composing import place
from stages.training.scenes.crops import VARIANTS
from stages.training.scenes.moving import Clips
from stages.training.scenes.sentences import MOTIONS, NO_WEATHER, WEATHER, Scene
from stages.types import UInt8
from tests.stages.training.packages import pack
from tests.stages.training.scenes.made_animations import animation, made_animations

FOX = Scene(("fox",), "beach")
FRAMES = 16


@pytest.fixture(scope="module")
def clips() -> Clips:
    """Every subject looks alike, every place is a ramp from left to right."""
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None] // 2, (256, 256, 3))
    backgrounds = np.broadcast_to(ramp, (len(PAINTED) * len(TIMES) * VARIANTS, 256, 256, 3))
    return Clips(made_animations(), backgrounds)


def draw(clips: Clips, scene: Scene, seed: int = 0) -> UInt8:
    return clips.draw(scene, FRAMES, random.Random(seed))


def test_an_animation_is_read_round_at_a_third_of_its_rate() -> None:
    source = Animations([("1f98a", animation(48)), ("1f44b-1f3fb", animation(6))])
    clip = source.clip("1f98a", FRAMES, random.Random(3))
    assert clip.shape == (FRAMES, 256, 256, 4)
    greens = clip[:, 150, 150, 1].astype(int)
    assert set(np.diff(greens)) <= {6, 6 - 96}, "three frames on, and once around"
    assert source.clip("1f44b", 4, random.Random(0)).shape[0] == 4, "a subject is found by its code without skin tones"
    assert plain_code("26f9-1f3fb-200d-2642-fe0f") == "26f9-200d-2642"


def test_those_wanted_are_unpacked_once_and_no_stills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"1f98a.webp": animation(3), "1f600.webp": animation(3), "1f98b.webp": animation(1), "README.md": b"no"}
    monkeypatch.setattr(fetch, "PACKAGES", dict([pack(tmp_path, "animated@1", files)]))
    source = open_animations(tmp_path, ["1f98a", "1f98b"])
    assert [file.name for file in sorted((tmp_path / "animations").iterdir())] == ["1f98a.webp"]
    monkeypatch.setattr(fetch, "PACKAGES", {})
    again = open_animations(tmp_path, ["1f98a", "1f98b"])
    assert np.array_equal(source.clip("1f98a", 4, random.Random(0)), again.clip("1f98a", 4, random.Random(0)))


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_clip_repeats_from_a_seed_and_begins_as_a_picture(clips: Clips, motion: str) -> None:
    scene = replace(FOX, motion=motion)
    made = draw(clips, scene)
    assert made.shape == (FRAMES, 256, 256, 3)
    assert np.array_equal(made, draw(clips, scene))
    seeds = random.Random(0)
    seeds.randrange(VARIANTS), seeds.random()  # the background's
    (one,) = place(scene, seeds)
    white = (made[0].min(-1) > 240).nonzero()
    scale = one.side / 256
    assert abs(white[1].min() - (one.left + 40 * scale)) <= 2, "nothing has moved yet"
    assert abs(white[0].min() - (one.top + 40 * scale)) <= 2


@pytest.mark.slow
def test_every_motion_moves_as_it_says(clips: Clips) -> None:
    def corner(motion: str) -> NDArray[np.int64]:
        """(T, 2): where the left upper edge of the white corner is, across and down."""
        whites = [(frame.min(-1) > 215).nonzero() for frame in draw(clips, replace(FOX, motion=motion))]
        return np.array([(columns.min(), rows.min()) for rows, columns in whites])

    still = corner("still")
    assert np.ptp(still, 0).max() <= 1
    walk, run = corner("walking"), corner("running")
    assert walk[0, 0] - walk[-1, 0] > 8, "to the left, as far as there is room"
    assert run[0, 0] - run[-1, 0] > 8
    jump = corner("jumping")
    assert jump[0, 1] - jump[4, 1] > 25
    assert abs(jump[0, 1] - jump[8, 1]) < 25, "it lands"
    assert np.ptp(corner("floating")[:, 1]) > 12
    assert np.ptp(corner("dancing")[:, 0]) > 8
    spun = corner("spinning")
    assert spun[8, 0] - spun[0, 0] > 60, "half way round its left is at its right"


def test_the_camera_follows_who_walks_and_nobody_else(clips: Clips) -> None:
    for motion, follows in (("walking", True), ("running", True), ("jumping", False), ("still", False)):
        made = draw(clips, replace(FOX, motion=motion)).astype(int)
        assert (np.abs(made[-1, 5] - made[0, 5]).max() > 5) == follows, motion
    zoomed = draw(clips, replace(FOX, motion="zoom")).astype(int)
    assert np.abs(zoomed[-1, 5, 5] - zoomed[0, 5, 5]).max() > 5


def test_a_colour_holds_through_a_clip(clips: Clips) -> None:
    blue = draw(clips, replace(FOX, colour="blue")).astype(int)
    body = blue[:, 160, 118]
    assert (body[:, 2] > body[:, 0] + 60).all()
    assert np.ptp(body, 0).max() < 40


@pytest.mark.parametrize("weather", [name for name in WEATHER if name != "none"])
def test_weather_changes_the_picture_and_what_falls_falls(clips: Clips, weather: str) -> None:
    plain, made = draw(clips, FOX), draw(clips, replace(FOX, weather=weather))
    assert np.abs(made.astype(int) - plain).mean() > 0.2
    moved = np.abs(made[4, :20].astype(int) - made[0, :20]).max()
    assert (moved > 40) == (weather != "fog")


def test_every_scene_that_training_draws_can_be_drawn(clips: Clips) -> None:
    rng = random.Random(5)
    for number in (1, 2, 3):
        scene = Scene(("fox",) * number, rng.choice([p for p in PAINTED if p not in NO_WEATHER]), motion="running")
        assert clips.draw(scene, 2, rng).shape == (2, 256, 256, 3)
