"""Two processes that share the calls of one pipeline: what they make, how they stop, and what becomes of a dead one."""

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import pytest

from stages.base import Cancelled, InputError, StageError, ignore_progress
from stages.i2v import I2V
from stages.model.hub.gang import Gang
from stages.model.hub.video import HubAnimator
from stages.presets import I2VParams, Preset, plan
from stages.settings import with_speeds
from stages.state import can_yield
from tests.stages.modern.rig import Log, Shelf, modern_preset, picture

pytestmark = pytest.mark.slow


class Latents:
    """Makes the latents that a `HubAnimator` decodes, in the place of its frames."""

    def __init__(self, animator: HubAnimator) -> None:
        self._animator, self.runner = animator, animator.runner

    @staticmethod
    def check(preset: Preset, device: str) -> str:
        return HubAnimator.check(preset, device)

    @classmethod
    def load(cls, preset: Preset, device: str) -> Self:
        return cls(HubAnimator.load(preset, device))

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        vae, seen = self.runner.pipeline.vae, []
        decode = vae.decode

        def look(latents: Any, **rest: Any) -> Any:
            seen.append(latents.numpy())
            return decode(latents, **rest)

        vae.decode = look
        try:
            self._animator(*inputs, **options)
        finally:
            del vae.decode
        return seen[0]


@pytest.fixture(scope="module")
def preset(shelf: Shelf) -> Preset:
    return modern_preset({"i2v_pipeline": shelf.deep("wan_a14b")}, size=(48, 32), frames=5)


@pytest.fixture(scope="module")
def gang(preset: Preset) -> Iterator[Gang]:
    made = Gang.load(Latents, with_speeds(preset, {"i2v": {"gpus": 2}}), "i2v", "cpu")
    yield made
    made.close()


def wanted(preset: Preset, **changes: Any) -> I2VParams:
    return plan(preset, "a fox", **changes).i2v


def test_two_make_what_one_makes_and_go_on_after_a_cancel_an_error_and_a_death(preset: Preset, gang: Gang) -> None:
    alone = Latents.load(preset, "cpu")(picture(), params=wanted(preset), seed=3, report=ignore_progress)

    def make() -> Any:
        log = Log()
        made = gang(picture(), params=wanted(preset), seed=3, report=log)
        assert log.steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
        return made

    first = make()
    assert first.shape == alone.shape
    assert np.abs(first - alone).max() <= 1e-5 * max(1.0, np.abs(alone).max())
    processes = [process.pid for process in gang._processes]
    with pytest.raises(Cancelled):
        gang(picture(), params=wanted(preset), seed=3, report=Log(stop_at=1, stop=Cancelled))
    assert np.array_equal(make(), first)
    wrong = wanted(modern_preset({"i2v_pipeline": "nowhere"}, size=(48, 32), frames=6))
    with pytest.raises(InputError, match="was asked for 6 frames"):
        gang(picture(), params=wrong, seed=3, report=ignore_progress)
    assert np.array_equal(make(), first)
    assert [process.pid for process in gang._processes] == processes
    gang._processes[1].kill()
    with pytest.raises(StageError, match=r"I2V's WanImageToVideoPipeline on 2 devices: process \d of 2 has ended"):
        gang(picture(), params=wanted(preset), seed=3, report=ignore_progress)
    assert np.array_equal(make(), first)


def test_a_stage_of_a_gang_does_not_yield(gang: Gang) -> None:
    stage = I2V(gang)
    assert not can_yield(stage)
    with pytest.raises(StageError, match="on 2 devices has no network of ours"):
        stage.network  # noqa: B018
