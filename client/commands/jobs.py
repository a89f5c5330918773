"""The commands that look at jobs and end them: watch, show, status, list, download, stream, cancel, delete."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from .follow import Pictures, check_outputs, default_output, follow, paused_note
from .interrupt import stopped
from .options import Json, Key, Keyframe, Output, Quiet, Sheet, Url, Variant, VideoId
from .outcome import FAILED, connect, print_json, reporting


def watch(
    video_id: VideoId,
    keyframe: Keyframe = None,
    url: Url = None,
    api_key: Key = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Follow a job until it ends or pauses. Nothing is downloaded; the exit code is 1 if it failed."""
    with reporting(as_json, lambda: stopped([video_id], None, url, api_key)):
        from .._display import describe
        from .._watching import watcher

        check_outputs([] if keyframe is None else [keyframe])
        with connect(url, api_key) as client, watcher(quiet=quiet) as bars:
            video = follow(client, client.videos.retrieve(video_id), bars, Pictures(client, keyframe, bars))
        if as_json:
            print_json(video.model_dump(mode="json"))
        elif quiet:
            typer.echo(video.id)
        else:
            typer.echo(paused_note(video) if video.paused_after else describe(video))


def status(video_id: VideoId, url: Url = None, api_key: Key = None, as_json: Json = False) -> None:
    """Show a job in a few lines. The exit code is 1 if it failed."""
    with reporting(as_json):
        with connect(url, api_key) as client:
            video = client.videos.retrieve(video_id)
        if as_json:
            print_json(video.model_dump(mode="json"))
        else:
            from .._display import describe

            typer.echo(describe(video))
        if video.status == "failed":
            raise typer.Exit(FAILED)


def show(video_id: VideoId, url: Url = None, api_key: Key = None, as_json: Json = False) -> None:
    """Show all that is known of a job. Every stage with its times, the error, the note."""
    with reporting(as_json):
        with connect(url, api_key) as client:
            video = client.videos.retrieve(video_id)
        if as_json:
            print_json(video.model_dump(mode="json"))
        else:
            from .._display import print_show

            print_show(video)


def list_videos(
    limit: Annotated[int, typer.Option(help="How many, newest first.")] = 20,
    url: Url = None,
    api_key: Key = None,
    as_json: Json = False,
) -> None:
    """List jobs, newest first."""
    with reporting(as_json):
        from itertools import islice

        from .._requests import MAX_PAGE
        from ..errors import InvalidArgumentError
        from ..schema import VideoList

        if limit < 1:
            raise InvalidArgumentError(f"--limit is {limit}; it must be at least 1.")

        with connect(url, api_key) as client:
            # One more than asked for says whether there are more.
            found = list(islice(client.videos.iterate(page_size=min(limit + 1, MAX_PAGE)), limit + 1))
        shown = found[:limit]
        page = VideoList(
            data=shown,
            first_id=shown[0].id if shown else None,
            last_id=shown[-1].id if shown else None,
            has_more=len(found) > limit,
        )
        if as_json:
            print_json(page.model_dump(mode="json"))
        else:
            from .._display import print_list

            print_list(page)


def download(
    video_id: VideoId,
    output: Output = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the job if it is not finished.")] = False,
    variant: Annotated[Variant, typer.Option(help="What of it; keyframe and preview are there early.")] = "video",
    candidate: Annotated[int | None, typer.Option(help="Which of T2I's pictures, with --variant keyframe.")] = None,
    contact_sheet: Sheet = None,
    url: Url = None,
    api_key: Key = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Download the video of a finished job. Other variants of it, too: some are there early."""
    with reporting(as_json, lambda: stopped([video_id], output, url, api_key)):
        from .._watching import watcher
        from ..errors import ConflictError

        target = output if output is not None else default_output(video_id, variant)
        check_outputs([target] if contact_sheet is None else [target, contact_sheet])
        with connect(url, api_key) as client, watcher(quiet=quiet) as bars:
            if wait:
                video = client.videos.wait(video_id, on_progress=bars.on_video)
                if video.paused_after is not None and variant in ("video", "thumbnail", "spritesheet"):
                    raise ConflictError(
                        f"{video_id} is paused after {video.paused_after}; let it go on with: magicvideo continue "
                        f"{video_id}",
                        status=409,
                        type="conflict_error",
                        code="video_not_ready",
                    )
                if output is None:
                    target = default_output(video_id, variant, picture=video.until == "t2i")
            path = client.videos.download(
                video_id, target, on_bytes=bars.on_bytes, variant=variant, candidate=candidate
            )
            if contact_sheet is not None:
                client.videos.download(video_id, contact_sheet, variant="spritesheet")
        if as_json:
            print_json({"id": video_id, "path": str(path), "bytes": path.stat().st_size})
        else:
            typer.echo(str(path))


def stream(
    video_id: VideoId,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; else stdout.")] = None,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Write the video while it is made. For a player: magicvideo stream ID | ffplay -"""
    with reporting(False, lambda: stopped([video_id], output, url, api_key)), connect(url, api_key) as client:
        client.videos.stream_to(video_id, sys.stdout.buffer if output is None else output)


def cancel(video_id: VideoId, url: Url = None, api_key: Key = None, as_json: Json = False) -> None:
    """Stop a job that is not finished. It stays in the list as failed, with the code cancelled."""
    with reporting(as_json):
        with connect(url, api_key) as client:
            video = client.videos.cancel(video_id)
        if as_json:
            print_json(video.model_dump(mode="json"))
        else:
            typer.echo(f"{video.id} is being cancelled." if video.status != "failed" else f"{video.id} is cancelled.")


def delete(video_id: VideoId, url: Url = None, api_key: Key = None, as_json: Json = False) -> None:
    """Remove a job and its video. One that is not finished is cancelled, and stays in the list."""
    with reporting(as_json):
        with connect(url, api_key) as client:
            gone = client.videos.delete(video_id)
        if as_json:
            print_json(gone.model_dump(mode="json"))
        else:
            typer.echo(f"{gone.id} is deleted.")
