"""The arguments and options of the commands, each declared once: name, type and help.

A command takes them in groups: a dataclass of this file, or `**options: Unpack[...]` of a verb's own options.
`spread` is the command as typer wants it, with an option for each of their fields. Imports nothing heavy.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from .ids import complete

Stage = Literal["t2i", "i2v", "v2v", "vfi"]
Pause = Literal["t2i", "i2v", "v2v"]
Tier = Literal["default", "flex", "priority"]
State = Literal["queued", "in_progress", "paused", "completed", "failed"]
Variant = Literal["video", "thumbnail", "spritesheet", "keyframe", "preview"]

VideoId = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="Id of the video, as generate and list print it, or its beginning; or last, for the newest.",
        autocompletion=complete,
    ),
]
Prompt = Annotated[str, typer.Argument(metavar="PROMPT", help="What the video shows.")]
NewPrompt = Annotated[str | None, typer.Argument(metavar="[PROMPT]", help="What it shows now; else the old prompt.")]
NextPrompt = Annotated[str | None, typer.Argument(metavar="[PROMPT]", help="What happens next; else the old prompt.")]
FileOrId = Annotated[
    str, typer.Argument(metavar="FILE|ID", help="A video's file, or an earlier video: its id as elsewhere, or last.")
]

Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="File to write, replaced if it exists; else ID.mp4 here.")
]
Sheet = Annotated[
    Path | None, typer.Option("--contact-sheet", metavar="PNG", help="Also write six frames of it as one picture.")
]
Keyframe = Annotated[
    Path | None, typer.Option("--keyframe", metavar="PNG", help="Also write T2I's picture, as soon as it exists.")
]
Size = Annotated[str | None, typer.Option(help='Size of the video as "WxH"; else the preset\'s first.')]
Seconds = Annotated[str | None, typer.Option(help="Length of the video; else the preset's first.")]
Steps = Annotated[int | None, typer.Option(help="Denoising steps of every stage.")]
Model = Annotated[str | None, typer.Option(help="Preset; else the one that the server runs.")]
Until = Annotated[Stage | None, typer.Option(help="Last stage to run; the file is what it gave.")]

JOB_OPTIONS: dict[str, Any] = {
    "from_stage": Annotated[
        Stage | None, typer.Option("--from", help="First stage that runs again; else the first that changes reach.")
    ],
    "seed": Annotated[int | None, typer.Option(help="Same seed, same video; else the server draws one.")],
    "RemixOptions.seed": Annotated[int | None, typer.Option(help="Another seed; else the old one.")],
    "size": Size,
    "seconds": Seconds,
    "ExtendOptions.seconds": Annotated[str | None, typer.Option(help="How much is added; else the old length.")],
    "steps": Steps,
    "guidance": Annotated[float | None, typer.Option(help="Guidance scale of every stage.")],
    "stages": Annotated[
        str | None,
        typer.Option(metavar="JSON", help='Steps and guidance of single stages: {"i2v": {"steps": 20}}.'),
    ],
    "negative_prompt": Annotated[str | None, typer.Option(help="What the video should not show.")],
    "model": Model,
    "factor": Annotated[int | None, typer.Option(help="Frames that VFI makes of every keyframe, 2 to 8.")],
    "input_reference": Annotated[
        Path | None, typer.Option("--image", metavar="FILE", help="Picture to animate, in the place of T2I's.")
    ],
    "until": Until,
    "pause_after": Annotated[
        Pause | None, typer.Option(help="Hold the job after this stage until `magicvideo continue`.")
    ],
    "candidates": Annotated[
        int | None, typer.Option(help="Pictures of T2I to choose from, 1 to 8; with --pause-after t2i. Else 1.")
    ],
    "priority": Annotated[int | None, typer.Option(help="Higher goes first, -10 to 10; else 0.")],
    "service_tier": Annotated[Tier | None, typer.Option("--tier", help="Its class: flex waits for the others.")],
    "deadline_s": Annotated[
        float | None, typer.Option("--deadline", metavar="SECONDS", help="Refuse the job if it cannot be done so soon.")
    ],
    "reuse": Annotated[
        bool | None, typer.Option("--reuse/--no-reuse", help="Take outputs of equal calls of earlier jobs, or never.")
    ],
    "webhook_url": Annotated[str | None, typer.Option(metavar="URL", help="Told once when the job ends.")],
    # VFI looks at none of them.
    **dict.fromkeys(
        f"InterpolateOptions.{name}" for name in ("seed", "steps", "guidance", "stages", "negative_prompt")
    ),
}
"""Options for the fields of `job_options.py`, in the order of the help. `Kind.name` goes before `name`; None is no
option, nor is what is not here.
"""


@dataclass(frozen=True)
class Server:
    """Which server to ask."""

    url: Annotated[
        str | None,
        typer.Option(envvar="MAGICVIDEO_URL", help="Address of the server; else http://127.0.0.1:8000."),
    ] = None
    api_key: Annotated[
        str | None, typer.Option(envvar="MAGICVIDEO_API_KEY", help="Key, where the server wants one.")
    ] = None


@dataclass(frozen=True)
class Asking(Server):
    """And in which form to answer."""

    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False


@dataclass(frozen=True)
class Following(Asking):
    """And whether to tell of what takes long."""

    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress; print only the result.")] = False


@dataclass(frozen=True)
class Results:
    """What is wanted of a job."""

    output: Output = None
    contact_sheet: Sheet = None
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Start the job, print its id, and do not wait.")] = (
        False
    )


@dataclass(frozen=True)
class Wishes(Following, Results):
    """All that a command which makes a video takes beside what the video is to be."""


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option in the place of each field of its groups."""
    groups: dict[str, type] = {}
    options: list[inspect.Parameter] = []
    last: list[inspect.Parameter] = []

    def option(name: str, kind: Any, default: Any = None) -> inspect.Parameter:
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)

    for name, parameter in inspect.signature(command).parameters.items():
        kind = parameter.annotation
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            options += [option(*found) for found in _job_options(get_args(kind)[0])]
        elif is_dataclass(kind) and isinstance(kind, type):
            groups[name] = kind
            last += [option(field.name, field.type, field.default) for field in fields(kind)]
        else:
            options.append(option(name, kind, parameter.default))

    @wraps(command)
    def run(**given: Any) -> None:
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        command(**given)

    signature = inspect.Signature([*options, *last])
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in signature.parameters.values()}
    return run


def _job_options(kind: type) -> list[tuple[str, Any]]:
    found = [(name, JOB_OPTIONS.get(f"{kind.__name__}.{name}", other)) for name, other in JOB_OPTIONS.items()]
    return [(name, option) for name, option in found if option is not None and name in kind.__annotations__]
