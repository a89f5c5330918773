"""The five tools: generate, status, result, remix, cancel.

A video takes from seconds to minutes and no call waits for one: `generate` and `remix` give a job at once, with when to
ask again; `status` says how far it is; `result` gives a link to the video and a thumbnail to look at. An error is the
server's own sentence, for the model to read.
"""

import base64
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import Annotated, TypeVar

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ImageContent, ResourceLink, ToolAnnotations
from pydantic import BaseModel, Field

from client import AsyncClient, MagicVideoError
from client.schema import TERMINAL, StageName, Status, Video
from deployments import __version__

_ABOUT = (
    "Makes short videos of prompts. Call generate, wait as long as `next` says, ask status until it is completed, then "
    "call result and show the user the link and the picture."
)
_MAKES = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_STOPS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)

MadeT = TypeVar("MadeT")
Id = Annotated[str, Field(description="Of a video, as generate gave it.")]
Seed = Annotated[int | None, Field(description="The same seed gives the same video; drawn when left out.")]
Steps = Annotated[int | None, Field(description="Denoising steps; fewer are faster and rougher.")]
Until = Annotated[
    StageName | None,
    Field(description="Stop early: t2i is one picture in a fraction of the time, i2v a small preview."),
]


class Job(BaseModel):
    """How a video stands."""

    id: str
    status: Status
    progress: int = Field(description="Percent.")
    eta_s: float | None = Field(description="Estimated seconds until it is completed.")
    prompt: str
    seed: int
    size: str
    seconds: str
    note: str | None = Field(description="What was read otherwise than it was asked.")
    error: str | None
    next: str = Field(description="What to do now.")


def make_server(client: AsyncClient) -> MCPServer:
    """The tools over a client of a running server."""
    server = MCPServer("magicvideo", instructions=_ABOUT, version=__version__, log_level="WARNING")
    videos = client.videos

    @server.tool(annotations=_MAKES)
    async def generate(
        prompt: Annotated[str, Field(description="What the video shows, in English.")],
        negative_prompt: Annotated[str | None, Field(description="What should not be seen.")] = None,
        size: Annotated[str | None, Field(description='As "WIDTHxHEIGHT"; an error names the sizes there are.')] = None,
        seconds: Annotated[str | None, Field(description="How long; an error names the lengths there are.")] = None,
        seed: Seed = None,
        steps: Steps = None,
        until: Until = None,
    ) -> Job:
        """Start making a video. Returns at once with the job's id; the video is ready later."""
        made = videos.create(
            prompt,
            negative_prompt=negative_prompt,
            size=size,
            seconds=seconds,
            seed=seed,
            steps=steps,
            until=until,
        )
        return _job(await _told(made))

    @server.tool(annotations=_READS)
    async def status(id: Id) -> Job:  # noqa: A002 - the wire's word
        """How far a video is, and when to ask again."""
        return _job(await _told(videos.retrieve(id)))

    @server.tool(annotations=_READS)
    async def result(id: Id) -> list[ResourceLink | ImageContent]:  # noqa: A002
        """A completed video: a link to download it, and a picture of its beginning."""
        video = await _told(videos.retrieve(id))
        if video.status != "completed":
            raise ToolError(_next(video))
        return [_link(client, video), await _told(_thumbnail(client, video))]

    @server.tool(annotations=_MAKES)
    async def remix(
        id: Id,  # noqa: A002
        prompt: Annotated[str | None, Field(description="The new prompt; the old one when left out.")] = None,
        seed: Annotated[int | None, Field(description="Another seed for another video of the same prompt.")] = None,
        steps: Steps = None,
        until: Until = None,
    ) -> Job:
        """Start a new video from an old one with changes; what they do not reach is not computed again. Returns at
        once.
        """
        return _job(await _told(videos.remix(id, prompt, seed=seed, steps=steps, until=until)))

    @server.tool(annotations=_STOPS)
    async def cancel(id: Id) -> Job:  # noqa: A002
        """Stop a video that is not finished."""
        return _job(await _told(videos.cancel(id)))

    return server


async def _told(call: Awaitable[MadeT]) -> MadeT:
    """What a call gives.

    Raises:
        ToolError: its error, in the words of the server or of the client; the SDK hands on no other error's.
    """
    try:
        return await call
    except MagicVideoError as error:
        raise ToolError(str(error)) from error


def _job(video: Video) -> Job:
    return Job(
        id=video.id,
        status=video.status,
        progress=video.progress,
        eta_s=video.eta_s,
        prompt=video.prompt,
        seed=video.seed,
        size=video.size,
        seconds=video.seconds,
        note=video.note,
        error=video.error.message if video.error else None,
        next=_next(video),
    )


def _next(video: Video) -> str:
    if video.status == "completed":
        return f"Video {video.id} is completed; call result."
    if video.status in TERMINAL:
        return f"Video {video.id} has failed and will have no result: {video.error.message if video.error else ''}"
    if video.paused_after is not None:
        return f"Video {video.id} is paused after {video.paused_after} and waits until somebody has it continue."
    soon = "in a few seconds" if video.eta_s is None else f"in about {max(1, round(video.eta_s))} seconds"
    return f"Video {video.id} is {video.status} at {video.progress} %; call status again {soon}."


def _link(client: AsyncClient, video: Video) -> ResourceLink:
    picture = video.until == "t2i"
    return ResourceLink(
        name=f"{video.id}.{'png' if picture else 'mp4'}",
        uri=video.url or f"{client.base_url}/v1/videos/{video.id}/content",
        description=f"{video.prompt} ({video.seconds} s, {video.size}, seed {video.seed})",
        mime_type="image/png" if picture else "video/mp4",
    )


async def _thumbnail(client: AsyncClient, video: Video) -> ImageContent:
    with tempfile.TemporaryDirectory(prefix="magicvideo-") as folder:
        path = await client.videos.download(video.id, Path(folder, "thumbnail.webp"), variant="thumbnail")
        return ImageContent(data=base64.b64encode(path.read_bytes()).decode(), mime_type="image/webp")
