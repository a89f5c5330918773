"""I2V and V2V over the random networks of the parity tests, everything switched off unless a test switches it on.

The stages are called as they are served, with changed parameters, so that a wire which leads nowhere is found. A
fresh motion module is random here, so it changes every frame.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.base import Report, ignore_progress
from stages.i2v import I2V
from stages.presets import Guide, I2VParams, Prior, V2VParams, Windows
from stages.types import Clip, Image, Keyframes, UInt8
from stages.v2v import V2V
from tests.stages.parity.rig import NEGATIVE, PROMPT, Rig, picture, settings

FRAMES, SEED = 3, 11
SIZE = (40, 40)
OFF = Guide(image_scale=0.0, controls=())
I2V_OFF = I2VParams(
    PROMPT, NEGATIVE, SIZE, FRAMES, 8.0, settings("ddim", steps=2), Prior(0.0, 0.0, 0.0), OFF, Windows(32, 8)
)
V2V_OFF = V2VParams(PROMPT, NEGATIVE, SIZE, settings("ddim", steps=4), 0.5, OFF, Windows(32, 8))
REFERENCE, OTHER = picture(SIZE, seed=1), picture(SIZE, seed=2)


def animate(rig: Rig, reference: UInt8 = REFERENCE, **changes: Any) -> NDArray[np.float32]:
    """I2V: the keyframes' latents (F, C, h, w)."""
    params = replace(I2V_OFF, **changes)
    keyframes = I2V(rig.network)(Image(reference), params=params, seed=SEED, report=ignore_progress)
    assert keyframes.latents is not None
    return keyframes.latents.values.astype(np.float32)


def clip(seed: int = 20) -> UInt8:
    return np.stack([picture(SIZE, seed=seed + frame) for frame in range(FRAMES)])


def redraw(
    rig: Rig, frames: UInt8, reference: UInt8 = REFERENCE, report: Report = ignore_progress, **changes: Any
) -> UInt8:
    """V2V: the frames of its first window."""
    params = replace(V2V_OFF, **changes)
    keyframes = Keyframes(None, Clip(frames, 8.0))
    return V2V(rig.network)(Image(reference), keyframes, params=params, seed=SEED, report=report).clip.frames


def change(frames: UInt8, index: int) -> UInt8:
    """The same clip with another frame `index`."""
    changed = frames.copy()
    changed[index] = picture((frames.shape[2], frames.shape[1]), seed=99)
    return changed


def same(one: Any, other: Any) -> bool:
    return bool(np.array_equal(one, other))
