"""Presets: requests are judged in one place, with both values in every refusal."""

import pytest

from stages.model.sampling.windows import plan_windows
from stages.presets import MAX_PROMPT_CHARS, PAPER, PRESETS, TINY, Preset, RequestError, get_preset, plan


def test_the_papers_sizes() -> None:
    made = plan(PAPER, "a fox")
    assert (made.t2i.size, made.i2v.size, made.v2v.size) == ((1024, 1024), (600, 600), (1048, 1048))
    assert (made.i2v.frames, made.frames, made.vfi.factor) == (32, 94, 3)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_the_stages_of_a_size_have_its_shape(preset: Preset) -> None:
    for size, own in preset.sizes.items():
        assert size == f"{own.v2v[0]}x{own.v2v[1]}"
        for width, height in (own.t2i, own.i2v, own.v2v):
            assert width % 8 == height % 8 == 0
            assert width / height == pytest.approx(own.v2v[0] / own.v2v[1], rel=0.03)


def test_paper_has_the_usual_shapes_and_lengths() -> None:
    shapes = [own.v2v[0] / own.v2v[1] for own in PAPER.sizes.values()]
    assert shapes == pytest.approx([1, 16 / 9, 9 / 16, 4 / 3], rel=0.01)
    assert sorted(PAPER.keyframes, key=int) == ["2", "4", "8"]


def test_i2v_of_paper_denoises_as_many_frames_together_as_its_module_was_trained_with() -> None:
    for frames in PAPER.keyframes.values():
        assert max(len(span) for span in plan_windows(frames, PAPER.i2v_windows)) <= 16


def test_a_presets_negative_prompt_is_that_of_requests_without_one() -> None:
    assert plan(PAPER, "a fox").i2v.negative_prompt == PAPER.negative_prompt != ""
    assert plan(PAPER, "a fox", negative_prompt=" cars ").v2v.negative_prompt == "cars"
    assert plan(TINY, "a fox").t2i.negative_prompt == ""


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
