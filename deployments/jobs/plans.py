"""From a judged request to every stage's parameters, and to what its result will be: frames, rate, size.

A job that begins from a video takes that video's frames; one that ends at V2V has its windows joined by VFI, which is
then asked for no frame in between. Knows nothing of HTTP or Ray.
"""

from dataclasses import replace

from deployments.jobs.values import JobRequest, Planned
from stages.media.fitting import fitted
from stages.model.sampling.windows import plan_windows
from stages.presets import Plan, get_preset, plan
from stages.types import STAGE_NAMES, StageName


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
        stages=request.stages.given if request.stages else None,
        factor=request.factor,
    )
    if request.until == "v2v":
        steps = replace(steps, vfi=replace(steps.vfi, factor=1))
    source = request.source
    if source is None:
        return steps
    return fitted(replace(steps, note=" ".join(filter(None, (steps.note, source.note)))), preset, source.given)


def seconds_of(request: JobRequest, planned: Planned) -> str:
    """How long the result is: as the preset names it, or of a job that begins with a video what its frames last."""
    if request.source is None or request.source.kind == "picture" or planned.fps is None:
        return request.seconds
    return f"{planned.frames / planned.fps:.2f}".rstrip("0").rstrip(".")


def windows_of(steps: Plan) -> int:
    """How many calls V2V and VFI get."""
    return len(plan_windows(steps.i2v.frames, steps.v2v.windows))


def planned_of(request: JobRequest, steps: Plan) -> Planned:
    """What the job will give."""
    windows, note = windows_of(steps), " ".join(filter(None, (steps.note, _unused(request))))
    if request.until == "t2i":
        return Planned(frames=1, fps=None, size=steps.t2i.size, windows=windows, note=note)
    if request.until == "i2v":
        keyframes = steps.i2v
        return Planned(frames=keyframes.frames, fps=keyframes.fps, size=keyframes.size, windows=windows, note=note)
    before = request.extends.frames if request.extends else 0
    return Planned(frames=before + steps.frames, fps=steps.fps, size=steps.v2v.size, windows=windows, note=note)


def _unused(request: JobRequest) -> str:
    """What was asked for and makes no difference to a job that runs from there to there, in a sentence."""
    if request.until == "t2i" and request.seconds != get_preset(request.model).default_seconds:
        return f"seconds {request.seconds} makes no difference to a job that ends with T2I's picture."
    if request.factor is not None and request.until != "vfi":
        return f"factor {request.factor} is VFI's and makes no difference to a job that ends after {request.until}."
    if request.source is None or request.source.enters != "vfi":
        return ""
    asked = [
        name for name in ("negative_prompt", "steps", "guidance", "stages") if getattr(request, name) not in (None, "")
    ]
    return f"{', '.join(asked)}: VFI denoises nothing, so this makes no difference." if asked else ""


def stages_of(request: JobRequest) -> tuple[StageName, ...]:
    """The stages whose outputs the job needs; V2V's windows are joined by VFI even where it is the last."""
    last = "vfi" if request.until == "v2v" else request.until
    first: StageName = "v2v" if request.enter == "vfi" else "t2i"
    return STAGE_NAMES[STAGE_NAMES.index(first) : STAGE_NAMES.index(last) + 1]


def comes_before(stage: StageName, other: StageName) -> bool:
    return STAGE_NAMES.index(stage) < STAGE_NAMES.index(other)
