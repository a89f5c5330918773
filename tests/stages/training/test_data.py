"""Captions, backgrounds, composition and tokens, on made-up subjects: the real ones are a download of 700 MB."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.model import vae as codec
from stages.training.backgrounds import paint
from stages.training.captions import PLACES, SUBJECTS, TIMES, all_scenes, plain_caption, write_caption
from stages.training.data import Scenes
from stages.training.latents import fill_shelf
from stages.training.recipe_vae import build
from stages.training.tokens import build_tokenizer


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    cache = tmp_path_factory.mktemp("cache")
    (cache / "subjects").mkdir()
    rng = np.random.default_rng(0)
    for code in SUBJECTS.values():
        frames = rng.integers(0, 256, (7, 256, 256, 4)).astype(np.uint8)
        frames[..., 3] = 255
        np.savez(cache / "subjects" / f"{code}.npz", frames=frames)
    return Scenes(cache)


def test_enough_subjects_and_places_and_some_pairs_held_out() -> None:
    assert len(SUBJECTS) >= 12
    assert len(PLACES) >= 4
    held_out = [scene for scene in all_scenes() if scene.held_out]
    assert 0 < len(held_out) < len(all_scenes()) / 5
    assert {scene.subject for scene in all_scenes() if not scene.held_out} == set(SUBJECTS)


def test_captions_name_what_is_shown() -> None:
    rng = random.Random(0)
    for scene in all_scenes():
        assert scene.subject in plain_caption(scene)
        caption = write_caption(scene, rng)
        assert any(words in caption for words in PLACES[scene.place])


@pytest.mark.parametrize("place", PLACES)
def test_places_differ_by_time_and_seed_and_repeat(place: str) -> None:
    pictures = [paint(place, time, 1) for time in TIMES]
    assert all(picture.shape == (256, 256, 3) for picture in pictures)
    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], paint(place, "day", 2))
    assert np.array_equal(pictures[0], paint(place, "day", 1))


@pytest.mark.slow
def test_a_clip_moves_in_front_of_a_still_background(scenes: Scenes) -> None:
    scene = next(scene for scene in scenes.training if scene.subject == "fox")
    clip = scenes.clip(scene, 4, random.Random(3))
    assert clip.shape == (4, 256, 256, 3)
    assert not np.array_equal(clip[0], clip[1])
    assert np.array_equal(clip[0, :24], clip[3, :24])


@pytest.mark.slow
def test_a_shelf_goes_on_where_it_stopped(scenes: Scenes, tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = build().eval()
    first = fill_shelf(scenes, vae, (32, 32), 2, 100, tmp_path)
    stamp = (tmp_path / "000000.npz").stat().st_mtime_ns
    both = fill_shelf(scenes, vae, (32, 32), 2, 200, tmp_path)
    assert (tmp_path / "000000.npz").stat().st_mtime_ns == stamp
    assert (len(first), len(both), both.size) == (100, 200, (32, 32))
    assert tuple(both.latents.shape[1:]) == (2, 16, 2, 2)
    assert torch.equal(first.latents, both.latents[:100])
    assert codec.reduction(vae) == 16


@pytest.mark.parametrize("text", ["", "Ein Käse 日本 🦊 xyzzy", "a" * 5000, "<|endoftext|> fox", "\x00\ufffd"])
def test_no_prompt_crashes_the_tokenizer(tmp_path: Path, text: str) -> None:
    tokenizer = build_tokenizer(tmp_path)
    ids = tokenizer(text, padding="max_length", max_length=32, truncation=True).input_ids
    assert len(ids) == 32
    assert 0 <= min(ids) <= max(ids) < len(tokenizer)


def test_words_of_captions_are_one_token_each(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(tmp_path)
    assert len(tokenizer("A fox in a snowy forest, at dusk").input_ids) == 2 + 9
