"""The RGB ControlNets: each form alone, several at once, and which pictures they read.

V2V with a schedule that ends in pure noise and strength 1 knows the keyframes through ControlNets alone.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from stages.base import InputError
from stages.model.network.control import Hint, add_up, prepare_hints
from stages.presets import Control, Guide
from tests.stages.mechanisms.runs import (
    FRAMES,
    OTHER,
    REFERENCE,
    SIZE,
    V2V_OFF,
    animate,
    change,
    clip,
    redraw,
    same,
)
from tests.stages.parity.rig import Rig, difference, draw

PLAIN, SPARSE, TILE = Control("plain"), Control("sparse", kind="sparse"), Control("tile", image="keyframes")
FROM_NOISE: dict[str, Any] = {
    "strength": 1.0,
    "denoising": replace(
        V2V_OFF.denoising, zero_terminal_snr=True, timestep_spacing="trailing", prediction_type="v_prediction"
    ),
}
every_kind = pytest.mark.parametrize("control", [PLAIN, SPARSE], ids=["plain", "sparse"])


def guide(*controls: Control) -> Guide:
    return Guide(image_scale=0.0, controls=controls)


def middle_of(hint: Hint) -> torch.Tensor:
    """The residual of the middle block for one frame."""
    text = torch.randn(1, 7, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return hint(draw(1), torch.tensor(500), text)[1]


@every_kind
def test_i2v_sees_the_reference(rig: Rig, control: Control) -> None:
    assert not same(*(animate(rig, picture, guide=guide(control)) for picture in (REFERENCE, OTHER)))


@every_kind
def test_at_scale_zero_there_is_none(rig: Rig, control: Control) -> None:
    off = replace(control, scale=0.0)
    assert same(animate(rig), animate(rig, guide=guide(off)))
    assert prepare_hints(rig.network.controls, [off], {"reference": REFERENCE[None]}, SIZE, FRAMES) == ()


@every_kind
def test_a_plain_one_reads_it_for_all_frames_and_sparse_for_the_first(rig: Rig, control: Control) -> None:
    one, other = (
        prepare_hints(rig.network.controls, [control], {"reference": picture[None]}, SIZE, FRAMES)[0]
        for picture in (REFERENCE, OTHER)
    )
    for index in range(FRAMES):
        residuals = [middle_of(hint.cut(index, index + 1)) for hint in (one, other)]
        assert torch.equal(*residuals) == (control.kind == "sparse" and index > 0)


@every_kind
def test_its_scale_is_heard(rig: Rig, control: Control) -> None:
    loud, soft = (animate(rig, guide=guide(replace(control, scale=value))) for value in (1.0, 0.5))
    assert not same(loud, soft)


def test_each_of_several_at_once_is_heard(rig: Rig) -> None:
    alone = [animate(rig, guide=guide(control)) for control in (PLAIN, SPARSE)]
    both = animate(rig, guide=guide(PLAIN, SPARSE))
    assert not any(same(both, one) for one in alone)
    assert same(both, animate(rig, guide=guide(SPARSE, PLAIN)))
    assert same(alone[0], animate(rig, guide=guide(PLAIN, replace(SPARSE, scale=0.0))))


def test_residuals_of_several_are_the_sum(rig: Rig) -> None:
    def residuals(*controls: Control) -> list[torch.Tensor]:
        pictures = {"reference": REFERENCE[None], "keyframes": clip()}
        hints = prepare_hints(rig.network.controls, controls, pictures, SIZE, FRAMES)
        latents, text = draw(FRAMES), torch.randn(FRAMES, 7, 32, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            down, middle = add_up(hints, latents, torch.tensor(500), text)
        return [*down, middle]

    parts = [residuals(control) for control in (PLAIN, SPARSE, TILE)]
    for together, *each in zip(residuals(PLAIN, SPARSE, TILE), *parts, strict=True):
        assert difference(together, sum(each, torch.zeros(()))) < 1e-6


def test_v2v_reads_the_picture_that_is_named(rig: Rig) -> None:
    by_keyframes, by_reference = (
        [redraw(rig, clip(), picture, guide=guide(replace(TILE, image=image))) for picture in (REFERENCE, OTHER)]
        for image in ("keyframes", "reference")
    )
    assert same(*by_keyframes)
    assert not same(*by_reference)
    still = np.stack([REFERENCE] * FRAMES)
    assert same(*(redraw(rig, still, guide=guide(replace(TILE, image=image))) for image in ("keyframes", "reference")))


def test_a_tile_reads_each_frame_of_its_own(rig: Rig) -> None:
    frames = clip()
    options = {**FROM_NOISE, "motion": False, "guide": guide(TILE)}
    before, after = (redraw(rig, given, **options) for given in (frames, change(frames, 1)))
    assert [same(before[index], after[index]) for index in range(FRAMES)] == [True, False, True]


def test_without_a_tile_nothing_is_left_of_the_keyframes(rig: Rig) -> None:
    assert same(*(redraw(rig, clip(seed), **FROM_NOISE) for seed in (20, 60)))


def test_one_that_is_not_loaded_is_named(rig: Rig) -> None:
    with pytest.raises(InputError, match="ControlNet 'depth' is not loaded, only plain, tile, sparse"):
        animate(rig, guide=guide(Control("depth")))
