"""Second recipe: text encoder and UNet together, on single pictures at both latent sizes.

The UNet is also what the one of I2V and V2V begins as, so it sees I2V's size too: mostly at first, where a step costs a
quarter. One caption in ten is empty, for classifier-free guidance. Gives the folders `text_encoder` and `unet`. A later
lesson, of the UNet alone, is of pencil sketches above all.
"""

import random
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from stages.model.network.text import tokenize
from stages.presets import TINY
from stages.training.loop.loop import Schedule, train
from stages.training.scenes.captions import write_caption
from stages.training.tiny.networks import TEXT_CONTEXT, build_text_encoder, build_unet
from stages.training.tiny.shelves import Shelf
from stages.training.video.noising import Noising

BATCH = 32
_LOW_SHARES = (0.8, 0.2)  # of the batches, at the first and at the last step: a low one costs a quarter of a high one
_EMPTY_SHARE = 0.1  # of the captions
_SKETCH_SHARE = 0.5  # of the pictures; the rest are of all styles, a third of them sketches too


def build(tokenizer: Any, start: Path | None = None) -> nn.ModuleDict:
    """`text` and `unet`, fresh or from the weights in `start`; words that those did not know are fresh."""
    torch.manual_seed(2)
    text, unet = build_text_encoder(len(tokenizer), tokenizer.eos_token_id), build_unet()
    if start is not None:
        unet = UNet2DConditionModel.from_pretrained(start / "unet").float()
        _take_over(text, tokenizer, start)
    return nn.ModuleDict({"text": text, "unet": unet.to(memory_format=torch.channels_last)})


def _take_over(text: CLIPTextModel, tokenizer: Any, start: Path) -> None:
    """Another text encoder's weights into `text`, whose vocabulary is another: a row of the table a word."""
    table = "embeddings.token_embedding.weight"
    theirs = CLIPTextModel.from_pretrained(start / "text_encoder", dtype=torch.float32).state_dict()
    rows = CLIPTokenizer.from_pretrained(start / "tokenizer").get_vocab()
    name = next(key for key in theirs if key.endswith(table))
    mine = text.state_dict()[name].clone()
    for word, index in tokenizer.get_vocab().items():
        if word in rows:
            mine[index] = theirs[name][rows[word]]
    text.load_state_dict({**theirs, name: mine})


def run(
    tokenizer: Any,
    high: Shelf,
    low: Shelf,
    schedule: Schedule,
    work: Path,
    out: Path,
    start: Path | None = None,
) -> nn.ModuleDict:
    """Train, from fresh weights or those in `start`, and save under `out`."""
    modules = build(tokenizer, start)
    text, unet = modules["text"], modules["unet"]
    assert isinstance(text, CLIPTextModel)
    assert isinstance(unet, UNet2DConditionModel)

    def loss_of(step: int, rng: random.Random) -> Tensor:
        share = _LOW_SHARES[0] + (_LOW_SHARES[1] - _LOW_SHARES[0]) * step / schedule.steps
        shelf = low if rng.random() < share else high
        chosen = [rng.randrange(len(shelf)) for _ in range(BATCH)]
        return _loss(modules, tokenizer, shelf, chosen, rng, halved=shelf is high)

    train("t2i", modules, loss_of, schedule, work)
    unet.to(memory_format=torch.contiguous_format)
    for name in ("text_encoder", "unet"):
        module: Any = {"text_encoder": text, "unet": unet}[name]
        module.half().save_pretrained(out / name, safe_serialization=True)
        module.float()
    return modules


def train_sketches(
    tokenizer: Any, text: CLIPTextModel, unet: UNet2DConditionModel, pictures: Shelf, schedule: Schedule, work: Path
) -> None:
    """Train the UNet on, in place, on the high size alone, two pictures in three pencil sketches.

    Grey latents weigh little in a mean squared error: where the subject was right in 24 of 24 3D pictures,
    it was in 37 of 48 sketches.
    The text encoder stays as it is.
    """
    modules = nn.ModuleDict(
        {"text": text.requires_grad_(False), "unet": unet.to(memory_format=torch.channels_last).requires_grad_(True)}
    )
    sketches = [index for index, scene in enumerate(pictures.scenes) if scene.style == "pencil"]

    def loss_of(step: int, rng: random.Random) -> Tensor:
        chosen = [
            rng.choice(sketches) if rng.random() < _SKETCH_SHARE else rng.randrange(len(pictures)) for _ in range(BATCH)
        ]
        return _loss(modules, tokenizer, pictures, chosen, rng, halved=True)

    train("sketches", modules, loss_of, schedule, work)
    unet.to(memory_format=torch.contiguous_format)


def _loss(
    modules: nn.ModuleDict, tokenizer: Any, shelf: Shelf, chosen: list[int], rng: random.Random, *, halved: bool
) -> Tensor:
    """Of the shelf's `chosen` pictures; `halved` computes in bfloat16, which is slower where there is little to do."""
    noising = Noising(TINY.t2i)
    frame = rng.randrange(shelf.latents.shape[1])
    captions = ["" if rng.random() < _EMPTY_SHARE else write_caption(shelf.scenes[index], rng) for index in chosen]
    clean = shelf.latents[chosen, frame].float().contiguous(memory_format=torch.channels_last)
    times = noising.draw_times(BATCH)
    noised, target = noising(clean, times, torch.randn_like(clean))
    states = modules["text"](tokenize(tokenizer, captions, TEXT_CONTEXT))[0]
    with torch.autocast("cpu", torch.bfloat16, enabled=halved):
        said = modules["unet"](noised, times, states).sample.float()
    return F.mse_loss(said, target)
