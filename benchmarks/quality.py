"""How well the tiny preset follows a prompt, and what each mechanism adds: `python -m benchmarks.quality [--quick]`.

Videos of scenes that were held out of training are generated and judged by classifiers that were trained on composed
clips alone (`benchmarks.worlds`, which its vocabulary names; built by this script when they are not in the cache),
beside real clips of the same scenes over backgrounds that neither generator nor judges have seen. What is judged are
the keyframes after V2V: VFI keeps them bit for bit, and `benchmarks.vfi_quality` measures what it adds. Figures:

    subject_top1, background_top1, motion_top1   share of generated videos in which the judge sees what was asked for
    style_top1                                   }
    subject_last_frame, subject_worst_frame      the same of the subject in the last frame, in every single one
    judge_subject_top1 and so on                 the same of the real clips: what the judges are worth
    frechet_ratio_frames, frechet_ratio_clips    distance to real clips, over that of other real clips to them
    motion_energy_ratio, flicker_ratio           generated against real: mean first and second difference over time
    smear_ratio                                  the same: sharpness of what moves
    first_frame_psnr_db                          the first frame against the reference picture
    vae_psnr_db_256                              the VAE alone on frames of real held-out clips of 256 pixels
    v2v_gain_db                                  PSNR of V2V less that of bicubic upscaling, both of the keyframes that
                                                 the VAE keeps of a real held-out clip at half its size, against it
    sharpness_ratio                              V2V against bicubic upscaling of the same generated keyframes
    diversity_ratio                              distance of two videos of one prompt, generated against real

Then the table of ablations: the same prompts and seeds with one mechanism taken away. Two of them need weights of their
own (`python -m stages.training --ablations`) and are passed over where these are not in the cache. Then every style and
every motion by itself. Every video is seeded and remembered in the cache, under a digest of weights and settings: a
stopped run goes on where it was. From nothing an hour on two cores with the first world, half of it the judges' lesson,
and several with the wide one.
"""

import hashlib
import json
import multiprocessing
import random
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from benchmarks.tools.result import parser_of, result
from benchmarks.worlds.scores import frechet_ratio, moving_sharpness, told
from benchmarks.worlds.tables import Measured, Turns, features, figures_of, print_parts, print_table, read, summary
from benchmarks.worlds.worlds import World, world_of
from stages.base import ignore_progress
from stages.i2v import I2V
from stages.local.pipeline import LocalPipeline
from stages.measures.pixels import flicker, motion_energy, psnr_db, sharpness, thumbnail
from stages.model.network import vae as codec
from stages.model.network.pictures import BICUBIC, resize_frames
from stages.model.sampling.windows import join, plan_windows
from stages.presets import TINY, WEIGHTS, Part, Plan, Preset, plan
from stages.settings import without
from stages.t2i import T2I
from stages.training.scenes.captions import SUBJECTS
from stages.training.scenes.fetch import cache_folder
from stages.types import Clip, Image, Keyframes, UInt8

ABLATION_VIDEOS, ABLATION_SCENES = 24, 18
GAIN_CLIPS = 24
_KEPT_AS = 2  # changes when other things are kept of a video
PX = 256  # of real clips; larger videos are made as small before they are measured
FRAMES = TINY.keyframes[TINY.default_seconds]
FULL, REAL = "full", ("real", "more")


def setting(name: str) -> Preset | None:
    """The tiny preset, with one mechanism taken away; None where the weights for that are not at hand."""
    if name == FULL:
        return TINY
    if name in SWITCHES:
        return without(TINY, [SWITCHES[name]])
    if name == "V2V's own motion module":
        return _with_parts({"motion_v2v": TINY.parts["motion"]})
    folder = cache_folder() / f"tiny-{len(SUBJECTS)}" / "ablations" / name.replace(" ", "-")
    found = {path.name: Part(str(path), "Apache-2.0") for path in folder.glob("*") if path.is_dir()}
    return _with_parts(found) if found else None


def _with_parts(parts: Mapping[str, Part]) -> Preset:
    return replace(TINY, parts=MappingProxyType({**TINY.parts, **parts}))


SWITCHES = {
    name: switch
    for name, switch in (("noise prior", "prior"), ("ControlNet", "control"), ("reference beside the noise", "beside"))
    if without(TINY, [switch]) != TINY and (switch != "beside" or TINY.beside)
}
ABLATIONS = (
    *SWITCHES,
    "joint image training",
    "feedback",
    "V2V's own motion module",
)
ONE_STAGE = ("joint image training", "feedback")  # weights of their own, which no other stage was trained with


@dataclass(frozen=True)
class Row:
    """What was measured of one video."""

    subject: bool
    place: bool
    motion: bool
    style: bool
    last: bool
    worst: bool
    energy: float
    flicker: float
    smear: float
    first_frame_db: float | None = None
    sharpness_ratio: float | None = None


def generate(pipeline: LocalPipeline, work: Plan, seed: int) -> tuple[UInt8, Image, Keyframes]:
    """The keyframes after V2V (16, H, W, 3), the reference picture, and the keyframes before V2V."""
    image = pipeline.t2i(params=work.t2i, seed=seed, report=ignore_progress)
    keyframes = pipeline.i2v(image, params=work.i2v, seed=seed, report=ignore_progress)
    return redraw(pipeline, image, keyframes, work, seed), image, keyframes


def redraw(pipeline: LocalPipeline, image: Image, keyframes: Keyframes, work: Plan, seed: int) -> UInt8:
    """V2V's windows, cross-faded."""
    frames, before = [], None
    for part in range(len(plan_windows(len(keyframes.clip.frames), work.v2v.windows))):
        params = replace(work.v2v, part=part)
        piece = pipeline.v2v(image, keyframes, params=params, seed=seed, report=ignore_progress)
        window = join(piece, before)
        frames.append(window.clip.frames[window.lead :])
        before = piece
    return np.concatenate(frames)


def judge(world: World, clip: UInt8, scene: Any) -> dict[str, Any]:
    """The part of a row that any clip has."""
    right = world.see(clip).beside(world.names(scene))
    return {**right, "energy": motion_energy(clip), "flicker": flicker(clip), "smear": moving_sharpness(clip)}


# In a worker process: loaded once.


@cache
def _world() -> World:
    return world_of(TINY)


@cache
def _pipeline(name: str) -> LocalPipeline:
    preset = setting(name)
    assert preset is not None
    pipeline = LocalPipeline.load(TINY if name in ONE_STAGE else preset)
    if name == "feedback":
        pipeline.stages["t2i"] = T2I.load(preset, "cpu")
    if name == "joint image training":
        pipeline.stages["i2v"] = I2V.load(preset, "cpu")
    return pipeline


def _begin() -> None:
    torch.set_num_threads(1)


@dataclass(frozen=True)
class Job:
    """One video to make and judge: `name` is an ablation, `full`, `real`, `more` real ones, or `gain`."""

    name: str
    seed: int
    scene: Any
    file: Path
    picture: Path | None = None


def do(job: Job) -> Path:
    """Measure one video and remember it; gives the file that holds a row and a thumbnail."""
    if job.file.exists() and (job.picture is None or job.picture.exists()):
        return job.file
    if job.name == "gain":
        kept: dict[str, Any] = _gain(job)
        arrays: dict[str, NDArray[Any]] = {}
    else:
        clip, more = _made(job)
        kept = asdict(Row(**judge(_world(), clip, job.scene), **more))
        shown, moving = told(clip)
        arrays = {"thumbnail": thumbnail(clip), "frames": shown, "clip": moving}
        if job.picture is not None:
            strip = resize_frames(clip[np.linspace(0, len(clip) - 1, 6).round().astype(int)], (128, 128))
            job.picture.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(np.concatenate(list(strip), 1)).save(job.picture)
    job.file.parent.mkdir(parents=True, exist_ok=True)
    draft = job.file.with_suffix(".tmp.npz")
    kept["names"] = _world().names(job.scene)
    np.savez(draft, row=json.dumps(kept), **arrays)  # type: ignore[arg-type]
    draft.replace(job.file)
    return job.file


def _made(job: Job) -> tuple[UInt8, dict[str, Any]]:
    if job.name in REAL:
        return _world().real(job.scene, FRAMES, random.Random(f"{job.name}/{job.seed}")), {}
    pipeline, work = _pipeline(job.name), plan(TINY, _world().prompt(job.scene))
    work = _settings(job.name, work)
    clip, image, keyframes = generate(pipeline, work, job.seed)
    upscaled = resize_frames(keyframes.clip.frames, (clip.shape[2], clip.shape[1]), BICUBIC)
    picture = resize_frames(image.pixels[None], (clip.shape[2], clip.shape[1]))[0]
    return resize_frames(clip, (PX, PX)), {
        "first_frame_db": psnr_db(clip[0], picture),
        "sharpness_ratio": sharpness(clip) / sharpness(upscaled),
    }


def _settings(name: str, work: Plan) -> Plan:
    preset = setting(name)
    assert preset is not None
    return replace(
        work,
        i2v=replace(work.i2v, prior=preset.prior, guide=preset.i2v_guide),
        v2v=replace(work.v2v, guide=preset.v2v_guide),
    )


def _gain(job: Job) -> dict[str, float]:
    pipeline, work = _pipeline(FULL), plan(TINY, _world().prompt(job.scene))
    real = _world().real(job.scene, FRAMES, random.Random(f"gain/{job.seed}"))
    small = resize_frames(real, (PX // 2, PX // 2))
    frames, whole = _kept(pipeline, small), _kept(pipeline, real)
    keyframes = Keyframes(None, Clip(frames, work.i2v.fps))
    work = replace(work, v2v=replace(work.v2v, size=(PX, PX), strength=TINY.strength))
    clip = redraw(pipeline, Image(real[0]), keyframes, work, job.seed)
    upscaled = resize_frames(frames, (PX, PX), BICUBIC)
    return {"gain_db": psnr_db(clip, real) - psnr_db(upscaled, real), "vae_db": psnr_db(whole, real)}


@torch.no_grad()
def _kept(pipeline: LocalPipeline, frames: UInt8) -> UInt8:
    """What the VAE keeps of them."""
    vae = pipeline.i2v.network.vae
    return codec.decode(vae, codec.encode(vae, codec.to_tensor(frames)))


def digest() -> str:
    """Of everything that a video depends on: weights and settings, not code."""
    hashed = hashlib.sha256(repr((TINY, FRAMES, _KEPT_AS)).encode())
    for part in sorted({part.source for part in TINY.parts.values()}):
        for file in sorted((WEIGHTS / part.removeprefix("embedded:")).rglob("*.safetensors")):
            hashed.update(file.read_bytes())
    return hashed.hexdigest()[:12]


@cache
def _dealt() -> list[Any]:
    return _world().asked()


def jobs_of(name: str, count: int, distinct: int, home: Path, pictures: Path | None) -> list[Job]:
    """`count` videos of `distinct` scenes."""
    scenes = _dealt()[:distinct]
    slug = name.replace(" ", "-").replace("'", "")
    return [
        Job(
            name,
            1000 * (1 + number // distinct) + number % distinct,  # of the scene and its turn: alike in every setting
            scenes[number % distinct],
            home / slug / f"{number:03d}.npz",
            pictures / slug / f"{number:03d}.png" if pictures and number < 12 else None,
        )
        for number in range(count)
    ]


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = parser_of("quality", __doc__, quick="eight videos, two clips through V2V, no ablation")
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each (default 2)")
    parser.add_argument("--pictures", type=Path, default=Path("out/quality"), help="where pictures of videos are kept")
    options = parser.parse_args(arguments)
    world = _world()
    world.see(world.real(_dealt()[0], FRAMES, random.Random(0)))  # the judges are trained by one process
    count, distinct = (8, 6) if options.quick else (world.videos, world.scenes)
    home = cache_folder() / "quality" / digest()
    wanted = {name: jobs_of(name, count, distinct, home, options.pictures) for name in REAL}
    wanted[FULL] = jobs_of(FULL, count, distinct, home, options.pictures)
    wanted["gain"] = jobs_of("gain", 2 if options.quick else GAIN_CLIPS, world.scenes, home, None)
    if not options.quick:
        for part in ABLATIONS:
            if setting(part) is None:
                print(f"without {part}: its weights are not in the cache, passed over")
                continue
            wanted[part] = jobs_of(part, ABLATION_VIDEOS, ABLATION_SCENES, home, options.pictures)
    found = _run(wanted, options.workers)
    real = summary(found["real"], distinct)
    main_figures = figures_of(summary(found[FULL], distinct), real)
    turns = Turns(count, distinct, distinct) if options.quick else Turns(ABLATION_VIDEOS, ABLATION_SCENES, distinct)
    print_table({name: rows for name, rows in found.items() if name not in ("gain", "more")}, FULL, turns)
    print_parts(found[FULL], found["real"])
    result(
        "quality",
        {
            **main_figures,
            "judge_subject_top1": real["subject"],
            "judge_background_top1": real["place"],
            "judge_motion_top1": real["motion"],
            "judge_style_top1": real["style"],
            "judge_subject_last_frame": real["last"],
            "judge_subject_worst_frame": real["worst"],
            "frechet_ratio_frames": frechet_ratio(*(features(found[name], "frames") for name in (FULL, *REAL))),
            "frechet_ratio_clips": frechet_ratio(*(features(found[name], "clip") for name in (FULL, *REAL))),
            "v2v_gain_db": float(np.mean([row["gain_db"] for row, _ in found["gain"]])),
            "vae_psnr_db_256": float(np.mean([row["vae_db"] for row, _ in found["gain"]])),
        },
    )


def _run(wanted: Mapping[str, list[Job]], workers: int) -> dict[str, list[Measured]]:
    """All jobs, a setting after the other, so that a worker loads each setting's weights once."""
    everything = [job for jobs in wanted.values() for job in jobs]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_begin) as pool:
        for _ in track(pool.map(do, everything), "videos", len(everything), console=Console(stderr=True)):
            pass
    return {name: read(job.file for job in jobs) for name, jobs in wanted.items()}


if __name__ == "__main__":
    main()
