"""What one in-between frame costs: `python -m benchmarks.vfi [--quick]`.

`deform_sep_conv` of five by five taps at 512x512, one frame, in bands of rows as it is served, against both ways to
write it down without bands: every tap its own `grid_sample`, and all taps stacked in one. Then whole frames of
1048x1048, as the stage makes them (flow model, GAN, head in bands), and with the head's bands switched off; each in a
process of its own, because the peak of memory is a process's. Figures:

    dsc_speedup_512         stacked, not banded, over banded: best of `ROUNDS` rounds each, taken in turns
    dsc_speedup_taps_512    a call a tap over banded
    seconds_per_frame_1048  one new frame, both neighbours already encoded
    peak_gib_1048           of the whole process; `..._unchunked` without bands, `base_gib` before the first frame

On the CPU, one thread unless `--threads`: about two minutes on a quiet machine. `--quick` runs fewer rounds and frames
of 264x264 in the place of 1048x1048.
"""

import multiprocessing
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.tools.result import parser_of, result
from stages.presets import PRESETS
from stages.vfi.dsc import deform_sep_conv
from stages.vfi.interpolator import Interpolator
from stages.vfi.weights import load_gan, load_rife

TAPS, ROUNDS, QUICK_ROUNDS = 5, 15, 3
SIDE_PX, QUICK_SIDE_PX = 1048, 264
FRAMES, QUICK_FRAMES = 3, 1

Fields = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def random_fields(side: int) -> tuple[Tensor, Fields]:
    """A frame and fields as the op takes them; offsets of two pixels."""
    random = torch.Generator().manual_seed(0)

    def draw(channels: int) -> Tensor:
        return torch.randn(1, channels, side, side, generator=random)

    square = TAPS * TAPS
    fields = (draw(TAPS).softmax(1), draw(TAPS).softmax(1), draw(square).sigmoid(), 2 * draw(square), 2 * draw(square))
    return draw(3).sigmoid(), fields


def banded(frame: Tensor, fields: Fields) -> Tensor:
    """As it is served."""
    return deform_sep_conv(frame, *fields)


def stacked(frame: Tensor, fields: Fields) -> Tensor:
    """All samples of the whole frame at once."""
    return deform_sep_conv(frame, *fields, band_rows=None)


def tap_by_tap(frame: Tensor, fields: Fields) -> Tensor:
    """The obvious way: a `grid_sample` of the whole frame for every tap."""
    vertical, horizontal, mask, dy, dx = fields
    height, width = frame.shape[-2:]
    rows, columns = torch.arange(height, dtype=torch.float32)[:, None], torch.arange(width, dtype=torch.float32)
    total = torch.zeros_like(frame)
    for tap in range(TAPS * TAPS):
        i, j = divmod(tap, TAPS)
        y, x = rows + (i - TAPS // 2) + dy[:, tap], columns + (j - TAPS // 2) + dx[:, tap]
        grid = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1)
        sample = F.grid_sample(frame, grid, mode="bilinear", padding_mode="border", align_corners=False)
        total = total + sample * (vertical[:, i] * horizontal[:, j] * mask[:, tap])[:, None]
    return total


@torch.inference_mode()
def compare_operators(rounds: int) -> dict[str, float]:
    """Seconds of each way, best of `rounds`; their outputs are compared first."""
    frame, fields = random_fields(512)
    ways: dict[str, Callable[[Tensor, Fields], Tensor]] = {"banded": banded, "stacked": stacked, "taps": tap_by_tap}
    made = {name: way(frame, fields) for name, way in ways.items()}
    apart = max(float((other - made["banded"]).abs().max()) for other in made.values())
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way(frame, fields)
            best[name] = min(best[name], time.perf_counter() - started)
    told = ", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in best.items())
    print(f"deform_sep_conv 512x512, {TAPS}x{TAPS} taps: {told}; outputs within {apart:.1e}", flush=True)
    return best


def measure_frames(side: int, frames: int, chunked: bool, threads: int) -> tuple[float, float, float]:
    """(seconds a frame, peak GiB of this process, GiB before the first frame); run in a process of its own."""
    torch.set_num_threads(threads)
    parts, cpu = PRESETS["tiny"].parts, torch.device("cpu")
    gan = load_gan(parts["gan"], cpu, torch.float32)
    if not chunked:
        gan.band_rows = None
    interpolator = Interpolator(load_rife(parts["flow"], cpu, torch.float32), gan)
    noise = np.random.default_rng(0).integers(0, 256, (side // 8 + 1, side // 8 + 1, 3), dtype=np.uint8)
    left = np.kron(noise, np.ones((8, 8, 1), np.uint8))[:side, :side]
    before = _peak_gib()
    seen_left, seen_right = interpolator.see(left), interpolator.see(np.roll(left, 5, axis=1))
    best = float("inf")
    for step in range(frames):
        started = time.perf_counter()
        interpolator.frame(seen_left, seen_right, (step + 1) / (frames + 1))
        best = min(best, time.perf_counter() - started)
    return best, _peak_gib(), before


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # the kernel counts in KiB


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of("vfi", __doc__, quick="fewer rounds, and small frames")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    options = parser.parse_args(arguments)
    if options.threads < 1:
        parser.error(f"--threads is {options.threads}; it must be at least 1.")
    torch.set_num_threads(options.threads)
    seconds = compare_operators(QUICK_ROUNDS if options.quick else ROUNDS)
    side, frames = (QUICK_SIDE_PX, QUICK_FRAMES) if options.quick else (SIDE_PX, FRAMES)
    found: dict[bool, tuple[float, float, float]] = {}
    for chunked in (True, False):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
            found[chunked] = alone.submit(measure_frames, side, frames, chunked, options.threads).result()
        each, peak, before = found[chunked]
        how = "in bands" if chunked else "at once"
        print(
            f"{side}x{side}, head {how}: {each:.2f} s/frame, peak {peak:.2f} GiB ({before:.2f} with the weights alone)",
            flush=True,
        )
    result(
        "vfi",
        {
            "dsc_speedup_512": seconds["stacked"] / seconds["banded"],
            "dsc_speedup_taps_512": seconds["taps"] / seconds["banded"],
            f"seconds_per_frame_{side}": found[True][0],
            f"seconds_per_frame_{side}_unchunked": found[False][0],
            f"peak_gib_{side}": found[True][1],
            f"peak_gib_{side}_unchunked": found[False][1],
            "base_gib": found[True][2],
        },
    )


if __name__ == "__main__":
    main()
