"""Schedulers and noise."""

import pytest
import torch

from stages.model.sampling.sampler import build_scheduler, draw_noise, tail_timesteps
from stages.presets import PAPER, TINY


def test_noise_belongs_to_its_names_alone() -> None:
    assert torch.equal(draw_noise((2, 3), 7, "i2v"), draw_noise((2, 3), 7, "i2v"))
    assert not torch.equal(draw_noise((2, 3), 7, "i2v"), draw_noise((2, 3), 7, "v2v"))
    assert not torch.equal(draw_noise((2, 3), 7, "i2v"), draw_noise((2, 3), 8, "i2v"))


@pytest.mark.parametrize(("strength", "left"), [(1.0, 20), (0.5, 10), (0.01, 1)])
def test_strength_leaves_the_tail_of_the_schedule(strength: float, left: int) -> None:
    scheduler = build_scheduler(TINY.v2v)
    scheduler.set_timesteps(20)
    timesteps = tail_timesteps(scheduler, strength)
    assert len(timesteps) == left
    assert torch.equal(timesteps, scheduler.timesteps[-left:])


def test_the_papers_adapters_get_the_linear_schedule() -> None:
    products = build_scheduler(PAPER.i2v).alphas_cumprod
    assert float(products[-1].sqrt()) == pytest.approx(0.0397, abs=0.001)
    assert float(build_scheduler(TINY.i2v).alphas_cumprod[-1].sqrt()) == pytest.approx(0.0683, abs=0.0005)
