"""Whether a preset can serve what a request asks for: `CreateVideo` in, `JobRequest` with every default resolved out.

Judges every value with `stages.presets.plan`, so that a bad request never reaches a stage. Pure; each finding is one
sentence that names the field.
"""

import secrets

from client.schema import CreateVideo
from deployments.errors import InvalidRequestError
from deployments.jobs.plans import comes_before
from deployments.jobs.values import JobRequest, Source
from stages.presets import DRAWN_SEEDS, RequestError, check_subject, get_preset, plan
from stages.types import StageName

MAX_CANDIDATES = 8


def judge(created: CreateVideo, preset_name: str, source: Source | None = None, *, keeps: bool = True) -> JobRequest:
    """The request with every default resolved, and a seed drawn where none was given.

    Args:
        source: the file that came with it.
        keeps: whether this server keeps checkpoints, without which no job can pause, or begin or end in the middle.

    Raises:
        InvalidRequestError: a value that the preset cannot serve.
    """
    seed = secrets.randbelow(DRAWN_SEEDS) if created.seed is None else created.seed
    try:
        preset = get_preset(preset_name)
        plan(
            preset,
            created.prompt,
            seed=seed,
            negative_prompt=created.negative_prompt,
            size=created.size,
            seconds=created.seconds,
            steps=created.steps,
            guidance=created.guidance,
            stages=created.stages.given if created.stages else None,
            factor=created.factor,
        )
        _check_route(created, source, keeps)
        if source is None:
            check_subject(preset, created.prompt)
    except RequestError as error:
        raise InvalidRequestError(str(error), param=error.param, code="invalid_field") from error
    return JobRequest(
        prompt=created.prompt.strip(),
        model=preset.name,
        negative_prompt=created.negative_prompt,
        size=created.size or preset.default_size,
        seconds=created.seconds or preset.default_seconds,
        seed=seed,
        steps=created.steps,
        guidance=created.guidance,
        stages=created.stages,
        factor=created.factor,
        until=created.until or "vfi",
        pause_after=created.pause_after,
        candidates=created.candidates,
        source=source,
        enter=source.enters if source else "t2i",
        reuse=bool(created.reuse),
    )


def _check_route(created: CreateVideo, source: Source | None, keeps: bool) -> None:
    """Where the job begins, ends and pauses."""
    enter: StageName = source.enters if source else "t2i"
    check_route(enter, created.until, created.pause_after, keeps)
    if not 1 <= created.candidates <= MAX_CANDIDATES:
        raise RequestError("candidates", f"candidates is {created.candidates}; it must be 1 to {MAX_CANDIDATES}.")
    if created.candidates > 1 and (created.pause_after != "t2i" or source is not None):
        raise RequestError(
            "candidates",
            f"candidates is {created.candidates}, but the job does not pause to choose one; add pause_after=t2i, and "
            "send no picture or video.",
        )


def check_route(enter: StageName, until: StageName | None, pause_after: StageName | None, keeps: bool) -> None:
    """Whether a job can begin, end and pause there.

    Raises:
        RequestError: it cannot.
    """
    last = until or "vfi"
    if comes_before(last, enter):
        raise RequestError("until", f"until is {last!r}, but this job begins at {enter}; name that or a later stage.")
    if pause_after is not None and (comes_before(pause_after, enter) or not comes_before(pause_after, last)):
        raise RequestError(
            "pause_after",
            f"pause_after is {pause_after!r}, but this job runs from {enter} to {last}; it can pause after any "
            "of these but the last.",
        )
    if not keeps and (enter != "t2i" or pause_after is not None or last in ("t2i", "i2v")):
        raise RequestError(
            "pause_after" if pause_after else "until",
            "This server keeps no outputs of stages, so no job can begin, pause or end between them; its operator can "
            "set keeper.enabled.",
        )
