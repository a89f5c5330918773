"""The arguments and options that commands share: names, types and help in one place. Imports typer and nothing else."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Stage = Literal["t2i", "i2v", "v2v", "vfi"]
Pause = Literal["t2i", "i2v", "v2v"]
Variant = Literal["video", "thumbnail", "spritesheet", "keyframe", "preview"]

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="MAGICVIDEO_URL", help="Address of the server; else http://127.0.0.1:8000."),
]
Key = Annotated[
    str | None, typer.Option("--api-key", envvar="MAGICVIDEO_API_KEY", help="Key, where the server wants one.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress; print only the path.")]

VideoId = Annotated[str, typer.Argument(metavar="ID", help="Id of the video, as generate and list print it.")]
Prompt = Annotated[str, typer.Argument(metavar="PROMPT", help="What the video shows.")]
NewPrompt = Annotated[str | None, typer.Argument(metavar="[PROMPT]", help="What it shows now; else the old prompt.")]
FileOrId = Annotated[str, typer.Argument(metavar="FILE|ID", help="A video's file, or the id of an earlier video.")]

Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="File to write, replaced if it exists; else ID.mp4 here.")
]
Sheet = Annotated[
    Path | None, typer.Option("--contact-sheet", metavar="PNG", help="Also write six frames of it as one picture.")
]
Keyframe = Annotated[
    Path | None,
    typer.Option("--keyframe", metavar="PNG", help="Also write T2I's picture, as soon as it exists."),
]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Start the job, print its id, and do not wait.")]

Seed = Annotated[int | None, typer.Option(help="Same seed, same video; else the server draws one.")]
OldSeed = Annotated[int | None, typer.Option("--seed", help="Another seed; else the old one.")]
Size = Annotated[str | None, typer.Option(help='Size of the video as "WxH"; else the preset\'s first.')]
Seconds = Annotated[str | None, typer.Option(help="Length of the video; else the preset's first.")]
Steps = Annotated[int | None, typer.Option(help="Denoising steps of every stage.")]
Guidance = Annotated[float | None, typer.Option(help="Guidance scale of every stage.")]
Negative = Annotated[str | None, typer.Option("--negative-prompt", help="What the video should not show.")]
Model = Annotated[str | None, typer.Option(help="Preset; else the one that the server runs.")]
Factor = Annotated[int | None, typer.Option(help="Frames that VFI makes of every keyframe, 2 to 8.")]
Until = Annotated[Stage | None, typer.Option(help="Last stage to run; the file is what it gave.")]
PauseAfter = Annotated[
    Pause | None, typer.Option("--pause-after", help="Hold the job after this stage until `magicvideo continue`.")
]
Priority = Annotated[int, typer.Option(help="Higher goes first, -10 to 10.")]
Deadline = Annotated[
    float | None, typer.Option("--deadline", metavar="SECONDS", help="Refuse the job if it cannot be done so soon.")
]
Reuse = Annotated[
    bool | None, typer.Option("--reuse/--no-reuse", help="Take outputs of equal calls of earlier jobs, or never.")
]
Webhook = Annotated[str | None, typer.Option("--webhook-url", metavar="URL", help="Told once when the job ends.")]
