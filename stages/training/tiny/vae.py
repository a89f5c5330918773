"""First recipe: the VAE, on random crops at both sizes that the pipeline uses.

Loss: absolute difference of the pixels and of their gradients (edges are what a viewer sees), and a light pull of the
latents towards a unit Gaussian. Gives the folder `vae` in the hub's layout, with the measured scaling factor.
"""

import random
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from stages.model.network import vae as codec
from stages.model.network.pictures import resize_frames
from stages.training.loop.loop import Schedule, train
from stages.training.scenes.data import Scenes

CROP_PX = 128


def build() -> AutoencoderKL:
    """The tiny VAE: 16 pixels a latent, 16 channels."""
    widths = [32, 64, 96, 96]
    return AutoencoderKL(
        in_channels=12,
        out_channels=12,
        down_block_types=["DownEncoderBlock2D"] * len(widths),
        up_block_types=["UpDecoderBlock2D"] * len(widths),
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=8,
        sample_size=128,
        mid_block_add_attention=False,
    )


def crops(scenes: Scenes, count: int, low: tuple[int, int], rng: random.Random) -> Tensor:
    """(count, 3, CROP_PX, CROP_PX): one of each picture at the high size, one at the low, which is harder."""
    pieces: list[Tensor] = []
    while len(pieces) < count:
        if len(pieces) % 2 == 0:
            clip, _, _ = scenes.sample(1, rng, longest_s=2.0)
        else:
            clip = resize_frames(clip, low)
        x, y = (rng.randint(0, side - CROP_PX) for side in (clip.shape[2], clip.shape[1]))
        pieces.append(codec.to_tensor(clip[:, y : y + CROP_PX, x : x + CROP_PX]))
    return torch.cat(pieces).contiguous(memory_format=torch.channels_last)


def reconstruction_loss(made: Tensor, true: Tensor) -> Tensor:
    """L1 of pixels and of horizontal and vertical differences at full and half size."""
    total = (made - true).abs().mean()
    for scale in (1, 2):
        a, b = (torch.nn.functional.avg_pool2d(x, scale) if scale > 1 else x for x in (made, true))
        total = total + 0.5 * ((a - b).diff(dim=2).abs().mean() + (a - b).diff(dim=3).abs().mean())
    return total


def run(
    scenes: Scenes, low: tuple[int, int], schedule: Schedule, work: Path, out: Path, start: Path | None = None
) -> AutoencoderKL:
    """Train both halves, measure the scaling factor, and save under `out`; the encoder is then final.

    From the weights in `start`, or fresh ones.
    """
    torch.manual_seed(1)
    vae = build() if start is None else AutoencoderKL.from_pretrained(start / "vae").float()
    vae = vae.to(memory_format=torch.channels_last)

    def loss_of(step: int, rng: random.Random) -> Tensor:
        true = crops(scenes, 8, low, rng)
        with torch.autocast("cpu", torch.bfloat16):
            mean, std = codec.encode_moments(vae, true)
            made = codec.decode_raw(vae, mean + std * torch.randn_like(mean)).float()
        mean, std = mean.float(), std.float()
        divergence = 0.5 * (mean**2 + std**2 - 1 - 2 * std.log()).mean()
        return reconstruction_loss(made, true) + 2e-4 * divergence

    train("vae", vae, loss_of, schedule, work)
    with torch.no_grad():
        mean, _ = codec.encode_moments(vae, crops(scenes, 64, low, random.Random(0)))
    vae.register_to_config(scaling_factor=round(1 / float(mean.std()), 5))
    return _save(vae, out)


def sharpen(draft: Path, scenes: Scenes, low: tuple[int, int], schedule: Schedule, work: Path, out: Path) -> None:
    """Train the decoder on alone, from the VAE under `draft`, and save under `out`.

    The encoder does not move, so latents and every denoiser trained on them stay valid; this may run beside them.
    """
    vae = AutoencoderKL.from_pretrained(draft / "vae").float().to(memory_format=torch.channels_last)
    vae.requires_grad_(False)
    vae.decoder.requires_grad_(True)
    vae.post_quant_conv.requires_grad_(True)

    def loss_of(step: int, rng: random.Random) -> Tensor:
        true = crops(scenes, 8, low, rng)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                mean, _ = codec.encode_moments(vae, true)
            made = codec.decode_raw(vae, mean).float()
        return reconstruction_loss(made, true)

    train("decoder", vae, loss_of, schedule, work)
    _save(vae, out)


def _save(vae: AutoencoderKL, out: Path) -> AutoencoderKL:
    vae.register_to_config(_name_or_path="tiny/vae")  # not the folder of this machine that it was loaded from
    vae.to(memory_format=torch.contiguous_format).half().save_pretrained(out / "vae", safe_serialization=True)
    return vae.float()
