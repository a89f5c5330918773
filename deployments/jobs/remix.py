"""From a job and what is to change to a new job: a remix, a video that enters in the middle, an extension.

Takes the parent as the journal knows it; gives the request of the child and the outputs of the parent that it begins
from. Pure: whether those outputs are still kept, the journal finds out when the child is written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from client.schema import CreateVideo, ExtendVideo, RemixVideo
from deployments.errors import InvalidRequestError, VideoNotReadyError
from deployments.jobs.judging import check_route
from deployments.jobs.plans import comes_before, plan_of
from deployments.jobs.values import Job, JobRequest, Source
from stages.presets import RequestError, check_subject, get_preset
from stages.types import STAGE_NAMES, StageName

Needs = Mapping[StageName, Sequence[int]]

_REACHES: dict[str, StageName] = {  # the first stage that a change makes a difference to
    "prompt": "t2i",
    "negative_prompt": "t2i",
    "seed": "t2i",
    "steps": "t2i",
    "guidance": "t2i",
    "stages": "t2i",
    "factor": "vfi",
}


@dataclass(frozen=True)
class Child:
    """A new job."""

    request: JobRequest
    needs: Needs


def remix(parent: Job, change: RemixVideo, *, reuse: bool = False) -> Child:
    """The parent's request with the changes, from the first stage that they reach or from the one that is asked for.

    Raises:
        InvalidRequestError: nothing changes, or a value that the preset cannot serve.
    """
    old = parent.request
    changes: dict[str, Any] = {
        name: value for name in _REACHES if (value := getattr(change, name)) is not None and value != getattr(old, name)
    }
    first: StageName = old.source.enters if old.source else "t2i"
    start = change.from_stage
    if start is None:
        start = _start_of(old, changes, change)
        start = first if comes_before(start, first) else start
    if missed := next(
        (name for name in changes if comes_before(_REACHES[name], start) and not _sees(start, name)), None
    ):
        raise InvalidRequestError(
            f"{missed} changes nothing at {start}; begin at {_REACHES[missed]}, or leave it out.",
            param=missed,
            code="invalid_field",
        )
    pause = change.pause_after
    new = old.model_copy(
        update={
            **changes,
            "until": change.until or "vfi",
            "pause_after": pause,
            "candidates": 1,
            "candidate": 0,
            "enter": start,
            "source": old.source if comes_before(first, start) or start == first != "t2i" else None,
            "extends": old.extends if start != "t2i" else None,
            "reuse": reuse,
        }
    )
    try:
        check_route(start, new.until, pause, keeps=True)
        plan_of(new)
        if start == "t2i":
            check_subject(get_preset(new.model), new.prompt)
    except RequestError as error:
        raise InvalidRequestError(str(error), param=error.param, code="invalid_field") from error
    return Child(new, needs_of(parent, start))


def extend(parent: Job, change: ExtendVideo) -> Child:
    """A video that begins with the parent's and goes on from its last frame.

    Raises:
        VideoNotReadyError: the parent has no video.
        InvalidRequestError: its result cannot be gone on from, or a value that the preset cannot serve.
    """
    old = parent.request
    if parent.result is None:
        raise VideoNotReadyError(
            f"Video {parent.id} is not completed; it can be extended once it is.",
            param="video_id",
            code="video_not_ready",
        )
    shown = parent.planned
    if shown.fps is None or old.until == "i2v" or (old.source is not None and old.source.enters == "vfi"):
        raise InvalidRequestError(
            f"Video {parent.id} is no video that this preset made to the end, so it cannot be extended; extend one "
            "without `until`, whose frames were made here.",
            param="video_id",
            code="not_extendable",
        )
    tail = Source(
        key=parent.result["key"],
        sha256=parent.result["sha256"],
        kind="video",
        enters="i2v",
        width=shown.size[0],
        height=shown.size[1],
        frames=shown.frames,
        fps=shown.fps,
        sound=old.source is not None and old.source.sound,
        size_bytes=parent.result.get("size_bytes", 0),
    )
    new = old.model_copy(
        update={
            "prompt": (change.prompt or old.prompt).strip(),
            "seconds": change.seconds or old.seconds,
            "seed": (old.seed + 1) % 2**31 if change.seed is None else change.seed,
            "pause_after": None,
            "candidates": 1,
            "candidate": 0,
            "enter": "i2v",
            "source": tail,
            "extends": tail,
            "reuse": False,
        }
    )
    try:
        plan_of(new)
    except RequestError as error:
        raise InvalidRequestError(str(error), param=error.param, code="invalid_field") from error
    return Child(new, {})


def asked_of(request: JobRequest) -> dict[str, Any]:
    """What makes the job again, exactly: with its prompt and seed in the body of a new one; where `from_stage` is in
    it, as its remix, for what lies before that stage was given or chosen, and is kept.
    """
    pauses = {"pause_after": request.pause_after} if request.pause_after else {}
    ends = {"until": request.until} if request.until != "vfi" else {}
    first: StageName = "i2v" if request.enter == "t2i" and request.candidate else request.enter
    if first != "t2i":
        return {"from_stage": first, **ends, **pauses}
    said = {"model", "size", "seconds", "steps", "guidance", "stages", "factor"}
    same = request.model_dump(include=said, exclude_none=True)
    if request.negative_prompt:
        same["negative_prompt"] = request.negative_prompt
    if pauses and request.candidates > 1:
        same["candidates"] = request.candidates
    return {**same, **ends, **pauses}


def enter_change(created: CreateVideo, enter: StageName | None, parent: Job) -> RemixVideo:
    """What `create` with an earlier video's id asks of that video: an empty prompt keeps the old one.

    Raises:
        InvalidRequestError: it asks for another size or length.
    """
    for name in ("size", "seconds"):
        asked, has = getattr(created, name), getattr(parent.request, name)
        if asked not in (None, has):
            raise InvalidRequestError(
                f"{name} is {asked!r} and video {parent.id}, which this one is made from, has {has!r}, which it keeps; "
                "leave it out.",
                param=name,
                code="invalid_field",
            )
    return RemixVideo(
        prompt=created.prompt.strip() or None,
        from_stage=enter,
        negative_prompt=created.negative_prompt or None,
        seed=created.seed,
        steps=created.steps,
        guidance=created.guidance,
        stages=created.stages,
        factor=created.factor,
        until=created.until,
        pause_after=created.pause_after,
    )


def needs_of(parent: Job, start: StageName) -> Needs:
    """The outputs of a job that another one begins from at `start`."""
    if start == "vfi":
        return {"v2v": range(parent.planned.windows)}
    earlier: Needs = {"t2i": [parent.request.candidate], "i2v": [0]}
    return {stage: numbers for stage, numbers in earlier.items() if comes_before(stage, start)}


def _sees(start: StageName, name: str) -> bool:
    """Whether a change makes a difference to a job that begins at `start`: VFI knows neither prompt nor seed."""
    return name == "factor" or start != "vfi"


def _start_of(old: JobRequest, changes: Mapping[str, Any], change: RemixVideo) -> StageName:
    if changes:
        return min((_REACHES[name] for name in changes), key=STAGE_NAMES.index)
    wanted = change.until or "vfi"
    if comes_before(old.until, wanted):
        return STAGE_NAMES[STAGE_NAMES.index(old.until) + 1]
    raise InvalidRequestError(
        "Nothing would change; give a prompt, a seed, another parameter, or the stage to begin at in from_stage.",
        param="prompt",
        code="invalid_field",
    )
