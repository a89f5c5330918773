"""The words of other servers: each row of the table, values as text and as numbers, what contradicts itself."""

import json
from pathlib import Path
from typing import Any

import pytest

from client.schema import CreateVideo, ExtendVideo, RemixVideo
from deployments.errors import InvalidRequestError
from deployments.jobs.dialect import WORDS, Understood, Word, names_for, understand
from stages.presets import MODERN, PAPER, TINY, Preset, plan

README = Path(__file__).resolve().parents[3] / "deployments" / "README.md"
SERVED = ("sora-2",)


def read(preset: Preset = TINY, /, **said: Any) -> Understood:
    found = understand({"prompt": "a fox", **said}, CreateVideo, preset, SERVED, json.loads)
    CreateVideo.model_validate(found.fields, strict=True)
    return found


def fields(preset: Preset = TINY, /, **said: Any) -> dict[str, Any]:
    return {name: value for name, value in read(preset, **said).fields.items() if name != "prompt"}


def refused(preset: Preset = TINY, /, **said: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        read(preset, **said)
    assert "\n" not in caught.value.message
    assert caught.value.message.endswith(".")
    return caught.value


SIZE = {"size": "256x256"}
PICTURE = {"input_reference": {"image_url": "data:x"}}
SAID: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"num_inference_steps": 8}, {"steps": 8}),
    ({"inference_steps": "8"}, {"steps": 8}),
    ({"steps": "8"}, {"steps": 8}),
    ({"steps": 8.0}, {"steps": 8}),
    ({"guidance_scale": 3.5}, {"guidance": 3.5}),
    ({"cfg": "3.5"}, {"guidance": 3.5}),
    ({"guidance_scale": 3}, {"guidance": 3}),
    ({"neg_prompt": "snow"}, {"negative_prompt": "snow"}),
    ({"duration": 2}, {"seconds": "2"}),
    ({"duration": "2"}, {"seconds": "2"}),
    ({"seconds": 2}, {"seconds": "2"}),
    ({"seconds": "2.0"}, {"seconds": "2"}),
    ({"seed": "7"}, {"seed": 7}),
    ({"callback_url": "https://a.example/hook"}, {"webhook_url": "https://a.example/hook"}),
    ({"image_reference": {"image_url": "data:x"}}, PICTURE),
    ({"image_reference": '{"image_url": "data:x"}'}, PICTURE),
    ({"reference_url": "data:x"}, PICTURE),
    ({"image_url": "data:x"}, PICTURE),
    ({"input_reference": "data:x"}, PICTURE),
    ({"frame_images": [{"type": "image_url", "image_url": {"url": "data:x"}, "frame_type": "first_frame"}]}, PICTURE),
    ({"video_reference": {"video_url": "data:x"}}, {"input_video": {"video_url": "data:x"}}),
    ({"input_video": "video_x"}, {"input_video": {"id": "video_x"}}),
    ({"video_url": "data:x"}, {"input_video": {"video_url": "data:x"}}),
    ({"width": 256, "height": 256}, SIZE),
    ({"width": "256", "height": "256"}, SIZE),
    ({"size": "256X256"}, SIZE),
    ({"size": "256*256"}, SIZE),
    ({"resolution": "256p"}, SIZE),
    ({"resolution": "256x256"}, SIZE),
    ({"resolution": 256, "short_edge": "256"}, SIZE),
    ({"aspect_ratio": "1:1"}, SIZE),
    ({"resolution": "256P", "aspect_ratio": "1:1", "width": 256, "height": 256, "size": "256x256"}, SIZE),
    ({"num_frames": 46}, {"seconds": "2"}),
    ({"num_frames": 46, "fps": 24}, {"seconds": "2"}),
    ({"num_frames": "31", "fps": "16"}, {"seconds": "2", "factor": 2}),
    ({"num_frames": 94, "fps": 24.0, "seconds": 4}, {"seconds": "4"}),
    ({"fps": 16}, {"factor": 2}),
    ({"fps": 24}, {}),
    ({"num_frames": 16, "fps": 8}, {"seconds": "2", "until": "v2v"}),
    ({"num_frames": 16, "fps": 8, "until": "i2v"}, {"seconds": "2", "until": "i2v"}),
    ({"n": 1, "num_outputs_per_prompt": "1"}, {}),
    ({"n": 3, "pause_after": "t2i"}, {"candidates": 3, "pause_after": "t2i"}),
    ({"extra_body": {"num_inference_steps": 8, "extra_args": {"seed": 7}}}, {"steps": 8, "seed": 7}),
    ({"extra_params": '{"seed": 7}'}, {"seed": 7}),
    ({"video_params": {"width": 256, "height": 256}}, SIZE),
    ({"reuse": "true"}, {"reuse": True}),
    ({"model": "sora-2"}, {"model": "tiny"}),
    ({"negative_prompt": None, "seed": None, "extra_body": None, "lora": None, "n": None}, {}),
]


@pytest.mark.parametrize(("said", "meant"), SAID)
def test_words_of_others_are_ours(said: dict[str, Any], meant: dict[str, Any]) -> None:
    assert fields(**said) == meant


def test_each_row_of_the_table_is_tried_here() -> None:
    tried = {name for said, _ in SAID for name in said} | {name for said, _ in WRONG for name in said}
    rows = [word for word in WORDS if word.kind not in ("idle", "refused")]
    assert not [word.names for word in rows if not tried & set(word.names.split())]


@pytest.mark.parametrize("word", [word for word in WORDS if word.kind == "idle"], ids=lambda word: word.names)
def test_what_has_no_effect_is_taken_and_named(word: Word) -> None:
    for name in word.names.split():
        found = read(**{name: 0.5})
        assert set(found.fields) == {"prompt"}
        assert found.note == f"Known elsewhere and without effect here: {name}."
        assert read(**{name: False}).note == ""


@pytest.mark.parametrize("word", [word for word in WORDS if word.kind == "refused"], ids=lambda word: word.names)
def test_what_would_make_another_video_is_refused_with_the_reason(word: Word) -> None:
    for name in word.names.split():
        error = refused(**{name: "x"})
        assert (error.code, error.param) == ("unknown_field", name)
        assert word.says in error.message


WRONG: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"width": "wide", "height": 256}, ("width", "'wide'", "whole number")),
    ({"width": True, "height": 256}, ("width", "True", "whole number")),
    ({"width": 0, "height": 256}, ("width", "0", "above 0")),
    ({"width": 10**400, "height": 256}, ("width", "whole number")),
    ({"width": 832}, ("width is 832", "height is missing")),
    ({"width": 832, "height": 480}, ("width is 832 and height is 480", "256x256")),
    ({"size": "512x512"}, ("size is '512x512'", "256x256")),
    ({"resolution": [720]}, ("resolution", "[720]", "text")),
    ({"resolution": 720}, ("resolution is '720p'", "256x256")),
    ({"short_edge": 480}, ("short_edge is '480p'", "256x256")),
    ({"resolution": "high"}, ("'high'", "'720p'")),
    ({"resolution": "720p"}, ("'720p'", "256x256")),
    ({"aspect_ratio": 1.78}, ("aspect_ratio", "1.78", "text")),
    ({"aspect_ratio": "0:1"}, ("'0:1'", "'16:9'")),
    ({"aspect_ratio": "16:9"}, ("'16:9'", "256x256")),
    ({"num_frames": "many"}, ("num_frames", "'many'", "whole number")),
    ({"num_frames": 33, "fps": 16}, ("num_frames is 33 and fps is 16", "31 frames at 16 a second", "factor 2")),
    ({"num_frames": 33, "seconds": 2}, ("num_frames is 33 and seconds is 2", "31 frames")),
    ({"num_frames": 46, "seconds": "60"}, ("num_frames is 46 and seconds is 60", "2, 1, 4, 8")),
    ({"fps": 12}, ("fps is 12", "16 a second")),
    ({"fps": 24, "factor": 2}, ("fps is 24 and factor is 2", "16 a second")),
    ({"width": "0256", "height": 256}, ("width", "'0256'", "whole number")),
    ({"fps": -1}, ("fps", "-1", "above 0")),
    ({"fps": "nan"}, ("fps", "nan", "above 0")),
    ({"num_frames": 46, "input_video": {"id": "x"}, "enter": "vfi"}, ("num_frames", "input_video", "factor")),
    ({"n": 2}, ("n is 2", "1 video", "candidates")),
    ({"n": "two"}, ("n", "'two'", "whole number")),
    ({"n": 2, "candidates": 3, "pause_after": "t2i"}, ("candidates is 3", "n is 2")),
    ({"extra_body": 7}, ("extra_body", "7", "object")),
    ({"extra_params": "steps=4"}, ("extra_params", "'steps=4'", "object")),
    ({"frame_images": [{"image_url": {"url": "x"}, "frame_type": "last_frame"}]}, ("frame_images", "first_frame")),
    ({"model": "sora-3"}, ("'sora-3'", "tiny, sora-2")),
    ({"model": "paper"}, ("'paper'", "tiny, sora-2")),
]


@pytest.mark.parametrize(("said", "words"), WRONG)
def test_what_cannot_be_had_is_refused_with_both_values(said: dict[str, Any], words: tuple[str, ...]) -> None:
    error = refused(**said)
    assert error.status == 400
    assert all(word in error.message for word in words), error.message


TWICE: list[tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = [
    ({"steps": 4, "num_inference_steps": "4"}, {"steps": 4, "num_inference_steps": 8}, ("4", "8")),
    ({"seconds": "2", "duration": 2}, {"seconds": "2", "duration": 4}, ("seconds is '2'", "duration is '4'")),
    ({"guidance": 3.0, "cfg": 3}, {"guidance": 3.0, "guidance_scale": 3.5}, ("3.0", "3.5")),
    ({"resolution": 256, "short_edge": 256}, {"resolution": "720p", "short_edge": 480}, ("'720p'", "'480p'")),
    ({"seed": 7, "extra_body": {"seed": "7"}}, {"seed": 7, "extra_body": {"seed": 8}}, ("7", "extra_body.seed is 8")),
    ({"flow_shift": 5, "extra_args": {"flow_shift": 5}}, {"user": "a", "extra_args": {"user": "b"}}, ("'a'", "'b'")),
]


@pytest.mark.parametrize(("same", "other", "words"), TWICE)
def test_two_names_of_one_thing_may_not_contradict(
    same: dict[str, Any], other: dict[str, Any], words: tuple[str, ...]
) -> None:
    read(**same)
    error = refused(**other)
    assert all(word in error.message for word in words), error.message


def test_a_size_in_two_words_is_one_size() -> None:
    both = {"size": "720x1248", "resolution": "720p"}
    assert fields(MODERN, **both) == {"size": "720x1248"}
    error = refused(MODERN, size="720x1248", width=1248, height=720)
    assert "'720x1248'" in error.message
    assert "width is 1248 and height is 720" in error.message
    error = refused(MODERN, size="720x1248", aspect_ratio="16:9")
    assert all(word in error.message for word in ("'720x1248'", "'16:9'", "'1248x720'"))


def test_shapes_are_found_among_several_sizes() -> None:
    assert fields(MODERN, resolution="720p") == {"size": "1248x720"}
    tall = read(MODERN, resolution="720p", aspect_ratio="9:16")
    assert tall.fields["size"] == "720x1248"
    assert tall.note == "Of shape 9:16 the nearest is 720x1248."
    assert "of which 1248x720 is the nearest" in refused(MODERN, width=1280, height=720).message
    assert "of which 720x1248 is the nearest" in refused(MODERN, size="480x832").message
    assert "of which 1248x720 is the nearest" in refused(MODERN, resolution="1080p").message
    assert "of which 1248x720 is the nearest" in refused(MODERN, aspect_ratio="21:9").message


@pytest.mark.parametrize("preset", [TINY, PAPER, MODERN], ids=lambda preset: preset.name)
def test_every_length_of_a_preset_is_found_by_frames_and_rate(preset: Preset) -> None:
    for seconds in preset.keyframes:
        for factor in range(2, 9):
            made = plan(preset, "a fox", seconds=seconds, factor=factor)
            found = fields(preset, num_frames=made.frames, fps=made.fps)
            assert (found["seconds"], found.get("factor", preset.vfi_factor)) == (seconds, factor)


def test_frames_counted_as_seconds_times_rate_are_taken_and_said() -> None:
    found = read(num_frames=48, fps=24)
    assert found.fields["seconds"] == "2"
    assert found.note == "num_frames 48 is 46 here."
    ends = read(MODERN, num_frames=81, fps=16)
    assert (ends.fields["seconds"], ends.fields["until"]) == ("5", "v2v")
    assert "16 frames a second are V2V's own" in ends.note


def test_an_unknown_name_is_refused_with_what_may_be_meant() -> None:
    assert "did you mean 'num_inference_steps'?" in refused(num_inferense_steps=4).message
    assert "did you mean 'aspect_ratio'?" in refused(aspectRatio="1:1").message
    assert "did you mean 'prompt'?" in refused(extra_body={"promt": "a"}).message
    nothing = refused(qqqq=1)
    assert (nothing.code, nothing.param) == ("unknown_field", "qqqq")
    assert "the fields are prompt, model" in nothing.message


def test_a_remix_and_an_extension_take_what_has_a_place_there() -> None:
    remixed = understand(
        {"num_inference_steps": "8", "fps": 16, "model": "sora-2", "user": "a"}, RemixVideo, TINY, SERVED, json.loads
    )
    assert remixed.fields == {"steps": 8, "factor": 2}
    longer = understand({"duration": 2, "n": 1}, ExtendVideo, TINY, SERVED, json.loads)
    assert longer.fields == {"seconds": "2"}
    for name, model in (("width", RemixVideo), ("num_frames", RemixVideo), ("num_inference_steps", ExtendVideo)):
        with pytest.raises(InvalidRequestError, match=f"{name}, which is .*, has no place in this request"):
            understand({name: 4}, model, TINY, SERVED, json.loads)


def test_no_word_of_others_is_a_field_of_ours() -> None:
    names = [name for word in WORDS for name in word.names.split()]
    assert len(set(names)) == len(names)
    assert not set(names) & set(CreateVideo.model_fields)
    assert set(names) <= set(names_for(CreateVideo))


def table() -> str:
    """The words as the README shows them."""
    kinds = {"merged": "its fields are taken as the request's", "idle": "no effect; the job's `note` names it"}
    rows = []
    for word in WORDS:
        ours = " ".join(f"`{name}`" for name in word.means.split())
        here = kinds.get(word.kind, "refused" if word.kind == "refused" else ours)
        names = " ".join(f"`{name}`" for name in word.names.split())
        rows.append(f"| {names} | {here}{': ' if word.says else ''}{word.says} |")
    return "\n".join(["| elsewhere | here |", "|---|---|", *rows])


def test_the_readme_shows_the_table() -> None:
    assert table() in README.read_text(), f"deployments/README.md needs:\n{table()}"
