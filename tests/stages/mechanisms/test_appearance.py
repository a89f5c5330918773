"""The appearance encoder, in both published forms: the reference speaks through it, as loudly as its scale says."""

import pytest

from stages.presets import Guide
from tests.stages.mechanisms.runs import OTHER, REFERENCE, animate, clip, redraw, same
from tests.stages.parity.rig import Rig


def scale(value: float) -> Guide:
    return Guide(image_scale=value, controls=())


def test_at_scale_zero_i2v_does_not_see_the_reference(either_rig: Rig) -> None:
    assert same(*(animate(either_rig, picture, guide=scale(0)) for picture in (REFERENCE, OTHER)))


def test_i2v_sees_the_reference(either_rig: Rig) -> None:
    assert not same(*(animate(either_rig, picture, guide=scale(1)) for picture in (REFERENCE, OTHER)))


def test_v2v_sees_the_reference_at_a_scale_above_zero(either_rig: Rig) -> None:
    silent, heard = (
        [redraw(either_rig, clip(), picture, guide=scale(value)) for picture in (REFERENCE, OTHER)] for value in (0, 1)
    )
    assert same(*silent)
    assert not same(*heard)


@pytest.mark.parametrize(("one", "other"), [(0.0, 0.5), (0.5, 1.0)])
def test_how_loudly_it_speaks_is_heard(either_rig: Rig, one: float, other: float) -> None:
    assert not same(animate(either_rig, guide=scale(one)), animate(either_rig, guide=scale(other)))
