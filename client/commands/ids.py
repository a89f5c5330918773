"""Which job is meant: by its id, by the beginning of it with or without `video_`, or by `last`, the newest.

Takes what was typed, asks the server where that is no whole id, gives an id. What begins no id goes to the server as it
is, which knows more jobs than are looked at here.
"""

import re
from itertools import islice
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from .._core.client import Client

LAST, LOOKED_AT = "last", 1000  # newest jobs
_PREFIX = "video_"
_WHOLE, _PART = re.compile(rf"{_PREFIX}[0-9a-f]{{32}}"), re.compile(r"[\w-]+")
_COMPLETED = 50  # ids that a shell is offered, and how long the server may take
_COMPLETION_S = 2.0


def find(client: "Client", text: str) -> str:
    """The id of the job that is meant.

    Raises:
        InvalidArgumentError: several begin so, or there is no last one.
    """
    from ..errors import InvalidArgumentError

    if _WHOLE.fullmatch(text) or not _PART.fullmatch(text):
        return text
    if text == LAST:
        newest = client.videos.list(limit=1).data
        if not newest:
            raise InvalidArgumentError(
                'There is no last video, as there is none; make one: magicvideo generate "a fox in a snowy forest"'
            )
        return newest[0].id
    found = []
    for video in islice(client.videos.iterate(page_size=100), LOOKED_AT):
        if video.id == text:
            return text
        if text in (video.id[: len(text)], video.id.removeprefix(_PREFIX)[: len(text)]):
            found.append(video.id)
    if len(found) > 1:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise InvalidArgumentError(
            f"{text!r} begins the ids of {len(found)} videos, {', '.join(found[:3])}{more}; give more of the one."
        )
    return found[0] if found else text


def complete(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """For a shell: `last` and the newest ids with their prompts; nothing where no server answers soon."""
    from .._core.client import Client

    options: dict[str, Any] = ctx.params
    try:
        with Client(options.get("url"), options.get("api_key"), timeout_s=_COMPLETION_S, max_retries=0) as client:
            videos = client.videos.list(limit=_COMPLETED).data
    except Exception:  # a completion never fails
        return []
    offered = [(LAST, "the newest"), *((video.id, " ".join(video.prompt.split())[:60]) for video in videos)]
    return [(name, said) for name, said in offered if name.startswith(incomplete)]
