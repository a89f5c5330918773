"""What is asked of the tiny model, and how rows become figures; the videos themselves take hours."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import quality
from benchmarks.tools import prompts
from stages.presets import TINY
from stages.training.scenes.captions import MOTIONS, PLACES, SUBJECTS

Rows = list[tuple[dict[str, Any], Any]]


def rows(count: int, **values: Any) -> Rows:
    row = {"subject": True, "place": True, "motion": False, "style": True, "energy": 2.0, "flicker": 3.0}
    row |= {"first_frame_db": 25.0, "sharpness_ratio": 1.5, **values}
    return [(row, np.full((4, 32, 32, 3), index, np.uint8)) for index in range(count)]


def test_only_held_out_scenes_are_asked_for_and_all_names_alike() -> None:
    scenes = prompts.asked(quality.SCENES)
    assert len(set(scenes)) == quality.SCENES
    assert all(scene.held_out and not prompts.seen_before(scene) for scene in scenes)
    assert scenes == prompts.asked(quality.SCENES)
    for names, axis in ((SUBJECTS, "subject"), (PLACES, "place"), (MOTIONS, "motion")):
        counts = Counter(getattr(scene, axis) for scene in scenes)
        assert set(counts) == set(names)
        assert max(counts.values()) - min(counts.values()) <= 2, axis


def test_a_scene_has_the_same_seed_in_every_setting() -> None:
    full = quality.jobs_of("full", quality.VIDEOS, quality.SCENES, Path("home"), None)
    few = quality.jobs_of("ControlNet", quality.ABLATION_VIDEOS, quality.ABLATION_SCENES, Path("home"), None)
    seeds = {(job.scene, job.seed) for job in full}
    assert len(seeds) == quality.VIDEOS
    assert {(job.scene, job.seed) for job in few} <= seeds
    assert len({job.file for job in (*full, *few)}) == quality.VIDEOS + quality.ABLATION_VIDEOS


def test_figures_stand_beside_real_clips() -> None:
    made = quality.summary(rows(10), 8)
    real = quality.summary(rows(10, energy=4.0, flicker=1.5, first_frame_db=None, sharpness_ratio=None), 8)
    figures = quality.figures_of(made, real)
    assert figures["subject_top1"] == 1
    assert figures["motion_top1"] == 0
    assert (figures["motion_energy_ratio"], figures["flicker_ratio"]) == (0.5, 2.0)
    assert (figures["first_frame_psnr_db"], figures["sharpness_ratio"]) == (25, 1.5)
    assert figures["diversity_ratio"] == 1  # rows 8 and 9 are rows 0 and 1 again, eight levels away


@pytest.mark.parametrize("part", quality.ABLATIONS)
def test_an_ablation_takes_one_mechanism_away(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGICVIDEO_CACHE", str(tmp_path))
    preset = quality.setting(part)
    if part in ("joint image training", "feedback"):
        assert preset is None
        (tmp_path / f"tiny-{len(SUBJECTS)}" / "ablations" / part.replace(" ", "-") / "motion").mkdir(parents=True)
        preset = quality.setting(part)
        assert preset is not None
        assert preset.parts["motion"].source.endswith("motion")
    assert preset is not None
    assert preset != TINY
