"""The `Speed` of a stage as a plain value: what it refuses, how it is read, and that results know it."""

from typing import Any

import pytest

from stages.__main__ import main
from stages.model.weights.facts import facts_of
from stages.presets import MODERN, PAPER, PRESETS, TINY
from stages.settings import with_speeds
from stages.speed import EXACT, Speed, SpeedError, changed, from_words
from stages.types import STAGE_NAMES

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"turbo": 1}, "speed has 'turbo', which is no knob of it: choose from offload, reuse_every, cache, "),
    ({"cache": "tea"}, "speed.cache is 'tea'; choose one of: none, first_block, mag, taylorseer, pyramid, faster."),
    ({"offload": "disk"}, "speed.offload is 'disk'; choose one of: none, model, groups, layers."),
    ({"weights": "int4"}, "speed.weights is 'int4'; choose one of: as_published, int8, float8, bnb8, bnb4."),
    ({"compile": "yes"}, "speed.compile is 'yes'; it must be true or false."),
    ({"compile": 1}, "speed.compile is 1; it must be true or false."),
    ({"reuse_every": 2.5}, "speed.reuse_every is 2.5; it must be a whole number."),
    ({"gpus": True}, "speed.gpus is True; it must be a whole number."),
    ({"attention": None}, "speed.attention is None; it must be a name."),
    ({"cache_threshold": "low"}, "speed.cache_threshold is 'low'; it must be a number."),
    ({"mag_ratios": [1.0, "x"]}, "speed.mag_ratios is [1.0, 'x']; it must be numbers."),
    ({"reuse_every": 0}, "speed: reuse_every is 0; it must be 1 or more, or left out."),
    ({"gpus": 0}, "speed: gpus is 0; it must be 1 or more, or left out."),
    ({"cache": "pyramid", "cache_every": 1}, "speed: cache_every is 1; it must be 2 or more, or left out."),
    ({"cache_threshold": 0.1}, "speed: cache_threshold is 0.1, and cache 'none' has none: leave it out."),
    ({"cache": "first_block", "cache_threshold": -1}, "speed: cache_threshold is -1; it must be above 0, or cache"),
    ({"cache": "first_block", "cache_threshold": float("nan")}, "speed: cache_threshold is nan; it must be above 0"),
    ({"cache": "first_block", "cache_every": 2}, "speed: cache_every is 2, and cache 'first_block' has none: leave"),
    ({"cache": "mag"}, "speed: cache is 'mag' and mag_ratios has 0 numbers, which belong to the weights: measure them"),
    ({"mag_ratios": [1.0]}, "speed: mag_ratios has 1 numbers, and cache 'none' has none: leave them out."),
    ({"cache": "mag", "mag_ratios": [1.0, -2]}, "speed: mag_ratios has -2; each must be above 0."),
    ({"gpus": 2, "offload": "model"}, "speed: gpus is 2 and offload is 'model'; several GPUs share exact steps: leave"),
    ({"gpus": 2, "cache": "pyramid"}, "speed: gpus is 2 and cache is 'pyramid'; several GPUs share exact steps: leave"),
    ({"offload": "layers", "compile": True}, "speed: offload is 'layers' and compile is True; take offload 'model'"),
    (
        {"offload": "groups", "weights": "int8"},
        "speed: offload is 'groups' and weights is 'int8'; take offload 'model'",
    ),
    ({"offload": "groups", "cache": "pyramid"}, "speed: offload is 'groups' and cache is 'pyramid'; take offload"),
    ({"offload": "layers", "reuse_every": 2}, "speed: offload is 'layers' and reuse_every is 2; take offload 'model'"),
]
OTHER_KINDS: list[tuple[str, str, dict[str, Any], str]] = [
    ("tiny", "vfi", {"compile": True}, "speed of vfi: compile is True, and the stage interpolates without that: leave"),
    ("tiny", "t2i", {"reuse_every": 2}, "speed of t2i: reuse_every is 2, and the stage has a built-in network without"),
    ("paper", "i2v", {"cache": "first_block"}, "speed of i2v: cache is 'first_block', and the stage has a built-in"),
    ("paper", "v2v", {"gpus": 2}, "speed of v2v: gpus is 2, and the stage has a built-in network without that: leave"),
    ("paper", "i2v", {"offload": "groups"}, "speed of i2v: offload is 'groups', and the stage has a built-in network,"),
    ("modern", "i2v", {"reuse_every": 2}, "speed of i2v: reuse_every is 2, and the stage is the pipeline of part "),
]


@pytest.mark.parametrize(("knobs", "told"), REFUSED, ids=lambda value: "".join(map(str, value)) or None)
def test_what_cannot_be_is_one_sentence(knobs: dict[str, Any], told: str) -> None:
    with pytest.raises(SpeedError) as refused:
        changed(EXACT, knobs)
    assert str(refused.value).startswith(told)
    assert str(refused.value).endswith(".")


@pytest.mark.parametrize(("name", "stage", "knobs", "told"), OTHER_KINDS)
def test_what_a_kind_of_stage_does_not_have_is_refused_by_the_preset(
    name: str, stage: Any, knobs: dict[str, Any], told: str
) -> None:
    with pytest.raises(SpeedError) as refused:
        with_speeds(PRESETS[name], {stage: knobs})
    assert str(refused.value).startswith(told)


def test_every_stage_is_exact_unless_somebody_says_otherwise() -> None:
    assert Speed() == EXACT
    for preset in PRESETS.values():
        assert [preset.speed(stage).inexact for stage in STAGE_NAMES] == [{}] * 4
    assert {stage: MODERN.speed(stage).offload for stage in STAGE_NAMES} == {
        "t2i": "model", "i2v": "model", "v2v": "model", "vfi": "none",
    }  # fmt: skip


def test_one_knob_is_turned_and_the_others_stay() -> None:
    made = with_speeds(MODERN, {"i2v": {"cache": "first_block", "cache_threshold": 0.1}})
    assert made.speed("i2v") == Speed(offload="model", cache="first_block", cache_threshold=0.1)
    assert made.speed("i2v").inexact == {"cache": "first_block", "cache_threshold": 0.1}
    assert changed(EXACT, made.speed("i2v").turned) == made.speed("i2v")
    assert made.speed("v2v") == MODERN.speed("v2v")
    assert with_speeds(PAPER, {"v2v": {"reuse_every": 3}}).speed("v2v").reuse_every == 3


def test_words_of_a_command() -> None:
    told = from_words(["offload=model", "i2v.compile=true", "i2v.offload=none", "v2v.mag_ratios=[1, 0.5]"])
    assert told == {
        "t2i": {"offload": "model"},
        "i2v": {"offload": "none", "compile": True},
        "v2v": {"offload": "model", "mag_ratios": [1, 0.5]},
        "vfi": {"offload": "model"},
    }
    for word in ("offload", "i4v.compile=true", "=model"):
        with pytest.raises(SpeedError, match=r"is not of the form|which is no knob"):
            with_speeds(TINY, from_words([word]))


def test_a_command_with_a_speed_that_cannot_be_ends_before_anything_is_loaded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["a fox", "--speed", "i2v.cache=first_block"]) == 2
    assert "speed of i2v: cache is 'first_block', and the stage has a built-in network" in " ".join(
        capsys.readouterr().err.split()
    )


def test_what_a_state_depends_on_has_the_speed_in_it() -> None:
    exact, other = TINY, with_speeds(TINY, {"i2v": {"reuse_every": 2}})
    assert facts_of(exact, "cpu") == facts_of(exact, "cpu")
    assert facts_of(exact, "cpu")["preset"] != facts_of(other, "cpu")["preset"]
