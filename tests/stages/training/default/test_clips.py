"""I2V's recipe of the next default model, narrow: what it begins with says what T2I said, learns, saves, goes on."""

import random
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import MotionAdapter, UNet2DConditionModel

from stages.base import InputError
from stages.model.network.reference import put_beside
from stages.model.network.text import beside_time
from stages.presets import TINY
from stages.training.default.autoencoder import build as build_vae
from stages.training.default.clips import TARGETS, ClipSource, PictureSource, build, build_motion, keep_start, widened
from stages.training.default.shelf import ClipShelf, write_scenes
from stages.training.loop.loop import Options, Schedule
from stages.training.loop.muon import Muon
from stages.training.scenes.sentences import Scene
from stages.training.video.noising import Noising
from stages.training.video.recipe import VideoRecipe, train_video
from stages.training.video.trainee import Trainee
from tests.stages import random_parts as parts
from tests.stages.mechanisms.beside_parts import CHANNELS, WIDTHS, make_spatial

SCENES = [Scene(("fox",), "beach"), Scene(("owl", "owl"), "forest", motion="walking", style="oil")]


def make_trainee() -> Trainee:
    torch.manual_seed(0)
    motion = build_motion(WIDTHS, heads=2, groups=8)
    return build(make_spatial(), motion, parts.make_text(), parts.make_tokenizer(), build_vae(widths=(16,)))


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    random_numbers = np.random.default_rng(0)
    clips = random_numbers.standard_normal((2, 12, CHANNELS, 4, 4)).astype(np.float16)
    np.save(tmp_path / "000000.npy", clips)
    write_scenes(SCENES, tmp_path / "000000.jsonl")
    return tmp_path


def test_a_widened_unet_says_what_it_said() -> None:
    torch.manual_seed(0)
    unet = make_spatial().eval()
    wide = widened(unet).eval()
    noised, text = torch.randn(2, CHANNELS, 8, 8), torch.randn(2, 5, parts.TEXT)
    added = beside_time(unet, torch.randn(2, parts.TEXT), (64, 64))
    with torch.no_grad():
        wanted = unet(noised, 500, text, added_cond_kwargs=added).sample
        for planes in (None, torch.randn(2, CHANNELS + 1, 8, 8)):
            said = wide(put_beside(wide, noised, planes), 500, text, added_cond_kwargs=added).sample
            assert torch.allclose(said, wanted, atol=1e-5)


def test_batches_are_whole_clips_or_later_windows_and_know_their_reference(shelf: Path) -> None:
    source, known = ClipSource(ClipShelf(shelf)), np.load(shelf / "000000.npy").astype(np.float32)
    batches = [source.draw(2, random.Random(seed)) for seed in range(60)]
    later = [batch for batch in batches if not batch.first]
    assert 5 < len(later) < 30
    assert {batch.latents.shape[1] for batch in batches if batch.first} == {12}
    assert {batch.latents.shape[1] for batch in later} == {10}
    for batch in batches:
        assert batch.anchors is not None
        assert all(any(np.array_equal(anchor, clip[0]) for clip in known) for anchor in batch.anchors.numpy())
    assert all(torch.equal(batch.latents[:, 0], batch.anchors) for batch in batches if batch.first)  # type: ignore[arg-type]
    assert {scene.subjects[0] for scene in SCENES} == {"fox", "owl"}


def test_pictures_are_clips_of_one_frame_without_a_reference(tmp_path: Path) -> None:
    np.save(tmp_path / "000000.npy", np.ones((2, CHANNELS, 4, 4), np.float16))
    write_scenes(SCENES, tmp_path / "000000.jsonl")
    batch = PictureSource.open(tmp_path).draw(3, random.Random(0))
    assert batch.latents.shape == (3, 1, CHANNELS, 4, 4)
    assert batch.alone
    assert batch.anchors is None
    assert asdict(SCENES[0])["subjects"] == ("fox",)


@pytest.mark.slow
def test_it_learns_saves_and_goes_on_bit_for_bit(shelf: Path, tmp_path: Path) -> None:
    def run(work: Path, *stops: int) -> Trainee:
        for steps in stops:
            trainee = make_trainee()
            pictures = PictureSource([np.ones((2, CHANNELS, 4, 4), np.float16)], SCENES)
            recipe = VideoRecipe("clips", TARGETS, ClipSource(ClipShelf(shelf)), 2, pictures, 3, 0.3)
            options = Options(precision="bf16", optimizer=Muon)
            schedule = Schedule(8, 2e-3, warmup=2, every=4)
            noising = Noising(TINY.i2v, TINY.prior)
            if steps < 8:
                with pytest.raises(KeyboardInterrupt):
                    train_video(trainee, recipe, noising, schedule, work, options=stopping(options, steps))
            else:
                train_video(trainee, recipe, noising, schedule, work, options=options)
        return trainee

    def stopping(options: Options, at: int) -> Options:
        def stop(step: int) -> None:
            if step == at:
                raise KeyboardInterrupt

        return Options(precision=options.precision, optimizer=options.optimizer, sample=stop, sample_every=1)

    whole, halves = run(tmp_path / "whole", 8), run(tmp_path / "halves", 5, 8)
    for one, other in zip(whole.network.unet.parameters(), halves.network.unet.parameters(), strict=True):
        assert torch.equal(one, other)
    fresh = make_trainee().network.unet
    moved = {
        name
        for (name, one), other in zip(whole.network.unet.named_parameters(), fresh.parameters(), strict=True)
        if not torch.equal(one, other)
    }
    assert any("motion_modules" in name for name in moved)
    assert {"conv_in.weight", "add_embedding.linear_1.weight"} <= moved
    whole.save(TARGETS, tmp_path / "out", {"spatial": "unet"}, torch.float32)
    unet = UNet2DConditionModel.from_pretrained(tmp_path / "out" / "unet")
    assert torch.equal(unet.conv_in.weight, whole.network.unet.conv_in.weight)
    assert MotionAdapter.from_pretrained(tmp_path / "out" / "motion").config.motion_max_seq_length == 32


def test_what_t2i_had_is_kept_though_it_goes_on(tmp_path: Path) -> None:
    pictures, work = tmp_path / "pictures", tmp_path / "clips"
    with pytest.raises(InputError, match=r"no weights in .*finished yet; wait for them, or begin with `--from newest`"):
        keep_start(pictures, work, "finished")
    for folder in ("tokenizer", "newest/unet", "newest/text_encoder"):
        (pictures / folder).mkdir(parents=True)
        (pictures / folder / "weights").write_text("first")
    kept = keep_start(pictures, work, "newest")
    (pictures / "newest" / "unet" / "weights").write_text("later")
    assert keep_start(pictures, work, "newest") == kept
    assert (kept / "unet" / "weights").read_text() == "first"
    assert (kept / "tokenizer" / "weights").read_text() == "first"
