"""What is asked of the tiny model, and how rows become figures; the videos themselves take hours."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import quality
from benchmarks.tools import prompts
from benchmarks.worlds.scores import frechet_ratio, moving_sharpness
from benchmarks.worlds.tables import Measured, figures_of, summary
from benchmarks.worlds.worlds import AXES, First, Seen, Wide, world_of
from stages.presets import TINY, WEIGHTS
from stages.training.scenes.captions import MOTIONS, PLACES, SUBJECTS
from stages.words import load_vocabulary

WORLD = First()


def rows(count: int, **values: Any) -> list[Measured]:
    row: dict[str, Any] = {"subject": True, "place": True, "motion": False, "style": True, "last": True, "worst": False}
    row |= {"energy": 2.0, "flicker": 3.0, "smear": 4.0, "first_frame_db": 25.0, "sharpness_ratio": 1.5, **values}
    return [(row, {"thumbnail": np.full((4, 32, 32, 3), index, np.uint8)}) for index in range(count)]


def test_only_held_out_scenes_are_asked_for_and_all_names_alike() -> None:
    scenes = WORLD.asked()
    assert len(set(scenes)) == WORLD.scenes
    assert all(scene.held_out and not prompts.seen_before(scene) for scene in scenes)
    assert scenes == WORLD.asked()
    for names, axis in ((SUBJECTS, "subject"), (PLACES, "place"), (MOTIONS, "motion")):
        counts = Counter(getattr(scene, axis) for scene in scenes)
        assert set(counts) == set(names)
        assert max(counts.values()) - min(counts.values()) <= 2, axis


def test_the_wide_world_asks_for_held_out_scenes_too_and_all_places_and_motions_alike() -> None:
    scenes, world = Wide().asked(), Wide()
    assert len(set(scenes)) == world.scenes
    assert all(scene.held_out for scene in scenes)
    assert len({scene.subjects for scene in scenes}) == world.scenes
    for axis in ("place", "motion", "style"):
        counts = Counter(world.names(scene)[axis] for scene in scenes)
        assert max(counts.values()) - min(counts.values()) <= 2, axis


def test_the_vocabulary_names_the_world_and_its_prompts_are_read_without_a_loss() -> None:
    assert isinstance(world_of(TINY), First)
    wide = replace(TINY, vocabulary="scenes/words.json")
    assert isinstance(world_of(wide), Wide)
    words = load_vocabulary(WEIGHTS / wide.vocabulary)
    for scene in Wide().asked():
        assert not words.read(Wide().prompt(scene)).note, Wide().prompt(scene)


def test_a_subject_is_judged_in_every_frame() -> None:
    wanted = {"subject": "fox", "place": "city", "motion": "walking", "style": "oil"}
    seen = Seen({**wanted, "place": "beach"}, ("fox", "dog", "fox"))
    assert seen.beside(wanted) == {
        "subject": True, "place": False, "motion": True, "style": True, "last": True, "worst": False
    }  # fmt: skip
    assert set(AXES) == set(wanted)


def test_what_smears_is_told_where_it_moves_and_a_set_of_real_clips_is_as_near_as_another() -> None:
    rng = np.random.default_rng(0)
    still = np.zeros((4, 64, 64, 3), np.uint8)
    sharp = still.copy()
    sharp[:, :, :32] = 255 * (np.arange(32) // 2 % 2)[None, None, :, None]  # a fence that stands
    for at in range(4):
        sharp[at, 20:40, 36 + 4 * at : 44 + 4 * at] = rng.integers(0, 255, (20, 8, 3))
    soft = sharp.copy()
    soft[:, :, 34:] = soft[:, :, 34:].mean((2, 3), keepdims=True).astype(np.uint8)
    assert moving_sharpness(still) == 0
    assert moving_sharpness(sharp) > 5 * moving_sharpness(soft)
    real, more, made = (rng.normal(0, 1, (400, 100)) + gap for gap in (0, 0, 0.5))
    assert 0.5 < frechet_ratio(more, real, rng.normal(0, 1, (400, 100))) < 2
    assert frechet_ratio(made, real, more) > 3


def test_a_scene_has_the_same_seed_in_every_setting() -> None:
    full = quality.jobs_of("full", WORLD.videos, WORLD.scenes, Path("home"), None)
    few = quality.jobs_of("ControlNet", quality.ABLATION_VIDEOS, quality.ABLATION_SCENES, Path("home"), None)
    seeds = {(job.scene, job.seed) for job in full}
    assert len(seeds) == WORLD.videos
    assert {(job.scene, job.seed) for job in few} <= seeds
    assert len({job.file for job in (*full, *few)}) == WORLD.videos + quality.ABLATION_VIDEOS


def test_figures_stand_beside_real_clips() -> None:
    made = summary(rows(10), 8)
    real = summary(rows(10, energy=4.0, flicker=1.5, first_frame_db=None, sharpness_ratio=None, smear=5.0), 8)
    figures = figures_of(made, real)
    assert figures["subject_top1"] == 1
    assert figures["motion_top1"] == 0
    assert (figures["subject_last_frame"], figures["subject_worst_frame"], figures["smear_ratio"]) == (1, 0, 0.8)
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
