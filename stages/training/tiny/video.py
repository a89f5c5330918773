"""How the tiny video parts are put together and trained: I2V's, and V2V's copies of motion module and ControlNet.

Takes the trained UNet, text encoder and VAE, and shelves of clips and pictures; writes the parts beside the UNet.
"""

import random
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, MotionAdapter, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPVisionModelWithProjection

from stages.model.network.appearance import Appearance, split_adapter
from stages.model.network.control import PlainControl
from stages.model.network.network import VideoNetwork, inflate
from stages.model.network.text import TextEncoder
from stages.presets import TINY, Guide
from stages.training.loop.loop import Schedule, train
from stages.training.tiny.networks import (
    LATENT_CHANNELS,
    build_appearance,
    build_control,
    build_image_encoder,
    build_motion,
)
from stages.training.tiny.shelves import Shelf, ShelfSource
from stages.training.video.batches import MixedSource
from stages.training.video.noising import Noising
from stages.training.video.recipe import VideoRecipe, train_video
from stages.training.video.trainee import TARGETS, Trainee


def build(weights: Path, text: CLIPTextModel, tokenizer: Any, vae: AutoencoderKL) -> Trainee:
    """Fresh tiny video parts around the trained UNet in `weights`."""
    torch.manual_seed(3)
    spatial = UNet2DConditionModel.from_pretrained(weights / "unet").float()
    encoder, motion, control = build_image_encoder(), build_motion(), build_control(spatial)
    unet = inflate(spatial, motion)
    appearance = Appearance(encoder, build_appearance(unet))
    return _assemble(unet, appearance, PlainControl(control), text, tokenizer, vae, TINY.i2v_guide)


def begin(weights: Path, text: CLIPTextModel, tokenizer: Any, vae: AutoencoderKL, start: Path | None = None) -> Trainee:
    """What I2V's training begins with: fresh video parts around the trained UNet in `weights`, or those in `start`."""
    if start is None:
        return build(weights, text, tokenizer, vae)
    return reload(start, text, tokenizer, vae)


def reload(
    parts: Path, text: CLIPTextModel, tokenizer: Any, vae: AutoencoderKL, guide: Guide = TINY.i2v_guide
) -> Trainee:
    """The trained tiny video parts in `parts`; those of I2V, which V2V begins with under the names of its `guide`."""
    spatial = UNet2DConditionModel.from_pretrained(parts / "unet_video").float()
    unet = inflate(spatial, MotionAdapter.from_pretrained(parts / "motion").float())
    encoder = CLIPVisionModelWithProjection.from_pretrained(parts / "image_encoder", dtype=torch.float32)
    adapter = split_adapter(load_file(parts / "appearance" / "appearance.safetensors"))
    appearance = Appearance(encoder, {g: {k: v.float() for k, v in part.items()} for g, part in adapter.items()})
    control = PlainControl(ControlNetModel.from_pretrained(parts / "control").float())
    return _assemble(unet, appearance, control, text, tokenizer, vae, guide)


def _assemble(
    unet: Any,
    appearance: Appearance,
    control: PlainControl,
    text: CLIPTextModel,
    tokenizer: Any,
    vae: AutoencoderKL,
    guide: Guide,
) -> Trainee:
    appearance.install(unet)
    network = VideoNetwork(
        unet=unet,
        vae=vae,
        text=TextEncoder(tokenizer, text.requires_grad_(False).eval()),
        appearance=appearance,
        controls={guide.controls[0].part: control},
        max_frames=int(unet.config["motion_max_seq_length"]),
    )
    return Trainee(network, guide.controls, TINY.image_mode)


def train_i2v(
    trainee: Trainee, clips: Shelf, pictures: tuple[Shelf, Shelf] | None, schedule: Schedule, work: Path, weights: Path
) -> None:
    """Train all tiny video parts jointly and save them beside the UNet; three batches in four are clips.

    The pictures are of the low and of the high size: V2V uses ControlNet and appearance encoder at the high one.
    Without any it is another run, that of an ablation.
    """
    if pictures is None:
        recipe = VideoRecipe("i2v-clips", TARGETS, ShelfSource(clips), 4)
    else:
        low, high = (ShelfSource(shelf) for shelf in pictures)
        recipe = VideoRecipe("i2v", TARGETS, ShelfSource(clips), 4, MixedSource((low, 1.0), (high, 0.4)), 24, 0.25)
    train_video(trainee, recipe, Noising(TINY.i2v, TINY.prior), schedule, work)
    trainee.save(TARGETS, weights, {"spatial": "unet_video"}, torch.float16)


def teach_hint(trainee: Trainee, pictures: tuple[Shelf, Shelf], schedule: Schedule, work: Path) -> None:
    """Before the rest, let the ControlNet's condition embedding learn to tell the VAE's latent of a picture.

    Through the video loss alone it learns that too, but slowly: after thousands of steps a linear map of it missed 15 %
    of the latents' variance, after 400 steps of this lesson 2 %.
    """
    low, high = (ShelfSource(shelf) for shelf in pictures)
    source, lesson = MixedSource((low, 1.0), (low, 1.0), (high, 0.35)), hint_lesson(trainee)

    def loss_of(step: int, rng: random.Random) -> Tensor:
        batch = source.draw(24, rng)
        return F.mse_loss(lesson((batch.references + 1) / 2), batch.latents[:, 0])

    train("hint", lesson, loss_of, schedule, work)


def hint_lesson(trainee: Trainee) -> nn.Sequential:
    """What learns in it: the condition embedding, and a linear map of it."""
    control = trainee.network.controls["control"]
    assert isinstance(control, PlainControl)
    torch.manual_seed(4)
    lesson = nn.Sequential(control.embedding, nn.LazyConv2d(LATENT_CHANNELS, 1))
    lesson(torch.zeros(1, 3, 32, 32))  # tells the map how many channels there are
    return lesson.requires_grad_(True)


def train_v2v(trainee: Trainee, clips: Shelf, schedule: Schedule, work: Path, weights: Path) -> None:
    """Fine-tune copies of motion module and ControlNet on large clips, from what the low size keeps of them."""
    noising = Noising(TINY.v2v, strength=TINY.strength)
    recipe = VideoRecipe("v2v", ("motion", "control"), ShelfSource(clips), 3, highest=noising.start + 1)
    train_video(trainee, recipe, noising, schedule, work)
    trainee.save(("motion", "control"), weights, {"motion": "motion_v2v"}, torch.float16)
