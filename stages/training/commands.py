"""The commands of `python -m stages.training`: from arguments to recipes.

Each loads the parts of a preset as the stages load them, in float32, opens the user's data, trains, and saves the parts
that learnt as folders that a preset names by one line. Knows nothing of how anything is computed.
"""

import argparse
import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import torch
from diffusers import UNet2DConditionModel

from stages.base import InputError
from stages.model.network import vae as codec
from stages.model.network.network import VideoNetwork
from stages.model.weights.loading import load_module
from stages.presets import Preset
from stages.settings import Control
from stages.training import grids
from stages.training.feedback.dpo import train_dpo
from stages.training.feedback.refl import ReFL, train_refl
from stages.training.feedback.rewards import load_reward
from stages.training.feedback.spatial import SpatialTrainee, base_noise
from stages.training.judging import find_precision, find_preset
from stages.training.loop.journal import console
from stages.training.loop.loop import Options, Precision, Schedule
from stages.training.loop.team import Team
from stages.training.own_data.footage import Facts
from stages.training.own_data.manifest import Entry, load_manifest, load_pairs, load_prompts
from stages.training.own_data.sources import Cut, FolderSource, PairFolder, clips_and_pictures, open_files
from stages.training.tiny.recipe import TARGET, train_all, train_without_pictures
from stages.training.video import fresh
from stages.training.video.noising import Noising
from stages.training.video.recipe import VideoRecipe, reached_by, train_video
from stages.training.video.trainee import Target, Trainee

_PRECISIONS: dict[str, Precision] = {"no": "no", "bf16": "bf16", "fp16": "fp16"}


def run(args: argparse.Namespace) -> None:
    """One command, to its end; `args` as `stages.training.arguments` parses them.

    Raises:
        StageError: the data, the weights or an argument do not fit.
    """
    torch.set_num_threads(args.threads)
    if args.command is None:
        _tiny(args)
    elif args.command == "vfi":
        from stages.training.vfi import recipe as recipe_vfi

        recipe_vfi.run_command(args)
    else:
        team = Team.join(args.device)
        try:
            {"refl": _refl, "dpo": _dpo}.get(args.command, _video)(args, for_training(find_preset(args.preset)), team)
        finally:
            team.leave()


def for_training(preset: Preset) -> Preset:
    """The preset with every part in float32 on one device: what learns is kept in full precision."""
    parts = {name: replace(part, dtype=None, device=None) for name, part in preset.parts.items()}
    return replace(preset, dtype="float32", parts=MappingProxyType(parts))


def _tiny(args: argparse.Namespace) -> None:
    weights = train_all(args.cache, args.effort, args.start)
    if args.install:
        _install(weights)
    console.print(f"The weights are in {TARGET if args.install else weights}.")
    if args.ablations:
        console.print(
            f"I2V without joint image training is in {train_without_pictures(args.cache, args.effort, args.start)}."
        )


def _install(weights: Path) -> None:
    """Copy them into the package, without the folders of this machine that diffusers notes in its configurations."""
    shutil.copytree(weights, TARGET, dirs_exist_ok=True)
    for file in TARGET.rglob("config.json"):
        config = json.loads(file.read_text())
        if config.pop("_name_or_path", None) is not None:
            file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _schedule(args: argparse.Namespace) -> Schedule:
    return Schedule(args.steps, args.rate, warmup=args.warmup, ema=args.ema, every=args.save_every)


def _options(args: argparse.Namespace, team: Team, sample: Callable[[int], None]) -> Options:
    return Options(
        team=team,
        precision=_PRECISIONS[find_precision(args.precision)],
        accumulate=args.accumulate,
        tensorboard=args.tensorboard,
        sample=sample,
        sample_every=args.sample_every,
    )


@dataclass(frozen=True)
class _VideoData:
    clips: FolderSource | None
    pictures: FolderSource | None
    shown: FolderSource  # for sample grids


def _video(args: argparse.Namespace, preset: Preset, team: Team) -> None:
    """i2v, v2v, control and appearance."""
    high = _is_high(args)
    stage = "v2v" if high else "i2v"
    if f"{stage}_pipeline" in preset.parts:
        raise InputError(
            f"Preset {preset.name!r} makes {stage} with a pipeline of the hub, which is trained by its own scripts; "
            f"choose a preset with a motion module, such as tiny or paper."
        )
    targets: tuple[Target, ...] = {
        "i2v": getattr(args, "train", ()), "v2v": ("motion",), "control": ("control",), "appearance": ("appearance",),
    }[args.command]  # fmt: skip
    if "spatial" in targets and preset.loras:
        merged = ", ".join(lora.part for lora in preset.loras)
        raise InputError(
            f"Preset {preset.name!r} merges LoRA {merged} into the spatial layers, and would merge it again into "
            f"trained ones; name a preset of yours that is this one with `loras=()`."
        )
    files = _probe(args, preset, team)  # before the network, which takes long
    motion, guide = ("motion_v2v", preset.v2v_guide) if high else ("motion", preset.i2v_guide)
    network = VideoNetwork.load(preset, str(team.device), motion=motion, guide=guide)
    controls = guide.controls
    if getattr(args, "fresh", False):
        controls = _renew(network, preset, targets, controls, high)
    image_mode = getattr(args, "image_mode", None) or preset.image_mode
    trainee = Trainee(network, controls, image_mode)
    trainee.choose(targets)
    data = _open_video(args, preset, network, controls, files)
    ratio = getattr(args, "image_ratio", 0.0)
    recipe = VideoRecipe(
        args.command if args.command == stage or not high else f"{args.command}_{stage}",
        targets,
        data.clips or data.shown,
        args.batch,
        data.pictures,
        getattr(args, "picture_batch", 1),
        ratio,
        reached_by(preset.strength) if high else 1000,
    )
    if args.checkpointing:
        trainee.save_memory()
    draw = grids.draw_v2v if high else grids.draw_i2v

    def sample(step: int) -> None:
        batch = data.shown.draw(args.samples, random.Random("samples"))
        draw(trainee, preset, batch, args.seed, args.out / "samples" / f"{recipe.name}-{step:06d}")

    options = _options(args, team, sample)
    noising = Noising(preset.v2v) if high else Noising(preset.i2v, preset.prior)
    train_video(trainee, recipe, noising, _schedule(args), args.out / "run", seed=args.seed, options=options)
    names: dict[Target, str] = {"motion": motion, "spatial": preset.video_unet}
    dtype = getattr(torch, args.save_dtype)
    team.once(lambda: _tell(preset, args.out, trainee.save(targets, args.out, names, dtype)))


def _is_high(args: argparse.Namespace) -> bool:
    """Whether V2V's parts and size are meant, not I2V's."""
    return args.command == "v2v" or getattr(args, "stage", "i2v") == "v2v"


def _renew(
    network: VideoNetwork, preset: Preset, targets: Sequence[Target], controls: tuple[Control, ...], high: bool
) -> tuple[Control, ...]:
    """New weights for the targets; the controls, which are then plain ones."""
    torch.manual_seed(0)  # the same in every process, and when a stopped run goes on
    if "motion" in targets:
        fresh.renew_motion(network)
    if "appearance" in targets:
        fresh.renew_appearance(network)
    if "control" not in targets:
        return controls
    spatial = load_module(preset, preset.video_unet, UNet2DConditionModel, str(network.unet.device), torch.float32)
    for control in controls:
        fresh.renew_control(network, control.part, spatial)
    return tuple(Control(control.part, image="keyframes" if high else "reference") for control in controls)


def _size_and_frames(args: argparse.Namespace, preset: Preset) -> tuple[tuple[int, int], int]:
    sizes, high = preset.sizes[preset.default_size], _is_high(args)
    windows = preset.v2v_windows if high else preset.i2v_windows
    return args.size or (sizes.v2v if high else sizes.i2v), args.frames or windows.length


def _probe(args: argparse.Namespace, preset: Preset, team: Team) -> list[tuple[Entry, Facts]]:
    """Every file that is large enough, checked to be long enough."""
    size, frames = _size_and_frames(args, preset)
    entries = load_manifest(args.data)
    files = open_files(entries, least=(args.least_size or size) if args.command == "v2v" else None)
    if len(files) < len(entries) and team.leads:
        console.print(f"{len(files)} of {len(entries)} files are large enough.")
    if getattr(args, "image_ratio", 0.0) < 1:
        clips, pictures = clips_and_pictures(files, Cut(frames, preset.keyframe_fps, size))
        if not clips:
            raise InputError(
                f"{args.data} has {len(pictures)} pictures and no clip; add clips, or use --image-ratio 1."
            )
    return files


def _open_video(
    args: argparse.Namespace,
    preset: Preset,
    network: VideoNetwork,
    controls: Sequence[Control],
    files: list[tuple[Entry, Facts]],
) -> _VideoData:
    high = _is_high(args)
    sizes = preset.sizes[preset.default_size]
    size, frames = _size_and_frames(args, preset)
    width, height = size
    codec.latent_size("The network", network.reduction, size)
    if frames > network.max_frames:
        raise InputError(f"--frames is {frames}; the motion module knows at most {network.max_frames}.")
    reads_keyframes = any(control.kind == "plain" and control.image == "keyframes" for control in controls)
    low = (max(1, width * sizes.i2v[0] // sizes.v2v[0]), max(1, height * sizes.i2v[1] // sizes.v2v[1]))
    keyframes = (low if high else size) if reads_keyframes or high else None
    cut = Cut(frames, preset.keyframe_fps, size, keyframes if reads_keyframes else None)
    ratio = getattr(args, "image_ratio", 0.0)
    still = [(entry, facts) for entry, facts in files if not facts.moves]
    clips, pictures = clips_and_pictures(files, cut) if ratio < 1 else ([], still or files)
    make = partial(FolderSource, vae=network.vae, cache=args.latents)
    shown = [*(clips or pictures)]
    shown_cut = replace(cut, keyframes=keyframes, frames=frames if clips else 1)
    return _VideoData(
        make(clips, cut=cut) if clips else None,
        make(pictures, cut=replace(cut, frames=1)) if ratio else None,
        FolderSource(shown, network.vae, shown_cut),
    )


def _refl(args: argparse.Namespace, preset: Preset, team: Team) -> None:
    prompts, reward = load_prompts(args.data), load_reward(args.reward)
    trainee = _spatial(args, preset, team)
    noise, size = base_noise(preset), args.size or _picture_size(preset)
    steps = args.draw_steps
    recipe = ReFL(size, args.batch, steps, steps * 3 // 4, margin=args.margin)
    options = _options(args, team, _picture_samples(args, trainee, preset, prompts, size, "refl"))
    schedule = _schedule(args)
    train_refl(trainee, reward, prompts, recipe, noise, schedule, args.out / "run", seed=args.seed, options=options)
    team.once(lambda: _tell(preset, args.out, trainee.save(args.out, getattr(torch, args.save_dtype))))


def _dpo(args: argparse.Namespace, preset: Preset, team: Team) -> None:
    pairs = load_pairs(args.data)
    open_files([Entry(file, pair.caption) for pair in pairs for file in (pair.better, pair.worse)])  # before the UNet
    trainee = _spatial(args, preset, team)
    size = args.size or _picture_size(preset)
    source = PairFolder(pairs, trainee.vae, size, args.latents)
    options = _options(
        args, team, _picture_samples(args, trainee, preset, [pair.caption for pair in pairs], size, "dpo")
    )
    train_dpo(
        trainee, source, base_noise(preset), _schedule(args), args.out / "run",
        batch=args.batch, beta=args.beta, seed=args.seed, options=options,
    )  # fmt: skip
    team.once(lambda: _tell(preset, args.out, trainee.save(args.out, getattr(torch, args.save_dtype))))


def _spatial(args: argparse.Namespace, preset: Preset, team: Team) -> SpatialTrainee:
    torch.manual_seed(args.seed)  # the low-rank change starts the same in every process
    trainee = SpatialTrainee.load(preset, str(team.device), args.lora)
    if args.checkpointing:
        trainee.unet.enable_gradient_checkpointing()
    return trainee


def _picture_size(preset: Preset) -> tuple[int, int]:
    """Of the base UNet: T2I's where it draws, else that of SD1.5."""
    return (512, 512) if "t2i" in preset.parts else preset.sizes[preset.default_size].t2i


def _picture_samples(
    args: argparse.Namespace,
    trainee: SpatialTrainee,
    preset: Preset,
    prompts: Sequence[str],
    size: tuple[int, int],
    name: str,
) -> Callable[[int], None]:
    shown = list(dict.fromkeys(prompts))[: args.samples]

    def sample(step: int) -> None:
        path = args.out / "samples" / f"{name}-{step:06d}"
        grids.draw_pictures(trainee, base_noise(preset), shown, size, args.seed, path)

    return sample


def _tell(preset: Preset, out: Path, written: Sequence[str]) -> None:
    """Where the parts are, and the line that puts them into a preset."""
    parts = [name for name in written if name != "lora"]
    lines = ", ".join(f'"{name}": Part("{(out / name).resolve()}", "yours")' for name in parts)
    console.print(f"{', '.join(written)} in {out}. In a preset:", soft_wrap=True)
    console.print(
        f"replace({preset.name.upper().replace('-', '_')}, parts=MappingProxyType({{**parts, {lines}}}))",
        soft_wrap=True,
    )  # fmt: skip
