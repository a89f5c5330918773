"""The reference's latents beside the noise: at work as in training, in every frame, marked in its own, and a switch."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stages.base import WeightsError, ignore_progress
from stages.cost.stages import cost_of
from stages.local.pipeline import LocalPipeline
from stages.model.network.memory import Memory
from stages.model.network.reference import planes_for, put_beside
from stages.model.sampling.denoise import predict
from stages.model.sampling.sampler import TRAIN_STEPS, draw_noise
from stages.model.sampling.video import encode_reference, guide_request
from stages.model.sampling.windows import plan_windows
from stages.model.weights.fit import check_unet
from stages.presets import TINY, Preset, plan
from stages.settings import I2VParams, Prior, without
from stages.training.video.batches import Batch
from stages.training.video.noising import Noising
from stages.training.video.trainee import Dropping, Trainee
from stages.types import Image, Keyframes
from tests.stages import random_parts as parts
from tests.stages.mechanisms.beside_parts import CHANNELS, beside_preset, make_spatial
from tests.stages.parity.rig import picture

SIZE, FRAMES, SEED = (64, 64), 4, 7
REFERENCE, OTHER = Image(picture(SIZE, seed=1)), Image(picture(SIZE, seed=2))


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Preset:
    return beside_preset(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def pipeline(preset: Preset) -> LocalPipeline:
    return LocalPipeline.load(preset)


def params_of(preset: Preset, frames: int = FRAMES, **changes: Any) -> I2VParams:
    return replace(plan(preset, "a fox", size="64x64").i2v, frames=frames, **changes)


def animate(pipeline: LocalPipeline, params: I2VParams, image: Image = REFERENCE) -> Keyframes:
    return pipeline.i2v(image, params=params, seed=SEED, report=ignore_progress)


@contextmanager
def first_layer(unet: Any, name: str = "conv_in") -> Iterator[list[Tensor]]:
    """What its first layer, or that of this name, reads while the context lasts."""
    seen = list[Tensor]()
    hook = unet.get_submodule(name).register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    try:
        yield seen
    finally:
        hook.remove()


@pytest.mark.slow
def test_a_whole_video_at_both_sizes_and_v2v_redraws_where_it_should(preset: Preset, pipeline: LocalPipeline) -> None:
    for size, redrawn in (("64x64", False), ("128x128", True)):
        planned = plan(preset, "a fox", size=size)
        image = pipeline.t2i(params=planned.t2i, seed=SEED, report=ignore_progress)
        keyframes = pipeline.i2v(image, params=planned.i2v, seed=SEED, report=ignore_progress)
        piece = pipeline.v2v(image, keyframes, params=planned.v2v, seed=SEED, report=ignore_progress)
        width, height = planned.v2v.size
        assert piece.clip.frames.shape[1:] == (height, width, 3)
        same = piece.clip.frames.shape == keyframes.clip.frames[:4].shape
        assert (same and np.array_equal(piece.clip.frames, keyframes.clip.frames[:4])) == (not redrawn)
    assert len(list(pipeline.run(plan(preset, "a fox", size="64x64"), SEED, lambda _: ignore_progress))) == 2


def test_i2v_and_v2v_hold_their_layers_once_and_t2i_draws_with_the_same(pipeline: LocalPipeline) -> None:
    one, other = pipeline.i2v.network.unet, pipeline.v2v.network.unet
    assert one.conv_in.weight.data_ptr() == other.conv_in.weight.data_ptr()
    assert one.conv_in.weight.shape[1] == 2 * CHANNELS + 1


def test_the_reference_reaches_every_frame_without_prior_and_the_switch_silences_it(
    preset: Preset, pipeline: LocalPipeline
) -> None:
    plain = params_of(preset, prior=Prior(0.0, 0.0, 0.0), motion=False)
    silent = replace(plain, guide=without(preset, ["beside"]).i2v_guide)
    for params, heard in ((plain, True), (silent, False)):
        one, other = (animate(pipeline, params, image).latents for image in (REFERENCE, OTHER))
        assert one is not None
        assert other is not None
        apart = np.abs(one.values.astype(np.float32) - other.values).max((1, 2, 3))
        assert (apart > 0.01).all() == heard
        assert apart.any() == heard


def test_only_the_frame_that_is_the_reference_is_marked(preset: Preset, pipeline: LocalPipeline) -> None:
    with first_layer(pipeline.i2v.network.unet) as seen:
        animate(pipeline, params_of(preset, frames=6))
    assert [len(span) for span in plan_windows(6, plan(preset, "a fox").i2v.windows)] == [4, 4]
    marks = [rows[:, -1].mean((1, 2)).tolist() for rows in seen[:2]]
    assert marks == [[1, 0, 0, 0], [0, 0, 0, 0]]
    keyframes = animate(pipeline, params_of(preset, frames=6))
    for part, first in ((0, 1.0), (1, 0.0)):
        params = replace(plan(preset, "a fox", size="128x128").v2v, part=part)
        with first_layer(pipeline.v2v.network.unet) as seen:
            pipeline.v2v(REFERENCE, keyframes, params=params, seed=SEED, report=ignore_progress)
        assert float(seen[0][0, -1].mean()) == first
        assert float(seen[0][1:, -1].abs().max()) == 0
        wanted = encode_reference(pipeline.v2v.network, REFERENCE, params.size)
        assert torch.allclose(seen[0][:, CHANNELS:-1], wanted, atol=1e-5)


def test_the_fast_path_says_what_the_modules_say(preset: Preset, pipeline: LocalPipeline) -> None:
    network, params = pipeline.i2v.network, params_of(preset)
    anchor = encode_reference(network, REFERENCE, SIZE)
    given = guide_request(network, params, REFERENCE, {"reference": REFERENCE.pixels[None]}, FRAMES, anchor)
    latents = torch.randn((1, CHANNELS, FRAMES, 8, 8), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        memory = Memory(
            network.unet, given.speaking(), [given.hints], [given.planes], copies=2, motion=True, steps=1, reuse_every=1
        )
        without_text, with_text = memory.run(0, 0, latents, torch.tensor(500)).chunk(2)
        said = without_text + given.guidance * (with_text - without_text)
        wanted = predict(network, latents, torch.tensor(500), given)
    assert float((said - wanted).abs().max() / wanted.abs().max()) < 2e-5


def test_training_reads_what_sampling_reads(preset: Preset, pipeline: LocalPipeline) -> None:
    """At the highest time, where sampling starts: noise in the same measure, leaning alike, and the same beside it."""
    network, params = pipeline.i2v.network, params_of(preset)
    with first_layer(network.unet) as seen, first_layer(network.unet, "add_embedding.linear_1") as heard:
        animate(pipeline, params)
    anchor, noising = encode_reference(network, REFERENCE, SIZE), Noising(params.denoising, params.prior)
    assert params.prompt == "a fox"
    signal, spread = noising._signal[noising.start], noising._spread[noising.start]
    noise = draw_noise((1, CHANNELS, FRAMES, 8, 8), SEED, "i2v")[0].transpose(0, 1)
    assert noising.start == TRAIN_STEPS - 1
    assert torch.allclose(seen[0][:, :CHANNELS], signal * anchor + spread * noise, atol=1e-4)

    trainee = Trainee(network, [], "bypass", Dropping(0, 0, 0, noise=0))
    clip = torch.randn((1, FRAMES, CHANNELS, 8, 8), generator=torch.Generator().manual_seed(2))
    batch = Batch(clip, torch.empty(0), ("a fox",), anchors=anchor)
    with first_layer(network.unet) as learnt, first_layer(network.unet, "add_embedding.linear_1") as told:
        torch.manual_seed(4)
        trainee.loss(batch, torch.tensor([noising.start]), noising, random.Random(0))
    torch.manual_seed(4)
    drawn = torch.randn_like(clip)[0]
    assert torch.allclose(learnt[0][:, :CHANNELS], signal * anchor + spread * drawn, atol=1e-4)
    assert torch.allclose(learnt[0][:, CHANNELS:], seen[0][:, CHANNELS:], atol=1e-5)
    assert torch.allclose(told[0][0], heard[0][1], atol=1e-5), "the pooled text of the prompt, and the size"


@pytest.mark.parametrize(("changes", "kept"), [({"alone": True}, False), ({}, False), ({}, True)])
def test_pictures_and_dropped_references_are_zeros(
    pipeline: LocalPipeline, changes: dict[str, bool], kept: bool
) -> None:
    trainee = Trainee(pipeline.i2v.network, [], "bypass", Dropping(0, 0 if kept else 1, 0, noise=0))
    latents = torch.ones((1, 1, CHANNELS, 8, 8))
    batch = Batch(latents, torch.empty(0), ("a fox",), anchors=latents[:, 0], **changes)  # type: ignore[arg-type]
    with first_layer(pipeline.i2v.network.unet) as seen:
        trainee.loss(batch, torch.tensor([10]), Noising(TINY.i2v), random.Random(0))
    assert (float(seen[0][:, CHANNELS:].abs().max()) > 0) == kept


def test_noise_on_the_reference_is_at_most_what_was_said(pipeline: LocalPipeline) -> None:
    trainee = Trainee(pipeline.i2v.network, [], "bypass", Dropping(0, 0, 0, noise=0.1))
    latents = torch.zeros((64, 2, CHANNELS, 8, 8))
    torch.manual_seed(0)
    planes = trainee.planes(Batch(latents, torch.empty(0), ("",) * 64, anchors=latents[:, 0]), [True] * 64)
    assert planes is not None
    spread = planes[:, :CHANNELS].std((1, 2, 3, 4))
    assert 0.08 < float(spread.max()) < 0.11
    assert float(spread.min()) < 0.02
    assert torch.equal(planes[:, :CHANNELS, 0], planes[:, :CHANNELS, 1]), "one reference, the same in every frame"


def test_a_unet_that_reads_no_reference_gets_none() -> None:
    unet, noised = make_spatial(), torch.randn(2, CHANNELS, 3, 4, 4)
    assert planes_for(unet, noised[:, :, 0], 3, first=True) is None
    assert put_beside(unet, noised) is noised


def test_the_preset_says_which_unets_fit() -> None:
    narrow = make_spatial()
    check_unet(narrow, parts.TEXT, CHANNELS)
    with pytest.raises(WeightsError, match="reads 16 channels, but with `beside` it reads 33: 16 of the noise"):
        check_unet(narrow, parts.TEXT, CHANNELS, beside=True)


@pytest.mark.slow
def test_its_cost_is_counted_and_what_is_not_redrawn_costs_nothing(preset: Preset) -> None:
    fast, fine = (cost_of(preset, size, 6, "cpu") for size in preset.sizes)
    assert fast["v2v"].flops == 0
    assert fine["v2v"].flops > fine["i2v"].flops > 0
    assert fine["v2v"].weight_bytes == fast["v2v"].weight_bytes
