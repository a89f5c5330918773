"""Two requests at once are two requests alone: `batch`, each with its prompt, reference, noise and generator.

The rows of a batch are computed as if alone, but matrix products and convolutions of more rows may add in another
order: the difference is held to `ROUNDING`, and shown to be far below what a mixed-up request would make.
"""

import diffusers
import pytest
import torch

from stages.model.denoise import batch
from stages.presets import Control, SchedulerName
from tests.stages.parity.rig import (
    NEGATIVE,
    PATHS,
    ROUNDING,
    SCHEDULERS,
    Rig,
    assert_equal,
    call,
    difference,
    draw,
    picture,
    settings,
)

FRAMES = 3
SEEDS = (5, 6)
PROMPTS = ("a fox", "a whale at night")


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "controls", [(), (Control("plain"), Control("sparse", "sparse"))], ids=["none", "plain-and-sparse"]
)
def test_two_requests_at_once(rig: Rig, controls: tuple[Control, ...], path: str, scheduler: SchedulerName) -> None:
    denoising = settings(scheduler)
    noise = [draw(FRAMES, seed=seed) for seed in SEEDS]
    given = [
        rig.guide(picture(seed=seed), FRAMES, prompt=prompt, controls=controls)
        for seed, prompt in zip(SEEDS, PROMPTS, strict=True)
    ]
    alone = [
        rig.ours(noise[index], given[index], denoising, seeds=SEEDS[index : index + 1], path=path) for index in (0, 1)
    ]
    both = rig.ours(torch.cat(noise), batch(given), denoising, seeds=SEEDS, path=path)
    for index in (0, 1):
        assert difference(both[index], alone[index][0]) < ROUNDING
        assert difference(both[index], alone[1 - index][0]) > 100 * ROUNDING


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("path", PATHS)
def test_a_batch_equals_the_pipelines_batch(rig: Rig, path: str, scheduler: SchedulerName) -> None:
    """Of one reference: the pipeline repeats it for every prompt. Its pipelines with ControlNet take no batch."""
    denoising, noise = settings(scheduler), torch.cat([draw(FRAMES, seed=seed) for seed in SEEDS])
    each = [rig.guide(picture(), FRAMES, prompt=prompt) for prompt in PROMPTS]
    options = call(
        denoising, num_frames=FRAMES, latents=noise, ip_adapter_image_embeds=each[0].image, prompt=list(PROMPTS),
        negative_prompt=[NEGATIVE] * 2, generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
    )  # fmt: skip
    theirs = rig.pipeline(diffusers.AnimateDiffPipeline, denoising)(**options).frames
    assert_equal(rig.ours(noise, batch(each), denoising, seeds=SEEDS, path=path), theirs, path)
