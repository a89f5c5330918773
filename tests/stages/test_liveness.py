"""Every mechanism that preset tiny has switched on does something in its weights: what taking it away costs, in I2V.

Held on the committed weights, because tests of random ones pass where training left a mechanism dead. Costs are of
three prompts: dB of the first frame to the reference, and how rough motion is (mean second difference in time), as a
ratio. VFI's flow model is held by `tests/stages/vfi/test_real_clips.py`.
"""

from dataclasses import replace

import numpy as np
import pytest

from stages.base import ignore_progress
from stages.i2v import I2V
from stages.model.network.pictures import resize_frames
from stages.presets import TINY, Preset, plan
from stages.settings import MECHANISMS, without
from stages.t2i import T2I
from stages.types import Image, UInt8

PROMPTS = ("a fox walking through a snowy forest at dusk", "a red car on a beach", "a rocket floating in the mountains")
LOST_DB, ROUGHER = {"control": 4.0}, {"motion": 1.8, "control": 1.8, "prior": 1.03}  # the least that its loss costs
OFF = {"appearance", "gan", "beside"}  # the last: no network of this preset has a place for it
ELSEWHERE = {"sharing"}  # saves memory and changes no bit


@pytest.fixture(scope="module")
def pictures() -> list[Image]:
    t2i = T2I.load(TINY, "cpu")
    return [
        t2i(params=plan(TINY, prompt).t2i, seed=seed, report=ignore_progress) for seed, prompt in enumerate(PROMPTS)
    ]


@pytest.fixture(scope="module")
def i2v() -> I2V:
    return I2V.load(TINY, "cpu")


def animate(i2v: I2V, preset: Preset, pictures: list[Image]) -> list[UInt8]:
    return [
        i2v(picture, params=plan(preset, prompt).i2v, seed=seed, report=ignore_progress).clip.frames
        for seed, (prompt, picture) in enumerate(zip(PROMPTS, pictures, strict=True))
    ]


@pytest.fixture(scope="module")
def whole(i2v: I2V, pictures: list[Image]) -> list[UInt8]:
    return animate(i2v, TINY, pictures)


def first_db(clips: list[UInt8], pictures: list[Image]) -> float:
    errors = []
    for clip, picture in zip(clips, pictures, strict=True):
        wanted = resize_frames(picture.pixels[None], (clip.shape[2], clip.shape[1]))[0]
        errors.append(np.mean((clip[0].astype(np.float64) - wanted) ** 2))
    return float(np.mean(10 * np.log10(255**2 / np.array(errors))))


def roughness(clips: list[UInt8]) -> float:
    return float(np.mean([np.abs(np.diff(clip.astype(np.float64), n=2, axis=0)).mean() for clip in clips]))


def test_every_mechanism_is_held_or_off() -> None:
    assert {*LOST_DB, *ROUGHER} | OFF | ELSEWHERE == set(MECHANISMS)
    for name in OFF:
        assert plan(without(TINY, [name]), "a fox").i2v.guide.image_scale == TINY.i2v_guide.image_scale == 0
    assert not TINY.gan
    assert not TINY.beside


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*LOST_DB, *ROUGHER}))
def test_taking_it_away_costs(i2v: I2V, pictures: list[Image], whole: list[UInt8], name: str) -> None:
    poorer = animate(i2v, without(TINY, [name]), pictures)
    lost_db, ratio = first_db(whole, pictures) - first_db(poorer, pictures), roughness(poorer) / roughness(whole)
    told = f"{name}: {lost_db:.2f} dB, {ratio:.2f} times as rough"
    assert lost_db >= LOST_DB.get(name, -100.0), told
    assert ratio >= ROUGHER[name], told


@pytest.mark.slow
def test_the_appearance_encoder_is_off_because_it_changes_nothing(
    i2v: I2V, pictures: list[Image], whole: list[UInt8]
) -> None:
    """Weights in which it lives turn this red: then it is switched on."""
    loud = replace(TINY, i2v_guide=replace(TINY.i2v_guide, image_scale=1.0))
    heard = animate(i2v, loud, pictures)
    assert abs(first_db(heard, pictures) - first_db(whole, pictures)) < 0.3
    assert roughness(heard) == pytest.approx(roughness(whole), rel=0.03)
