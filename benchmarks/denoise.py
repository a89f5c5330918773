"""How much faster the denoising loop is than diffusers' pipelines: `python -m benchmarks.denoise [--quick]`.

Speed: both sides denoise with the same weights, text, picture and noise, in turns, in one process
(`benchmarks.tools.sides`). Every step is timed; a request of `STEPS` steps is its first step, with all that is done
once a request, and the median of the others as often as the schedule takes them. The mid size has about 150 million
random parameters, 8 frames of 32x32 latents, and is measured with a ControlNet and with SparseCtrl. Quality: I2V and
V2V of the committed tiny weights for several prompts, the frames of both stages against the exact ones; the worst
frame set counts.

    exact_speedup_mid    costs nothing: the same numbers to rounding; the lower of ..._control and ..._sparse
    cached_speedup_mid   `reuse_every=3`: deep layers and ControlNets at 8 of 20 steps; costs `cached_psnr_db`
    cached2_speedup_mid  `reuse_every=2`: at 11 of 20 steps; costs `cached2_psnr_db`
    bf16_speedup_mid     UNet and ControlNet in bfloat16 with a ControlNet, nothing cached; costs `bf16_psnr_db`, and
                         `bf16_step_error` of the network's answer at each step (root mean square, relative)
    exact_speedup_tiny   the committed weights; also `cached_speedup_tiny`
    state_mb             of a denoising that stops between two steps, at the paper's size of I2V; `take_ms` to make its
                         bytes of the latents, `restore_ms` to go back; `bytes_equal` is 1 if the committed weights give
                         after two stops, with each scheduler, what they give without

All speeds are against the pipeline of diffusers in float32. Fewer steps lie further apart: what reuse costs grows, and
with four to eight steps (LCM) it should stay off. One thread unless `--threads`, timed in seconds of that thread; about
eight minutes on a quiet machine. `--quick` measures a narrow network, one pair and one prompt with few steps, and
proves nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch

from benchmarks.tools.result import parser_of, result
from benchmarks.tools.sides import Case, Times, answer, cast_denoisers, mid_case, ours, parameters, theirs, tiny_case
from benchmarks.tools.stopping import bytes_equal, cost_of_a_stop
from stages.base import ignore_progress
from stages.i2v import I2V
from stages.measures.pixels import psnr_db
from stages.model.network.reuse import is_full
from stages.presets import TINY, Plan, plan
from stages.settings import ControlKind
from stages.t2i import T2I
from stages.types import Image, UInt8
from stages.v2v import V2V

STEPS = 20
REUSE = 3
PROMPTS = ("a fox in a snowy forest at dusk", "a penguin on a beach", "a red balloon over a city")
KINDS: tuple[ControlKind, ...] = ("plain", "sparse")
TIMED = 4  # steps of a cached run: full, reused, reused, full


@dataclass(frozen=True)
class Effort:
    widths: tuple[int, ...]
    side: int  # latents
    frames: int
    pairs: int
    prompts: Sequence[str]
    steps: int | None  # of the quality runs; None: the preset's


FULL = Effort((128, 256, 512), 32, 8, 2, PROMPTS, None)
QUICK = Effort((64, 64, 128), 8, 4, 1, PROMPTS[:1], 4)


@dataclass(frozen=True)
class Costs:
    """Seconds of one side, medians: the first step, a further full one, one that reuses."""

    first_s: float
    full_s: float
    reused_s: float

    def request_s(self, reuse_every: int = 1) -> float:
        """Of `STEPS` steps."""
        full = sum(is_full(step, STEPS, reuse_every) for step in range(STEPS))
        return self.first_s + (full - 1) * self.full_s + (STEPS - full) * self.reused_s


def summarize(runs: Sequence[Times], reuse_every: int = 1) -> Costs:
    """Medians over several runs of the same length."""
    later = [(step, seconds) for run in runs for step, seconds in enumerate(run.steps_s) if step]
    total = len(runs[0].steps_s)
    full = [seconds for step, seconds in later if is_full(step, total, reuse_every)]
    reused = [seconds for step, seconds in later if not is_full(step, total, reuse_every)]
    return Costs(median(run.steps_s[0] for run in runs), median(full), median(reused) if reused else 0.0)


def compare(case: Case, pairs: int) -> tuple[Costs, Costs]:
    """The pipeline of diffusers and our loop, in turns."""
    base, own = [], []
    for _ in range(pairs):
        base.append(theirs(case, 3))
        own.append(ours(case, TIMED, reuse_every=REUSE))
    apart = largest_difference(ours(case, 1), theirs(case, 1))
    print(f"  after one step at most {apart:.1e} of the largest latent apart")
    if apart > 2e-5:
        raise RuntimeError(f"The two sides are {apart:.1e} apart after one step, 2e-5 is rounding; compare them first.")
    return summarize(base), summarize(own, REUSE)


def largest_difference(one: Times, other: Times) -> float:
    """Between the last latents of two runs, relative to the largest."""
    return float((one.latents[-1] - other.latents[-1]).abs().max() / other.latents[-1].abs().max())


def report_costs(name: str, base: Costs, own: Costs) -> tuple[float, float, float]:
    """Prints the costs of a network; its speedups exact, with `reuse_every` 2 and 3."""
    exact, second, third = (base.request_s() / own.request_s(every) for every in (1, 2, REUSE))
    print(
        f"{name:<14} diffusers {base.full_s:7.3f} s/step   ours {own.full_s:7.3f}, reusing {own.reused_s:7.3f}   "
        f"exact x{exact:.2f}   every 2nd x{second:.2f}   every 3rd x{third:.2f}",
        flush=True,
    )
    return exact, second, third


def bf16(case: Case, base: Costs, pairs: int) -> tuple[float, float]:
    """Speedup over diffusers in float32, and the relative error of one answer of the network."""
    cast = case.cast(torch.bfloat16)
    own = summarize([ours(cast, 2) for _ in range(pairs)])
    one, other = (answer(each) for each in (case, cast))
    error = float((one - other).norm() / one.norm())
    print(f"{'bfloat16':<14} {own.full_s:7.3f} s/step, {error:.1e} relative error a step", flush=True)
    return base.request_s() / own.request_s(), error


class Quality:
    """I2V and V2V of the committed weights, for a few prompts."""

    def __init__(self, effort: Effort) -> None:
        painter, self.i2v, self.v2v = T2I.load(TINY, "cpu"), I2V.load(TINY, "cpu"), V2V.load(TINY, "cpu")
        self.requests: list[tuple[Plan, Image]] = []
        for prompt in effort.prompts:
            asked = plan(TINY, prompt, seconds="1", steps=effort.steps)
            self.requests.append((asked, painter(params=asked.t2i, seed=3, report=ignore_progress)))
        self.exact = [self.videos(*request) for request in self.requests]

    def videos(self, asked: Plan, image: Image, reuse_every: int = 1) -> tuple[UInt8, UInt8]:
        """The frames of both stages, the second from the first."""
        self.i2v.network.reuse_every = self.v2v.network.reuse_every = reuse_every
        keyframes = self.i2v(image, params=asked.i2v, seed=3, report=ignore_progress)
        piece = self.v2v(image, keyframes, params=asked.v2v, seed=3, report=ignore_progress)
        return keyframes.clip.frames, piece.clip.frames

    def worst_db(self, name: str, reuse_every: int = 1) -> float:
        """The lowest PSNR of all prompts and both stages."""
        worst = math.inf
        for (asked, image), exact in zip(self.requests, self.exact, strict=True):
            pair = [psnr_db(*both) for both in zip(self.videos(asked, image, reuse_every), exact, strict=True)]
            print(f"{name:<14} I2V {pair[0]:5.1f} dB   V2V {pair[1]:5.1f} dB   {asked.i2v.prompt!r}", flush=True)
            worst = min(worst, *pair)
        return worst

    def cast(self, dtype: torch.dtype) -> None:
        """From now on the denoising networks compute in `dtype`."""
        for stage in (self.i2v, self.v2v):
            cast_denoisers(stage.network, dtype)


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of("denoise", __doc__, quick="a narrow network, one pair, one prompt, few steps")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    effort = QUICK if options.quick else FULL
    figures: dict[str, float] = {}
    speeds = []
    for kind in KINDS:
        case = mid_case(kind, effort.frames, effort.side, effort.widths)
        print(f"{kind}: {parameters(case) / 1e6:.0f} million parameters")
        base, own = compare(case, effort.pairs)
        speeds.append(report_costs(f"mid, {kind}", base, own))
        if kind == "plain":
            figures["bf16_speedup_mid"], figures["bf16_step_error"] = bf16(case, base, effort.pairs)
    (control, *_), (sparse, *_) = speeds
    exact, second, third = (min(pair) for pair in zip(*speeds, strict=True))
    figures |= {"exact_speedup_mid": exact, "exact_speedup_mid_control": control, "exact_speedup_mid_sparse": sparse}
    figures |= {"cached_speedup_mid": third, "cached2_speedup_mid": second}
    tiny = report_costs("tiny", *compare(tiny_case(2 * effort.frames, 128), 2 * effort.pairs))
    figures |= {"exact_speedup_tiny": tiny[0], "cached_speedup_tiny": tiny[2]}
    quality = Quality(effort)
    figures["cached2_psnr_db"] = quality.worst_db("every 2nd", 2)
    figures["cached_psnr_db"] = quality.worst_db("every 3rd", REUSE)
    stop = cost_of_a_stop()
    figures |= {"state_mb": stop.state_mb, "take_ms": stop.take_ms, "restore_ms": stop.restore_ms}
    asked, image = quality.requests[0]
    figures["bytes_equal"] = int(bytes_equal(quality.i2v, image, asked.i2v))
    print(f"a state has {stop.state_mb:.2f} MB, {stop.take_ms:.1f} ms to take, {stop.restore_ms:.1f} ms to restore")
    quality.cast(torch.bfloat16)
    figures["bf16_psnr_db"] = quality.worst_db("bfloat16")
    result("denoise", figures)


if __name__ == "__main__":
    main()
