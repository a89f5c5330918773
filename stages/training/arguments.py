"""What `python -m stages.training` understands, as plain values. Knows nothing of torch or of what commands do."""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from client._shell.ending import Parser
from stages.commands import positive
from stages.training.scenes.fetch import cache_folder

_EPILOG = """without a command, the tiny weights are trained from nothing (`make train`).

on several GPUs of one machine or many, put the launcher of accelerate in front:
  accelerate launch --multi_gpu --num_processes 8 -m stages.training i2v --preset paper --data clips.jsonl --out mine

exit status: 0 done, 1 the run failed, 2 a wrong argument or wrong data, 3 trouble from outside, 130 interrupted
(goes on when started again)."""
TARGETS = ("motion", "control", "appearance", "encoder", "spatial")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments, with `command` None, or the name of one."""
    parser = Parser(
        prog="python -m stages.training",
        description="Train the tiny weights from nothing, or the parts of a preset on your own data.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--effort",
        type=number(0, open_end=True),
        default=1.0,
        help="multiplies the length of every recipe of the tiny one",
    )
    parser.add_argument(
        "--start", type=Path, help="go on from the weights in this folder, with shorter recipes (default: from nothing)"
    )
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="data and checkpoints of the tiny weights")
    parser.add_argument("--threads", type=positive, default=1, help="more than the free cores is slower, not faster")
    parser.add_argument("--install", action="store_true", help="copy the tiny weights into stages/weights/tiny")
    parser.add_argument(
        "--ablations", action="store_true", help="then train I2V on clips alone as well, for benchmarks.quality"
    )
    commands = parser.add_subparsers(dest="command", metavar="command")

    manifest = commands.add_parser(
        "manifest", help="list a folder of clips and pictures with .txt captions beside them"
    )
    manifest.add_argument("folder", type=Path)
    manifest.add_argument("--out", type=Path, required=True, help="the manifest, a .jsonl")

    i2v = _video(commands, "i2v", "I2V on clips and pictures jointly: the motion module, and what else --train names")
    i2v.add_argument(
        "--train",
        type=_targets,
        default=("motion",),
        help="parts that learn, of motion,control,appearance,encoder,spatial (default motion)",
    )

    v2v = _video(commands, "v2v", "V2V's motion module on the high-resolution part of the data")
    v2v.add_argument("--least-size", type=size, help="WxH: smaller files are left out (default: V2V's size)")

    for name, text in (("control", "a ControlNet"), ("appearance", "the decoupled cross-attention of the picture")):
        command = _video(commands, name, f"{text}, with captions and pictures left out at times")
        command.add_argument("--stage", choices=("i2v", "v2v"), default="i2v", help="whose (default i2v)")

    refl = _common(commands, "refl", "human feedback by a differentiable reward (ReFL), on the base UNet")
    refl.add_argument(
        "--reward",
        default="stages.training.feedback.rewards:colourfulness",
        help="a function of pictures and prompts, as module:function",
    )
    refl.add_argument("--draw-steps", type=positive, default=40, help="denoising steps of a picture (default 40)")
    refl.add_argument("--margin", type=float, default=2.0, help="rewards above it are not pushed further (default 2)")
    dpo = _common(commands, "dpo", "human feedback by preference (Diffusion-DPO), on the base UNet")
    dpo.add_argument(
        "--beta", type=number(0, open_end=True), default=2500.0, help="how far from the start it may go (default 2500)"
    )
    dpo.add_argument("--latents", type=Path, help="keep encoded pictures in this folder")
    for command in (refl, dpo):
        command.add_argument(
            "--lora", type=count, default=0, metavar="RANK", help="train at this rank, not the whole UNet"
        )

    text = "the interpolation GAN, beside the frozen flow model"
    vfi = commands.add_parser("vfi", help=text, description=text)
    vfi.add_argument("--videos", type=Path, help="a folder of videos to train on, instead of film and animations")
    vfi.add_argument("--records", type=positive, default=2700, help="moments to keep on disk, about 1.6 MB each")
    vfi.add_argument("--steps", type=positive, default=2000, help="of the optimiser (default 2000)")
    vfi.add_argument("--rate", type=number(0, open_end=True), default=3e-4, help="learning rate (default 0.0003)")
    vfi.add_argument("--batch", type=positive, default=4, help="crops a step (default 4)")
    vfi.add_argument("--cache", type=Path, default=argparse.SUPPRESS, help="data and checkpoints")
    vfi.add_argument("--out", type=Path, help="folder of gan.safetensors; without it, below the cache")
    vfi.add_argument("--install", action="store_true", help="write into stages/weights instead")
    _machine(vfi)
    return parser.parse_args(argv)


def _common(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    data = {"refl": "prompts, one a line, or a manifest", "dpo": "a .jsonl of pairs: better, worse, caption"}
    command.add_argument("--preset", default="tiny", help="a name, or module:NAME of your own (default tiny)")
    command.add_argument("--data", type=Path, required=True, help=data.get(name, "a manifest: .jsonl of file, caption"))
    command.add_argument("--out", type=Path, required=True, help="folder of the parts; checkpoints and logs in OUT/run")
    command.add_argument("--size", type=size, help="WxH of what is trained on (default: the preset's)")
    command.add_argument("--steps", type=positive, default=1000, help="of the optimiser (default 1000)")
    rate = 1e-5 if name in ("refl", "dpo") else 1e-4
    command.add_argument(
        "--rate", type=number(0, open_end=True), default=rate, help=f"learning rate (default {rate:g})"
    )
    command.add_argument("--warmup", type=positive, default=100, help="steps over which the rate rises (default 100)")
    command.add_argument("--batch", type=positive, default=4 if name in ("refl", "dpo") else 1, help="in each process")
    command.add_argument("--accumulate", type=positive, default=1, help="batches a step (default 1)")
    command.add_argument("--precision", choices=("no", "bf16", "fp16"), help="default: accelerate's, else no")
    command.add_argument("--checkpointing", action="store_true", help="gradient checkpointing: less memory, slower")
    command.add_argument(
        "--ema", type=number(0, 1), default=0.998, help="decay of the averaged weights (default 0.998)"
    )
    command.add_argument("--save-every", type=positive, default=250, help="steps between checkpoints (default 250)")
    command.add_argument(
        "--sample-every", type=count, default=0, help="steps between sample grids in OUT/samples; 0: none"
    )
    command.add_argument("--samples", type=positive, default=3, help="columns of a grid (default 3)")
    command.add_argument("--tensorboard", action="store_true", help="write TensorBoard's events beside the CSV log")
    dtypes = ("float32", "float16", "bfloat16")
    command.add_argument("--save-dtype", choices=dtypes, default="float32", help="of the saved parts (default float32)")
    command.add_argument("--seed", type=int, default=0, help="of data, noise and sample grids (default 0)")
    _machine(command)
    return command


def _video(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    command = _common(commands, name, text)
    command.add_argument("--frames", type=positive, help="a clip (default: the preset's window)")
    command.add_argument("--latents", type=Path, help="encode every clip once and keep it in this folder")
    fresh = "start from new weights instead of the preset's"
    if name == "control":
        fresh += "; a control of the plain RGB form, whatever the preset's is"
    if name != "v2v":
        ratio = 0.25 if name == "i2v" else 0.0
        command.add_argument("--fresh", action="store_true", help=fresh)
        command.add_argument(
            "--image-ratio",
            type=number(0, 1),
            default=ratio,
            help=f"share of batches that are pictures (default {ratio:g})",
        )
        command.add_argument("--picture-batch", type=positive, default=16, help="pictures a batch (default 16)")
        command.add_argument("--image-mode", choices=("single_frame", "bypass"), help="default: the preset's")
    return command


def _machine(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU if there is one"
    )
    command.add_argument("--threads", type=positive, default=argparse.SUPPRESS, help="of torch on a CPU (default 1)")


def number(least: float, most: float = math.inf, *, open_end: bool = False) -> Callable[[str], float]:
    """A number from `least`, which `open_end` leaves out, to `most`, for argparse."""

    def parse_number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most or value == math.inf or (open_end and value == least):
            bounds = f"{'above' if open_end else 'at least'} {least:g}" + (
                f" and at most {most:g}" if most < math.inf else ""
            )
            raise argparse.ArgumentTypeError(f"{text!r} does not fit; it must be a number {bounds}")
        return value

    return parse_number


def count(text: str) -> int:
    """0 or more. Raises: ArgumentTypeError."""
    return 0 if text.strip() == "0" else positive(text)


def size(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT. Raises: ArgumentTypeError."""
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, such as 600x600")
    return int(width), int(height)


def _targets(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names or set(names) - set(TARGETS):
        raise argparse.ArgumentTypeError(f"{text!r} names no part; choose from: {', '.join(TARGETS)}")
    return names
