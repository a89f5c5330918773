"""The one denoising loop that I2V and V2V share.

Takes latents (B, C, F, h, w) and what guides them; gives the latents after the last timestep. Text, appearance tokens
and the control conditions are made once a request. It equals the pipelines of diffusers bit for bit; `report` is called
at every step and may raise to stop. A clip longer than one window is denoised window by window at every step, and what
the windows say about the frames they share is blended before the step is taken. Between two steps it may stop and go on
elsewhere, with the same bytes (`stages.model.sampling.stops`). Knows nothing of where the latents came from.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from stages.base import Report
from stages.model.network.appearance import set_scale
from stages.model.network.control import Hint, add_up
from stages.model.network.memory import Memory, can_remember
from stages.model.network.network import VideoNetwork, bypass_motion
from stages.model.network.reference import put_beside
from stages.model.network.reuse import is_full
from stages.model.network.text import beside_time
from stages.model.sampling.glimpses import Colours
from stages.model.sampling.sampler import draws_noise
from stages.model.sampling.stops import NO_STOPS, Stops
from stages.model.sampling.windows import Span, fuse_weights
from stages.types import UInt8


@dataclass(frozen=True)
class Conditions:
    """What guides one denoising of B requests."""

    text: Tensor  # (2B, L, C): the negatives, then the positives
    image: list[Tensor]  # one (2B, 1, ...): without, then with the reference; none without an appearance encoder
    hints: tuple[Hint, ...]
    guidance: float
    image_scale: float
    motion: bool = True
    added: Mapping[str, Tensor] = field(default_factory=dict)  # beside the time (`text.beside_time`), rows as `text`
    planes: Tensor | None = None  # (B, C + 1, F, h, w) beside the noise (`stages.model.network.reference`)

    @property
    def copies(self) -> int:
        """How often the latents are denoised: for the negatives and the positives, or without guidance once."""
        return 2 if self.guidance > 1 else 1

    def speaking(self) -> tuple[Tensor, list[Tensor], Mapping[str, Tensor]]:
        """Text, image and what is added to the time, of the copies that are denoised."""
        if self.copies == 2:
            return self.text, self.image, self.added
        added = {name: tensor.chunk(2)[1] for name, tensor in self.added.items()}
        return self.text.chunk(2)[1], [tensor.chunk(2)[1] for tensor in self.image], added

    def cut(self, span: Span) -> "Conditions":
        """What guides the frames of `span` alone."""
        hints = tuple(hint.cut(span.start, span.stop) for hint in self.hints)
        return replace(
            self, hints=hints, planes=None if self.planes is None else self.planes[:, :, span.start : span.stop]
        )


def condition(
    network: VideoNetwork,
    prompts: tuple[str, str],
    reference: UInt8,
    size: tuple[int, int],
    *,
    guidance: float,
    image_scale: float,
) -> Conditions:
    """What text and reference say, still without a ControlNet.

    Args:
        prompts: negative, positive.
        reference: (H, W, 3) uint8, for the appearance encoder.
        size: (width, height) in pixels of what is denoised.
    """
    text = network.text.encode(prompts)
    return Conditions(
        text=text.states,
        image=[] if network.appearance is None else network.appearance.encode(reference),
        hints=(),
        guidance=guidance,
        image_scale=image_scale,
        added=beside_time(network.unet, text.pooled, size),
    )


@torch.no_grad()
def denoise(
    network: VideoNetwork,
    latents: Tensor,
    scheduler: Any,
    timesteps: Tensor,
    given: Conditions,
    report: Report,
    *,
    spans: Sequence[Span] = (),
    generator: torch.Generator | None = None,
    reuse_every: int = 1,
    stops: Stops = NO_STOPS,
    colours: Colours | None = None,
) -> Tensor:
    """(B, C, F, h, w) after all `timesteps`.

    Args:
        spans: windows that are fused at every step; none, or one, for the whole clip at once.
        generator: for schedulers that draw noise at every step (LCM).
        reuse_every: 1 is exact; n computes the deep layers at every n-th step only (`stages.model.network.reuse`).
        stops: it may stop before every step that computes all layers, and after the last: never where deep features
            would have to be kept. They are hundreds of times as large as the latents, and at most n - 1 short steps
            later they are computed anew.
        colours: shows every step to a `report` that has a `glimpse`.

    Raises:
        InputError: deep layers cannot be reused in this network.
    """
    frames = latents.shape[2]
    windows = tuple(spans) or (Span(0, frames),)
    weights = torch.from_numpy(fuse_weights(windows, frames)).to(latents)
    conditions = [given.cut(span) for span in windows] if len(windows) > 1 else [given]
    draws = {"generator": generator} if draws_noise(scheduler) else {}
    drawing = [generator] if draws and generator is not None else []
    set_scale(network.unet, given.image_scale)
    memory = Memory(
        network.unet,
        given.speaking(),
        [condition.hints for condition in conditions],
        [condition.planes for condition in conditions],
        copies=given.copies,
        motion=given.motion,
        steps=len(timesteps),
        reuse_every=reuse_every,
    ) if can_remember(network.unet, given.hints, reuse_every) else None  # fmt: skip

    def ask(step: int, t: Tensor, window: int, scaled: Tensor) -> Tensor:
        if memory is None:
            return predict(network, scaled, t, conditions[window])
        with network.products():
            said = memory.run(step, window, scaled, t)
        return _guide(said.to(scaled), given)

    done, total = stops.enter(scheduler, drawing, latents.device), len(timesteps)
    report(done, total)
    for step, t in enumerate(timesteps[done:], done):
        if is_full(step, total, reuse_every):
            stops.reach(step, total, latents, scheduler, drawing, windows)
        scaled = scheduler.scale_model_input(latents, t)
        if len(windows) == 1:
            said = ask(step, t, 0, scaled)
        else:
            said = torch.zeros_like(latents)
            for index, span in enumerate(windows):
                weight = weights[index, span.start : span.stop].view(1, 1, -1, 1, 1)
                part = ask(step, t, index, scaled[:, :, span.start : span.stop])
                said[:, :, span.start : span.stop] += weight * part
        stepped = scheduler.step(said, t, latents, **draws)
        latents = stepped.prev_sample.contiguous()  # as a state gives them back
        if colours is not None:
            colours.show(report, scheduler, stepped)
        report(step + 1, total)
    stops.reach(total, total, latents, scheduler, drawing, windows)
    return latents


def predict(network: VideoNetwork, scaled: Tensor, t: Tensor, given: Conditions) -> Tensor:
    """What the network says about (B, C, F, h, w) at time `t`, guided, by the modules' own `forward`.

    It repeats work that `stages.model.network.fast` does once; `denoise` calls it where that cannot run.
    """
    text, image, added = given.speaking()
    text = text.repeat_interleave(scaled.shape[2], 0)  # (k·B·F, L, C)
    inputs = torch.cat([scaled] * given.copies)
    down, mid = add_up(given.hints, inputs, t, text)
    with network.products(), nullcontext() if given.motion else bypass_motion(network.unet):
        said: Tensor = network.unet(
            put_beside(network.unet, inputs, given.planes),
            t,
            text,
            added_cond_kwargs={"image_embeds": image, **added},
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
        ).sample
    return _guide(said.to(scaled), given)


def _guide(said: Tensor, given: Conditions) -> Tensor:
    """The copies' answers as one; without guidance there is one copy."""
    if given.copies == 1:
        return said
    without, with_text = said.chunk(2)
    return without + given.guidance * (with_text - without)
