"""The command `python -m stages cost`: what a preset's stages compute, and how much memory each needs.

Nothing is loaded and no GPU is needed: everything is counted on the meta device.
"""

import json
import sys
import warnings
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from client._shell.terminal import make_console
from stages.commands import add_speed, hush_diffusers, preset_parser, reports_errors
from stages.presets import get_preset, plan
from stages.settings import with_speeds
from stages.speed import from_words

_GIB = 2**30
GPU_NAMES = ("l4", "rtx4090", "rtx5090", "a100-40", "l40s", "a100", "h100", "h200")  # of `gpus`, which imports torch


def run(words: list[str]) -> int:
    """The command; returns the exit status."""
    parser = preset_parser("cost", __doc__, "paper")
    parser.add_argument("--size", help="WIDTHxHEIGHT of the video, one that the preset allows")
    parser.add_argument("--seconds", help="length, one that the preset allows")
    add_speed(parser)
    parser.add_argument(
        "--device",
        choices=("cuda", "cpu"),
        default="cuda",
        help="cuda: the preset's dtype (default); cpu: float32",
    )
    parser.add_argument("--gpu", choices=GPU_NAMES, help="say what fits there, and about how long it takes")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout, in operations and bytes")
    args = parser.parse_args(words)
    if args.gpu and args.device == "cpu":
        parser.error("--gpu and --device cpu are two places; give one of them")
    preset = with_speeds(get_preset(args.preset), from_words(args.speed))
    frames = plan(preset, "x", size=args.size, seconds=args.seconds).i2v.frames
    size = args.size or preset.default_size
    hush_diffusers()
    warnings.filterwarnings("ignore")
    from stages.cost.gpus import GPUS, UTILISATION, fits, seconds
    from stages.cost.stages import OVERHEAD_BYTES, cost_of

    costs = cost_of(preset, size, frames, args.device)
    if args.json:
        stages = {name: {**asdict(cost), "memory_bytes": cost.memory_bytes} for name, cost in costs.items()}
        about: dict[str, Any] = {"preset": preset.name, "size": size, "frames": frames, "device": args.device}
        about["overhead_bytes"] = OVERHEAD_BYTES
        if args.gpu:
            gpu = GPUS[args.gpu]
            about["gpu"] = args.gpu
            for name, cost in costs.items():
                stages[name] |= {"fits": fits(cost, gpu), "seconds": seconds(cost, gpu)}
        print(json.dumps({**about, "stages": stages}))
        return 0
    title = f"Preset {preset.name}: {frames} keyframes, {size}, on {args.device}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)  # numbers are whole in 80 columns
    there_too = (f"{args.gpu}: offload", "about s") if args.gpu else ()
    for column in ("stage", "calls", "TFLOPs", "a step", "weights GiB", "peak GiB", "output MB", "GPU GiB", *there_too):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for name, cost in costs.items():
        table.add_row(
            name,
            str(cost.calls),
            _tera(cost.flops),
            _tera(cost.step_flops) if cost.step_flops else "-",
            f"{cost.weight_bytes / _GIB:.2f}",
            f"{cost.activation_peak_bytes / _GIB:.2f}",
            f"{cost.output_bytes / 1e6:.1f}",
            f"{cost.memory_bytes / _GIB:.1f}",
            *(
                (fits(cost, GPUS[args.gpu]) or "does not fit", f"{seconds(cost, GPUS[args.gpu]):.1f}")
                if args.gpu
                else ()
            ),
        )
    kinds = sorted({offload for name in costs if (offload := preset.speed(name).offload) != "none"})
    there = f"weights that are there at once (offload {', '.join(kinds)})" if kinds else "weights"
    overhead = f"{OVERHEAD_BYTES / _GIB:g} GiB for CUDA and the allocator's gaps"
    caption = f"GPU = {there} + peak of the activations in one call + {overhead}"
    shared = {name: cost.gpus for name, cost in costs.items() if cost.gpus > 1}
    caption += "".join(f"; {gpus} GPUs share a call of {name}" for name, gpus in shared.items())
    if args.gpu:
        gpu, total = GPUS[args.gpu], sum(seconds(cost, GPUS[args.gpu]) for cost in costs.values())
        caption += (
            f"; {args.gpu}: {gpu.gib:g} GiB, {gpu.tflops:g} TFLOP/s, of which {UTILISATION:.0%} are counted on, "
            f"{gpu.gb_s:g} GB/s: about {total:.0f} s a video, not measured"
        )
    table.caption = caption
    make_console().print(table)
    return 0


def _tera(flops: float) -> str:
    return f"{flops / 1e12:,.{0 if flops >= 1e15 else 2}f}"


main = reports_errors(run)

if __name__ == "__main__":
    sys.exit(main())
