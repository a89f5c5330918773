"""The commands that look at jobs and end them: watch, show, status, list, open, download, stream, cancel, delete."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .follow import PICTURES, Pictures, check_outputs, default_output, fitting, follow, paused_note, taken, tell_path
from .ids import complete, find
from .interrupt import cancel_note, stopped
from .options import Asking, Following, Keyframe, Output, Server, Sheet, State, Variant, VideoId
from .outcome import FAILED, UNREACHABLE, ask, connect, print_json, reporting

if TYPE_CHECKING:
    from .._core.client import Client
    from ..schema import Video, VideoList


def watch(video_id: VideoId, wishes: Following, keyframe: Keyframe = None) -> None:
    """Follow a job until it ends or pauses. Nothing is downloaded; the exit code is 1 if it failed."""
    job = [video_id]
    with reporting(wishes.as_json, lambda: stopped(job, None, wishes)):
        from .display import describe
        from .watching import watcher

        check_outputs(None, keyframe, as_json=wishes.as_json)
        with connect(wishes) as client, watcher(quiet=wishes.quiet) as bars:
            job[0] = find(client, video_id)
            video = follow(client, client.videos.retrieve(job[0]), bars, Pictures(client, keyframe, bars))
        if wishes.as_json:
            print_json(video.model_dump(mode="json"))
        elif wishes.quiet:
            typer.echo(video.id, err=taken(keyframe))
        else:
            typer.echo(paused_note(video) if video.paused_after else describe(video), err=taken(keyframe))


def status(video_id: VideoId, asking: Asking) -> None:
    """Show a job in a few lines. The exit code is 1 if it failed."""

    def tell(video: "Video") -> None:
        from .display import describe

        typer.echo(describe(video))

    if ask(asking, lambda client: client.videos.retrieve(find(client, video_id)), tell).status == "failed":
        raise typer.Exit(FAILED)


def show(video_id: VideoId, asking: Asking) -> None:
    """Show all that is known of a job. Every stage with its times, the error, the note."""

    def tell(video: "Video") -> None:
        from .display import print_show

        print_show(video)

    ask(asking, lambda client: client.videos.retrieve(find(client, video_id)), tell)


def list_videos(
    asking: Asking,
    limit: Annotated[int, typer.Option(help="How many, newest first.")] = 20,
    status: Annotated[State | None, typer.Option(help="Only those that stand so.")] = None,
    search: Annotated[str | None, typer.Option(metavar="WORDS", help="Only those whose prompt holds them.")] = None,
) -> None:
    """List jobs, newest first."""

    def tell(page: "VideoList") -> None:
        from .display import print_list

        print_list(page)

    ask(asking, lambda client: _newest(client, limit, status, search), tell)


def _newest(client: "Client", limit: int, status: "State | None", search: str | None) -> "VideoList":
    from itertools import islice

    from .._core.requests import MAX_PAGE
    from ..errors import InvalidArgumentError
    from ..schema import VideoList

    if limit < 1:
        raise InvalidArgumentError(f"--limit is {limit}; it must be at least 1.")
    statuses = None if status is None else [status]
    videos = client.videos.iterate(page_size=min(limit + 1, MAX_PAGE), search=search, status=statuses)
    found = list(islice(videos, limit + 1))  # one more than asked for says whether there are more
    shown = found[:limit]
    first, last = (shown[0].id, shown[-1].id) if shown else (None, None)
    return VideoList(data=shown, first_id=first, last_id=last, has_more=len(found) > limit)


def download(
    video_id: VideoId,
    wishes: Following,
    output: Output = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the job if it is not finished.")] = False,
    variant: Annotated[Variant, typer.Option(help="What of it; keyframe and preview are there early.")] = "video",
    candidate: Annotated[int | None, typer.Option(help="Which of T2I's pictures, with --variant keyframe.")] = None,
    contact_sheet: Sheet = None,
) -> None:
    """Download the video of a finished job. Other variants of it, too: some are there early.

    As in: magicvideo download video_3f9c --wait -o fox.mp4
    """
    job = [video_id]
    with reporting(wishes.as_json, lambda: stopped(job, output, wishes)):
        from .._core.requests import content_request
        from ..errors import ConflictError
        from .watching import watcher

        content_request(video_id, variant, candidate)  # says now what is wrong with it
        picture = variant in ("thumbnail", "spritesheet", "keyframe")
        if variant == "video" and output is not None and output.suffix.lower() in PICTURES:
            picture = True  # of a job that ends at T2I
        check_outputs(output, contact_sheet, picture=picture, as_json=wishes.as_json)
        sizes = [0]

        def on_bytes(done: int, total: int | None) -> None:
            sizes.append(done)
            bars.on_bytes(done, total)

        with connect(wishes) as client, watcher(quiet=wishes.quiet) as bars:
            job[0] = video_id = find(client, video_id)
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
            else:
                video = client.videos.retrieve(video_id)
            target = output or default_output(video_id, variant, picture=video.until == "t2i")
            target = fitting(video, target, bars.say) if variant == "video" else target
            check_outputs(target, as_json=wishes.as_json, picture=picture or target.suffix.lower() in PICTURES)
            path = client.videos.download(video_id, target, on_bytes=on_bytes, variant=variant, candidate=candidate)
            if contact_sheet is not None:
                client.videos.download(video_id, contact_sheet, variant="spritesheet")
        if wishes.as_json:
            print_json({"id": video_id, "path": str(path), "bytes": sizes[-1]})
        else:
            tell_path(path, err=taken(contact_sheet))


def stream(
    video_id: VideoId,
    server: Server,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; else stdout.")] = None,
) -> None:
    """Write the video while it is made. For a player: magicvideo stream last | ffplay -"""
    job = [video_id]
    with reporting(False, lambda: stopped(job, output, server)):
        target = output or Path("-")
        check_outputs(target)
        with connect(server) as client:
            job[0] = find(client, video_id)
            client.videos.stream_to(job[0], target)


def open_(
    server: Server,
    video_id: Annotated[
        str | None,
        typer.Argument(metavar="[ID]", help="Whose page; else the first page.", autocompletion=complete),
    ] = None,
    file: Annotated[
        bool, typer.Option("--file", help="Not the page but the video's file, downloaded to here first.")
    ] = False,
) -> None:
    """Open a job in the browser. Its page, or with --file its video; the address is printed, too."""
    with reporting(False):
        import webbrowser

        from ..errors import InvalidArgumentError

        if file and video_id is None:
            raise InvalidArgumentError("--file needs the ID of a video, or last.")
        with connect(server) as client:
            found = None if video_id is None else client.videos.retrieve(find(client, video_id))
            address = f"{client.base_url}/" + ("" if found is None else f"#/video/{found.id}")
            if file and found is not None:
                target = default_output(found.id, picture=found.until == "t2i")
                if not target.exists():
                    check_outputs(target, picture=found.until == "t2i")
                    client.videos.download(found.id, target)
                address = target.absolute().as_uri()
        typer.echo(address)
        if not webbrowser.open(address):
            typer.echo("Error: There is no browser here; open that address in one.", err=True)
            raise typer.Exit(UNREACHABLE)


def cancel(video_id: VideoId, asking: Asking) -> None:
    """Stop a job that is not finished. It stays in the list as failed, with the code cancelled."""
    ask(
        asking,
        lambda client: client.videos.cancel(find(client, video_id)),
        lambda video: typer.echo(cancel_note(video)),
    )


def delete(video_id: VideoId, asking: Asking) -> None:
    """Remove a job and its video. One that is not finished is cancelled, and stays in the list."""
    ask(
        asking,
        lambda client: client.videos.delete(find(client, video_id)),
        lambda gone: typer.echo(f"{gone.id} is deleted."),
    )
