"""What I2V and V2V compute beside their VAE: what guides a request, and every step of its windows.

Takes a network on the meta device and a stage's parameters; adds passes of the stages' own code to a `Tally`. What a
request computes once is counted once: prompts, the reference, conditions of the ControlNets, keys and values; windows
whose SparseCtrl sees the same share its residuals. Knows nothing of pixels in or out.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.cost.meter import Tally
from stages.model.network.appearance import Appearance, set_scale
from stages.model.network.control import Hint, SparseHint, prepare_hints
from stages.model.network.layers import COUNTED_AS
from stages.model.network.memory import Memory
from stages.model.network.network import VideoNetwork
from stages.model.network.reference import planes_for
from stages.model.network.reuse import is_full
from stages.model.network.text import Text, beside_time
from stages.model.sampling.sampler import build_scheduler, tail_timesteps
from stages.model.sampling.windows import Span
from stages.settings import I2VParams, V2VParams


@dataclass
class Guidance:
    """What speaks to every step of one request, on the meta device."""

    text: Tensor  # (2, L, C)
    image: list[Tensor]  # (2, 1, ...); none without an appearance encoder
    hints: list[Hint]
    added: dict[str, Tensor]  # beside the time, two rows each
    planes: Tensor | None  # (1, C + 1, F, h, w)

    @property
    def nbytes(self) -> int:
        """While it is held."""
        told = [getattr(hint, field.name) for hint in self.hints for field in fields(hint)]  # type: ignore[arg-type]
        return _held(
            self.text,
            *self.image,
            *self.added.values(),
            *([] if self.planes is None else [self.planes]),
            *(value for value in told if isinstance(value, Tensor)),
        )


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Numbers nobody knows."""
    return torch.empty(tuple(shape), dtype=dtype, device="meta")


@contextmanager
def counted_as(device: str) -> Iterator[None]:
    """On a CPU the networks cut their work into chunks: count as it would be there."""
    token = COUNTED_AS.set(torch.device(device).type)
    try:
        yield
    finally:
        COUNTED_AS.reset(token)


def encode_prompts(tally: Tally, encoder: Any, dtype: torch.dtype) -> Text:
    """Of the negative and the positive prompt, as long as they are padded to."""
    context, width = int(encoder.config.max_position_embeddings), int(encoder.config.hidden_size)
    ids = torch.ones((2, context), dtype=torch.long, device="meta")
    tally.add(lambda: encoder(ids)[0])
    return Text(empty((2, context, width), dtype), empty((2, width), dtype))


def guide(tally: Tally, network: VideoNetwork, params: I2VParams | V2VParams, frames: int) -> Guidance:
    """As `stages.model.sampling.video.guide_request`, for `frames` frames."""
    text = encode_prompts(tally, network.text.model, network.dtype)
    image = [] if network.appearance is None else [_look(tally, network.appearance, network.dtype)]
    black = np.zeros((1, 8, 8, 3), np.uint8)
    pictures = {"reference": black, "keyframes": np.repeat(black, frames, 0)}
    hints: list[Hint] = []
    tally.add(
        lambda: hints.extend(prepare_hints(network.controls, params.guide.controls, pictures, params.size, frames))
    )
    height, width = (side // network.reduction for side in params.size[::-1])
    reference = empty((1, network.channels, height, width), network.dtype) if params.guide.latents else None
    added = beside_time(network.unet, text.pooled, params.size)
    return Guidance(text.states, image, hints, added, planes_for(network.unet, reference, frames, first=True))


def _look(tally: Tally, appearance: Appearance, dtype: torch.dtype) -> Tensor:
    """(2, 1, ...): what the appearance encoder makes of the reference."""
    encoder, by_patches = appearance.encoder, appearance.by_patches
    config: Any = encoder.config
    side = int(config.image_size)
    shown = empty((2 if by_patches else 1, 3, side, side), dtype)
    tally.add(lambda: encoder(shown, output_hidden_states=by_patches))
    patches = (side // int(config.patch_size)) ** 2 + 1
    told = (patches, int(config.hidden_size)) if by_patches else (int(config.projection_dim),)
    return empty((2, 1, *told), dtype)


def denoise(
    tally: Tally,
    network: VideoNetwork,
    params: I2VParams | V2VParams,
    given: Guidance,
    spans: Sequence[Span],
    held: int,
    reuse_every: int = 1,
) -> int:
    """All steps of windows that are fused at every step (I2V), or of one (V2V).

    `held` bytes lie beside them. Gives the FLOPs of one full step.
    """
    settings = params.denoising
    scheduler = build_scheduler(settings)
    scheduler.set_timesteps(settings.steps)
    count = len(tail_timesteps(scheduler, params.strength) if isinstance(params, V2VParams) else scheduler.timesteps)
    copies = 2 if settings.guidance > 1 else 1
    frames = max(span.stop for span in spans) - spans[0].start
    set_scale(network.unet, params.guide.image_scale)
    made: list[Memory] = []

    def remember() -> None:
        made.append(
            Memory(
                network.unet,
                (
                    given.text[-copies:],
                    [image[-copies:] for image in given.image],
                    {name: tensor[-copies:] for name, tensor in given.added.items()},
                ),
                [[_cut(hint, span, spans[0].start) for hint in given.hints] for span in spans],
                [None if given.planes is None else given.planes[:, :, : len(span)] for span in spans],
                copies=copies,
                motion=params.motion and not (frames == 1 and params.image_mode == "bypass"),
                steps=count,
                reuse_every=reuse_every,
            )
        )

    tally.add(remember)
    memory, t = made[0], torch.tensor(500)
    latent = [network.channels, *(side // network.reduction for side in params.size[::-1])]
    windows = [empty((1, latent[0], len(span), *latent[1:]), network.dtype) for span in spans]

    def step(index: int) -> None:
        for window, noised in enumerate(windows):
            memory.run(index, window, noised, t)

    shallow = sum(not is_full(index, count, reuse_every) for index in range(count))
    full = tally.add(partial(step, 0), count - shallow, held)
    if shallow:
        tally.add(partial(step, 1), shallow, held)
    asked = [(tokens, tokens.forget()) for tokens in memory.tokens]  # the first step told them, the others know them
    once = tally.add(lambda: [tokens.of(attention) for tokens, known in asked for attention in known], 0)
    tally.flops -= (count - shallow - 1) * once
    return full - once


def _cut(hint: Hint, span: Span, first: int) -> Hint:
    """For the frames of a window; SparseCtrl, which compares numbers, is told which of its frames are equal."""
    cut = hint.cut(span.start - first, span.stop - first)
    if isinstance(cut, SparseHint):
        shown, count = span.start == first, len(span)

        def equals(other: Any) -> bool:
            same = isinstance(other, SparseHint) and (other.model, other.scale) == (cut.model, cut.scale)
            return same and vars(other).get("_shown") == shown and other.mask.shape == cut.mask.shape

        vars(cut).update(_shown=shown, _places=(0, *([1] * (count - 1))), equals=equals)
    return cut


def _held(*tensors: Tensor) -> int:
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())
