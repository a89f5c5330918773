"""What the knobs of a stage's `Speed` cost and gain: `python -m benchmarks.speed [--quick] [--ratios STAGE]`.

Real classes of diffusers with random weights, four blocks each, behind their stages on this CPU: each cache of each
class in `stages.model.hub.knobs.CACHES`, and of Wan's I2V compiled blocks, int8 weights (where torchao is installed),
another attention and two processes that share each call. Exact and other calls take turns; a speed is the median of
their ratios, a cost the PSNR of the frames against the exact ones, the lowest of all classes. Random weights change
more from step to step than trained ones: the costs rank the knobs, and say nothing of a video.

    CACHE_speedup, CACHE_psnr_db     first_block (threshold 1), mag, taylorseer, pyramid, faster
    compile_speedup, ..._psnr_db     once compiled; the first call's minute is left out
    int8_..., attention_...          weight only; `_native_math`
    gpus_speedup, gpus_psnr_db       two processes of as many threads each
    exact_equal                      1 if a call with no knob gives the same bytes after all of that

`--quick` takes one class, two turns and no compiler. `--ratios STAGE` measures nothing of this: it prints the
`mag_ratios` of the weights of `--preset` on `--device`.
"""

import contextlib
import io
import json
import logging
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import diffusers
import numpy as np
import torch

from benchmarks.tools.result import parser_of, result
from stages.base import ignore_progress
from stages.i2v import I2V
from stages.measures.pixels import psnr_db
from stages.model.hub.gang import Gang
from stages.model.hub.knobs import CACHES, denoisers
from stages.presets import get_preset, plan
from stages.t2i import T2I
from stages.types import UInt8
from stages.v2v import V2V
from tests.stages.modern.rig import Shelf, keyframes, picture
from tests.stages.modern.sped import STEPS, Call, load

WIDE: dict[str, dict[str, Any]] = {
    "Cog": {"num_attention_heads": 4, "attention_head_dim": 32},
    "Flu": {"num_attention_heads": 4, "attention_head_dim": 32, "axes_dims_rope": (8, 12, 12)},
    "LTX": {"num_attention_heads": 4, "attention_head_dim": 32, "cross_attention_dim": 128},
    "Wan": {"num_attention_heads": 4, "attention_head_dim": 32, "ffn_dim": 512},
}
MORE: dict[str, dict[str, Any]] = {"first_block": {"cache_threshold": 1.0}}  # else it would leave out nothing here
ONE = "WanImageToVideoPipeline"
BEST_DB = 100.0  # of equal frames


class Bench:
    """Builds stages, and compares their calls with exact ones."""

    def __init__(self, folder: Path, turns: int) -> None:
        self._shelf, self._turns = Shelf(folder), turns
        self.figures: dict[str, float] = {}
        self._exact: dict[str, Call] = {}

    def load(self, name: str, knobs: dict[str, Any]) -> tuple[Any, Call]:
        return load(self._shelf, name, knobs, **WIDE[name[:3]])

    def exact(self, name: str) -> Call:
        if name not in self._exact:
            self._exact[name] = self.load(name, {})[1]
        return self._exact[name]

    def compare(self, name: str, figure: str, knobs: dict[str, Any]) -> None:
        """Calls of one class in turns; of several classes, the worse counts."""
        stage, other = self.load(name, knobs)
        exact = self.exact(name)
        other(report=ignore_progress)
        ratios, cost = [], BEST_DB
        for _ in range(self._turns):
            (right, right_s), (made, made_s) = timed(exact), timed(other)
            ratios.append(right_s / made_s)
            cost = min(cost, psnr_db(made, right))
        if isinstance(getattr(stage, "maker", None), Gang):
            stage.maker.close()
        print(f"{name:<32} {figure:<12} {median(ratios):5.2f}x  {cost:6.1f} dB", flush=True)
        speed, quality = f"{figure}_speedup", f"{figure}_psnr_db"
        self.figures[speed] = min(self.figures.get(speed, np.inf), median(ratios))
        self.figures[quality] = min(self.figures.get(quality, BEST_DB), cost)


def timed(call: Call) -> tuple[UInt8, float]:
    began = time.perf_counter()
    made = call(report=ignore_progress)
    return made, time.perf_counter() - began


def ratios_of(pipeline: Any, steps: int, call: Callable[[], object]) -> list[float]:
    """How residuals shrink over `call`, as MagCache says when it calibrates; of several branches, their mean."""
    (network,) = denoisers(pipeline).values()
    network.enable_cache(diffusers.MagCacheConfig(calibrate=True, num_inference_steps=steps))
    try:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            call()
    finally:
        network.disable_cache()
    found = [json.loads(line) for line in said.getvalue().splitlines() if line.startswith("[") and "Cache" not in line]
    return [round(float(ratio), 5) for ratio in np.mean(found, axis=0)]


def print_ratios(stage: str, preset_name: str, device: str) -> None:
    preset = get_preset(preset_name)
    asked = plan(preset, "a fox in a snowy forest at dusk")
    if stage == "t2i":
        painter: Any = T2I.load(preset, device)
        runner, call = painter._painter.runner, lambda: painter(params=asked.t2i, seed=3, report=ignore_progress)
        steps = asked.t2i.denoising.steps
    elif stage == "i2v":
        animator: Any = I2V.load(preset, device)
        image = picture(size=asked.i2v.size)
        runner, call = animator.maker.runner, lambda: animator(image, params=asked.i2v, seed=3, report=ignore_progress)
        steps = asked.i2v.denoising.steps
    else:
        redrawer: Any = V2V.load(preset, device)
        clip, image = keyframes(asked.i2v.frames, size=asked.i2v.size), picture(size=asked.i2v.size)
        runner = redrawer.maker.runner
        call = lambda: redrawer(image, clip, params=asked.v2v, seed=3, report=ignore_progress)  # noqa: E731
        steps = max(1, int(asked.v2v.denoising.steps * asked.v2v.strength))
    print(json.dumps(ratios_of(runner.pipeline, steps, call)))


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = parser_of("speed", __doc__ or "", quick="one class, two turns, no compiler")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch, of each process (1)")
    parser.add_argument("--ratios", choices=("t2i", "i2v", "v2v"), help="print mag_ratios of this stage's weights")
    parser.add_argument("--preset", default="modern", help="of --ratios")
    parser.add_argument("--device", default="cuda", help="of --ratios")
    options = parser.parse_args(arguments)
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    if options.ratios:
        print_ratios(options.ratios, options.preset, options.device)
        return
    torch.set_num_threads(options.threads)
    classes = [ONE] if options.quick else sorted(CACHES)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), 2 if options.quick else 5)
        for name in classes:
            for cache in CACHES[name]:
                knobs: dict[str, Any] = {"cache": cache, **MORE.get(cache, {})}
                if cache == "mag":
                    stage, call = bench.load(name, {})
                    maker = getattr(stage, "maker", None) or stage._painter
                    knobs["mag_ratios"] = ratios_of(maker.runner.pipeline, STEPS, partial(call, report=ignore_progress))
                bench.compare(name, cache, knobs)
        before = bench.exact(ONE)(report=ignore_progress)
        bench.compare(ONE, "attention", {"attention": "_native_math"})
        bench.compare(ONE, "gpus", {"gpus": 2})
        if find_spec("torchao"):
            bench.compare(ONE, "int8", {"weights": "int8"})
        else:
            print("int8 was not measured: torchao is not installed")
        if not options.quick:
            bench.compare(ONE, "compile", {"compile": True})
        bench.figures["exact_equal"] = int(np.array_equal(before, bench.exact(ONE)(report=ignore_progress)))
    result("speed", bench.figures)


if __name__ == "__main__":
    main()
