"""What is a cut and what is motion: painted places, fast squares, animated subjects, a real film's cuts."""

import random

import numpy as np
import pytest

from stages.training.scenes.backgrounds import paint
from stages.types import UInt8
from stages.vfi.cuts import is_cut
from tests.stages.vfi.pictures import scene, texture


def flying(subject: UInt8, ground: UInt8, at: tuple[int, int]) -> UInt8:
    """`subject` pasted over `ground` with its upper left corner `at` (row, column), cut off at the edges."""
    frame = ground.copy()
    (height, width), (row, column) = subject.shape[:2], at
    rows, columns = slice(max(row, 0), row + height), slice(max(column, 0), column + width)
    seen = frame[rows, columns].shape
    frame[rows, columns] = subject[max(-row, 0) :, max(-column, 0) :][: seen[0], : seen[1]]
    return frame


@pytest.mark.parametrize("size", [(256, 256), (90, 160), (40, 56)])
def test_two_textures_are_two_shots(size: tuple[int, int]) -> None:
    bright, dark = texture(*size, seed=1) // 2 + 127, texture(*size, seed=2) // 2
    assert is_cut(bright, dark)


@pytest.mark.parametrize(
    ("one", "other"), [(("beach", "day"), ("city", "night")), (("meadow", "dusk"), ("snowy forest", "day"))]
)
def test_two_painted_places_are_two_shots(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert is_cut(paint(*one, 0), paint(*other, 1))


def test_nothing_moves_and_nothing_is_cut() -> None:
    for seed in range(4):
        frame = texture(64, 64, seed)
        assert not is_cut(frame, frame)


@pytest.mark.parametrize("jump", [4, 16, 64, 200])
def test_a_subject_that_flies_over_its_ground_is_motion(jump: int) -> None:
    """However far: also into the frame from outside it."""
    ground, subject = paint("mountains", "day", 3), texture(110, 110, seed=4)
    assert not is_cut(flying(subject, ground, (60, -100)), flying(subject, ground, (60, -100 + jump)))


@pytest.mark.parametrize("jump", [3, 12, 30])
def test_a_fast_square_is_motion(jump: int) -> None:
    assert not is_cut(scene(20), scene(20 + jump))


@pytest.mark.parametrize("shift", [2, 12, 30])
def test_a_fast_pan_is_motion(shift: int) -> None:
    wide = np.concatenate([paint("beach", "dusk", 1), paint("beach", "dusk", 2)], axis=1)
    assert not is_cut(wide[:, :256], wide[:, shift : 256 + shift])


def test_noise_and_a_change_of_light_are_no_cut() -> None:
    frame = paint("city", "day", 2).astype(np.int16)
    noise = np.random.default_rng(0).normal(0, 8, frame.shape)
    assert not is_cut(frame.astype(np.uint8), (frame + noise).clip(0, 255).astype(np.uint8))
    assert not is_cut(frame.astype(np.uint8), (frame * 0.9).clip(0, 255).astype(np.uint8))


def test_the_order_of_the_frames_does_not_matter() -> None:
    rng = random.Random(0)
    for _ in range(6):
        a, b = (texture(48, 48, rng.randrange(100)) // rng.choice((1, 2, 3)) for _ in range(2))
        assert is_cut(a, b) == is_cut(b, a)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (33, 2), (200, 1048)])
def test_every_size_has_a_verdict(size: tuple[int, int]) -> None:
    black, white = np.zeros((*size, 3), np.uint8), np.full((*size, 3), 255, np.uint8)
    assert is_cut(black, white)
    assert not is_cut(white, white)
