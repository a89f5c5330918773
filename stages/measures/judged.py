"""Frechet distance of two sets of clips on features of our own judges (`stages.training.tiny.judges`).

The same formula as FID and FVD, on other features: small classifiers that have seen nothing but the made-up world of
the tiny weights. So it bears their name and is compared with no published FID or FVD; of few clips it is too large.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Features = tuple[Floats, Floats]


def frechet_distance(one: Floats, other: Floats) -> float:
    """Of two sets of features (N, D), each taken as a normal distribution: |m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^1/2)."""
    means = one.mean(axis=0) - other.mean(axis=0)
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    roots = np.sqrt(np.linalg.eigvals(first @ second).astype(np.complex128)).real.sum()
    return max(0.0, float(means @ means + np.trace(first) + np.trace(second) - 2 * roots))


def of_judges(one: Sequence[Features], other: Sequence[Features]) -> dict[str, float]:
    """Of frames and of whole clips, from what `Judges.features` gives of each clip."""
    (frames, clips), (other_frames, other_clips) = (_stacked(some) for some in (one, other))
    return {
        "frame_frechet_judges": frechet_distance(frames, other_frames),
        "video_frechet_judges": frechet_distance(clips, other_clips),
    }


def _stacked(found: Sequence[Features]) -> Features:
    """Four rows a clip, and one."""
    return np.concatenate([frames for frames, _ in found]), np.stack([clip for _, clip in found])
