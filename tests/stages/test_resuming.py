"""Stages as they are loaded and called: stopped between any two steps, gone on elsewhere, the same bytes; what does not
fit is computed from the first step, and the log says why.
"""

import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.base import Cancelled, ignore_progress
from stages.i2v import I2V
from stages.presets import TINY, Preset, SchedulerName, V2VParams, Windows, plan
from stages.settings import I2VParams, T2IParams
from stages.state import DenoisingState, Pause, Take, Yielded, can_yield, digest_of
from stages.t2i import T2I
from stages.types import Clip, Image, Keyframes
from stages.v2v import V2V
from stages.v2v.together import share_backbone
from stages.vfi import VFI
from tests.stages.parity.rig import SCHEDULERS
from tests.stages.random_parts import own_loop, paper_like

pytestmark = pytest.mark.slow

SEED = 11
Call = Callable[..., Any]


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Preset:
    """Random weights; T2I by our own loop."""
    return own_loop(paper_like(tmp_path_factory.mktemp("parts")))


@pytest.fixture(scope="module")
def t2i(preset: Preset) -> T2I:
    return T2I.load(preset, "cpu")


@pytest.fixture(scope="module")
def i2v(preset: Preset) -> I2V:
    return I2V.load(preset, "cpu")


@pytest.fixture(scope="module")
def v2v(preset: Preset) -> V2V:
    return V2V.load(preset, "cpu")


def picture(size: tuple[int, int], seed: int = 1) -> Image:
    return Image(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8))


def keyframes(params: V2VParams, frames: int = 6) -> Keyframes:
    return Keyframes(None, Clip(np.stack([picture(params.size, seed).pixels for seed in range(frames)]), 8.0))


def steps_with(params: Any, scheduler: SchedulerName) -> Any:
    return replace(params, denoising=replace(params.denoising, scheduler=scheduler))


def stopping(at: int) -> Callable[[Take], None]:
    def offer(take: Take) -> None:
        state = take()
        if state.step == at:
            raise Yielded(state)

    return offer


def stop(call: Call, at: int, resume: bytes | None = None) -> bytes:
    with pytest.raises(Yielded) as told:
        call(report=ignore_progress, offer=stopping(at), resume=resume)
    return told.value.state.to_bytes()


def assert_goes_on(call: Call, *stops: int) -> None:
    """What is left after every stop gives the same bytes, and takes no step twice."""
    whole = call(report=ignore_progress)
    kept: bytes | None = None
    for at in stops:
        kept = stop(call, at, kept)
    seen: list[int] = []
    made = call(report=lambda step, total: seen.append(step), resume=kept)
    assert digest_of(made) == digest_of(whole)
    assert min(seen) == stops[-1]


@pytest.fixture
def calls(t2i: T2I, i2v: I2V, v2v: V2V, preset: Preset) -> Callable[[SchedulerName], dict[str, Call]]:
    """Of each stage, with a scheduler: I2V with fused windows, V2V with its second window."""
    asked = plan(preset, "a fox")

    def make(scheduler: SchedulerName) -> dict[str, Call]:
        paint: T2IParams = steps_with(asked.t2i, scheduler)
        animate: I2VParams = replace(steps_with(asked.i2v, scheduler), windows=Windows(4, 1))
        redraw: V2VParams = replace(steps_with(asked.v2v, scheduler), part=1, strength=0.5)
        image = picture(animate.size)
        return {
            "t2i": partial(t2i, params=paint, seed=SEED),
            "i2v": partial(i2v, image, params=animate, seed=SEED),
            "v2v": partial(v2v, image, keyframes(redraw), params=redraw, seed=SEED),
        }

    return make


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("stage", ["t2i", "i2v", "v2v"])
def test_a_stage_goes_on_with_the_same_bytes(
    stage: str, scheduler: SchedulerName, calls: Callable[[SchedulerName], dict[str, Call]]
) -> None:
    assert_goes_on(calls(scheduler)[stage], 0, 1, 2, 2, 3)  # of three steps


def test_stages_that_share_their_layers_take_turns(i2v: I2V, preset: Preset) -> None:
    """I2V stops, V2V runs over the same layers with another scale of the reference, I2V goes on."""
    other = V2V.load(preset, "cpu")
    assert share_backbone(preset, i2v, other) > 0
    asked = plan(preset, "a fox")
    image = picture(asked.i2v.size)
    animate = partial(i2v, image, params=asked.i2v, seed=SEED)
    params = replace(asked.v2v, guide=replace(asked.v2v.guide, image_scale=0.1))
    redraw = partial(other, image, keyframes(params), params=params, seed=SEED)
    whole = animate(report=ignore_progress), redraw(report=ignore_progress)
    first = stop(animate, 2)
    second = stop(redraw, 1)
    assert digest_of(animate(report=ignore_progress, resume=first)) == digest_of(whole[0])
    assert digest_of(redraw(report=ignore_progress, resume=second)) == digest_of(whole[1])


@pytest.mark.parametrize("what", ["preset", "steps", "libraries", "weights", "code", "device", "request", "damage"])
def test_what_does_not_fit_is_computed_from_the_first_step(
    what: str, i2v: I2V, preset: Preset, caplog: pytest.LogCaptureFixture
) -> None:
    params = plan(preset, "a fox").i2v
    call = partial(i2v, picture(params.size), params=params, seed=SEED)
    data = stop(call, 2)
    if what == "damage":
        kept, words = data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], "the kept state cannot be read"
    else:
        state = DenoisingState.from_bytes(data)
        kept = replace(state, facts={**state.facts, what: "another"}).to_bytes()
        words = f"has {what} 'another', here it is '{state.facts[what]}'"
    seen: list[int] = []
    with caplog.at_level(logging.WARNING, "stages.state"):
        made = call(report=lambda step, total: seen.append(step), resume=kept)
    assert seen[0] == 0
    assert "Stage i2v starts from its first step: " in caplog.text
    assert words in caplog.text
    assert digest_of(made) == digest_of(call(report=ignore_progress))


def test_a_state_knows_request_window_and_weights(v2v: V2V, preset: Preset) -> None:
    """Each of these changes is another call, whose state would give a wrong picture."""
    params = replace(plan(preset, "a fox").v2v, part=1)
    image, clip = picture(params.size), keyframes(params)
    call = partial(v2v, image, clip, params=params, seed=SEED)
    own = DenoisingState.from_bytes(stop(call, 1))
    styled = V2V.load(replace(preset, prompt_style="oil, {prompt}"), "cpu")
    others = {
        "request": [
            partial(v2v, image, clip, params=replace(params, part=0), seed=SEED),
            partial(v2v, image, clip, params=replace(params, prompt="a whale"), seed=SEED),
            partial(v2v, image, clip, params=replace(params, strength=0.6), seed=SEED),
            partial(v2v, image, clip, params=params, seed=SEED + 1),
            partial(v2v, picture(params.size, 9), clip, params=params, seed=SEED),
            partial(v2v, image, keyframes(params, 7), params=params, seed=SEED),
        ],
        "weights": [partial(V2V.load(_other_weights(preset), "cpu"), image, clip, params=params, seed=SEED)],
        "preset": [partial(styled, image, clip, params=params, seed=SEED)],
    }
    for fact, calls in others.items():
        for other in calls:
            state = DenoisingState.from_bytes(stop(other, 1))
            assert state.facts[fact] != own.facts[fact]
    assert own.facts == DenoisingState.from_bytes(stop(call, 2)).facts


def _other_weights(preset: Preset) -> Preset:
    """The same files, but V2V's ControlNet a number different."""
    from safetensors.numpy import load_file, save_file

    folder = Path(preset.parts["control_v2v"].source)
    other = folder.with_name("another")
    other.mkdir()
    (other / "config.json").write_bytes((folder / "config.json").read_bytes())
    (file,) = folder.glob("*.safetensors")
    tensors = load_file(file)
    first = min(tensors)
    tensors[first] = tensors[first] + np.float32(1)
    save_file(tensors, other / file.name)
    part = replace(preset.parts["control_v2v"], source=str(other))
    return replace(preset, parts={**preset.parts, "control_v2v": part})


def test_a_stop_is_no_cancel_and_a_cancel_leaves_no_state(t2i: T2I, preset: Preset) -> None:
    call = partial(t2i, params=plan(preset, "a fox").t2i, seed=SEED)
    pause, kept = Pause(), list[DenoisingState]()

    def ask(step: int, total: int) -> None:
        if step == 1:
            pause.ask()

    with pytest.raises(Yielded) as told:
        call(report=ask, offer=pause)
    assert (told.value.state.step, told.value.state.total) == (1, 3)

    def cancel(step: int, total: int) -> None:
        if step == 2:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        call(report=cancel, offer=Pause(kept.append, every_s=0))
    assert [state.step for state in kept] == [0, 1]
    made = call(report=ignore_progress, resume=kept[-1])  # what was kept on the way is good, too
    assert digest_of(made) == digest_of(call(report=ignore_progress))


def test_each_stage_says_whether_it_can_stop(t2i: T2I, i2v: I2V, v2v: V2V, preset: Preset) -> None:
    assert all(map(can_yield, (t2i, i2v, v2v)))
    assert not can_yield(VFI.load(preset, "cpu"))
    params = plan(preset, "a fox").i2v
    by_hand = I2V(replace(i2v.network, facts={}))  # of which nobody knows what weights it has
    assert not can_yield(by_hand)
    by_hand(picture(params.size), params=params, seed=SEED, report=ignore_progress, offer=stopping(1))  # never offered


ELSEWHERE = """
import sys
from pathlib import Path
import numpy as np
import torch
from stages.base import ignore_progress
from stages.i2v import I2V
from stages.presets import TINY, plan
from stages.types import Image
folder = Path(sys.argv[1])
torch.set_num_threads(int(sys.argv[2]))
params = plan(TINY, "a fox", seconds="1", steps=4).i2v
seen = []
made = I2V.load(TINY, "cpu")(
    Image(np.load(folder / "image.npy")), params=params, seed=11,
    report=lambda step, total: seen.append(step), resume=(folder / "state.safetensors").read_bytes(),
)
np.savez(folder / "made.npz", latents=made.latents.values, frames=made.clip.frames, first=seen[0])
"""


def test_another_process_goes_on_with_the_same_bytes(tmp_path: Path) -> None:
    """The committed weights, a multistep scheduler."""
    params = plan(TINY, "a fox", seconds="1", steps=4).i2v
    image = picture(params.size)
    call = partial(I2V.load(TINY, "cpu"), image, params=params, seed=11)
    np.save(tmp_path / "image.npy", image.pixels)
    (tmp_path / "state.safetensors").write_bytes(stop(call, 2))
    threads = str(torch.get_num_threads())  # another number makes other bytes, and other tests set it
    subprocess.run([sys.executable, "-c", ELSEWHERE, str(tmp_path), threads], check=True, cwd=Path(__file__).parents[2])
    whole, made = call(report=ignore_progress), np.load(tmp_path / "made.npz")
    assert made["first"] == 2
    assert whole.latents is not None
    assert np.array_equal(made["latents"], whole.latents.values)
    assert np.array_equal(made["frames"], whole.clip.frames)
