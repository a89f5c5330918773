"""Text encoder and spatial UNet of the default model, on single pictures: `python -m stages.training.default.pictures`.

The pictures are composed by `composing` and encoded once by the finished autoencoder (`--vae`), 32x32 latents of 16
channels. The text encoder can read when it begins (`reading`, which is run first where that was not done) and goes on
learning at a fifth of the UNet's rate: one that begins from nothing learns places here, but no subject. The UNet has
18M parameters on four levels, with attention on the lowest two, which is where it costs little; it hears the pooled
text and the size beside the time, as SDXL's does, in every resnet. Its steps are Muon's. One caption in ten is empty,
for classifier-free guidance. I2V and V2V go on from it.

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

from stages.model.network import vae as codec
from stages.model.network.reference import put_beside
from stages.model.network.text import Text, beside_time, read
from stages.model.sampling.sampler import build_scheduler
from stages.model.weights.fit import SIZES
from stages.presets import TINY
from stages.training.default.autoencoder import LATENT_CHANNELS, widen_norms
from stages.training.default.reading import TEXT_WIDTH, embeddings_of, obtain_reader, open_tokenizer
from stages.training.default.shelf import load_vae, read_scenes, write_scenes
from stages.training.loop.loop import Options, Schedule, console, train
from stages.training.loop.muon import Muon
from stages.training.scenes.composing import Pictures
from stages.training.scenes.crops import open_backgrounds
from stages.training.scenes.sentences import Scene, draw_scene, write_caption
from stages.training.scenes.sprites import open_store
from stages.training.video.noising import Noising

WIDTHS = (96, 128, 160, 224)
HEADS, GROUPS = 4, 16
SIZE_WIDTH = 32  # of the embedding of height, and of width, beside the time
SIDE, SIDE_PX = 32, 256  # of the latents, of the pictures
TEXT_GAIN = 0.2  # of the UNet's rate
PART = 500
BATCH = 32
EVERY, SAMPLE_EVERY = 100, 1000
_EMPTY_SHARE = 0.1
_EARLY, _EARLY_SHARE = 450, 0.7  # times from here on, at which the text decides what is drawn, and how often they are
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
        addition_embed_type="text_time",
        addition_time_embed_dim=SIZE_WIDTH,
        projection_class_embeddings_input_dim=TEXT_WIDTH + SIZES * SIZE_WIDTH,
    )


def say(unet: Any, noised: Tensor, times: Tensor, text: Text) -> Tensor:
    """What `unet` says about latents of pictures of `SIDE_PX`, in float32."""
    added = beside_time(unet, text.pooled, (SIDE_PX, SIDE_PX))
    with torch.autocast("cpu", torch.bfloat16):
        said: Tensor = unet(put_beside(unet, noised), times, text.states, added_cond_kwargs=added).sample
    return said.float()


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
        early = round(_EARLY_SHARE * BATCH)
        times = torch.cat([noising.draw_times(early, _EARLY), noising.draw_times(BATCH - early, 0, _EARLY)])
        noised, target = noising(clean, times, torch.randn_like(clean))
        with torch.autocast("cpu", torch.bfloat16):
            text = read(modules["text"], tokenizer, captions)
        return F.mse_loss(say(modules["unet"], noised, times, text), target)

    return loss_of


@torch.no_grad()
def sample(modules: nn.ModuleDict, tokenizer: Any, prompts: list[str], seed: int) -> Tensor:
    """Scaled latents for `prompts`, by the preset's scheduler and guidance."""
    scheduler = build_scheduler(TINY.t2i)
    scheduler.set_timesteps(TINY.t2i.steps)
    x = torch.randn(len(prompts), LATENT_CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    text = read(modules["text"], tokenizer, [*prompts, *([""] * len(prompts))])
    for time in scheduler.timesteps:
        with_text, without = say(modules["unet"], torch.cat([x, x]), time, text).chunk(2)
        x = scheduler.step(without + TINY.t2i.guidance * (with_text - without), time, x).prev_sample
    return x


def build_optimizer(modules: nn.ModuleDict, parameters: list[nn.Parameter], rate: float) -> Muon:
    """Muon over `parameters` of `modules`, of which those of the text encoder learn more slowly."""
    text = modules["text"]
    return Muon(
        parameters, rate, plain=embeddings_of(text), plain_gain=0.5, slow=text.parameters(), slow_gain=TEXT_GAIN
    )


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
    work: Path = args.cache / "pictures"
    work.mkdir(parents=True, exist_ok=True)
    (work / "RUNNING").write_text(f"{os.getpid()}\n")
    tokenizer = open_tokenizer(args.cache)
    text = obtain_reader(args.cache, tokenizer)
    vae = load_vae(args.vae or args.cache / "autoencoder" / "finished" / "vae")
    latents, scenes = fill(args.cache, vae, work / "shelf", args.pictures)
    torch.manual_seed(2)
    modules = nn.ModuleDict({"text": text, "unet": build_unet().to(memory_format=torch.channels_last)})
    widen_norms(modules["unet"])
    train(
        "pictures",
        modules,
        loss_function(modules, tokenizer, latents, scenes),
        Schedule(args.steps, args.rate, warmup=300, decay=0.5, ema=0.999, every=EVERY),
        work,
        options=Options(
            sample=observer(modules, tokenizer, vae, work),
            sample_every=SAMPLE_EVERY,
            optimizer=lambda parameters, rate: build_optimizer(modules, parameters, rate),
        ),
    )
    save(modules, work / "finished")
    (work / "RUNNING").unlink()


if __name__ == "__main__":
    main()
