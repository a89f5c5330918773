"""Text encoder and spatial UNet of the default model, on single pictures: `python -m stages.training.default.pictures`.

The pictures are composed by `composing` and encoded once by the finished autoencoder (`--vae`), 32x32 latents of 16
channels. The UNet has 17.8M parameters on four levels, with attention on the lowest two, which is where it costs
little; its steps are Muon's. One caption in ten is empty, for classifier-free guidance. I2V and V2V go on from it.

Resumable: the shelf is written in parts, the training keeps a checkpoint every `EVERY` steps, and every `SAMPLE_EVERY`
steps `sheet.png` shows what the averaged weights make of held-out captions, which `sheet.txt` names.
"""

import argparse
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from stages.model.network import vae as codec
from stages.model.network.reference import put_beside
from stages.model.network.text import tokenize
from stages.model.sampling.sampler import build_scheduler
from stages.presets import TINY
from stages.training.default.autoencoder import LATENT_CHANNELS, widen_norms
from stages.training.default.shelf import load_vae, read_scenes, write_scenes
from stages.training.loop.loop import Options, Schedule, console, train
from stages.training.loop.muon import Muon
from stages.training.scenes.composing import Pictures
from stages.training.scenes.crops import open_backgrounds
from stages.training.scenes.sentences import Scene, draw_scene, write_caption
from stages.training.scenes.sprites import open_store
from stages.training.tiny.tokens import build_tokenizer
from stages.training.video.noising import Noising

WIDTHS = (96, 128, 160, 224)
TEXT_WIDTH, TEXT_LAYERS, TEXT_CONTEXT, HEADS, GROUPS = 192, 3, 32, 4, 16
TOKENS = 3000
SIDE = 32  # of the latents
PART = 500
BATCH = 32
EVERY, SAMPLE_EVERY = 100, 1000
_EMPTY_SHARE = 0.1
_CAPTIONS = 60_000
TRIED = (
    "a fat rabbit in a purple robe walking through a fantasy landscape",
    "a girl in a library, oil painting",
    "a singer performing at a local market on a warm evening, children's story book",
    "a fox walking through a snowy forest at dusk",
    "a woman with a cyberpunk city behind her, pink hair",
    "a blue elephant on a beach",
    "two penguins in the arctic",
    "a dragon floating at a castle at night, watercolour",
    "an astronaut and a robot on the moon",
    "a crocodile in a living room, pencil sketch",
    "a sailboat at sunset on the shore of the ocean",
    "a doctor running through a city in the rain",
)


def build_text(tokenizer: Any) -> CLIPTextModel:
    end = tokenizer.eos_token_id
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=TEXT_LAYERS,
            num_attention_heads=HEADS,
            max_position_embeddings=TEXT_CONTEXT,
            projection_dim=TEXT_WIDTH,
            bos_token_id=end - 1,
            eos_token_id=end,
            pad_token_id=end,
        )
    )


def build_unet(channels: int = LATENT_CHANNELS) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=SIDE,
        in_channels=channels,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        block_out_channels=WIDTHS,
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=HEADS,
        norm_num_groups=GROUPS,
    )


def fill(cache: Path, vae: AutoencoderKL, folder: Path, count: int) -> tuple[NDArray[np.float16], list[Scene]]:
    """`count` encoded pictures from `folder`, written there in parts where they are not: (N, 16, 32, 32), scaled."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures: Pictures | None = None
    shown, parts = list[Scene](), []
    for first in range(0, count, PART):
        file, about = folder / f"{first:06d}.npy", folder / f"{first:06d}.jsonl"
        if not file.exists() or not about.exists():
            pictures = pictures or Pictures(open_store(cache), open_backgrounds(cache).training)
            rng = random.Random(f"pictures/{first}")
            scenes = [draw_scene(rng) for _ in range(PART)]
            made = np.empty((PART, LATENT_CHANNELS, SIDE, SIDE), np.float16)
            for at in range(0, PART, 20):
                drawn = codec.to_tensor(np.stack([pictures.draw(scene, rng) for scene in scenes[at : at + 20]]))
                with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                    made[at : at + 20] = codec.encode(vae, drawn.contiguous(memory_format=torch.channels_last)).float()
            write_scenes(scenes, about)
            draft = file.with_suffix(".tmp.npy")
            np.save(draft, made)
            draft.replace(file)
            console.print(f"pictures: {first + PART}/{count}")
        parts.append(np.load(file))
        shown += read_scenes(about)
    return np.concatenate(parts), shown


def loss_function(
    modules: nn.ModuleDict, tokenizer: Any, latents: NDArray[np.float16], scenes: list[Scene]
) -> Callable[[int, random.Random], Tensor]:
    noising = Noising(TINY.t2i)

    def loss_of(step: int, rng: random.Random) -> Tensor:
        chosen = [rng.randrange(len(scenes)) for _ in range(BATCH)]
        captions = ["" if rng.random() < _EMPTY_SHARE else write_caption(scenes[index], rng) for index in chosen]
        clean = torch.from_numpy(latents[chosen]).float().contiguous(memory_format=torch.channels_last)
        times = noising.draw_times(BATCH)
        noised, target = noising(clean, times, torch.randn_like(clean))
        with torch.autocast("cpu", torch.bfloat16):
            states = modules["text"](tokenize(tokenizer, captions, TEXT_CONTEXT))[0]
            said = modules["unet"](noised, times, states).sample.float()
        return F.mse_loss(said, target)

    return loss_of


@torch.no_grad()
def sample(modules: nn.ModuleDict, tokenizer: Any, prompts: list[str], seed: int) -> Tensor:
    """Scaled latents for `prompts`, by the preset's scheduler and guidance."""
    scheduler = build_scheduler(TINY.t2i)
    scheduler.set_timesteps(TINY.t2i.steps)
    x = torch.randn(len(prompts), LATENT_CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    states = modules["text"](tokenize(tokenizer, [*prompts, *([""] * len(prompts))], TEXT_CONTEXT))[0]
    for time in scheduler.timesteps:
        with torch.autocast("cpu", torch.bfloat16):
            said = modules["unet"](put_beside(modules["unet"], torch.cat([x, x])), time, states).sample.float()
        with_text, without = said.chunk(2)
        x = scheduler.step(without + TINY.t2i.guidance * (with_text - without), time, x).prev_sample
    return x


def observer(
    modules: nn.ModuleDict, tokenizer: Any, vae: AutoencoderKL, work: Path
) -> Callable[[int], None]:  # fmt: skip
    def observe(step: int) -> None:
        made = sample(modules, tokenizer, list(TRIED), 7)
        with torch.no_grad():
            pixels = codec.decode(vae, made)
        rows = [np.concatenate(list(pixels[at : at + 6]), 1) for at in range(0, len(pixels), 6)]
        PIL.Image.fromarray(np.concatenate(rows)).save(work / f"sheet-{step:06d}.png")
        save(modules, work / "newest")

    return observe


def save(modules: nn.ModuleDict, out: Path) -> None:
    """Both in float16 in the hub's layout."""
    for key, name in (("text", "text_encoder"), ("unet", "unet")):
        module: Any = modules[key]
        module.half().save_pretrained(out / name, safe_serialization=True)
        module.float()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.training.default.pictures")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "magicvideo")
    parser.add_argument("--vae", type=Path, help="by default the autoencoder's newest")
    parser.add_argument("--pictures", type=int, default=40_000)
    parser.add_argument("--steps", type=int, default=14_000)
    parser.add_argument("--rate", type=float, default=2e-3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(2)
    work: Path = args.cache / "pictures"
    work.mkdir(parents=True, exist_ok=True)
    (work / "RUNNING").write_text(f"{os.getpid()}\n")
    if not (work / "tokenizer").is_dir():
        rng = random.Random(0)
        captions = [write_caption(draw_scene(rng), rng) for _ in range(_CAPTIONS)]
        build_tokenizer(work / "tokenizer", captions, TOKENS)
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    vae = load_vae(args.vae or args.cache / "autoencoder" / "finished" / "vae")
    latents, scenes = fill(args.cache, vae, work / "shelf", args.pictures)
    modules = nn.ModuleDict({"text": build_text(tokenizer), "unet": build_unet().to(memory_format=torch.channels_last)})
    widen_norms(modules["unet"])
    embeddings = [p for n, p in modules["text"].named_parameters() if "embedding" in n]
    train(
        "pictures",
        modules,
        loss_function(modules, tokenizer, latents, scenes),
        Schedule(args.steps, args.rate, warmup=300, decay=0.5, ema=0.999, every=EVERY),
        work,
        options=Options(
            sample=observer(modules, tokenizer, vae, work),
            sample_every=SAMPLE_EVERY,
            optimizer=lambda parameters, rate: Muon(parameters, rate, plain=embeddings, plain_gain=0.5),
        ),
    )
    save(modules, work / "finished")
    (work / "RUNNING").unlink()


if __name__ == "__main__":
    main()
