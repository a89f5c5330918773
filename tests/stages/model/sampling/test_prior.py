"""The noise prior: its two equalities, its marginal, and its limit."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from stages.base import InputError
from stages.model.sampling.prior import start_latents
from stages.model.sampling.sampler import build_scheduler
from stages.presets import PAPER, TINY, Prior, SchedulerName

SHAPE = (1, 4, 6, 5, 5)


def scheduler(name: SchedulerName = "ddim") -> Any:
    made = build_scheduler(replace(TINY.i2v, scheduler=name))
    made.set_timesteps(10)
    return made


def draws() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(1, 4, 1, 5, 5, generator=generator), torch.randn(SHAPE, generator=generator)


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "lcm", "euler"])
def test_weight_zero_is_plain_noise_bit_for_bit(name: SchedulerName) -> None:
    reference, noise = draws()
    made = scheduler(name)
    plain = start_latents(reference, noise, None, made, Prior(0.0, 0.0, 0.0))
    assert torch.equal(plain, noise * made.init_noise_sigma)


@pytest.mark.parametrize("name", ["ddim", "lcm", "euler"])
def test_weight_one_is_a_noised_still_video_bit_for_bit(name: SchedulerName) -> None:
    reference, noise = draws()
    made = scheduler(name)
    still = made.add_noise(reference.expand(SHAPE), noise, made.timesteps[:1])
    assert torch.equal(start_latents(reference, noise, None, made, Prior(1.0, 0.0, 0.0)), still)


def test_weight_one_is_a_noised_still_video_where_noising_goes_by_sigmas() -> None:
    reference, noise = draws()
    made = scheduler("dpmpp_2m")
    still = made.add_noise(reference.expand(SHAPE), noise, made.timesteps[:1])
    assert torch.allclose(start_latents(reference, noise, None, made, Prior(1.0, 0.0, 0.0)), still, atol=1e-5)


@pytest.mark.parametrize(("weight", "decay"), [(3.0, 0.0), (2.0, 1.0)])
def test_a_sigma_scheduler_noises_the_weighted_reference(weight: float, decay: float) -> None:
    reference, noise = draws()
    made = scheduler("euler")
    fade = (1 - torch.arange(6) / 6).pow(decay).view(1, 1, 6, 1, 1)
    expected = weight * fade * reference + made.sigmas[0] * noise
    assert torch.allclose(start_latents(reference, noise, None, made, Prior(weight, decay, 0.0)), expected, atol=1e-5)


def test_mean_follows_the_reference_and_the_variance_stays_one() -> None:
    reference = torch.full((1, 1, 1, 2, 2), 4.0)
    noise = torch.randn((1, 1, 8, 2, 2, 4000), generator=torch.Generator().manual_seed(0))
    made = scheduler()
    start = made.alphas_cumprod[int(made.timesteps[0])].sqrt()
    many = torch.stack([start_latents(reference, noise[..., i], None, made, Prior(2.0, 1.0, 0.0)) for i in range(4000)])
    for frame in range(8):
        slope = 2.0 * (1 - frame / 8) * start
        values = many[:, 0, 0, frame]
        assert float(values.mean()) == pytest.approx(4.0 * float(slope), abs=0.03)
        assert float(values.var()) == pytest.approx(1 - float(slope) ** 2, abs=0.04)


@pytest.mark.parametrize("part", [0.0, 0.3, 1.0])
def test_shared_noise_correlates_the_frames(part: float) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((1, 1, 3, 100, 100), generator=generator)
    shared = torch.randn((1, 1, 1, 100, 100), generator=generator)
    made = start_latents(shared * 0, noise, shared, scheduler(), Prior(0.0, 0.0, part))[0, 0].flatten(1)
    correlations = torch.corrcoef(made)
    assert torch.allclose(correlations, torch.full((3, 3), part).fill_diagonal_(1.0), atol=0.04)
    assert torch.allclose(made.var(1), torch.ones(3), atol=0.05)


def test_a_weight_beyond_the_whole_variance_is_refused() -> None:
    reference, noise = draws()
    with pytest.raises(InputError, match="weight 40"):
        start_latents(reference, noise, None, scheduler(), Prior(40.0, 0.0, 0.0))


def test_papers_prior_leans_by_a_twentieth_of_the_references_latent() -> None:
    made = build_scheduler(PAPER.i2v)
    made.set_timesteps(PAPER.i2v.steps)
    assert PAPER.prior == Prior(weight=1.0, decay=0.0, shared=0.0)
    assert float(made.alphas_cumprod[int(made.timesteps[0])].sqrt()) == pytest.approx(0.05, abs=0.002)
