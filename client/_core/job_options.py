"""What a job can be asked for beside its prompt: the keyword arguments of the verbs that make one.

The command line derives its options from these, so a new one needs a line here and one in `commands/options.py`.
Imports nothing at run time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..schema import AskedTier, StageName
    from .uploads import Picture, VideoInput

PausePoint = Literal["t2i", "i2v", "v2v"]


class JobOptions(TypedDict, total=False):
    """What every new job takes beside its prompt. None is the same as left out."""

    negative_prompt: str | None  # what should not be seen
    seed: int | None
    steps: int | None  # length of every denoising schedule
    guidance: float | None  # of every stage
    stages: Mapping[str, Mapping[str, float]] | str | None  # of single ones, {"i2v": {"steps": 20}}, or its JSON
    priority: int  # higher goes first, -10 to 10
    service_tier: AskedTier | None  # OpenAI's word for a class of priorities
    deadline_s: float | None  # refuse the job, or give it up, when it cannot be done so soon
    webhook_url: str | None  # told once when the job ends
    idempotency_key: str | None  # makes your own repetitions safe too; else one is drawn for each call


class InterpolateOptions(JobOptions, total=False):
    """What `interpolate` takes beside the video and the factor."""

    model: str | None  # preset
    reuse: bool | None  # take outputs of identical stage calls of earlier jobs


class UpscaleOptions(InterpolateOptions, total=False):
    """What `upscale` takes beside the video."""

    size: str | None  # "WxH"
    factor: int | None  # frames out of VFI for every keyframe
    until: StageName | None  # the last stage to run


class CreateOptions(UpscaleOptions, total=False):
    """What `create` takes beside the prompt."""

    seconds: str | int | None
    input_reference: Picture | None  # in the place of T2I's picture
    input_video: VideoInput | None  # enters at `enter`
    enter: Literal["v2v", "vfi"] | None
    pause_after: PausePoint | None  # hold the job after this stage until `continue_`
    candidates: int  # pictures of T2I to choose from, with pause_after="t2i"


class RemixOptions(JobOptions, total=False):
    """What `remix` takes beside the prompt. What is left out stays as it was."""

    from_stage: StageName | None  # the first stage that runs again
    factor: int | None
    until: StageName | None
    pause_after: PausePoint | None


class ExtendOptions(TypedDict, total=False):
    """What `extend` takes beside the prompt."""

    seconds: str | int | None  # how much is added
    seed: int | None
    webhook_url: str | None
    idempotency_key: str | None
