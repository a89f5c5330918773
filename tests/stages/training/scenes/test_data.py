"""Captions, backgrounds, composition and tokens, on made-up subjects: the real ones are a download of 700 MB."""

import random
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from stages.model.network import vae as codec
from stages.model.network.pictures import resize_frames
from stages.training.scenes.backgrounds import paint
from stages.training.scenes.captions import (
    MOTIONS,
    PLACES,
    STYLES,
    SUBJECT_WORDS,
    SUBJECTS,
    TIMES,
    Scene,
    all_scenes,
    plain_caption,
    write_caption,
)
from stages.training.scenes.data import Scenes
from stages.training.scenes.styles import apply_style
from stages.training.tiny.shelves import ShelfSource, fill_shelf, fill_windows
from stages.training.tiny.tokens import build_tokenizer
from stages.training.tiny.vae import build
from stages.types import UInt8
from tests.stages.training.made_up import fill_subjects


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    cache = tmp_path_factory.mktemp("cache")
    fill_subjects(cache)
    return Scenes(cache)


def test_the_vocabulary_and_what_is_held_out_of_it() -> None:
    assert (len(SUBJECTS), len(PLACES), len(MOTIONS), len(STYLES)) == (64, 10, 5, 3)
    assert len(set(SUBJECTS.values())) == len(SUBJECTS)
    scenes = all_scenes()
    triples = {(scene.subject, scene.place, scene.motion): scene.held_out for scene in scenes}
    assert all(scene.held_out == triples[scene.subject, scene.place, scene.motion] for scene in scenes)
    assert 0.27 < sum(triples.values()) / len(triples) < 0.33
    known = [scene for scene in scenes if not scene.held_out]
    assert {scene.subject for scene in known} == set(SUBJECTS)
    assert {(scene.place, scene.motion) for scene in known} == {
        (place, motion) for place in PLACES for motion in MOTIONS
    }


def test_captions_name_what_is_shown() -> None:
    rng = random.Random(0)
    for scene in all_scenes()[::7]:
        plain, caption = plain_caption(scene), write_caption(scene, rng)
        assert scene.subject in plain
        assert (scene.style == "3d") == ("oil" not in plain and "pencil" not in plain)
        assert ("camera" in plain) == (scene.motion == "zoom")
        assert any(word in caption for word in SUBJECT_WORDS.get(scene.subject, (scene.subject,)))
        assert "  " not in caption


def test_captions_read_as_sentences() -> None:
    assert plain_caption(Scene("owl", "snowy forest", "dusk", "walking", "oil")) == (
        "an owl walking through a snowy forest at dusk, oil painting style"
    )
    assert plain_caption(Scene("unicorn", "lake", "day", "zoom")) == "a unicorn at a lake by day, the camera zooms in"
    rabbit = Scene("rabbit", "snowy forest", "dusk", "walking", "oil")
    for seed in range(100):
        said = write_caption(rabbit, random.Random(seed))
        assert re.search(r"(rabbit|bunny|hare) (walking|moving|wandering|strolling) .*(snow|winter)", said), said
        assert re.search(r", (oil painting( style)?|painted in oil)\.?$", said), said


@pytest.mark.parametrize("place", PLACES)
def test_places_differ_by_time_and_seed_and_repeat(place: str) -> None:
    pictures = [paint(place, time, 1) for time in TIMES]
    assert all(picture.shape == (256, 256, 3) for picture in pictures)
    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], paint(place, "day", 2))
    assert np.array_equal(pictures[0], paint(place, "day", 1))


@pytest.mark.slow
def test_a_clip_moves_in_front_of_a_still_background(scenes: Scenes) -> None:
    clip = scenes.clip(Scene("fox", "beach", "day"), 4, random.Random(3))
    assert clip.shape == (4, 256, 256, 3)
    assert not np.array_equal(clip[0], clip[1])
    assert np.array_equal(clip[0, :24], clip[3, :24])


def spots(clip: UInt8, background: UInt8) -> list[tuple[float, float]]:
    """Where the middle of what covers the background is, frame by frame."""
    found = []
    for frame in clip:
        y, x = np.nonzero((frame != background).any(-1)[:200])
        found.append((float(x.mean()), float(y.mean())))
    return found


@pytest.mark.slow
def test_every_motion_is_what_its_name_says(scenes: Scenes) -> None:
    def of(motion: str) -> list[tuple[float, float]]:
        rng = random.Random(5)
        paintings = {variant: paint("lake", "day", variant) for variant in range(8)}
        clip = scenes.clip(Scene("robot", "lake", "day", motion), 16, rng)
        nearest = min(paintings.values(), key=lambda painting: int((clip[0] != painting).sum()))
        return spots(clip, nearest)

    still, walking, jumping, floating = (of(motion) for motion in ("still", "walking", "jumping", "floating"))
    assert max(abs(x - still[0][0]) + abs(y - still[0][1]) for x, y in still) < 2
    steps = [after[0] - before[0] for before, after in pairwise(walking)]
    assert len({step > 0 for step in steps}) == 1
    heights = [jumping[0][1] - y for _, y in jumping]
    assert max(heights) - min(heights) > 25
    assert abs(heights[8]) < 2
    assert floating[0][1] < still[0][1] - 10


@pytest.mark.slow
def test_the_camera_comes_closer(scenes: Scenes) -> None:
    clip = scenes.clip(Scene("snail", "castle", "day", "zoom"), 9, random.Random(1))
    small = np.asarray(PIL.Image.fromarray(clip[8]).resize((220, 220)))
    inner = clip[0, 18:238, 18:238]
    far = np.abs(small[:40].astype(int) - inner[:40]).mean()
    assert far < np.abs(clip[8, 18:58, 18:238].astype(int) - inner[:40]).mean()


@pytest.mark.slow
def test_styles_change_the_picture_and_nothing_that_stands_still_flickers(scenes: Scenes) -> None:
    plain = scenes.clip(Scene("cow", "farm", "day"), 3, random.Random(2))
    made = {style: apply_style(style, plain) for style in STYLES}
    assert made["3d"] is plain
    for style in ("oil", "pencil"):
        assert made[style].shape == plain.shape
        assert np.abs(made[style].astype(int) - plain).mean() > 2
        assert np.array_equal(made[style][0, :20], made[style][2, :20])
    colours = made["pencil"].astype(int)
    assert (colours.max(-1) - colours.min(-1)).max() < 20
    edges = [np.abs(np.diff(clip.astype(int), axis=2)).mean() for clip in (made["oil"], plain)]
    assert edges[0] < edges[1]
    with pytest.raises(ValueError, match="no style 'cubism'"):
        apply_style("cubism", plain)


@pytest.mark.slow
def test_a_shelf_goes_on_where_it_stopped(scenes: Scenes, tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = build().eval()
    first = fill_shelf(scenes, vae, (32, 32), 2, 8, tmp_path, part=8)
    stamp = (tmp_path / "000000.npz").stat().st_mtime_ns
    both = fill_shelf(scenes, vae, (32, 32), 2, 16, tmp_path, part=8)
    assert (tmp_path / "000000.npz").stat().st_mtime_ns == stamp
    assert (len(first), len(both), both.references.shape[1:]) == (8, 16, (3, 32, 32))
    assert tuple(both.latents.shape[1:]) == (2, 16, 2, 2)
    assert torch.equal(first.latents, both.latents[:8])
    assert codec.reduction(vae) == 16
    bare = fill_shelf(scenes, vae, (32, 32), 2, 8, tmp_path / "bare", references=False, part=8)
    assert torch.equal(bare.latents, first.latents)
    assert bare.references.numel() == 0


@pytest.mark.slow
def test_a_shelf_of_windows_has_what_v2v_is_given_for_them(scenes: Scenes, tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae, sizes = build().eval(), ((16, 16), (32, 32))
    made = fill_windows(scenes, vae, sizes, 3, 8, tmp_path, length=2, part=8)
    assert made.softened is not None
    assert (len(made), made.references.shape[1:]) == (8, (3, 32, 32))
    assert made.latents.shape == made.softened.shape == (8, 2, 16, 2, 2)
    assert not torch.allclose(made.latents, made.softened)
    batch = ShelfSource(made).draw(3, random.Random(1))
    assert batch.softened is not None
    assert batch.softened.shape == batch.latents.shape

    rng, starts = random.Random(f"{sizes}/3/2/000000"), set()
    for index in range(6):  # the same clips once more: their first frame is the reference, wherever the window begins
        clip, _, scene = scenes.sample(3, rng)
        begin = rng.choice((0, 1))
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            real = codec.encode(vae, codec.to_tensor(resize_frames(clip[begin : begin + 2], (32, 32))))
        if rng.random() < 0.5:
            rng.random()
        starts.add(begin)
        assert made.scenes[index] == scene
        assert torch.equal(made.latents[index], real.to(torch.float16))
        assert np.array_equal(made.references[index].permute(1, 2, 0).numpy(), resize_frames(clip[:1], (32, 32))[0])
    assert starts == {0, 1}
    assert torch.equal(fill_windows(scenes, vae, sizes, 3, 8, tmp_path, length=2, part=8).softened, made.softened)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "Ein Käse 日本 🦊 xyzzy", "a" * 5000, "<|endoftext|> fox", "\x00\ufffd"])
def test_no_prompt_crashes_the_tokenizer(tmp_path: Path, text: str) -> None:
    tokenizer = build_tokenizer(tmp_path)
    ids = tokenizer(text, padding="max_length", max_length=32, truncation=True).input_ids
    assert len(ids) == 32
    assert 0 <= min(ids) <= max(ids) < len(tokenizer)


def test_words_of_captions_are_one_token_each(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(tmp_path)
    assert len(tokenizer("A fox in a snowy forest, at dusk").input_ids) == 2 + 9
