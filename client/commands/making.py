"""The commands that make a video: from a prompt, a picture, a file or an earlier video.

Each says how its job is started; `follow.deliver` does the rest. Takes options, gives files.
"""

from typing import TYPE_CHECKING, Annotated, Unpack

import typer

from .._core.job_options import CreateOptions, ExtendOptions, InterpolateOptions, RemixOptions, UpscaleOptions
from .follow import deliver
from .ids import find
from .options import FileOrId, Keyframe, NewPrompt, NextPrompt, Prompt, VideoId, Wishes

if TYPE_CHECKING:
    from .._core.client import Client


def generate(prompt: Prompt, wishes: Wishes, keyframe: Keyframe = None, **options: Unpack[CreateOptions]) -> None:
    """Make a video of a prompt.

    Starts the job, follows it stage by stage, downloads the video. The file is checked before the job starts, and
    appears under its name only when it is whole.
    """
    deliver(lambda client: client.videos.create(prompt, **options), wishes, keyframe, options.get("until"))


def remix(
    video_id: VideoId,
    wishes: Wishes,
    prompt: NewPrompt = None,
    keyframe: Keyframe = None,
    **options: Unpack[RemixOptions],
) -> None:
    """Make a video again with changes. The stages before the first change are not computed again.

    As in: magicvideo remix last "an owl in a snowy forest" -o owl.mp4
    """
    until = options.get("until")
    deliver(lambda client: client.videos.remix(find(client, video_id), prompt, **options), wishes, keyframe, until)


def continue_(
    video_id: VideoId,
    wishes: Wishes,
    candidate: Annotated[int, typer.Option(help="Which of T2I's pictures to go on from.")] = 0,
) -> None:
    """Let a paused job go on. Its video is downloaded.

    As in: magicvideo continue video_3f9c --candidate 2 -o fox.mp4
    """
    deliver(lambda client: client.videos.continue_(find(client, video_id), candidate=candidate), wishes)


def extend(video_id: VideoId, wishes: Wishes, prompt: NextPrompt = None, **options: Unpack[ExtendOptions]) -> None:
    """Make a longer video of a finished one. It begins with that one and goes on from its end.

    As in: magicvideo extend last "the fox runs away" -o longer.mp4
    """
    deliver(lambda client: client.videos.extend(find(client, video_id), prompt, **options), wishes)


def upscale(
    video: FileOrId,
    wishes: Wishes,
    prompt: Annotated[str | None, typer.Option(help="What it shows, to redraw it after; else an old prompt.")] = None,
    **options: Unpack[UpscaleOptions],
) -> None:
    """Redraw a video in high resolution. The job begins at V2V."""
    deliver(lambda client: client.videos.upscale(_file_or_id(client, video), prompt, **options), wishes)


def interpolate(
    video: FileOrId,
    wishes: Wishes,
    factor: Annotated[int, typer.Option(help="Frames out of every frame, 2 to 8.")] = 2,
    **options: Unpack[InterpolateOptions],
) -> None:
    """Make a video smoother. The job begins at VFI, which fills in frames."""
    deliver(lambda client: client.videos.interpolate(_file_or_id(client, video), factor, **options), wishes)


def _file_or_id(client: "Client", given: str) -> str:
    from .._core.uploads import is_file

    return given if is_file(given) else find(client, given)
