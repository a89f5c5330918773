"""From a judged request to every stage's parameters, and to what its result will be: frames, rate, size.

A job that begins from a video takes that video's frames; one that ends at V2V has its windows joined by VFI, which is
then asked for no frame in between. Knows nothing of HTTP or Ray.
"""

from dataclasses import dataclass, replace

from deployments.job_types import JobRequest
from stages.model.windows import plan_windows
from stages.presets import Plan, get_preset, plan
from stages.types import STAGE_NAMES, StageName


@dataclass(frozen=True)
class Result:
    """What a job gives: a picture where `fps` is None."""

    frames: int
    fps: float | None
    size: tuple[int, int]


def plan_of(request: JobRequest) -> Plan:
    """Every stage's parameters for a request that the ingress has judged."""
    preset = get_preset(request.model)
    steps = plan(
        preset,
        request.prompt,
        seed=request.seed,
        negative_prompt=request.negative_prompt,
        size=request.size,
        seconds=request.seconds,
        steps=request.steps,
        guidance=request.guidance,
        factor=request.factor,
    )
    source = request.source
    if source is not None and source.enters == "v2v":
        wanted = round(source.frames / source.fps * preset.keyframe_fps)
        frames = min(max(2, wanted), max(preset.keyframes.values()))
        steps = replace(steps, i2v=replace(steps.i2v, frames=frames))
    if source is not None and source.enters == "vfi":
        size = (source.width // 2 * 2, source.height // 2 * 2)
        i2v = replace(steps.i2v, frames=source.frames, fps=source.fps)
        steps = replace(steps, i2v=i2v, v2v=replace(steps.v2v, size=size))
    if request.until == "v2v":
        steps = replace(steps, vfi=replace(steps.vfi, factor=1))
    return steps


def windows_of(steps: Plan) -> int:
    """How many calls V2V and VFI get."""
    return len(plan_windows(steps.i2v.frames, steps.v2v.windows))


def result_of(request: JobRequest, steps: Plan) -> Result:
    """What the job will give."""
    if request.until == "t2i":
        return Result(1, None, steps.t2i.size)
    if request.until == "i2v":
        return Result(steps.i2v.frames, steps.i2v.fps, steps.i2v.size)
    before = request.extends.frames if request.extends else 0
    return Result(before + steps.frames, steps.fps, steps.v2v.size)


def stages_of(request: JobRequest) -> tuple[StageName, ...]:
    """The stages whose outputs the job needs; V2V's windows are joined by VFI even where it is the last."""
    last = "vfi" if request.until == "v2v" else request.until
    first: StageName = "v2v" if request.enter == "vfi" else "t2i"
    return STAGE_NAMES[STAGE_NAMES.index(first) : STAGE_NAMES.index(last) + 1]


def comes_before(stage: StageName, other: StageName) -> bool:
    return STAGE_NAMES.index(stage) < STAGE_NAMES.index(other)
