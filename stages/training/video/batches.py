"""What a step learns from: a batch of clips or pictures as latents, and where batches come from.

`MixedSource` draws from several sources in turn; `stages.training.tiny.shelves` from the tiny model's shelves,
`stages.training.own_data.sources` from a user's files. Knows nothing of losses.
"""

import random
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """B clips of F frames; pictures are clips of one frame."""

    latents: Tensor  # (B, F, C, h, w) float32, scaled
    references: Tensor  # (B, 3, H, W) in -1..1: the first frames
    captions: tuple[str, ...]
    keyframes: Tensor | None = None  # (B, F, 3, H', W') in -1..1, for a ControlNet that reads each keyframe
    softened: Tensor | None = None  # (B, F, C, h, w): the clips as V2V is given them, from keyframes of the low size
    anchors: Tensor | None = None  # (B, C, h, w): the references' latents, where they are known already
    first: bool = True  # whether the first frame is the reference
    alone: bool = False  # a picture that has no reference

    def __len__(self) -> int:
        return len(self.captions)


class Source(Protocol):
    """An endless supply."""

    def draw(self, count: int, rng: random.Random) -> Batch:
        """`count` samples that `rng` decides."""


class MixedSource:
    """Several sources, each batch from one of them; a source of larger pictures gives a smaller share of the count."""

    def __init__(self, *sources: tuple[Source, float]) -> None:
        self._sources = sources

    def draw(self, count: int, rng: random.Random) -> Batch:
        source, share = rng.choice(self._sources)
        return source.draw(max(1, round(share * count)), rng)
