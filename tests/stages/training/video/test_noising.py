"""Where training's noise ends, sampling's begins."""

from dataclasses import replace

import pytest
import torch

from stages.model.sampling.prior import start_latents
from stages.model.sampling.sampler import TRAIN_STEPS, build_scheduler, tail_timesteps
from stages.presets import TINY, Prior
from stages.training.video.noising import Noising


@pytest.mark.parametrize(
    "prior", [TINY.prior, Prior(weight=1.0, decay=0.5, shared=0.0), Prior(weight=0.0, decay=0.0, shared=0.0)]
)
def test_a_clip_at_the_highest_time_is_what_sampling_starts_from(prior: Prior) -> None:
    clip = torch.randn((2, 4, 3, 5, 5), generator=torch.Generator().manual_seed(1))
    times = torch.full((2,), TRAIN_STEPS - 1)
    noising = Noising(TINY.i2v, prior)
    torch.manual_seed(2)
    noised, said = noising(clip, times, noising.draw_noise(clip))
    assert torch.allclose(noising.clean_from(noised, said, times), clip, atol=1e-4), "the target still means the clip"

    torch.manual_seed(2)
    scheduler, noise = build_scheduler(TINY.i2v), torch.randn_like(clip)
    scheduler.set_timesteps(TINY.i2v.steps)
    assert int(scheduler.timesteps[0]) == TRAIN_STEPS - 1
    first, frames = clip[:, :1].transpose(1, 2), noise.transpose(1, 2)
    start = start_latents(first, frames, None, scheduler, prior).transpose(1, 2)
    leak = float(scheduler.alphas_cumprod[-1]) ** 0.5 * clip
    faded = prior.weight * (1 - torch.arange(4) / 4).view(1, 4, 1, 1, 1) ** prior.decay
    assert torch.allclose(noised - (1 - faded) * leak, start, atol=0.02)  # what the prior does not hold, the clip does


def test_one_frame_has_nothing_to_lean_to() -> None:
    picture = torch.randn((2, 1, 3, 5, 5), generator=torch.Generator().manual_seed(1))
    torch.manual_seed(2)
    leaning = Noising(TINY.i2v, TINY.prior).draw_noise(picture)
    torch.manual_seed(2)
    assert torch.equal(leaning, Noising(replace(TINY.i2v)).draw_noise(picture))


@pytest.mark.parametrize("strength", [0.3, 0.5, 1.0])
def test_a_window_at_the_first_time_of_v2v_is_the_keyframes_renoised(strength: float) -> None:
    generator = torch.Generator().manual_seed(1)
    clip, given = (torch.randn((2, 3, 4, 5, 5), generator=generator) for _ in range(2))
    noising, scheduler = Noising(TINY.v2v, strength=strength), build_scheduler(TINY.v2v)
    scheduler.set_timesteps(TINY.v2v.steps)
    first = tail_timesteps(scheduler, strength)[:1]
    assert noising.start == int(first)
    times = first.repeat(2)
    torch.manual_seed(2)
    noised, said = noising(clip, times, noising.draw_noise(clip, given))
    torch.manual_seed(2)
    assert torch.allclose(noised, scheduler.add_noise(given, torch.randn_like(clip), first), atol=1e-5)
    assert torch.allclose(noising.clean_from(noised, said, times), clip, atol=1e-4)
