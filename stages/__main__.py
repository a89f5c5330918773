"""The whole pipeline in one process, without Ray: `python -m stages "a fox in a snowy forest at dusk" -o fox.mp4`.

Four words in the prompt's place are commands of their own: `weights` (which files a preset needs, fetch them), `cost`
(what a preset computes, and how much memory it needs), `profile` (how long that takes on this machine) and `measure`
(numbers of sets of finished videos).
"""

import argparse
import os
import random
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from client._shell.ending import Parser, unwinding
from client._shell.outputs import OutputError, is_stdout, judge_output, lead_to_one, written
from client.single import SingleStages
from stages.base import Report
from stages.commands import ENDS, add_speed, check_device, device, errors, hush_diffusers, positive, reports_errors
from stages.local.beginning import Beginning, begin
from stages.presets import DRAWN_SEEDS, PRESETS, Plan, Preset, check_subject, get_preset, plan
from stages.settings import MECHANISMS, Asked, with_speeds, without
from stages.speed import from_words
from stages.types import STAGE_NAMES, StageName

VIDEOS, PICTURES = (".mp4",), (".png", ".jpg", ".jpeg", ".webp")


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="python -m stages",
        description="Make a video from a prompt in this process, without a server.",
        epilog="Other commands: `python -m stages weights --help`, `python -m stages cost --help`. " + ENDS,
    )
    parser.add_argument("prompt", help="what the video shows, in a few words")
    parser.add_argument("-o", "--out", type=Path, default=Path("out.mp4"), help="the mp4, - for stdout (out.mp4)")
    parser.add_argument("--contact-sheet", type=Path, metavar="PNG", help="also write six frames of it as one picture")
    parser.add_argument("--preset", default="tiny", help=f"one of: {', '.join(PRESETS)} (default: tiny)")
    parser.add_argument("--seed", type=int, help="the same seed gives the same video (default: random, and printed)")
    parser.add_argument("--negative-prompt", default="", help="what the video should not show")
    parser.add_argument("--size", help="WIDTHxHEIGHT of the video, one that the preset allows")
    parser.add_argument("--seconds", help="length, one that the preset allows")
    parser.add_argument("--steps", type=int, help="denoising steps of every stage")
    parser.add_argument("--guidance", type=float, help="classifier-free guidance scale of every stage")
    parser.add_argument(
        "--stages", type=_stages, metavar="JSON", help='steps and guidance of single stages: {"i2v": {"steps": 20}}'
    )
    parser.add_argument("--image", type=Path, metavar="FILE", help="picture to animate, in the place of T2I's")
    parser.add_argument("--video", type=Path, metavar="FILE", help="video to redraw or to interpolate, see --enter")
    parser.add_argument("--enter", choices=("v2v", "vfi"), help="first stage that runs on --video")
    parser.add_argument("--without", default="", help=f"switch off, separated by commas: {', '.join(MECHANISMS)}")
    add_speed(parser)
    parser.add_argument("--device", type=device, default="cpu", help='"cpu", "cuda" or "cuda:1" (default: cpu)')
    parser.add_argument("--threads", type=positive, default=os.cpu_count() or 1, help="of torch (default: all cores)")
    return parser.parse_args(argv)


def _stages(text: str) -> Mapping[StageName, Asked]:
    """For argparse. Raises: ArgumentTypeError."""
    try:
        return SingleStages.model_validate_json(text).given
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(map(str, wrong["loc"])) or text
        raise argparse.ArgumentTypeError(
            f'{where}: {wrong["msg"]}; it must look like {{"i2v": {{"steps": 20}}}}, of t2i, i2v and v2v'
        ) from error


def run(words: list[str]) -> int:
    """The command; returns the exit status."""
    if words[:1] == ["weights"]:
        from stages.local.weights_command import run as weights

        return weights(words[1:])
    if words[:1] == ["profile"]:
        from stages.local.profiling import run as profile

        return profile(words[1:])
    if words[:1] == ["measure"]:
        from stages.measures.command import run as measure

        return measure(words[1:])
    if words[:1] == ["cost"]:
        from stages.cost.command import run as cost

        return cost(words[1:])
    args = _arguments(words)
    seed = random.randrange(DRAWN_SEEDS) if args.seed is None else args.seed
    preset = with_speeds(get_preset(args.preset), from_words(args.speed))
    preset = without(preset, [name for name in args.without.split(",") if name])
    work = plan(
        preset,
        args.prompt,
        seed=seed,
        negative_prompt=args.negative_prompt,
        size=args.size,
        seconds=args.seconds,
        steps=args.steps,
        guidance=args.guidance,
        stages=args.stages,
    )
    begun = begin(work, preset, args.image, args.video, args.enter)
    work = begun.plan if begun else work
    _judge(args.out, args.contact_sheet)
    if begun is None:
        check_subject(preset, args.prompt)
    if work.note:
        errors.print(work.note)
    with unwinding(), written(args.out) as video:
        with _progress() as progress:
            frames = _run(args, preset, work, seed, progress, begun, video)
        if args.contact_sheet is not None:
            from stages.sheets import contact_sheet

            with written(args.contact_sheet) as picture:
                contact_sheet(video).save(picture, None if args.contact_sheet.suffix else "PNG")
    where = "stdout" if is_stdout(args.out) else args.out
    errors.print(f"{where}: {frames} frames at {work.fps:g} frames/s, seed {seed}", soft_wrap=True)
    return 0


def _judge(out: Path, sheet: Path | None) -> None:
    """Raises: OutputError."""
    judge_output(out, VIDEOS)
    if sheet is not None:
        judge_output(sheet, PICTURES)
        if lead_to_one(sheet, out):
            raise OutputError(f"{out} is to be written twice; give the contact sheet a name of its own.", path=out)


def _progress() -> Progress:
    columns = (TextColumn("{task.description:>4}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=errors)


def _run(
    args: argparse.Namespace,
    preset: Preset,
    work: Plan,
    seed: int,
    progress: Progress,
    begun: Beginning | None,
    video: Path,
) -> int:
    hush_diffusers()
    # torch and diffusers take seconds to import: a wrong argument is told before that.
    import torch

    from stages.local.mp4 import write_mp4
    from stages.local.pipeline import LocalPipeline

    warnings.filterwarnings("ignore", module="diffusers|transformers|huggingface_hub")
    check_device(args.device)
    torch.set_num_threads(args.threads)
    tasks = {name: progress.add_task(name, total=None, start=False) for name in STAGE_NAMES}

    def report_for(stage: StageName) -> Report:
        progress.start_task(tasks[stage])

        def report(step: int, total: int) -> None:
            progress.update(tasks[stage], completed=step, total=total)

        return report

    pipeline = LocalPipeline.load(preset, args.device, begun.given.enters if begun else "t2i")
    clips = pipeline.run(work, seed, report_for, begun.outputs() if begun else ())
    return write_mp4(video, clips, begun.sound if begun else None)


main = reports_errors(run, "Interrupted; nothing was kept.")

if __name__ == "__main__":
    sys.exit(main())
