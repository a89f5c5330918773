"""V2V by pipelines of diffusers: what the pipeline called by hand gives, window by window, joined without a gap."""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import diffusers
import numpy as np
import PIL.Image
import pytest
import torch
from diffusers.pipelines.ltx.pipeline_ltx_condition import linear_quadratic_schedule

from stages.base import Cancelled, InputError, derive_seed, ignore_progress
from stages.model.network.pictures import resize_frames
from stages.model.sampling.windows import join, plan_windows
from stages.presets import Preset, V2VParams, Windows, plan
from stages.types import Keyframes, Piece, UInt8
from stages.v2v import V2V
from tests.stages.modern.rig import Log, Shelf, alike, keyframes, modern_preset, picture, spans

pytestmark = pytest.mark.slow  # together they take half a minute

LTX = {"strength": 1 - linear_quadratic_schedule(4)[2], "timesteps": list(1000 * linear_quadratic_schedule(4)[2:])}

# name, the class that must be chosen, size, frames, arguments beyond the common ones
CASES: list[tuple[str, str, tuple[int, int], int, dict[str, Any]]] = [
    ("wan_text", "WanVideoToVideoPipeline", (48, 32), 9, {"strength": 0.5}),
    ("ltx_text", "LTXConditionPipeline", (64, 32), 9, {**LTX, "num_frames": 9, "frame_rate": 8}),
    ("ltx_condition", "LTXConditionPipeline", (64, 32), 9, {**LTX, "num_frames": 9, "frame_rate": 8}),
    ("cogvideox_text", "CogVideoXVideoToVideoPipeline", (48, 32), 9, {"strength": 0.5}),
    ("animatediff", "AnimateDiffVideoToVideoPipeline", (72, 40), 6, {"strength": 0.5}),
]
NAMES = [case[0] for case in CASES]
Loaded = Callable[[str], tuple[V2V, Preset]]


def load(shelf: Shelf, name: str, frames: int | None = None, windows: Windows | None = None) -> tuple[V2V, Preset]:
    _, _, size, own, _ = CASES[NAMES.index(name)]
    parts = {"v2v_pipeline": shelf[name]}
    preset = modern_preset(parts, size=size, frames=frames or own, windows=windows)
    return V2V.load(preset, "cpu"), preset


@pytest.fixture(scope="module")
def loaded(shelf: Shelf) -> Loaded:
    """Each stage once: that a call leaves no trace is tested."""
    return cache(partial(load, shelf))


def params(preset: Preset, **changes: Any) -> V2VParams:
    return replace(plan(preset, "a fox", negative_prompt="a dog").v2v, **changes)


def redraw(stage: V2V, wanted: V2VParams, given: Keyframes, seed: int = 3) -> UInt8:
    return stage(picture(), given, params=wanted, seed=seed, report=ignore_progress).clip.frames


def by_hand(
    folder: str,
    kind: str,
    frames: UInt8,
    size: tuple[int, int],
    more: dict[str, Any],
    part: int = 0,
    noise: tuple[int, int] | None = None,
) -> UInt8:
    """`noise` is the first latent frame of the window and how many the clip has."""
    pipeline = getattr(diffusers, kind).from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    module: Any = sys.modules[type(pipeline).__module__]
    draw, whole = module.randn_tensor, torch.Generator("cpu").manual_seed(derive_seed(3, "v2v"))

    def sliced(shape: Any, **options: Any) -> torch.Tensor:
        """The first is of the clip; then as the pipeline draws."""
        monkey.undo()
        axis = 1 if kind.startswith(("CogVideoX", "AnimateDiff")) else 2
        start, total = noise or (0, shape[axis])
        made = torch.randn([*shape[:axis], total, *shape[axis + 1 :]], generator=whole)
        return made.narrow(axis, start, shape[axis])

    monkey = pytest.MonkeyPatch()
    monkey.setattr(module, "randn_tensor", sliced)
    assert draw is not sliced
    made = pipeline(
        video=[PIL.Image.fromarray(frame) for frame in resize_frames(frames, size)],
        prompt="a fox",
        negative_prompt="a dog",
        width=size[0],
        height=size[1],
        num_inference_steps=4,
        guidance_scale=4.0,
        generator=torch.Generator("cpu").manual_seed(derive_seed(3, "v2v", part)),
        output_type="np",
        **more,
    ).frames[0]
    pixels: UInt8 = (made * 255).round().astype(np.uint8)
    return pixels


@pytest.mark.parametrize(("name", "kind", "size", "frames", "more"), CASES, ids=NAMES)
def test_it_is_the_pipeline_called_by_hand(
    shelf: Shelf, loaded: Loaded, name: str, kind: str, size: tuple[int, int], frames: int, more: dict[str, Any]
) -> None:
    stage, preset = loaded(name)
    given = keyframes(frames)
    piece = stage(picture(), given, params=params(preset), seed=3, report=ignore_progress)
    assert (piece.index, piece.start, piece.new, piece.last, piece.clip.fps) == (0, 0, frames, True, 8)
    assert piece.clip.frames.shape == (frames, size[1], size[0], 3)
    assert alike(piece.clip.frames, by_hand(shelf[name], kind, given.clip.frames, size, more))


@pytest.mark.parametrize("name", NAMES)
def test_keyframes_strength_and_seed_decide(loaded: Loaded, name: str) -> None:
    stage, preset = loaded(name)
    given, wanted = keyframes(CASES[NAMES.index(name)][3]), params(preset)
    first = redraw(stage, wanted, given)
    assert np.array_equal(first, redraw(stage, wanted, given))
    assert not np.array_equal(first, redraw(stage, wanted, given, seed=4))
    assert not np.array_equal(first, redraw(stage, wanted, keyframes(len(first), seed=1)))
    assert not np.array_equal(first, redraw(stage, replace(wanted, strength=0.75), given))


@pytest.mark.parametrize("name", NAMES)
def test_the_less_strength_the_more_of_the_keyframes_is_left(loaded: Loaded, name: str) -> None:
    """Two clips are redrawn with the same noise: the weaker, the further apart they stay."""
    stage, preset = loaded(name)
    frames = CASES[NAMES.index(name)][3]
    steps = replace(preset.v2v, steps=10)

    def apart(strength: float) -> float:
        wanted = params(preset, strength=strength, denoising=steps)
        one, other = (redraw(stage, wanted, keyframes(frames, seed)).astype(float) for seed in (0, 1))
        return float(np.abs(one - other).mean())

    assert apart(0.1) > apart(1.0)


@pytest.mark.parametrize("name", NAMES)
def test_every_step_of_the_strength_is_reported(loaded: Loaded, name: str) -> None:
    stage, preset = loaded(name)
    log = Log()
    stage(picture(), keyframes(CASES[NAMES.index(name)][3]), params=params(preset), seed=3, report=log)
    assert log.steps == [(0, 2), (1, 2), (2, 2)]


@pytest.mark.parametrize("name", NAMES)
def test_a_report_that_raises_stops_at_that_step_and_leaves_no_trace(shelf: Shelf, loaded: Loaded, name: str) -> None:
    stage, preset = loaded(name)
    given = keyframes(CASES[NAMES.index(name)][3])
    for step in (0, 1, 2):
        log = Log(stop_at=step, stop=Cancelled)
        with pytest.raises(Cancelled):
            stage(picture(), given, params=params(preset), seed=3, report=log)
        assert log.steps[-1][0] == step
    fresh, _ = load(shelf, name)
    assert np.array_equal(redraw(stage, params(preset), given), redraw(fresh, params(preset), given))


@pytest.mark.parametrize("steps", [1, 2, 49])
def test_one_step_is_left_where_the_strength_leaves_none(loaded: Loaded, steps: int) -> None:
    stage, preset = loaded("cogvideox_text")
    log, few = Log(), replace(preset.v2v, steps=steps)
    wanted = params(preset, strength=0.01, denoising=few)
    stage(picture(), keyframes(9), params=wanted, seed=3, report=log)
    assert log.steps == [(0, 1), (1, 1)]


def test_windows_that_the_model_cannot_make_are_widened_and_cut_back(shelf: Shelf) -> None:
    """Wan makes 4k + 1 frames; windows of 17 over 33 frames are 17, 16 and 16 long."""
    windows = Windows(17, 8)
    stage, preset = load(shelf, "wan_text", frames=33, windows=windows)
    given = keyframes(33)
    planned = plan_windows(33, windows)
    assert [len(span) for span in planned] == [16, 17, 16]
    pieces: list[Piece] = []
    for part in range(3):
        piece = stage(picture(), given, params=params(preset, part=part), seed=3, report=ignore_progress)
        pieces.append(piece)
    assert spans(pieces) == [(0, 16, 8), (8, 17, 9), (17, 16, 16)]
    size, kind = preset.sizes["48x32"].v2v, "WanVideoToVideoPipeline"
    for part, (first, last, skip) in enumerate([(0, 17, 0), (8, 25, 0), (16, 33, 1)]):
        more, noise = {"strength": 0.5}, (first // 4, 9)
        whole = by_hand(shelf["wan_text"], kind, given.clip.frames[first:last], size, more, part, noise)
        expected = whole[skip : skip + len(planned[part])]
        assert alike(pieces[part].clip.frames, expected)
    joined = [join(piece, before) for piece, before in zip(pieces, [None, *pieces[:-1]], strict=True)]
    assert sum(len(window.clip.frames) - window.lead for window in joined) == 33


def test_a_window_does_not_depend_on_which_replica_runs_it(shelf: Shelf) -> None:
    windows = Windows(9, 3)
    one, preset = load(shelf, "cogvideox_text", frames=17, windows=windows)
    other, _ = load(shelf, "cogvideox_text", frames=17, windows=windows)
    given = keyframes(17)
    parts = [params(preset, part=part) for part in range(3)]
    alone = [redraw(one, wanted, given) for wanted in parts]
    backwards = [redraw(other, wanted, given) for wanted in reversed(parts)][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(alone, backwards, strict=True))


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"part": 1}, 9, "asked for window 1; this clip has windows 0 to 0"),
    ({"strength": 0.0}, 9, "strength is 0; it must be above 0 and at most 1"),
    ({"strength": 1.5}, 9, "strength is 1.5; it must be above 0"),
    ({"size": (40, 32)}, 9, "asked for 40x32 pixels; it makes multiples of 16 pixels: take 32x32"),
    ({"motion": False}, 9, "cannot leave out its motion"),
    ({}, 7, "asked to redraw 7 frames of a clip of 7; it makes 1, 5, 9, ... frames: take clips of 5 or 9 frames"),
]


@pytest.mark.parametrize(("changes", "frames", "sentence"), REFUSED)
def test_what_the_model_cannot_make_is_refused_before_it_is_tried(
    loaded: Loaded, changes: dict[str, Any], frames: int, sentence: str
) -> None:
    stage, preset = loaded("wan_text")
    log = Log()
    with pytest.raises(InputError) as caught:
        stage(picture(), keyframes(frames), params=params(preset, **changes), seed=3, report=log)
    assert sentence in str(caught.value)
    assert not log.seen
