"""The noise of a whole clip for pipelines that draw that of one window: neighbours agree where they overlap.

Pipelines of diffusers draw their first latents with `randn_tensor`. While a window is made, the first draw of a video's
latents is replaced by the window's share of the clip's noise, as the built-in V2V slices its own. Exact where the
window begins at a multiple of the VAE's frames a latent, which `HubRedrawer.widen` sees to. Knows nothing of windows.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_NAME = "randn_tensor"


@dataclass
class Share:
    """`length` latent frames from `start` on, of `total`, of the noise that `generator` draws for a clip.

    What a pipeline asks for beyond them (VACE: for its reference) comes first, the same for every window.
    """

    start: int
    length: int
    total: int
    generator: torch.Generator
    axis: int = 2  # of time: (B, C, F, h, w); some draw (B, F, C, h, w)
    taken: bool = False


_share: ContextVar[Share | None] = ContextVar("share", default=None)


@contextmanager
def shared_noise(pipeline: Any, share: Share | None) -> Iterator[None]:
    """While `pipeline` is called, its first draw of five dimensions is this share."""
    module = sys.modules[type(pipeline).__module__]
    draw = getattr(module, _NAME, None)
    if draw is not None and not hasattr(draw, "of_a_share"):
        setattr(module, _NAME, _sharing(draw))
    token = _share.set(share)
    try:
        yield
    finally:
        _share.reset(token)


def _sharing(draw: Any) -> Any:
    """`randn_tensor` as the module imported it, but for who has set a share: of this thread alone."""

    def drawn(shape: Any, *arguments: Any, **options: Any) -> Tensor:
        share = _share.get()
        if share is None or share.taken or len(shape) != 5:
            made: Tensor = draw(shape, *arguments, **options)
            return made
        share.taken = True
        more, axis = shape[share.axis] - share.length, share.axis
        whole = [*shape[:axis], more + share.total, *shape[axis + 1 :]]
        noise = torch.randn(whole, generator=share.generator, dtype=options.get("dtype") or torch.float32)
        own = noise.narrow(axis, more + min(share.start, share.total - share.length), share.length)
        return torch.cat([noise.narrow(axis, 0, more), own], axis).to(options.get("device") or "cpu")

    drawn.of_a_share = True  # type: ignore[attr-defined]
    return drawn
