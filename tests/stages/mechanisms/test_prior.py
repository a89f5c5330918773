"""The latent noise prior through I2V: weight, decay and shared noise each reach the frames.

Without the motion module, and with noise that all frames share, frames differ by the prior alone.
"""

import numpy as np
import pytest

from stages.presets import Prior, SchedulerName
from tests.stages.mechanisms.runs import OTHER, REFERENCE, animate, same
from tests.stages.parity.rig import Rig, settings

every_scheduler = pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpmpp_2m"])


@every_scheduler
def test_the_reference_is_in_the_noise_at_a_weight_above_zero(rig: Rig, scheduler: SchedulerName) -> None:
    without, with_it = (
        [
            animate(rig, picture, prior=Prior(weight, 0.0, 0.0), denoising=settings(scheduler, steps=2))
            for picture in (REFERENCE, OTHER)
        ]
        for weight in (0.0, 1.0)
    )
    assert same(*without)
    assert not same(*with_it)


def test_its_weight_is_seen(rig: Rig) -> None:
    assert not same(*(animate(rig, prior=Prior(weight, 0.0, 0.0)) for weight in (1.0, 2.0)))


def test_frames_that_share_all_noise_are_one_picture(rig: Rig) -> None:
    apart, shared = (animate(rig, motion=False, prior=Prior(1.0, 0.0, part)) for part in (0.0, 1.0))
    assert not same(apart[0], apart[1])
    np.testing.assert_allclose(shared, np.broadcast_to(shared[:1], shared.shape), rtol=2e-3, atol=2e-3)


def test_decay_leaves_the_first_frame_and_frees_the_later_ones(rig: Rig) -> None:
    held, freed = (animate(rig, motion=False, prior=Prior(2.0, decay, 1.0)) for decay in (0.0, 2.0))
    plain = animate(rig, motion=False, prior=Prior(0.0, 0.0, 1.0))
    assert np.allclose(held[0], freed[0], rtol=2e-3, atol=2e-3)
    far = [float(np.abs(freed[index] - plain[index]).mean()) for index in range(3)]
    assert far[0] > far[1] > far[2] > 0
