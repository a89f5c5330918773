"""How well the tiny preset follows a prompt, and what each mechanism adds: `python -m benchmarks.quality [--quick]`.

Videos of scenes that were held out of training are generated and judged by classifiers that were trained on composed
clips alone (`stages.training.tiny.judges`: built by this script when they are not in the cache), beside real clips of
the same scenes over backgrounds that neither generator nor judges have seen. What is judged are the keyframes after
V2V: VFI keeps them bit for bit, and `benchmarks.vfi_quality` measures what it adds. Figures:

    subject_top1, background_top1, motion_top1   share of generated videos in which the judge sees what was asked for
    judge_subject_top1 and so on                 the same of the real clips: what the judges are worth
    motion_energy_ratio, flicker_ratio           generated against real: mean first and second difference over time
    first_frame_psnr_db                          the first frame against the reference picture
    v2v_gain_db                                  PSNR of V2V less that of bicubic upscaling, both of the keyframes that
                                                 the VAE keeps of a real held-out clip, against that clip
    sharpness_ratio                              V2V against bicubic upscaling of the same generated keyframes
    diversity_ratio                              distance of two videos of one prompt, generated against real

Then the table of ablations: the same prompts and seeds with one mechanism taken away. Two of them need weights of their
own (`python -m stages.training --ablations`) and are passed over where these are not in the cache. Every video is
seeded and remembered in the cache, under a digest of weights and settings: a stopped run goes on where it was.
About an hour on two cores from nothing, half of it the judges' lesson.
"""

import hashlib
import json
import multiprocessing
import random
from collections.abc import Iterable, Mapping, Sequence
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

from benchmarks.tools.prompts import asked
from benchmarks.tools.result import parser_of, result
from stages.base import ignore_progress
from stages.i2v import I2V
from stages.local.pipeline import LocalPipeline
from stages.measures.pixels import flicker, mean_distance, motion_energy, psnr_db, sharpness, thumbnail
from stages.model.network import vae as codec
from stages.model.network.pictures import BICUBIC, resize_frames
from stages.model.sampling.windows import join, plan_windows
from stages.presets import TINY, WEIGHTS, Part, Plan, Preset, plan
from stages.settings import without
from stages.t2i import T2I
from stages.training.scenes.captions import SUBJECTS, Scene, plain_caption
from stages.training.scenes.data import Scenes
from stages.training.scenes.fetch import cache_folder
from stages.training.tiny.judges import Judges, obtain_judges
from stages.types import Clip, Image, Keyframes, UInt8

VIDEOS, SCENES = 200, 160  # scenes 0 to 39 come twice, with other seeds
ABLATION_VIDEOS, ABLATION_SCENES = 24, 18
GAIN_CLIPS = 24
REAL_VARIANTS = range(2000, 2008)  # backgrounds that nothing was trained on
FRAMES = TINY.keyframes[TINY.default_seconds]
FULL = "full"


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


SWITCHES = {"noise prior": "prior", "ControlNet": "control"}  # the appearance encoder is off
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
    energy: float
    flicker: float
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


def judge(judges: Judges, clip: UInt8, scene: Scene) -> dict[str, Any]:
    """The part of a row that any clip has."""
    said = judges.verdict(clip)
    right = {axis: getattr(said, axis) == getattr(scene, axis) for axis in ("subject", "place", "motion", "style")}
    return {**right, "energy": motion_energy(clip), "flicker": flicker(clip)}


# In a worker process: loaded once.


@cache
def _judges() -> Judges:
    return obtain_judges(cache_folder())


@cache
def _pipeline(name: str) -> LocalPipeline:
    preset = setting(name)
    assert preset is not None
    pipeline = LocalPipeline.load(TINY if name in ONE_STAGE else preset)
    if name == "feedback":
        pipeline.t2i = T2I.load(preset, "cpu")
    if name == "joint image training":
        pipeline.i2v = I2V.load(preset, "cpu")
    return pipeline


@cache
def _scenes() -> Scenes:
    return Scenes(cache_folder(), REAL_VARIANTS)


def _begin() -> None:
    torch.set_num_threads(1)


@dataclass(frozen=True)
class Job:
    """One video to make and judge: `name` is an ablation, `full`, `real`, or `gain`."""

    name: str
    seed: int
    scene: Scene
    file: Path
    picture: Path | None = None


def do(job: Job) -> Path:
    """Measure one video and remember it; gives the file that holds a row and a thumbnail."""
    if job.file.exists() and (job.picture is None or job.picture.exists()):
        return job.file
    if job.name == "gain":
        kept: dict[str, Any] = {"gain_db": _gain(job)}
        small: NDArray[np.uint8] = np.zeros(1, np.uint8)
    else:
        clip, more = _made(job)
        kept = asdict(Row(**judge(_judges(), clip, job.scene), **more))
        small = thumbnail(clip)
        if job.picture is not None:
            strip = resize_frames(clip[np.linspace(0, len(clip) - 1, 6).round().astype(int)], (128, 128))
            job.picture.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(np.concatenate(list(strip), 1)).save(job.picture)
    job.file.parent.mkdir(parents=True, exist_ok=True)
    draft = job.file.with_suffix(".tmp.npz")
    np.savez(draft, row=json.dumps(kept), thumbnail=small)
    draft.replace(job.file)
    return job.file


def _made(job: Job) -> tuple[UInt8, dict[str, Any]]:
    if job.name == "real":
        return _scenes().clip(job.scene, FRAMES, random.Random(f"real/{job.seed}")), {}
    pipeline, work = _pipeline(job.name), plan(TINY, plain_caption(job.scene))
    work = _settings(job.name, work)
    clip, image, keyframes = generate(pipeline, work, job.seed)
    upscaled = resize_frames(keyframes.clip.frames, (clip.shape[2], clip.shape[1]), BICUBIC)
    return clip, {
        "first_frame_db": psnr_db(clip[0], image.pixels),
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


def _gain(job: Job) -> float:
    pipeline, work = _pipeline(FULL), plan(TINY, plain_caption(job.scene))
    real = _scenes().clip(job.scene, FRAMES, random.Random(f"gain/{job.seed}"))
    vae = pipeline.i2v.network.vae
    small = resize_frames(real, work.i2v.size)
    with torch.no_grad():
        frames = codec.decode(vae, codec.encode(vae, codec.to_tensor(small)))
    keyframes = Keyframes(None, Clip(frames, work.i2v.fps))
    clip = redraw(pipeline, Image(real[0]), keyframes, work, job.seed)
    upscaled = resize_frames(frames, (real.shape[2], real.shape[1]), BICUBIC)
    return psnr_db(clip, real) - psnr_db(upscaled, real)


def digest() -> str:
    """Of everything that a video depends on: weights and settings, not code."""
    hashed = hashlib.sha256(repr((TINY, FRAMES)).encode())
    for part in sorted({part.source for part in TINY.parts.values()}):
        for file in sorted((WEIGHTS / part.removeprefix("embedded:")).rglob("*.safetensors")):
            hashed.update(file.read_bytes())
    return hashed.hexdigest()[:12]


def jobs_of(name: str, count: int, distinct: int, home: Path, pictures: Path | None) -> list[Job]:
    """`count` videos of `distinct` scenes."""
    scenes = asked(SCENES)[:distinct]
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


def read(files: Iterable[Path]) -> list[tuple[dict[str, Any], NDArray[np.uint8]]]:
    """Rows and thumbnails."""
    found = []
    for file in files:
        with np.load(file) as kept:
            found.append((json.loads(str(kept["row"])), kept["thumbnail"]))
    return found


def summary(rows: Sequence[tuple[dict[str, Any], NDArray[np.uint8]]], distinct: int) -> dict[str, float]:
    """Means over the videos of one setting; energies and distances are not ratios yet."""
    keys = [key for key, value in rows[0][0].items() if value is not None]
    told = {key: float(np.mean([row[key] for row, _ in rows])) for key in keys}
    pairs = [(rows[index][1], rows[index + distinct][1]) for index in range(len(rows) - distinct)]
    if pairs:
        told["distance"] = float(np.mean([mean_distance(pair) for pair in pairs]))
    return told


def figures_of(made: Mapping[str, float], real: Mapping[str, float]) -> dict[str, float | None]:
    """The figures of one setting beside real clips."""
    return {
        "subject_top1": made["subject"],
        "background_top1": made["place"],
        "motion_top1": made["motion"],
        "style_top1": made["style"],
        "motion_energy_ratio": made["energy"] / real["energy"],
        "first_frame_psnr_db": made["first_frame_db"],
        "flicker_ratio": made["flicker"] / real["flicker"],
        "sharpness_ratio": made["sharpness_ratio"],
        "diversity_ratio": made["distance"] / real["distance"] if "distance" in made and "distance" in real else None,
    }


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = parser_of("quality", __doc__, quick="eight videos, two clips through V2V, no ablation")
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each (default 2)")
    parser.add_argument("--pictures", type=Path, default=Path("out/quality"), help="where pictures of videos are kept")
    options = parser.parse_args(arguments)
    obtain_judges(cache_folder())
    count, distinct = (8, 6) if options.quick else (VIDEOS, SCENES)
    home = cache_folder() / "quality" / digest()
    wanted = {"real": jobs_of("real", count, distinct, home, options.pictures)}
    wanted[FULL] = jobs_of(FULL, count, distinct, home, options.pictures)
    wanted["gain"] = jobs_of("gain", 2 if options.quick else GAIN_CLIPS, SCENES, home, None)
    if not options.quick:
        for part in ABLATIONS:
            if setting(part) is None:
                print(f"without {part}: its weights are not in the cache, passed over")
                continue
            wanted[part] = jobs_of(part, ABLATION_VIDEOS, ABLATION_SCENES, home, options.pictures)
    found = _run(wanted, options.workers)
    real = summary(found["real"], distinct)
    main_figures = figures_of(summary(found[FULL], distinct), real)
    _print_table({name: rows for name, rows in found.items() if name != "gain"}, options.quick)
    result(
        "quality",
        {
            **main_figures,
            "judge_subject_top1": real["subject"],
            "judge_background_top1": real["place"],
            "judge_motion_top1": real["motion"],
            "v2v_gain_db": float(np.mean([row["gain_db"] for row, _ in found["gain"]])),
        },
    )


def _run(wanted: Mapping[str, list[Job]], workers: int) -> dict[str, list[tuple[dict[str, Any], NDArray[np.uint8]]]]:
    """All jobs, a setting after the other, so that a worker loads each setting's weights once."""
    everything = [job for jobs in wanted.values() for job in jobs]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_begin) as pool:
        for _ in track(pool.map(do, everything), "videos", len(everything), console=Console(stderr=True)):
            pass
    return {name: read(job.file for job in jobs) for name, jobs in wanted.items()}


def _print_table(found: Mapping[str, Sequence[tuple[dict[str, Any], NDArray[np.uint8]]]], quick: bool) -> None:
    """One line a setting; ablations beside the full model's and the real clips' same first videos."""
    print("| setting | videos | subject | place | motion | style |", end="")
    print(" energy | first frame dB | flicker | sharpness | diversity |\n|" + "---|" * 11)
    count, distinct = (8, 6) if quick else (ABLATION_VIDEOS, ABLATION_SCENES)
    for name, rows in found.items():
        if name == "real":
            continue
        full = len(rows) > count
        size = SCENES if full else distinct
        real = summary(found["real"] if full else _same(found["real"], distinct, count), size)
        _print_line(name if name == FULL else f"without {name}", len(rows), figures_of(summary(rows, size), real))
        if full:
            real = summary(_same(found["real"], distinct, count), distinct)
            shown = summary(_same(rows, distinct, count), distinct)
            _print_line(f"{name}, the ablations' prompts", count, figures_of(shown, real))


def _same(rows: Sequence[Any], distinct: int, count: int) -> list[Any]:
    """The rows of the prompts that the ablations have: the first `distinct`, and those that come again."""
    return [*rows[:distinct], *rows[SCENES : SCENES + count - distinct]]


def _print_line(name: str, count: int, figures: Mapping[str, float | None]) -> None:
    cells = [f"{value:.2f}" if value is not None else "-" for value in figures.values()]
    print(f"| {name} | {count} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
