"""The flow model alone, with its real weights: time, edges of its range, padding, precision."""

import numpy as np
import pytest
import torch
from torch import Tensor

from stages.presets import PRESETS
from stages.types import UInt8
from stages.vfi.interpolator import Interpolator
from stages.vfi.rife import PAD_MULTIPLE, Rife
from stages.vfi.weights import load_rife
from tests.stages.vfi.pictures import centre_px, psnr_db, scene, texture


def as_tensor(frame: UInt8) -> Tensor:
    return torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255


def between(net: Rife, left: UInt8, right: UInt8, t: float) -> UInt8:
    alone = Interpolator(net, None)
    return alone.frame(alone.see(left), alone.see(right), t)


def test_things_are_where_time_says(net: Rife) -> None:
    """Not at the middle whatever t is, as a midpoint-only checkpoint would have it."""
    left, right = scene(20), scene(32)
    for t in (1 / 7, 1 / 3, 1 / 2, 2 / 3, 6 / 7):
        assert centre_px(between(net, left, right, t)) == pytest.approx(centre_px(left) + 12 * t, abs=0.75)


def test_the_ends_of_time_are_the_frames(net: Rife) -> None:
    left, right = scene(20), scene(32)
    start, end = between(net, left, right, 0.0), between(net, left, right, 1.0)
    assert psnr_db(start, left) > 30 > psnr_db(start, right)
    assert psnr_db(end, right) > 30 > psnr_db(end, left)


def test_the_farther_in_time_the_less_alike(net: Rife) -> None:
    left, right = scene(20), scene(32)
    likeness = [psnr_db(between(net, left, right, t), left) for t in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert likeness == sorted(likeness, reverse=True)


def test_far_motion_is_followed(net: Rife) -> None:
    """A quarter of the width in one gap."""
    left, right, real = scene(16, (128, 192)), scene(64, (128, 192)), scene(40, (128, 192))
    made = between(net, left, right, 0.5)
    assert centre_px(made) == pytest.approx(centre_px(real), abs=2.0)


def test_padding_does_not_reach_into_the_frame(net: Rife) -> None:
    """A frame that needs padding and one that continues as the padding does have the same in-between frame."""
    left, right = texture(50, 70, seed=1), texture(50, 70, seed=1)[:, ::-1].copy()
    grow = ((0, -50 % PAD_MULTIPLE), (0, -70 % PAD_MULTIPLE), (0, 0))
    wide = between(net, np.pad(left, grow, mode="edge"), np.pad(right, grow, mode="edge"), 0.5)
    assert np.array_equal(wide[:50, :70], between(net, left, right, 0.5))


def test_context_is_that_of_the_frame_alone(net: Rife) -> None:
    """So that it may be computed once for both gaps which a frame borders."""
    with torch.inference_mode():
        a, b = (net.encode(as_tensor(scene(at))) for at in (20, 24))
        c = net.encode(as_tensor(scene(28)))
        first = net.estimate(a, b, 0.5).frame
        net.estimate(b, c, 0.5)
        assert torch.equal(first, net.estimate(a, b, 0.5).frame)


def test_half_precision_stays_near(net: Rife) -> None:
    half = load_rife(PRESETS["tiny"].parts["flow"], torch.device("cpu"), torch.bfloat16)
    left, right = scene(20), scene(26)
    assert psnr_db(between(half, left, right, 0.5), between(net, left, right, 0.5)) > 35


def test_every_weight_is_used(net: Rife) -> None:
    """A tensor that no frame depends on would be dead weight in the committed file."""
    live = load_rife(PRESETS["tiny"].parts["flow"], torch.device("cpu"), torch.float32).requires_grad_(True)
    left, right = (as_tensor(scene(at, (64, 64), side=24)) for at in (8, 16))
    names, parameters = zip(*live.named_parameters(), strict=True)
    made = live.estimate(live.encode(left), live.encode(right), 0.4).frame.sum()
    slopes = torch.autograd.grad(made, parameters, allow_unused=True)
    assert [name for name, slope in zip(names, slopes, strict=True) if slope is None] == []
    assert sum(parameter.numel() for parameter in net.parameters()) == 8_412_855
