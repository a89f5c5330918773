"""The commands that make a video: from a prompt, a picture, a file or an earlier video.

Each says how its job is started; `follow.deliver` does the rest. Takes options, gives files.
"""

from pathlib import Path
from typing import Annotated

import typer

from .follow import Wishes, deliver
from .options import (
    Deadline,
    Detach,
    Factor,
    FileOrId,
    Guidance,
    Json,
    Key,
    Keyframe,
    Model,
    Negative,
    NewPrompt,
    OldSeed,
    Output,
    PauseAfter,
    Priority,
    Prompt,
    Quiet,
    Reuse,
    Seconds,
    Seed,
    Sheet,
    Size,
    Stage,
    Steps,
    Until,
    Url,
    VideoId,
    Webhook,
)


def generate(
    prompt: Prompt,
    output: Output = None,
    seed: Seed = None,
    size: Size = None,
    seconds: Seconds = None,
    steps: Steps = None,
    guidance: Guidance = None,
    negative_prompt: Negative = None,
    model: Model = None,
    factor: Factor = None,
    image: Annotated[
        Path | None, typer.Option("--image", metavar="FILE", help="Picture to animate, in the place of T2I's.")
    ] = None,
    until: Until = None,
    pause_after: PauseAfter = None,
    candidates: Annotated[
        int, typer.Option(help="Pictures of T2I to choose from, 1 to 8; with --pause-after t2i.")
    ] = 1,
    keyframe: Keyframe = None,
    contact_sheet: Sheet = None,
    priority: Priority = 0,
    deadline: Deadline = None,
    reuse: Reuse = None,
    webhook_url: Webhook = None,
    detach: Detach = False,
    url: Url = None,
    api_key: Key = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a video of a prompt.

    Starts the job, follows it stage by stage, downloads the video. The file is checked before the job starts, and
    appears under its name only when it is whole.
    """
    deliver(
        lambda client: client.videos.create(
            prompt,
            seed=seed,
            size=size,
            seconds=seconds,
            steps=steps,
            guidance=guidance,
            negative_prompt=negative_prompt,
            model=model,
            factor=factor,
            input_reference=image,
            until=until,
            pause_after=pause_after,
            candidates=candidates,
            priority=priority,
            deadline_s=deadline,
            reuse=reuse,
            webhook_url=webhook_url,
        ),
        Wishes(url, api_key, output, keyframe, contact_sheet, detach, as_json, quiet),
    )


def remix(
    video_id: VideoId,
    prompt: NewPrompt = None,
    from_stage: Annotated[
        Stage | None, typer.Option("--from", help="First stage that runs again; else the first that changes reach.")
    ] = None,
    output: Output = None,
    seed: OldSeed = None,
    steps: Steps = None,
    guidance: Guidance = None,
    negative_prompt: Negative = None,
    factor: Factor = None,
    until: Until = None,
    pause_after: PauseAfter = None,
    keyframe: Keyframe = None,
    contact_sheet: Sheet = None,
    priority: Priority = 0,
    deadline: Deadline = None,
    webhook_url: Webhook = None,
    detach: Detach = False,
    url: Url = None,
    api_key: Key = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a video again with changes. The stages before the first change are not computed again."""
    deliver(
        lambda client: client.videos.remix(
            video_id,
            prompt,
            from_stage=from_stage,
            seed=seed,
            steps=steps,
            guidance=guidance,
            negative_prompt=negative_prompt,
            factor=factor,
            until=until,
            pause_after=pause_after,
            priority=priority,
            deadline_s=deadline,
            webhook_url=webhook_url,
        ),
        Wishes(url, api_key, output, keyframe, contact_sheet, detach, as_json, quiet),
    )


def continue_(
    video_id: VideoId,
    candidate: Annotated[int, typer.Option(help="Which of T2I's pictures to go on from.")] = 0,
    output: Output = None,
    contact_sheet: Sheet = None,
    detach: Detach = False,
    url: Url = None,
    api_key: Key = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Let a paused job go on. Its video is downloaded."""
    deliver(
        lambda client: client.videos.continue_(video_id, candidate=candidate),
        Wishes(url, api_key, output, None, contact_sheet, detach, as_json, quiet),
    )


def extend(
    video_id: VideoId,
    prompt: Annotated[
        str | None, typer.Argument(metavar="[PROMPT]", help="What happens next; else the old prompt.")
    ] = None,
    seconds: Annotated[str | None, typer.Option(help="How much is added; else the old length.")] = None,
    seed: Seed = None,
    output: Output = None,
    contact_sheet: Sheet = None,
    webhook_url: Webhook = None,
    detach: Detach = False,
    url: Url = None,
    api_key: Key = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a longer video of a finished one. It begins with that one and goes on from its end."""
    deliver(
        lambda client: client.videos.extend(video_id, prompt, seconds=seconds, seed=seed, webhook_url=webhook_url),
        Wishes(url, api_key, output, None, contact_sheet, detach, as_json, quiet),
    )


def upscale(
    video: FileOrId,
    prompt: Annotated[str | None, typer.Option(help="What it shows, to redraw it after; else an old prompt.")] = None,
    output: Output = None,
    seed: Seed = None,
    size: Size = None,
    steps: Steps = None,
    guidance: Guidance = None,
    negative_prompt: Negative = None,
    model: Model = None,
    factor: Factor = None,
    until: Until = None,
    contact_sheet: Sheet = None,
    priority: Priority = 0,
    deadline: Deadline = None,
    reuse: Reuse = None,
    webhook_url: Webhook = None,
    detach: Detach = False,
    url: Url = None,
    api_key: Key = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Redraw a video in high resolution. The job begins at V2V."""
    deliver(
        lambda client: client.videos.upscale(
            video,
            prompt,
            seed=seed,
            size=size,
            steps=steps,
            guidance=guidance,
            negative_prompt=negative_prompt,
            model=model,
            factor=factor,
            until=until,
            priority=priority,
            deadline_s=deadline,
            reuse=reuse,
            webhook_url=webhook_url,
        ),
        Wishes(url, api_key, output, None, contact_sheet, detach, as_json, quiet),
    )


def interpolate(
    video: FileOrId,
    factor: Annotated[int, typer.Option(help="Frames out of every frame, 2 to 8.")] = 2,
    output: Output = None,
    model: Model = None,
    contact_sheet: Sheet = None,
    priority: Priority = 0,
    deadline: Deadline = None,
    reuse: Reuse = None,
    webhook_url: Webhook = None,
    detach: Detach = False,
    url: Url = None,
    api_key: Key = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a video smoother. The job begins at VFI, which fills in frames."""
    deliver(
        lambda client: client.videos.interpolate(
            video,
            factor,
            model=model,
            priority=priority,
            deadline_s=deadline,
            reuse=reuse,
            webhook_url=webhook_url,
        ),
        Wishes(url, api_key, output, None, contact_sheet, detach, as_json, quiet),
    )
