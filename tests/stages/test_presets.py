"""Presets: requests are judged in one place, with both values in every refusal."""

import pytest

from stages.model.sampling.windows import plan_windows
from stages.presets import MAX_PROMPT_CHARS, PAPER, PRESETS, TINY, Preset, RequestError, get_preset, plan


def test_the_papers_sizes() -> None:
    made = plan(PAPER, "a fox")
    assert (made.t2i.size, made.i2v.size, made.v2v.size) == ((1024, 1024), (600, 600), (1048, 1048))
    assert (made.i2v.frames, made.frames, made.vfi.factor) == (32, 94, 3)


def test_the_tiny_default() -> None:
    made = plan(TINY, "a fox")
    assert made.v2v.size == (256, 256)
    assert (made.i2v.frames, made.frames, made.fps) == (16, 46, 24.0)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_every_part_has_a_source_and_a_licence(preset: Preset) -> None:
    for name, part in preset.parts.items():
        assert part.source, name
        assert part.licence, name


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_every_number_of_keyframes_can_be_cut_into_the_presets_windows(preset: Preset) -> None:
    for windows in (preset.i2v_windows, preset.v2v_windows):
        for frames in range(1, 200):
            assert plan_windows(frames, windows)[-1].stop == frames
    assert max(preset.keyframes.values()) >= 64


REFUSED = [
    ({"prompt": "  "}, "prompt", "The prompt is empty"),
    ({"prompt": "x" * 1001}, "prompt", f"1001 characters, the limit is {MAX_PROMPT_CHARS}"),
    ({"negative_prompt": "x" * 1001}, "negative_prompt", "1001 characters"),
    ({"seed": -1}, "seed", "The seed is -1; it must be between 0 and"),
    ({"seed": 2**63}, "seed", "it must be between 0 and 9223372036854775807"),
    ({"size": "300x300"}, "size", "'300x300' is not allowed with preset 'tiny'; choose one of: 256x256"),
    ({"seconds": "9"}, "seconds", "'9' seconds is not allowed with preset 'tiny'; choose one of: 2, 1, 4, 8"),
    ({"steps": 0}, "steps", "steps is 0; it must be between 1 and 150"),
    ({"steps": 151}, "steps", "steps is 151; it must be between 1 and 150"),
    ({"guidance": 0.5}, "guidance", "guidance is 0.5; it must be between 1 and 30"),
    ({"guidance": float("nan")}, "guidance", "guidance is nan"),
]


@pytest.mark.parametrize(("given", "param", "sentence"), REFUSED)
def test_a_wrong_value_is_refused_with_both_values(given: dict[str, object], param: str, sentence: str) -> None:
    arguments: dict[str, object] = {"prompt": "a fox", **given}
    with pytest.raises(RequestError) as caught:
        plan(TINY, **arguments)  # type: ignore[arg-type]
    assert caught.value.param == param
    assert sentence in str(caught.value)


def test_an_unknown_preset_names_those_there_are() -> None:
    with pytest.raises(RequestError, match="Unknown preset 'huge'; choose one of: tiny, paper"):
        get_preset("huge")


def test_steps_and_guidance_reach_every_denoising_stage() -> None:
    made = plan(TINY, "a fox", steps=7, guidance=2.5)
    for stage in (made.t2i, made.i2v, made.v2v):
        assert (stage.denoising.steps, stage.denoising.guidance) == (7, 2.5)
