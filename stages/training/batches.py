"""What a step learns from: a batch of clips or pictures as latents, and where batches come from.

`ShelfSource` draws from the tiny model's shelves, `MixedSource` from several sources in turn; `stages.training.sources`
from a user's files. Knows nothing of losses.
"""

import random
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn import functional as F

from stages.training.captions import write_caption
from stages.training.latents import Shelf


@dataclass(frozen=True)
class Batch:
    """B clips of F frames; pictures are clips of one frame."""

    latents: Tensor  # (B, F, C, h, w) float32, scaled
    references: Tensor  # (B, 3, H, W) in -1..1: the first frames
    captions: tuple[str, ...]
    keyframes: Tensor | None = None  # (B, F, 3, H', W') in -1..1, for a ControlNet that reads each keyframe
    softened: Tensor | None = None  # (B, F, C, h, w): the clips as V2V is given them, from keyframes of the low size

    def __len__(self) -> int:
        return len(self.captions)


class Source(Protocol):
    """An endless supply."""

    def draw(self, count: int, rng: random.Random) -> Batch:
        """`count` samples that `rng` decides."""


class ShelfSource:
    """Composed scenes; half of the batches have references that are blurred as a decoder blurs."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def draw(self, count: int, rng: random.Random) -> Batch:
        shelf = self._shelf
        chosen = [rng.randrange(len(shelf)) for _ in range(count)]
        references = shelf.references[chosen].float() / 127.5 - 1
        if rng.random() < 0.5:
            blurred = F.avg_pool2d(F.pad(references, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
            references = references.lerp(blurred, rng.random())
        captions = tuple(write_caption(shelf.scenes[index], rng) for index in chosen)
        softened = None if shelf.softened is None else shelf.softened[chosen].float()
        return Batch(shelf.latents[chosen].float(), references, captions, softened=softened)


class MixedSource:
    """Several sources, each batch from one of them; a source of larger pictures gives a smaller share of the count."""

    def __init__(self, *sources: tuple[Source, float]) -> None:
        self._sources = sources

    def draw(self, count: int, rng: random.Random) -> Batch:
        source, share = rng.choice(self._sources)
        return source.draw(max(1, round(share * count)), rng)
