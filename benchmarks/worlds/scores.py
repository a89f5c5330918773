"""What tells generated clips from real ones beside the judges: distances of sets, and what moves.

Frechet distances are of the features of EfficientNet-Lite0, whatever the world, so that sets of different worlds are
measured alike; the autoencoder of the wide one learnt beside them. A distance means something only beside that of real
clips to other real ones, of the same number. Takes clips (T, H, W, 3) uint8.
"""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from stages.measures.judged import frechet_distance
from stages.training.default.features import Features, fetch_features
from stages.training.default.judges import see
from stages.training.scenes.fetch import cache_folder
from stages.types import UInt8

__all__ = ["frechet_ratio", "moving_sharpness", "told"]

Floats = NDArray[np.float64]
_KEPT = 64  # directions of a clip's features: few clips would not fill more
_MOVES = 6.0  # grey levels from one frame to the next, of what moves


@cache
def _features() -> Features:
    return fetch_features(cache_folder())


def told(clip: UInt8) -> tuple[Floats, Floats]:
    """Of four frames (4, C), and of the clip (2C,): what it shows on average, and how much of it changes."""
    every = see(_features(), clip).float().mean((-2, -1)).double().numpy()
    places = np.linspace(0, len(clip) - 1, 4).round().astype(int)
    return every[places], np.concatenate([every.mean(0), np.abs(np.diff(every, axis=0)).mean(0)])


def frechet_ratio(made: Floats, real: Floats, more: Floats) -> float:
    """How far `made` is from `real`, (N, D) each, over how far `more`, real ones too, are.

    In the `_KEPT` directions in which `real` varies most.
    """
    _, _, directions = np.linalg.svd(real - real.mean(0), full_matrices=False)
    made, real, more = (some @ directions[:_KEPT].T for some in (made, real, more))
    return frechet_distance(made, real) / frechet_distance(more, real)


def moving_sharpness(clip: UInt8) -> float:
    """Mean absolute second difference across and down, in grey levels, where the clip moves: what smears has little.

    0 where nothing moves.
    """
    grey = torch.from_numpy(clip.mean(-1, dtype=np.float32))
    changed = torch.nn.functional.avg_pool2d(grey.diff(dim=0).abs()[:, None], 5, 1, 2)[:, 0]
    moves = torch.cat([changed[:1], changed]).maximum(torch.cat([changed, changed[-1:]])) > _MOVES
    bend = grey.diff(n=2, dim=1).abs()[:, :, 1:-1] + grey.diff(n=2, dim=2).abs()[:, 1:-1]
    inside = moves[:, 1:-1, 1:-1]
    return float(bend[inside].mean()) if bool(inside.any()) else 0.0
