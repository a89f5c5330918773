"""The autoencoder's recipe on made-up sprites: the store, crops, styles, the perceptual loss, and a loss that falls."""

import io
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import AutoencoderKL
from torch import nn

from stages.model.network import vae as codec
from stages.training.default.autoencoder import Pair, Recipe, build, loss_function, measure, save, widen_norms
from stages.training.default.features import Features, perceptual_loss
from stages.training.loop.loop import Schedule, train
from stages.training.scenes import fetch
from stages.training.scenes import sprites as store_of
from stages.training.scenes.backgrounds import PAINTED
from stages.training.scenes.captions import TIMES
from stages.training.scenes.composing import Pictures
from stages.training.scenes.crops import VARIANTS, Composer
from stages.training.scenes.sentences import Scene
from stages.training.scenes.sprites import Sprite, SpriteStore
from stages.training.scenes.styles import DRAWN, apply_style
from stages.types import UInt8
from tests.stages.training.packages import pack

SMALL = Recipe(crop_px=64, crops=2, whole_px=64, wholes=2, heard=2)


@pytest.fixture(scope="module")
def store() -> SpriteStore:
    """Discs of one colour each, half as wide as their frame, in two poses."""
    y, x = np.mgrid[-1:1:256j, -1:1:256j]
    inside = (x**2 + y**2 < 0.25)[..., None]
    colours = ((200, 40, 40), (40, 180, 60), (60, 80, 220), (230, 200, 50))
    discs = [np.where(inside, np.array([*colour, 255]), 0) for colour in colours for _ in range(2)]
    codes = ("1f98a", "1f44b-1f3fb", "1f44b-1f3ff", "26f5")
    frames: UInt8 = np.stack(discs).astype(np.uint8)
    return SpriteStore(frames, tuple(Sprite(code, 2 * number, 2) for number, code in enumerate(codes)))


@pytest.fixture(scope="module")
def composer(store: SpriteStore) -> Composer:
    ramp = np.linspace(0, 255, 256).astype(np.uint8)
    backgrounds = np.stack([np.broadcast_to(part[..., None], (256, 256, 3)) for part in (ramp[:, None], ramp[None])])
    return Composer(store, store.sprites, backgrounds)


def animation(frames: int) -> bytes:
    """A WebP whose green grows by 20 a frame, half transparent."""
    pictures = [PIL.Image.new("RGBA", (256, 256), (0, 20 * index, 0, 128)) for index in range(frames)]
    file = io.BytesIO()
    pictures[0].save(file, "WEBP", save_all=True, append_images=pictures[1:], lossless=True, exact=True)
    return file.getvalue()


def test_a_store_holds_the_frames_asked_for_and_no_stills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = {"1f98a.webp": animation(5), "1f600.webp": animation(1), "26f5.webp": animation(3)}
    monkeypatch.setattr(fetch, "PACKAGES", dict([pack(tmp_path, "sprites@1", pictures)]))
    store_of.build_store(tmp_path, tmp_path / "sprites", taken=(0, 4))
    store = store_of.open_store(tmp_path)
    assert [(sprite.code, sprite.first, sprite.count) for sprite in store.sprites] == [("1f98a", 0, 2), ("26f5", 2, 2)]
    greens = store.frames[:, 100, 100, 1].astype(int)
    assert np.abs(greens - np.array([0, 40, 0, 10])).max() <= 1, "multiplied by alpha; the fifth of three is the second"
    assert (store.frames[..., 3] == 128).all()


def test_a_subject_is_held_out_in_all_its_skins(store: SpriteStore) -> None:
    known, held = store.split()
    assert {sprite.points for sprite in known}.isdisjoint({sprite.points for sprite in held})
    assert len(known) + len(held) == len(store.sprites)
    assert store.sprites[1].points == store.sprites[2].points
    assert store.sprites[0].name == "fox face"


def test_crops_repeat_from_a_seed_and_show_subjects(composer: Composer) -> None:
    made = [composer.crop(128, random.Random(seed)) for seed in range(40)]
    assert all(crop.shape == (128, 128, 3) and crop.dtype == np.uint8 for crop in made)
    assert np.array_equal(made[3], composer.crop(128, random.Random(3)))
    assert composer.crop(256, random.Random(1)).shape == (256, 256, 3)
    vivid = [int((crop.max(-1).astype(int) - crop.min(-1)).max()) for crop in made]
    assert sum(colour > 60 for colour in vivid) > 15, "backgrounds are grey, subjects are not"


def test_a_crop_of_a_styled_scene_is_the_scene_styled(composer: Composer) -> None:
    """A style may not see the edge of what was composed: the margin is as wide as it looks."""
    whole = composer.picture("3d", random.Random(5))[None]
    for style in ("oil", "pencil", "book"):
        wide = apply_style(style, whole)[0, 84:172, 84:172]
        piece = apply_style(style, np.ascontiguousarray(whole[:, 72:184, 72:184]))[0, 12:-12, 12:-12]
        assert np.abs(wide.astype(int) - piece).max() <= 1, style


@pytest.mark.parametrize("style", [style for style in DRAWN if style != "3d"])
def test_every_style_is_another_picture_and_repeats(composer: Composer, style: str) -> None:
    plain = composer.picture("3d", random.Random(2))[None]
    made = apply_style(style, plain)
    assert np.array_equal(made, apply_style(style, plain))
    assert np.abs(made.astype(int) - plain).mean() > 2
    others = [apply_style(other, plain) for other in DRAWN if other != style]
    assert all(np.abs(made.astype(int) - other).mean() > 2 for other in others)


def test_features_halve_the_size_and_their_distance_grows_with_the_damage() -> None:
    torch.manual_seed(0)
    features = Features().requires_grad_(False)
    pictures = torch.rand(2, 3, 64, 64) * 2 - 1
    assert [tuple(part.shape[1:]) for part in features(pictures)] == [
        (16, 32, 32), (24, 16, 16), (40, 8, 8), (112, 4, 4)
    ]  # fmt: skip
    assert float(perceptual_loss(features, pictures, pictures)) == 0
    noise = torch.randn_like(pictures)
    little, much = (float(perceptual_loss(features, pictures + gain * noise, pictures)) for gain in (0.02, 0.2))
    assert 0 < little < much
    made = (pictures + 0.1 * noise).requires_grad_()
    perceptual_loss(features, made, pictures).backward()  # type: ignore[no-untyped-call]
    assert made.grad is not None
    assert float(made.grad.abs().sum()) > 0


def test_folded_norms_are_the_norms() -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 32, 3, stride=2, bias=False), nn.BatchNorm2d(32, eps=1e-3).eval()
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(tensor)  # type: ignore[arg-type]
    features = Features()
    weights = {f"_bn0.{key}": value for key, value in norm.state_dict().items()}
    features.stem.fill({**weights, "_conv_stem.weight": conv.weight}, "_conv_stem", "_bn0")
    pictures = torch.randn(1, 3, 16, 16)
    wanted = norm(conv(nn.functional.pad(pictures, (0, 1, 0, 1)))).clamp(0, 6)
    torch.testing.assert_close(features.stem(pictures), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_autoencoder_is_eight_pixels_a_latent_and_loads_as_saved(composer: Composer, tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = build().eval()
    assert (codec.reduction(vae), codec.block_px(vae), vae.config.latent_channels) == (8, 8, 16)
    save(vae, composer, tmp_path / "vae")
    save(vae, composer, tmp_path / "vae")  # over the former
    loaded = AutoencoderKL.from_pretrained(tmp_path / "vae").float().eval()
    picture = composer.picture("3d", random.Random(0))[None, :64, :96]
    latents = codec.encode(loaded, codec.to_tensor(picture))
    assert latents.shape == (1, 16, 8, 12)
    figures, made = measure(loaded, {"3d": picture})
    assert set(figures) == {"psnr_3d", "sharpness_3d"}
    assert np.array_equal(codec.decode(loaded, latents), made["3d"]) or figures["psnr_3d"] > 0
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.slow
def test_the_loss_falls_and_the_judge_joins(composer: Composer, tmp_path: Path) -> None:
    torch.manual_seed(0)
    pair, features = Pair(build()), Features().requires_grad_(False)
    widen_norms(pair.vae)
    before = [parameter.detach().clone() for parameter in pair.judge.parameters()]
    loss_of = loss_function(pair, composer, features, SMALL)

    def score() -> float:
        torch.manual_seed(0)
        with torch.no_grad():
            return sum(float(loss_of(step, random.Random(step))[0]) for step in (2, 3, 4))

    first = score()
    train("autoencoder", pair, loss_of, Schedule(40, 1e-3, warmup=5, every=20), tmp_path)
    assert score() < 0.7 * first
    assert all(torch.equal(old, new) for old, new in zip(before, pair.judge.parameters(), strict=True))
    judging = loss_function(pair, composer, features, replace(SMALL, judge_from=40, heeded_after=2))
    train("autoencoder", pair, judging, Schedule(44, 1e-3, warmup=5, every=20), tmp_path)
    assert not any(torch.equal(old, new) for old, new in zip(before, pair.judge.parameters(), strict=True))


def test_pictures_of_a_scene_repeat_and_colours_colour(store: SpriteStore) -> None:
    backgrounds = np.full((len(PAINTED) * len(TIMES) * VARIANTS, 256, 256, 3), 90, np.uint8)
    pictures = Pictures(store, backgrounds)
    fox = Scene(("fox",), "beach")
    made = pictures.draw(fox, random.Random(4))
    assert made.shape == (256, 256, 3)
    assert np.array_equal(made, pictures.draw(fox, random.Random(4)))
    vivid = made.max(-1).astype(int) - made.min(-1) > 60
    red, blue = (draw[vivid].mean(0) for draw in (made, pictures.draw(replace(fox, colour="blue"), random.Random(4))))
    assert red.argmax() == 0
    assert blue.argmax() == 2
