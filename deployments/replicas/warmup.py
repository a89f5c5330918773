"""The cheapest call of each stage, so that the first client does not pay for lazy initialisation.

Takes a stage and its preset, runs the stage once with two denoising steps over grey inputs of the preset's true sizes.
A stage with a `warm_up()` method of its own is asked to do it instead. A stage that cannot run its warm-up is broken,
and the error says so at start rather than at the first request.
"""

from typing import Any, Protocol, runtime_checkable

import numpy as np

from stages.base import Stage, derive_seed, ignore_progress
from stages.presets import Plan, Preset, plan
from stages.types import Clip, Image, Keyframes, StageName, UInt8, Window

_STEPS = 2


@runtime_checkable
class WarmsUpItself(Protocol):
    """A stage that knows a better way."""

    def warm_up(self) -> None: ...


def warm_up(stage: Stage, preset: Preset) -> None:
    """Run `stage` once."""
    if isinstance(stage, WarmsUpItself):
        stage.warm_up()
        return
    shortest = min(preset.keyframes, key=lambda seconds: preset.keyframes[seconds])
    request = plan(preset, "warm up", steps=_STEPS, seconds=shortest)
    inputs = _inputs(stage.name, request)
    seed = derive_seed(0, "warm-up")
    stage(*inputs, params=request[stage.name], seed=seed, report=ignore_progress)


def _inputs(stage: StageName, request: Plan) -> tuple[Any, ...]:
    image = Image(_grey(request.t2i.size))
    frames = request.i2v.frames
    clip = Clip(np.repeat(_grey(request.i2v.size)[None], frames, 0), request.i2v.fps)
    window = Window(Clip(np.repeat(_grey(request.v2v.size)[None], 2, 0), request.i2v.fps), 0, 0, 0, last=True)
    inputs: dict[StageName, tuple[Any, ...]] = {
        "t2i": (),
        "i2v": (image,),
        "v2v": (image, Keyframes(None, clip)),
        "vfi": (window,),
    }
    return inputs[stage]


def _grey(size: tuple[int, int]) -> UInt8:
    return np.full((size[1], size[0], 3), 128, np.uint8)
