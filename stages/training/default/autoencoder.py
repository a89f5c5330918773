"""Recipe of the autoencoder: `python -m stages.training.default.autoencoder [--steps N] [--judge-from N]`.

Eight pixels a latent, sixteen channels: an AutoencoderKL of diffusers over blocks of 8x8 pixels, 7.2M parameters. It
has one level, which makes it half as costly as two over blocks of 4x4. Trained on crops of 128 pixels and now and then
on whole pictures of 256, from `crops`; goes on from its last checkpoint.

    loss = pixels + differences of neighbours + perceptual + divergence + adaptive weight * adversarial

In one step of ten the latents are halved in width and height and must decode to the picture halved: latents that
behave as pictures do when they are scaled are easier to denoise (EQ-VAE, arXiv 2502.09509). Of some pictures only the
first channels are kept, so that these tell the coarse and the later ones the fine (as in DC-AE 1.5, arXiv 2508.00413),
and some latents carry noise, because a denoiser's are never quite right. The PatchGAN joins at a step that the command
names; not before the rate has halved: at the full one it cost 0.7 dB in 1,000 steps. Every `SAMPLE_EVERY` steps the
averaged weights are measured on held-out pictures of every style, saved, and shown in `sheet.png`.
"""

import argparse
import csv
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from stages.model.network import vae as codec
from stages.training.default.features import Features, fetch_features, perceptual_loss
from stages.training.loop.loop import LossFn, Options, Schedule, console, train
from stages.training.loop.muon import Muon
from stages.training.scenes.crops import Composer, open_backgrounds
from stages.training.scenes.sprites import open_store
from stages.training.scenes.styles import DRAWN
from stages.training.vfi.losses import PatchGan, adaptive_weight, discriminator_loss, generator_loss
from stages.types import UInt8

__all__ = ["Recipe", "build", "held_out_pictures", "loss_function", "main", "measure", "save"]

SAMPLE_EVERY = 500
WIDTHS = (224,)
LATENT_CHANNELS = 16
BLOCK_PX = 8
_SCALING_PICTURES = 40
_FIRST = (4, 8, 12)
_DECAY = 0.6  # of the run; at the full rate nothing improves after some 3,000 steps
_JUDGE_GAIN = 0.1  # of the rate, for the PatchGAN


@dataclass(frozen=True)
class Recipe:
    """What a step sees, and what the loss weighs."""

    crop_px: int = 128
    crops: int = 8
    whole_px: int = 256
    wholes: int = 2
    whole_every: int = 4  # steps: norms must see pictures of the size that they are used at
    halved_every: int = 10  # steps
    masked: float = 0.1  # of the pictures keep only the first channels, as many as one of `_FIRST`
    noised: float = 0.1  # of the pictures, with noise of up to `noise` of the latents' deviation
    noise: float = 0.1
    squared: float = 4.0
    neighbours: float = 0.5
    perceptual: float = 0.05
    perceptual_from: int = 2000  # step
    heard: int = 4  # pictures of a batch that the perceptual loss looks at, of 128 pixels; a whole one counts as four
    divergence: float = 1e-3
    adversarial: float = 0.2  # of the reconstruction's gradient at the last layer
    judge_from: int = 1_000_000  # step
    heeded_after: int = 200  # steps more, until which the judge learns alone


class Pair(nn.Module):
    """The autoencoder and its judge, trained in one step."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae
        self.judge = PatchGan()


def build(widths: Sequence[int] = WIDTHS) -> AutoencoderKL:
    """With fresh weights: every residual branch ends in zeros, so that the way through is short at first."""
    vae = AutoencoderKL(
        in_channels=3 * BLOCK_PX**2,
        out_channels=3 * BLOCK_PX**2,
        down_block_types=["DownEncoderBlock2D"] * len(widths),
        up_block_types=["UpDecoderBlock2D"] * len(widths),
        block_out_channels=list(widths),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=16,
        sample_size=256 // BLOCK_PX,
        mid_block_add_attention=False,
    )
    for name, module in vae.named_modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            if name.endswith(".conv2"):
                nn.init.zeros_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return vae


def widen_norms(model: nn.Module) -> None:
    """Group norms compute in float32 whatever comes in: on CPUs their backward in bfloat16 takes four times as long."""
    for module in model.modules():
        if isinstance(module, nn.GroupNorm):
            module.register_forward_pre_hook(lambda _, given: (given[0].float(),))


def loss_function(pair: Pair, composer: Composer, features: Features, recipe: Recipe) -> LossFn:
    """The loss of a step, for `stages.training.loop.train`.

    The judge sees what was decoded from all channels: else it would know the made pictures by those that lack some.
    """
    vae, judge = pair.vae, pair.judge

    def loss_of(step: int, rng: random.Random) -> tuple[Tensor, Mapping[str, float]]:
        whole = step % recipe.whole_every == 0
        side, count = (recipe.whole_px, recipe.wholes) if whole else (recipe.crop_px, recipe.crops)
        true = codec.to_tensor(np.stack([composer.crop(side, rng) for _ in range(count)]))
        true = true.contiguous(memory_format=torch.channels_last)
        halved = step % recipe.halved_every == 1
        with torch.autocast("cpu", torch.bfloat16):
            mean, std = codec.encode_moments(vae, true)
            latents, complete = _roughened(mean + std * torch.randn_like(mean), recipe, rng)
            if halved:
                latents, true = F.avg_pool2d(latents, 2), F.avg_pool2d(true, 2)
            made = codec.decode_raw(vae, latents).float()
            heard = max(1, recipe.heard * recipe.crop_px**2 // side**2) if step >= recipe.perceptual_from else 0
            perceived = perceptual_loss(features, made[:heard], true[:heard]) if heard else made.new_zeros(())
        mean, std = mean.float(), std.float()
        divergence = 0.5 * (mean**2 + std**2 - 1 - 2 * std.log()).mean()
        kept = _kept(made, true, recipe)
        total = kept + recipe.perceptual * perceived + recipe.divergence * divergence
        figures = {
            "perceived": float(perceived.detach()),
            "divergence": float(divergence.detach()),
            "spread": float(std.detach().mean() / mean.detach().std()),
            "judge": 0.0,
            "adversarial": 0.0,
            "weight": 0.0,
            "psnr": float(-10 * torch.log10(((made.detach() - true) / 2).square().mean((1, 2, 3))).mean()),
        }
        if step >= recipe.judge_from and complete and not halved:
            shown, real = (made[complete] + 1) / 2, (true[complete] + 1) / 2
            with torch.autocast("cpu", torch.bfloat16):
                judged = discriminator_loss(judge, shown, real).float()
            total = total + judged
            figures["judge"] = float(judged.detach())
            if step >= recipe.judge_from + recipe.heeded_after:
                with torch.autocast("cpu", torch.bfloat16):
                    adversarial = generator_loss(judge, shown).float()
                weight = adaptive_weight(kept, adversarial, vae.decoder.conv_out.weight)
                total = total + recipe.adversarial * weight * adversarial
                figures |= {"adversarial": float(adversarial.detach()), "weight": float(weight)}
        return total, figures

    return loss_of


def _roughened(latents: Tensor, recipe: Recipe, rng: random.Random) -> tuple[Tensor, list[int]]:
    """Some of `latents` (N, C, h, w) with noise, some with zeros in their later channels; which kept all of them."""
    gain, mask = latents.new_zeros(len(latents), 1, 1, 1), torch.ones_like(latents)
    complete = list[int]()
    for index in range(len(latents)):
        if rng.random() < recipe.noised:
            gain[index] = rng.uniform(0, recipe.noise)
        if rng.random() < recipe.masked:
            mask[index, rng.choice(_FIRST) :] = 0
        else:
            complete.append(index)
    return (latents + gain * latents.detach().std() * torch.randn_like(latents)) * mask, complete


def _kept(made: Tensor, true: Tensor, recipe: Recipe) -> Tensor:
    """Absolute and squared difference of pixels, and of their differences across and down at full and half size."""
    difference = made - true
    total = difference.abs().mean() + recipe.squared * difference.square().mean()
    for scale in (1, 2):
        part = F.avg_pool2d(difference, scale) if scale > 1 else difference
        total = total + recipe.neighbours * (part.diff(dim=2).abs().mean() + part.diff(dim=3).abs().mean())
    return total


def held_out_pictures(cache: Path, count: int = 12) -> dict[str, UInt8]:
    """Of every style `count` pictures (N, 256, 256, 3) of subjects and backgrounds that are not trained on."""
    store, backgrounds = open_store(cache), open_backgrounds(cache)
    composer = Composer(store, store.split()[1], backgrounds.held_out)
    return {
        style: np.stack([composer.picture(style, random.Random(f"held out/{number}")) for number in range(count)])
        for style in DRAWN
    }


def measure(
    vae: AutoencoderKL, pictures: Mapping[str, UInt8], channels: int | None = None
) -> tuple[dict[str, float], dict[str, UInt8]]:
    """`psnr_<style>` in dB and `sharpness_<style>` kept, of encoding and decoding; and what came out.

    With `channels` only the first ones of the latents are kept.
    """
    figures, made = dict[str, float](), dict[str, UInt8]()
    for style, real in pictures.items():
        made[style] = np.concatenate([_through(vae, real[index : index + 1], channels) for index in range(len(real))])
        errors = ((real.astype(np.float64) - made[style]) ** 2).mean((1, 2, 3))
        figures[f"psnr_{style}"] = float((10 * np.log10(255**2 / errors)).mean())
        figures[f"sharpness_{style}"] = _sharpness(made[style]) / _sharpness(real)
    return figures, made


def _through(vae: AutoencoderKL, pictures: UInt8, channels: int | None) -> UInt8:
    with torch.no_grad():
        mean, _ = codec.encode_moments(vae, codec.to_tensor(pictures))
        if channels is not None:
            mean[:, channels:] = 0
        return codec.to_pixels(codec.decode_raw(vae, mean))


def _sharpness(pictures: UInt8) -> float:
    """Mean absolute second difference across and down, in grey levels."""
    values = pictures.astype(np.float32)
    return float(sum(np.abs(np.diff(values, n=2, axis=axis)).mean() for axis in (1, 2)))


def save(vae: AutoencoderKL, composer: Composer, out: Path) -> None:
    """`vae` in float16 in the hub's layout under `out`, with its scaling factor measured."""
    rng = random.Random("scaling")
    pictures = np.stack([composer.picture(rng.choice(DRAWN), rng) for _ in range(_SCALING_PICTURES)])
    with torch.no_grad():
        means = torch.cat([codec.encode_moments(vae, codec.to_tensor(part[None]))[0] for part in pictures])
    copy = AutoencoderKL.from_config(vae.config)
    copy.load_state_dict(vae.state_dict())
    copy.register_to_config(scaling_factor=round(1 / float(means.std()), 5), _name_or_path="tiny/vae")
    draft = out.with_name(out.name + ".tmp")
    copy.half().save_pretrained(draft, safe_serialization=True)
    out.mkdir(parents=True, exist_ok=True)
    for file in draft.iterdir():
        file.replace(out / file.name)
    draft.rmdir()


def _observer(vae: AutoencoderKL, composer: Composer, cache: Path, work: Path) -> Callable[[int], None]:
    """Measures, saves and shows the autoencoder at a step."""
    pictures, file = held_out_pictures(cache), work / "curve.tsv"

    def observe(step: int) -> None:
        figures, made = measure(vae, pictures)
        for first in _FIRST:
            partly, _ = measure(vae, {style: part[:3] for style, part in pictures.items()}, first)
            figures[f"psnr_first_{first}"] = sum(partly[f"psnr_{style}"] for style in pictures) / len(pictures)
        row = {"time": time.strftime("%F %T"), "pid": os.getpid(), "cpu_s": round(time.process_time()), "step": step}
        new = not file.exists()
        with file.open("a", newline="") as rows:
            writer = csv.writer(rows, delimiter="\t")
            if new:
                writer.writerow([*row, *figures])
            writer.writerow([*row.values(), *(f"{value:.3f}" for value in figures.values())])
        console.print(f"step {step}: " + " ".join(f"{key} {value:.2f}" for key, value in figures.items()))
        shown = [np.concatenate([*pictures[style][:3], *made[style][:3]], 1) for style in pictures]
        PIL.Image.fromarray(np.concatenate(shown)).save(work / "sheet.tmp.png")
        (work / "sheet.tmp.png").replace(work / "sheet.png")
        save(vae, composer, work / "newest" / "vae")

    return observe


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.training.default.autoencoder", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "magicvideo", help="data and results")
    parser.add_argument("--steps", type=int, default=12_000, help="length of the run; the rate falls in its last part")
    parser.add_argument("--rate", type=float, default=2e-3, help="learning rate before it falls")
    parser.add_argument("--judge-from", type=int, default=9000, help="step at which the PatchGAN joins")
    parser.add_argument("--out", type=Path, help="folder of the finished weights; by default beside the checkpoint")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    work: Path = args.cache / "autoencoder"
    work.mkdir(parents=True, exist_ok=True)
    store, backgrounds = open_store(args.cache), open_backgrounds(args.cache)
    composer = Composer(store, store.split()[0], backgrounds.training)
    features = fetch_features(args.cache).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pair = Pair(build()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    widen_norms(pair.vae)
    observe = _observer(pair.vae, composer, args.cache, work)
    (work / "RUNNING").write_text(f"{os.getpid()}\n")
    train(
        "autoencoder",
        pair,
        loss_function(pair, composer, features, Recipe(judge_from=args.judge_from)),
        Schedule(args.steps, args.rate, warmup=200, decay=_DECAY, ema=0.999, every=100),
        work,
        options=Options(
            sample=observe,
            sample_every=SAMPLE_EVERY,
            optimizer=lambda parameters, rate: Muon(
                parameters, rate, plain=pair.judge.parameters(), plain_gain=_JUDGE_GAIN
            ),
        ),
    )
    observe(args.steps)
    save(pair.vae, composer, args.out or work / "finished" / "vae")
    (work / "RUNNING").unlink()


if __name__ == "__main__":
    main()
