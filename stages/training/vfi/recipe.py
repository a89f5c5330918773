"""Recipe of the VFI GAN: `python -m stages.training vfi [--videos FOLDER] [--steps N] [--install]`.

Trains `stages.vfi.gan` beside the frozen flow model, on Big Buck Bunny's training shots and animated subjects, or on a
folder of a user's own videos. First it writes records (crops with what the flow model says of them), then it trains,
from the last checkpoint where there is one, and writes `gan.safetensors`.

    loss = pixels + Laplacian pyramid, of the result and of the kernels' frame E
           + codebook + commitment + adaptive weight * adversarial (hinge PatchGAN)

Pixels and pyramid of a frame are divided by what the flow model alone scores on it: else the frames that no model gets
right would drown those which a little can still be gained on. The kernels' frame is scored too, because a gate that
starts at zero hides it from the result's loss: without that it drifted 3 dB below the flow model and stayed unused.
The PatchGAN joins half-way; its weight keeps the adversarial gradient at a fixed small share of the reconstruction's,
because the paper's pipeline wants frames that are right before frames that are crisp. Generator and judge take their
steps together: each loss stops at the other's weights. Every `REVIVE_EVERY` steps codes that a fresh draw of latents
does not use move to where latents are.

Knows nothing of the served stage.
"""

import argparse
import random
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from stages.presets import PRESETS, WEIGHTS
from stages.training.loop.loop import LossFn, Options, Schedule, console, train
from stages.training.loop.team import Team
from stages.training.vfi.clips import Animated, Film, fetch_film, find_videos
from stages.training.vfi.losses import (
    PatchGan,
    adaptive_weight,
    discriminator_loss,
    generator_loss,
    laplacian_loss,
    pixel_loss,
)
from stages.training.vfi.records import Batch, Records, write_records
from stages.vfi.gan import Design, Gan
from stages.vfi.weights import GAN_FILE_NAME, load_rife, write_weights

__all__ = ["Recipe", "loss_function", "run", "run_command", "save"]

REVIVE_EVERY = 200
_FLOOR = 5e-4  # added to the flow model's loss, which a frame's loss is divided by
_REVIVE_UNTIL = 0.6  # of the run: the codebook settles while the rate falls
TILE_PX = 256
LICENCE = "Apache-2.0; trained on Big Buck Bunny, CC-BY 3.0 (c) Blender Foundation, and Fluent Emoji, MIT (c) Microsoft"


@dataclass(frozen=True)
class Recipe:
    """What the loss weighs, and how much a step sees."""

    batch: int = 4
    crop_px: int = 128  # a multiple of 64
    laplacian: float = 1.0
    kernels: float = 0.5
    codebook: float = 1.0
    commitment: float = 0.25
    adversarial: float = 0.01  # of the reconstruction's gradient at the last layer
    judge_from: float = 0.5  # of the run


class Pair(nn.Module):
    """Generator and judge, trained in one step."""

    def __init__(self, design: Design | None = None) -> None:
        super().__init__()
        self.gan = Gan(design)
        self.judge = PatchGan()


def loss_function(pair: Pair, records: Records, recipe: Recipe, steps: int, device: torch.device) -> LossFn:
    """The loss of a step, for `stages.training.loop.loop.train`."""
    gan, judge = pair.gan, pair.judge

    def loss_of(step: int, rng: random.Random) -> tuple[Tensor, dict[str, float]]:
        if step % REVIVE_EVERY == 0 and step < _REVIVE_UNTIL * steps:
            _revive(gan, records, recipe, rng, device)
        batch = records.draw(recipe.batch, recipe.crop_px, rng)
        given, truth = batch.given.to(device), batch.truth.to(device)
        made = gan(given)
        codebook, commitment = gan.quantiser.losses(made.latents)
        scored = _kept(given.frame, truth, recipe) + _FLOOR
        kept = (_kept(made.frame, truth, recipe) / scored).mean()
        kernels = (_kept(made.kernels, truth, recipe) / scored).mean()
        total = kept + recipe.kernels * kernels + recipe.codebook * codebook + recipe.commitment * commitment
        with torch.no_grad():
            gain = 10 * torch.log10(_mse(given.frame, truth) / _mse(made.frame.clamp(0, 1), truth)).mean()
        figures = {
            "kept": float(kept.detach()),
            "kernels": float(kernels.detach()),
            "codebook": float(codebook.detach()),
            "gain_db": float(gain),
        }
        if step >= recipe.judge_from * steps:
            adversarial = generator_loss(judge, made.frame)
            weight = adaptive_weight(kept, adversarial, gan.head.blend.weight)
            judged = discriminator_loss(judge, made.frame, truth)
            total = total + recipe.adversarial * weight * adversarial + judged
            figures |= {"judge": float(judged.detach()), "weight": float(weight)}
        return total, figures

    return loss_of


def _kept(made: Tensor, true: Tensor, recipe: Recipe) -> Tensor:
    """The reconstruction loss of every frame (N,)."""
    return pixel_loss(made, true) + recipe.laplacian * laplacian_loss(made, true)


def _mse(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().mean(dim=(1, 2, 3)) + 1e-7


@torch.no_grad()
def _revive(gan: Gan, records: Records, recipe: Recipe, rng: random.Random, device: torch.device) -> None:
    frames = torch.cat([records.draw(recipe.batch, recipe.crop_px, rng).given.frame for _ in range(8)]).to(device)
    latents = gan.squeeze(gan.encode(frames)[-1])
    used = torch.bincount(gan.quantiser.nearest(latents).flatten(), minlength=len(gan.quantiser.codebook))
    gan.quantiser.revive(latents, used)


@torch.no_grad()
def validate(gan: Gan, records: Records, device: torch.device, *, count: int = 48) -> tuple[float, float, float]:
    """Over held-out records: mean PSNR in dB of the flow model, of the combination, and the share of codes used.

    At most `count` draws, and no more than there are records.
    """
    count = min(count, len(records))
    rng, rows, used = random.Random(0), list[tuple[float, float]](), set[int]()
    for _ in range(count):
        batch: Batch = records.draw(1, records.side_px, rng)
        given, truth = batch.given.to(device), batch.truth.to(device)
        made = gan(given)
        flow, both = (-10 * torch.log10(_mse(frame, truth)) for frame in (given.frame, made.frame.clamp(0, 1)))
        rows.append((float(flow), float(both)))
        used |= set(gan.quantiser.nearest(made.latents).flatten().tolist())
    flow_db, both_db = (sum(column) / count for column in zip(*rows, strict=True))
    return flow_db, both_db, len(used) / len(gan.quantiser.codebook)


def run(
    records: Records,
    held_out: dict[str, Records],
    schedule: Schedule,
    work: Path,
    *,
    recipe: Recipe | None = None,
    design: Design | None = None,
    options: Options | None = None,
) -> Gan:
    """Train; gives the generator with its averaged weights. `work` keeps the checkpoint and the log."""
    recipe, options = recipe or Recipe(), options or Options()
    torch.manual_seed(7)
    device = options.team.device
    pair = Pair(design).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss_of = loss_function(pair, records, recipe, schedule.steps, device)
    train("vfi_gan", pair, loss_of, schedule, work, options=options)
    for name, held in held_out.items():
        flow_db, both_db, codes = validate(pair.gan, held, device)
        console.print(f"held out {name}: flow {flow_db:.2f} dB, with the GAN {both_db:.2f} dB, codes {codes:.0%}")
    gan: Gan = pair.gan
    return gan


def save(gan: Gan, path: Path, trained_on: str) -> str:
    """Write `gan.safetensors` in float16 with its design; gives the sha256 of the file."""
    tensors = {name: tensor.detach().half().cpu().contiguous() for name, tensor in gan.state_dict().items()}
    design = {name: " ".join(map(str, v)) if isinstance(v, tuple) else str(v) for name, v in asdict(gan.design).items()}
    return write_weights(tensors, path, {**design, "times": "any", "source": trained_on, "licence": LICENCE})


def run_command(args: argparse.Namespace) -> None:
    """The command; `args` as `stages.training.arguments` parses them."""
    options = Options(team=Team.join(args.device))
    out = WEIGHTS / "gan" if args.install else args.out or args.cache / "weights" / "gan"
    training, held_out = _prepare(args.videos, args.records, args.cache, options)
    work = args.cache / "train" / ("vfi" if args.videos is None else f"vfi-{args.videos.resolve().name}")
    gan = run(
        training,
        held_out,
        Schedule(args.steps, args.rate, decay=0.6),
        work,
        recipe=Recipe(batch=args.batch),
        options=options,
    )
    if options.team.leads:
        source = "Big Buck Bunny and Fluent Emoji" if args.videos is None else args.videos.name
        digest = save(gan, out / GAN_FILE_NAME, source)
        console.print(f"{out / GAN_FILE_NAME}: sha256 {digest}")


def _prepare(videos: Path | None, count: int, cache: Path, options: Options) -> tuple[Records, dict[str, Records]]:
    """Training records, and held-out ones by name; written by the leading process where they are not there yet."""
    home = cache / "vfi" / ("" if videos is None else videos.resolve().name)

    def write() -> None:
        net = load_rife(PRESETS["tiny"].parts["flow"], options.team.device, torch.float32)
        films = [Film(path, cache) for path in (find_videos(videos) if videos else [fetch_film(cache)])]
        of_films = count if videos else count * 5 // 8
        for name, part in (("film", of_films), ("film-held-out", min(60, of_films))):
            chosen = [film.held_out if "held" in name else film.training for film in films]
            frames = [sum(map(len, shots)) for shots in chosen]
            if not sum(frames):
                continue  # a short video has no eighth shot to hold out
            moments = (
                moment
                for film, shots, share in zip(films, chosen, frames, strict=True)
                for moment in film.moments(
                    shots, -(-part * share // max(1, sum(frames))), TILE_PX, random.Random(f"{film.path.name}/{name}")
                )
            )
            write_records(moments, net, home / name, label=name)
        for name, part in () if videos else (("animated", count - of_films), ("animated-held-out", 60)):
            animated = Animated(cache, held_out="held" in name)
            write_records(animated.moments(part, TILE_PX, random.Random(name)), net, home / name, label=name)

    options.team.once(write)
    kinds = ("film",) if videos else ("film", "animated")
    training = Records({home / kind: 1 / len(kinds) for kind in kinds})
    held_out = {kind: home / f"{kind}-held-out" for kind in kinds}
    return training, {kind: Records({folder: 1.0}) for kind, folder in held_out.items() if folder.is_dir()}
