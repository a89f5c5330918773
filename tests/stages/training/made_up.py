"""Made-up subjects in the place of the real ones, which are a download of 700 MB."""

from pathlib import Path

import numpy as np

from stages.training.scenes.captions import SUBJECTS


def fill_subjects(cache: Path) -> None:
    """A noisy animation of seven frames a subject, where `stages.training.scenes.fetch` keeps them."""
    (cache / "subjects").mkdir()
    rng = np.random.default_rng(0)
    for code in SUBJECTS.values():
        frames = rng.integers(0, 256, (7, 256, 256, 4)).astype(np.uint8)
        frames[..., 3] = 255
        np.savez(cache / "subjects" / f"{code}.npz", frames=frames)
