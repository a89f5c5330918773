"""The pooled text and the size beside the time, as SDXL's UNets hear them: every path says what diffusers' forward
says, for both halves of guidance, and they reach the picture."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
from torch import Tensor

from stages.base import derive_seed, ignore_progress
from stages.model.network import vae as codec
from stages.model.network.appearance import Appearance, split_adapter
from stages.model.network.control import PlainControl, SparseControl, prepare_hints
from stages.model.network.fast import can_run
from stages.model.network.memory import Memory, can_remember
from stages.model.network.network import VideoNetwork, inflate
from stages.model.network.text import TextEncoder
from stages.model.sampling.denoise import Conditions, condition, denoise, predict
from stages.model.sampling.sampler import build_scheduler, draw_noise
from stages.model.sampling.video import guide_request
from stages.model.sampling.windows import Span
from stages.presets import PAPER, TINY, Control, plan
from stages.settings import Guide, T2IParams
from stages.t2i import T2I
from stages.t2i.stage import OwnLoop
from stages.training.video.fresh import renew_control
from stages.training.video.trainee import spatial_of
from stages.types import Image
from tests.stages import random_parts as parts

ROUNDING = 2e-5
SIZE = (48, 40)
PLAIN, SPARSE = Control("plain"), Control("sparse", kind="sparse")
PICTURE = np.random.default_rng(1).integers(0, 256, (SIZE[1], SIZE[0], 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def network() -> VideoNetwork:
    torch.manual_seed(0)
    spatial, vae = parts.make_unet(**parts.TOLD), parts.make_vae().eval()
    unet = inflate(spatial, parts.make_motion())
    appearance = Appearance(parts.make_image_encoder().eval(), split_adapter(parts.global_adapter()))
    appearance.install(unet)
    return VideoNetwork(
        unet=unet.eval().requires_grad_(False),
        vae=vae,
        text=TextEncoder(parts.make_tokenizer(), parts.make_text().eval()),
        appearance=appearance,
        controls={
            "plain": PlainControl(parts.make_control(parts.make_unet()).eval().requires_grad_(False)),
            "sparse": SparseControl(parts.make_sparse().eval().requires_grad_(False), vae),
        },
        max_frames=32,
    )


def guide(network: VideoNetwork, *controls: Control, frames: int = 4, prompts: Any = ("blur", "a fox")) -> Conditions:
    given = condition(network, prompts, PICTURE, SIZE, guidance=5.0, image_scale=0.7)
    return replace(given, hints=prepare_hints(network.controls, controls, {"reference": PICTURE[None]}, SIZE, frames))


def noise(frames: int = 4, batch: int = 1) -> Tensor:
    return torch.randn((batch, 4, frames, 5, 6), generator=torch.Generator().manual_seed(7))


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


@torch.no_grad()
def fast(network: VideoNetwork, given: Conditions, latents: Tensor) -> Tensor:
    """One step by the fast path, guided."""
    assert can_remember(network.unet, given.hints, 1)
    memory = Memory(
        network.unet, given.speaking(), [given.hints], [given.planes],
        copies=given.copies, motion=given.motion, steps=1, reuse_every=1,
    )  # fmt: skip
    said = memory.run(0, 0, latents, torch.tensor(500))
    if given.copies == 1:
        return said
    without, with_text = said.chunk(2)
    return without + given.guidance * (with_text - without)


@contextmanager
def by_modules(network: VideoNetwork) -> Iterator[None]:
    """With a hook as offloading sets them, which makes the loop use the modules' own `forward`."""
    layer = network.unet.mid_block.resnets[0].conv1
    accelerate.hooks.add_hook_to_module(layer, accelerate.hooks.ModelHook())
    try:
        assert not can_run(network.unet)
        yield
    finally:
        accelerate.hooks.remove_hook_from_module(layer)


@pytest.mark.parametrize("controls", [(), (PLAIN, SPARSE)], ids=len)
@pytest.mark.parametrize("change", [{}, {"guidance": 1.0}, {"motion": False}], ids=str)
@pytest.mark.parametrize("frames", [1, 4])
def test_a_step_says_what_the_modules_say(
    network: VideoNetwork, controls: tuple[Control, ...], change: dict[str, Any], frames: int
) -> None:
    given = replace(guide(network, *controls, frames=frames), **change)
    said, wanted = fast(network, given, noise(frames)), predict(network, noise(frames), torch.tensor(500), given)
    assert apart(said, wanted) < ROUNDING


def test_two_requests_at_once_hear_their_own_text(network: VideoNetwork) -> None:
    one, other = guide(network), guide(network, prompts=("dark", "an owl by a lake"))
    sides = [[given.text[side : side + 1] for given in (one, other)] for side in (0, 1)]
    both = replace(
        one,
        text=torch.cat([row for side in sides for row in side]),
        image=[tensor.repeat_interleave(2, 0) for tensor in one.image],
        added={
            key: torch.cat([given.added[key][side : side + 1] for side in (0, 1) for given in (one, other)])
            for key in one.added
        },
    )
    latents = noise(batch=2)
    said = fast(network, both, latents)
    assert apart(said, predict(network, latents, torch.tensor(500), both)) < ROUNDING
    for index, given in enumerate((one, other)):
        assert apart(said[index : index + 1], fast(network, given, latents[index : index + 1])) < ROUNDING


@pytest.mark.parametrize("row", [0, 1])
def test_the_pooled_text_of_each_half_reaches_what_is_said(network: VideoNetwork, row: int) -> None:
    given = guide(network)
    pooled = given.added["text_embeds"].clone()
    pooled[row] = 0
    deaf = replace(given, added={**given.added, "text_embeds": pooled})
    assert apart(fast(network, deaf, noise()), fast(network, given, noise())) > 100 * ROUNDING


@pytest.mark.parametrize("reuse_every", [1, 2])
def test_windows_and_reused_layers_hear_it_too(network: VideoNetwork, reuse_every: int) -> None:
    given = guide(network, PLAIN, frames=6)
    scheduler = build_scheduler(PAPER.i2v)

    def run(given: Conditions, **options: Any) -> Tensor:
        scheduler.set_timesteps(4)
        spans = (Span(0, 4), Span(2, 6))
        steps = scheduler.timesteps
        return denoise(network, noise(6), scheduler, steps, given, ignore_progress, spans=spans, **options)

    made = run(given, reuse_every=reuse_every)
    silent = {**given.added, "text_embeds": torch.zeros_like(given.added["text_embeds"])}
    assert apart(run(replace(given, added=silent), reuse_every=reuse_every), made) > 100 * ROUNDING
    if reuse_every == 1:
        with by_modules(network):
            assert apart(made, run(given)) < 5 * ROUNDING


def test_the_size_is_that_of_what_is_drawn(network: VideoNetwork) -> None:
    params = replace(plan(TINY, "a fox").i2v, size=SIZE, guide=Guide(1.0, ()))
    given = guide_request(network, params, Image(PICTURE), {}, 4)
    assert given.added["time_ids"].tolist() == [[40.0, 48.0]] * 2
    assert torch.equal(given.added["text_embeds"], network.text.encode((params.negative_prompt, params.prompt)).pooled)


def test_a_unet_without_hears_nothing(network: VideoNetwork) -> None:
    plain = inflate(parts.make_unet(), parts.make_motion())
    given = condition(replace(network, unet=plain), ("", "a fox"), PICTURE, SIZE, guidance=5.0, image_scale=0.0)
    assert given.added == {}


def test_the_inflated_unet_has_the_layers_that_were_trained() -> None:
    torch.manual_seed(1)
    spatial = parts.make_unet(**parts.TOLD)
    unet = inflate(spatial, parts.make_motion())
    for one in (unet, spatial_of(unet)):
        for name, tensor in spatial.add_embedding.state_dict().items():
            assert torch.equal(tensor, one.add_embedding.state_dict()[name])


@pytest.mark.parametrize("told", [{}, parts.TOLD], ids=["plain", "told"])
def test_t2i_draws_what_diffusers_forward_says(network: VideoNetwork, told: dict[str, Any]) -> None:
    """Two at once, each with its own texts."""
    torch.manual_seed(2)
    unet = parts.make_unet(**told).eval().requires_grad_(False)
    stage, seeds = T2I(OwnLoop(unet, network.vae, network.text)), (3, 4)
    settings = replace(TINY.t2i, steps=3, scheduler="ddim")
    asked = [
        T2IParams(prompt, negative, SIZE, settings) for prompt, negative in (("a fox", "blur"), ("an owl", "dark"))
    ]
    made = stage.batch(list(zip(asked, seeds, strict=True)), ignore_progress)
    scheduler = build_scheduler(settings)
    scheduler.set_timesteps(3)
    for params, seed, picture in zip(asked, seeds, made, strict=True):
        text = network.text.model(
            network.text.tokenizer(
                [params.negative_prompt, params.prompt], padding="max_length", max_length=16, return_tensors="pt"
            ).input_ids
        )
        more = {"text_embeds": text.pooler_output, "time_ids": torch.tensor([[40.0, 48.0]] * 2)} if told else None
        latents = draw_noise((1, 4, 5, 6), seed, "t2i") * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            pair = scheduler.scale_model_input(torch.cat([latents] * 2), t)
            with torch.no_grad():
                said = unet(pair, t, text.last_hidden_state, added_cond_kwargs=more).sample
            without, with_text = said.chunk(2)
            generator = torch.Generator().manual_seed(derive_seed(seed, "t2i", "steps"))
            guided = without + settings.guidance * (with_text - without)
            latents = scheduler.step(guided, t, latents, generator=generator).prev_sample
        wanted = codec.decode(network.vae, latents)[0]
        assert int(np.abs(picture.pixels.astype(int) - wanted).max()) <= 1


def test_a_new_controlnet_beside_such_a_unet_hears_no_text(network: VideoNetwork) -> None:
    own = replace(network, controls={})
    renew_control(own, "plain", parts.make_unet(**parts.TOLD))
    given = guide(own, PLAIN)
    with torch.no_grad():
        assert apart(fast(own, given, noise()), predict(own, noise(), torch.tensor(500), given)) < ROUNDING
