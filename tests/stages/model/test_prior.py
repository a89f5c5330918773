"""The noise prior: its two equalities, its marginal, and its limit."""

import pytest
import torch

from stages.base import InputError
from stages.model.prior import start_latents
from stages.model.sampler import build_scheduler
from stages.presets import TINY, Prior

SHAPE = (1, 4, 6, 5, 5)


def scheduler(steps: int = 10):  # type: ignore[no-untyped-def]
    made = build_scheduler(TINY.i2v)
    made.set_timesteps(steps)
    return made


def draws() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(1, 4, 1, 5, 5, generator=generator), torch.randn(SHAPE, generator=generator)


def test_weight_zero_is_plain_noise_bit_for_bit() -> None:
    reference, noise = draws()
    assert torch.equal(start_latents(reference, noise, None, scheduler(), Prior(0.0, 0.0, 0.0)), noise)


def test_weight_one_is_a_noised_still_video() -> None:
    reference, noise = draws()
    made = scheduler()
    still = made.add_noise(reference.expand(SHAPE), noise, made.timesteps[:1])
    assert torch.allclose(start_latents(reference, noise, None, made, Prior(1.0, 0.0, 0.0)), still, atol=1e-6)


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


def test_shared_noise_correlates_the_frames() -> None:
    reference, noise = draws()
    shared = torch.randn(1, 4, 1, 5, 5, generator=torch.Generator().manual_seed(4))
    made = start_latents(reference * 0, noise, shared, scheduler(), Prior(1.0, 0.0, 1.0))
    assert torch.equal(made[:, :, 0], made[:, :, 5])


def test_a_weight_beyond_the_whole_variance_is_refused() -> None:
    reference, noise = draws()
    with pytest.raises(InputError, match="weight 40"):
        start_latents(reference, noise, None, scheduler(), Prior(40.0, 0.0, 0.0))
