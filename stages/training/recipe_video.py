"""Third and fourth recipe: I2V and V2V over the frozen spatial layers of T2I.

I2V trains motion module, ControlNet and appearance encoder together, on clips and on pictures (as clips of one frame).
V2V goes on from there at the high resolution and trains its own copy of the motion module alone, at the times that
renoising reaches. The reference is the clip's first frame, sometimes blurred, because at run time a decoder made it.
Gives the folders `motion`, `control`, `image_encoder` and `appearance`, or `motion_v2v`.
"""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, MotionAdapter, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPVisionModelWithProjection

from stages.model.appearance import Appearance, flatten_adapter, normalise, read_adapter, split_adapter
from stages.model.control import PlainControl
from stages.model.network import inflate, is_temporal
from stages.model.text import tokenize
from stages.presets import TINY
from stages.training.captions import write_caption
from stages.training.latents import Shelf
from stages.training.loop import Schedule, train
from stages.training.networks import (
    TEXT_CONTEXT,
    build_appearance,
    build_control,
    build_image_encoder,
    build_motion,
)
from stages.training.noising import Noising

_DROP = 0.05  # each: the text, the picture, both


@dataclass
class Trainee:
    """The modules of a video network while they are trained."""

    unet: Any  # UNetMotionModel with the decoupled attention installed
    control: PlainControl
    encoder: CLIPVisionModelWithProjection
    text: CLIPTextModel
    tokenizer: Any

    def all_modules(self) -> nn.ModuleDict:
        control = nn.ModuleDict({"model": self.control.model, "embedding": self.control.embedding})
        return nn.ModuleDict({"unet": self.unet, "control": control, "encoder": self.encoder})

    def loss(self, clean: Tensor, references: Tensor, captions: list[str], times: Tensor, noising: Noising) -> Tensor:
        """Velocity error of a batch of clips.

        Args:
            clean: (B, F, C, h, w) latents.
            references: (B, 3, H, W) in -1..1.
        """
        batch, frames = clean.shape[:2]
        noised, target = noising(clean, times, torch.randn_like(clean))
        states = self.text(tokenize(self.tokenizer, captions, TEXT_CONTEXT))[0].repeat_interleave(frames, 0)
        small = F.interpolate(references, size=int(self.encoder.config.image_size), mode="bilinear", antialias=True)
        kept = (torch.rand(batch) > 2 * _DROP).float()[:, None]
        embeds = self.encoder(normalise(small)).image_embeds * kept
        condition = self.control.embedding((references + 1) / 2).repeat_interleave(frames, 0)
        flat_times = times.repeat_interleave(frames)
        down, mid = self.control.model(noised.flatten(0, 1), flat_times, states, condition, return_dict=False)
        said = self.unet(
            noised.transpose(1, 2),
            times,
            states,
            added_cond_kwargs={"image_embeds": [embeds[:, None]]},
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
        ).sample
        return F.mse_loss(said.transpose(1, 2), target)


def build(weights: Path, text: CLIPTextModel, tokenizer: Any) -> Trainee:
    """Fresh video parts around the trained UNet in `weights`."""
    torch.manual_seed(3)
    spatial = UNet2DConditionModel.from_pretrained(weights / "unet").float()
    encoder, motion, control = build_image_encoder(), build_motion(), build_control(spatial)
    unet = inflate(spatial, motion)
    Appearance(encoder, build_appearance(unet)).install(unet)
    return Trainee(unet, PlainControl(control), encoder, text.requires_grad_(False).eval(), tokenizer)


def reload(weights: Path, text: CLIPTextModel, tokenizer: Any, motion: str) -> Trainee:
    """The saved parts, with the motion module of that name."""
    spatial = UNet2DConditionModel.from_pretrained(weights / "unet").float()
    unet = inflate(spatial, MotionAdapter.from_pretrained(weights / motion).float())
    encoder = CLIPVisionModelWithProjection.from_pretrained(weights / "image_encoder", dtype=torch.float32)
    adapter = split_adapter(load_file(weights / "appearance" / "appearance.safetensors"))
    Appearance(encoder, {g: {k: v.float() for k, v in part.items()} for g, part in adapter.items()}).install(unet)
    control = PlainControl(ControlNetModel.from_pretrained(weights / "control").float())
    return Trainee(unet, control, encoder, text.requires_grad_(False).eval(), tokenizer)


def _choose_trained(trainee: Trainee, *, only_motion: bool) -> None:
    for name, parameter in trainee.unet.named_parameters():
        appearance = "_ip." in name or name.startswith("encoder_hid_proj")
        parameter.requires_grad_(is_temporal(name) or (appearance and not only_motion))
    for module in (trainee.control.model, trainee.control.embedding, trainee.encoder):
        module.requires_grad_(not only_motion)


def _captions(shelf: Shelf, chosen: list[int], rng: random.Random) -> list[str]:
    return ["" if rng.random() < 2 * _DROP else write_caption(shelf.scenes[index], rng) for index in chosen]


def _references(shelf: Shelf, chosen: list[int], rng: random.Random) -> Tensor:
    """(B, 3, H, W) in -1..1, half of the batches blurred as a decoder blurs."""
    pictures = shelf.references[chosen].float() / 127.5 - 1
    if rng.random() < 0.5:
        blurred = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        pictures = pictures.lerp(blurred, rng.random())
    return pictures


def train_i2v(
    weights: Path, text: CLIPTextModel, tokenizer: Any, clips: Shelf, pictures: Shelf, schedule: Schedule, work: Path
) -> None:
    """Train all video parts jointly and save them beside the UNet; three batches in four are clips."""
    trainee = build(weights, text, tokenizer)
    _choose_trained(trainee, only_motion=False)
    noising = Noising(TINY.i2v)

    def loss_of(step: int, rng: random.Random) -> Tensor:
        shelf, count = (pictures, 24) if rng.random() < 0.25 else (clips, 4)
        chosen = [rng.randrange(len(shelf)) for _ in range(count)]
        return trainee.loss(
            shelf.latents[chosen].float(),
            _references(shelf, chosen, rng),
            _captions(shelf, chosen, rng),
            noising.draw_times(count),
            noising,
        )

    train("i2v", trainee.all_modules(), loss_of, schedule, work)
    _save_motion(trainee, weights / "motion")
    trainee.control.model.controlnet_cond_embedding = trainee.control.embedding
    trainee.control.model.half().save_pretrained(weights / "control", safe_serialization=True)
    trainee.encoder.half().save_pretrained(weights / "image_encoder", safe_serialization=True)
    (weights / "appearance").mkdir(exist_ok=True)
    adapter = {k: v.detach().half().contiguous() for k, v in flatten_adapter(read_adapter(trainee.unet)).items()}
    save_file(adapter, weights / "appearance" / "appearance.safetensors")


def train_v2v(weights: Path, text: CLIPTextModel, tokenizer: Any, clips: Shelf, schedule: Schedule, work: Path) -> None:
    """Fine-tune a copy of the motion module on high-resolution clips, at the times below the strength."""
    trainee = reload(weights, text, tokenizer, "motion")
    _choose_trained(trainee, only_motion=True)
    noising = Noising(TINY.v2v)
    highest = min(1000, round(1000 * TINY.strength) + 100)

    def loss_of(step: int, rng: random.Random) -> Tensor:
        chosen = [rng.randrange(len(clips)) for _ in range(3)]
        return trainee.loss(
            clips.latents[chosen].float(),
            _references(clips, chosen, rng),
            _captions(clips, chosen, rng),
            noising.draw_times(len(chosen), high=highest),
            noising,
        )

    train("v2v", trainee.all_modules(), loss_of, schedule, work)
    _save_motion(trainee, weights / "motion_v2v")


def _save_motion(trainee: Trainee, folder: Path) -> None:
    adapter = build_motion()
    adapter.load_state_dict({k: v for k, v in trainee.unet.state_dict().items() if is_temporal(k)})
    adapter.half().save_pretrained(folder, safe_serialization=True)
