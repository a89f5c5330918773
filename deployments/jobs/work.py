"""How much a job asks of each stage, and from what stages have computed, how many seconds that is.

A stage's seconds are taken to grow with what the job asks of it:

    seconds = rest_s * size + work_s * work

`size` is the pixels that pass it (text, VAE, encoder), `work` the same times how often each is computed: denoising
steps, twice each with guidance; of VFI the frames between two frames. Both speeds come from jobs that are done, by the
median slope over all pairs of them (Theil and Sen), so that one job on a busy machine turns nothing. Pure.
"""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from deployments.jobs.plans import plan_of, stages_of
from deployments.jobs.values import JobRequest
from stages.model.sampling.windows import plan_windows
from stages.presets import RequestError, get_preset
from stages.settings import Denoising
from stages.types import STAGE_NAMES, StageName

_ASKED = {"prompt": "a fox", "negative_prompt": "", "seed": 0}  # makes no difference here
_REST: Mapping[StageName, float] = {"t2i": 2.0, "i2v": 2.0, "v2v": 2.0, "vfi": 0.1}
"""What `rest_s` is beside `work_s` as long as all jobs were alike."""
_APART = 0.1  # of the larger: two jobs that differ by less say nothing of a slope


@dataclass(frozen=True)
class Load:
    """What one job asks of one stage. In megapixels, over all calls."""

    size: float
    work: float
    calls: int = 1  # that may run at the same time


Loads = Mapping[StageName, Load]
"""Of a job: each stage that it runs, to its end or to where it pauses."""
Left = Mapping[StageName, float]
"""Of a job: the share of each stage that is still to be computed, 0 to 1."""


@dataclass(frozen=True)
class Speed:
    """What a stage has shown: seconds a megapixel, and a megapixel of work; the median of its jobs."""

    rest_s: float
    work_s: float
    median_s: float

    def seconds(self, load: Load) -> float:
        return self.rest_s * load.size + self.work_s * load.work


def loads_of(request: JobRequest) -> Loads:
    """What a job asks; nothing of one that no preset of today can serve."""
    return _loads_of(request.model_copy(update=_ASKED))


@lru_cache(maxsize=1024)
def _loads_of(request: JobRequest) -> Loads:
    try:
        steps, strength = plan_of(request), get_preset(request.model).strength
    except RequestError:
        return {}
    i2v, v2v, vfi = steps.i2v, steps.v2v, steps.vfi
    windows = plan_windows(i2v.frames, v2v.windows)
    redrawn = _megapixels(v2v.size, sum(len(window) for window in windows))
    tail = max(1, int(v2v.denoising.steps * strength))
    picture, shown = _megapixels(steps.t2i.size, request.candidates), _megapixels(v2v.size, i2v.frames)
    moved = _megapixels(i2v.size, sum(len(window) for window in plan_windows(i2v.frames, i2v.windows)))
    loads = {
        "t2i": Load(picture, picture * _passes(steps.t2i.denoising), request.candidates),
        "i2v": Load(_megapixels(i2v.size, i2v.frames), moved * _passes(i2v.denoising)),
        "v2v": Load(redrawn, redrawn * _passes(v2v.denoising, tail), len(windows)),
        "vfi": Load(shown, shown * (vfi.factor - 1), len(windows)),
    }
    return {name: loads[name] for name in _stages_of(request)}


def left_of(loads: Loads, kept: Mapping[StageName, int]) -> Left:
    """What is left of a job of which so many outputs are kept: all that lies before one that is there is done."""
    left: dict[StageName, float] = {}
    after = 1.0
    for name in reversed(STAGE_NAMES):
        if name in loads:
            calls = loads[name].calls
            own = max(0.0, 1 - kept.get(name, 0) / calls)
            left[name] = after = min(own, after) if calls > 1 else own * (after > 0)
    return left


def speed_of(stage: StageName, done: Sequence[tuple[Load, float]]) -> Speed:
    """From jobs, at least one, and the seconds that each took there."""
    points = [(load.work / load.size, seconds / load.size) for load, seconds in done]
    apart = [(b - a, t - s) for (a, s), (b, t) in itertools.combinations(points, 2) if abs(b - a) > _APART * max(a, b)]
    if apart:
        work_s = max(0.0, statistics.median(rise / step for step, rise in apart))
        rest_s = statistics.median(seconds - work_s * times for times, seconds in points)
        if rest_s < 0:
            rest_s, work_s = 0.0, statistics.median(seconds / times for times, seconds in points if times)
    else:
        work_s = statistics.median(seconds / (times + _REST[stage]) for times, seconds in points)
        rest_s = work_s * _REST[stage]
    return Speed(rest_s, work_s, statistics.median(seconds for _, seconds in done))


def _stages_of(request: JobRequest) -> Sequence[StageName]:
    """Those that compute something, from where the job begins to where it ends or pauses."""
    own = [name for name in stages_of(request) if STAGE_NAMES.index(name) >= STAGE_NAMES.index(request.enter)]
    return own[: own.index(request.pause_after) + 1] if request.pause_after in own else own


def _passes(denoising: Denoising, steps: int | None = None) -> int:
    return (denoising.steps if steps is None else steps) * (2 if denoising.guidance > 1 else 1)


def _megapixels(size: tuple[int, int], frames: int) -> float:
    return frames * size[0] * size[1] / 1e6
