"""The tiny weights' own path through the shared recipe: shelves in, the folders of the preset out."""

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from diffusers import MotionAdapter, UNet2DConditionModel
from transformers import CLIPTextModel

from stages.base import ignore_progress
from stages.i2v import I2V
from stages.presets import TINY, Part, plan
from stages.training.loop.loop import Schedule, load_average
from stages.training.scenes.captions import all_scenes
from stages.training.tiny import t2i as recipe_t2i
from stages.training.tiny import video as tiny_video
from stages.training.tiny.networks import build_text_encoder, build_unet
from stages.training.tiny.shelves import Shelf
from stages.training.tiny.tokens import build_tokenizer
from stages.training.tiny.vae import build as build_vae
from stages.training.video.trainee import TARGETS
from stages.types import Image

pytestmark = pytest.mark.slow

SCHEDULE = Schedule(2, 1e-3, warmup=1)


def shelf(frames: int, side: int) -> Shelf:
    generator = torch.Generator().manual_seed(side)
    latents = torch.randn((6, frames, 16, side // 16, side // 16), generator=generator).half()
    references = torch.randint(0, 256, (6, 3, side, side), generator=generator, dtype=torch.uint8)
    return Shelf(latents, references, tuple(all_scenes()[:6]))


def test_i2v_then_v2v_write_the_parts_of_the_preset(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights, work = tmp_path / "weights", tmp_path / "work"
    tokenizer, vae = build_tokenizer(weights / "tokenizer"), build_vae().eval()
    build_text_encoder(len(tokenizer), tokenizer.eos_token_id).half().save_pretrained(weights / "text_encoder")
    build_unet().half().save_pretrained(weights / "unet")
    vae.save_pretrained(weights / "vae")
    text = CLIPTextModel.from_pretrained(weights / "text_encoder", dtype=torch.float32)
    trainee = tiny_video.build(weights, text, tokenizer, vae)
    tiny_video.train_i2v(trainee, shelf(3, 64), (shelf(1, 64), shelf(1, 128)), SCHEDULE, work, weights)
    trainee = tiny_video.reload(weights, text, tokenizer, vae, TINY.v2v_guide)
    tiny_video.train_v2v(trainee, shelf(2, 64), SCHEDULE, work, weights)
    names = {
        "tokenizer",
        "text_encoder",
        "unet",
        "unet_video",
        "vae",
        "motion",
        "motion_v2v",
        "control",
        "control_v2v",
        "image_encoder",
        "appearance",
    }
    assert {path.name for path in weights.iterdir()} == names
    parts = {name: Part(str(weights / name), "test") for name in names}
    preset = replace(TINY, parts=MappingProxyType({**TINY.parts, **parts}))
    params = replace(plan(preset, "a fox", steps=1).i2v, frames=2, size=(64, 64))
    image = Image(np.zeros((64, 64, 3), np.uint8))
    made = I2V.load(preset, "cpu")(image, params=params, seed=1, report=ignore_progress)
    assert made.clip.frames.shape == (2, 64, 64, 3)


def test_the_hint_lesson_teaches_the_condition_embedding_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer, vae = build_tokenizer(tmp_path / "tokenizer"), build_vae().eval()
    build_unet().half().save_pretrained(tmp_path / "unet")
    text = build_text_encoder(len(tokenizer), tokenizer.eos_token_id)
    trainee = tiny_video.build(tmp_path, text, tokenizer, vae)
    before = {name: p.detach().clone() for name, p in trainee.all_modules().named_parameters()}
    pictures = (shelf(1, 64), shelf(1, 128))
    inputs, latents = pictures[0].references.float() / 255, pictures[0].latents[:, 0].float()
    with torch.no_grad():
        missed = torch.nn.functional.mse_loss(tiny_video.hint_lesson(trainee)(inputs), latents)
    tiny_video.teach_hint(trainee, pictures, Schedule(40, 3e-3, warmup=1, ema=0.5), tmp_path / "work")
    moved = {n for n, p in trainee.all_modules().named_parameters() if not torch.equal(p, before[n])}
    assert moved
    assert all(name.startswith("controls.control.embedding.") for name in moved)

    again = tiny_video.build(tmp_path, text, tokenizer, vae)
    lesson = tiny_video.hint_lesson(again)
    assert load_average("hint", lesson, tmp_path / "work") == 40
    with torch.no_grad():
        assert torch.nn.functional.mse_loss(lesson(inputs), latents) < 0.95 * missed
    states = [of.all_modules().state_dict() for of in (trainee, again)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items() if name in moved)


def test_sketches_teach_the_unet_and_leave_the_words(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer, unet = build_tokenizer(tmp_path / "tokenizer"), build_unet()
    text = build_text_encoder(len(tokenizer), tokenizer.eos_token_id)
    before = [{name: p.detach().clone() for name, p in module.named_parameters()} for module in (text, unet)]
    everything = all_scenes()
    asked = [next(scene for scene in everything if scene.style == style) for style in ("3d", "pencil", "oil")] * 2
    pictures = replace(shelf(1, 64), scenes=tuple(asked))
    recipe_t2i.train_sketches(tokenizer, text, unet, pictures, Schedule(2, 1e-3, warmup=1), tmp_path / "work")
    after = [dict(module.named_parameters()) for module in (text, unet)]
    assert all(torch.equal(p, before[0][name]) for name, p in after[0].items())
    assert not torch.equal(after[1]["conv_in.weight"], before[1]["conv_in.weight"])


def test_t2i_goes_on_from_weights_of_another_vocabulary(tmp_path: Path) -> None:
    torch.manual_seed(1)
    start = tmp_path / "start"
    theirs = build_tokenizer(start / "tokenizer")
    text, unet = build_text_encoder(len(theirs), theirs.eos_token_id), build_unet()
    text.half().save_pretrained(start / "text_encoder")
    unet.half().save_pretrained(start / "unet")
    mine = build_tokenizer(tmp_path / "mine")
    mine.add_tokens(["quokka"])
    made = recipe_t2i.build(mine, start)
    name = "embeddings.token_embedding.weight"
    table, other = (
        next(value for key, value in module.state_dict().items() if key.endswith(name))
        for module in (made["text"], text)
    )
    rows, known = mine.get_vocab(), theirs.get_vocab()
    assert len(table) == len(other) + 1
    assert torch.equal(table[rows["fox</w>"]], other[known["fox</w>"]].float())
    assert "quokka" not in known
    assert table[rows["quokka"]].std() > 0
    first = "conv_in.weight"
    assert torch.equal(made["unet"].state_dict()[first], unet.state_dict()[first].float())


def test_video_parts_go_on_with_their_own_unet(tmp_path: Path) -> None:
    torch.manual_seed(0)
    start, weights = tmp_path / "start", tmp_path / "weights"
    tokenizer, vae = build_tokenizer(start / "tokenizer"), build_vae().eval()
    text = build_text_encoder(len(tokenizer), tokenizer.eos_token_id)
    for folder in (start, weights):
        build_unet().half().save_pretrained(folder / "unet")
    tiny_video.build(start, text, tokenizer, vae).save(TARGETS, start, {"spatial": "unet_video"}, torch.float16)
    made = tiny_video.begin(weights, text, tokenizer, vae, start).network
    unet = UNet2DConditionModel.from_pretrained(start / "unet_video").float()
    motion = MotionAdapter.from_pretrained(start / "motion").float()
    assert torch.equal(made.unet.conv_in.weight, unet.conv_in.weight)
    states = made.unet.state_dict()
    assert all(torch.equal(value, states[name]) for name, value in motion.state_dict().items() if name in states)
