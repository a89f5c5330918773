"""The command line: `magicvideo generate "a fox" -o fox.mp4`, and what belongs to it.

Results go to stdout, progress and errors (one sentence) to stderr; `--json` puts exactly one JSON document on stdout,
also for an error. Takes arguments and two environment variables, gives text and the exit codes of `EXIT_CODES`.
Imports are light: httpx, pydantic and rich are loaded by the command that needs them.
"""

import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import __version__

if TYPE_CHECKING:
    from ._client import Client

FAILED, REFUSED, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130
EXIT_CODES = (
    "Exit codes: 0 done; 1 the job failed; 2 wrong usage, a refused request or an output that cannot be written; "
    "3 no server, or the network or the server broke; 130 stopped by Ctrl-C, the job goes on."
)

app = typer.Typer(
    name="magicvideo",
    help="Text to video from a MagicVideo server.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="MAGICVIDEO_URL", help="Address of the server; else http://127.0.0.1:8000."),
]
Key = Annotated[
    str | None, typer.Option("--api-key", envvar="MAGICVIDEO_API_KEY", help="Key, where the server wants one.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress; print only the path.")]
Sheet = Annotated[
    Path | None, typer.Option("--contact-sheet", metavar="PNG", help="Also write six frames of it as one picture.")
]
VideoId = Annotated[str, typer.Argument(metavar="ID", help="Id of the video, as generate and list print it.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"magicvideo {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Text to video from a MagicVideo server."""


@app.command(epilog=EXIT_CODES)
def generate(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What the video shows.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write, replaced if it exists; else ID.mp4 here.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same video; else the server draws one.")] = None,
    size: Annotated[str | None, typer.Option(help='Size of the video as "WxH"; else the preset\'s first.')] = None,
    seconds: Annotated[str | None, typer.Option(help="Length of the video; else the preset's first.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps of every stage.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale of every stage.")] = None,
    negative_prompt: Annotated[str, typer.Option(help="What the video should not show.")] = "",
    model: Annotated[str | None, typer.Option(help="Preset; else the one that the server runs.")] = None,
    contact_sheet: Sheet = None,
    url: Url = None,
    api_key: Key = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a video: start the job, follow it stage by stage, download it.

    The file is checked before the job starts, and appears under its name only when it is whole.
    """
    job: list[str] = []
    with _reporting(as_json, lambda: _later(job, output, url)):
        from ._display import plain, summary, watcher

        for file in (output, contact_sheet):
            if file is not None:
                _check_output(file)
        with _client(url, api_key) as client, watcher(quiet=quiet) as watch:
            video = client.videos.create(
                prompt,
                model=model,
                negative_prompt=negative_prompt,
                size=size,
                seconds=seconds,
                seed=seed,
                steps=steps,
                guidance=guidance,
            )
            job.append(video.id)
            if video.note and not quiet:
                typer.echo(plain(video.note), err=True)
            watch.on_video(video)
            video = client.videos.wait(video.id, on_progress=watch.on_video)
            target = output if output is not None else _default_output(video.id)
            path = client.videos.download(video.id, target, on_bytes=watch.on_bytes)
            if contact_sheet is not None:
                client.videos.download(video.id, contact_sheet, variant="spritesheet")
        if as_json:
            _print_json({**video.model_dump(mode="json"), "path": str(path)})
        else:
            typer.echo(str(path) if quiet else summary(video, path))


@app.command(epilog=EXIT_CODES)
def status(video_id: VideoId, url: Url = None, api_key: Key = None, as_json: Json = False) -> None:
    """Show a job and its stages; the exit code is 1 if it failed."""
    with _reporting(as_json):
        with _client(url, api_key) as client:
            video = client.videos.retrieve(video_id)
        if as_json:
            _print_json(video.model_dump(mode="json"))
        else:
            from ._display import describe

            typer.echo(describe(video))
        if video.status == "failed":
            raise typer.Exit(FAILED)


@app.command("list", epilog=EXIT_CODES)
def list_videos(
    limit: Annotated[int, typer.Option(help="How many, newest first.")] = 20,
    url: Url = None,
    api_key: Key = None,
    as_json: Json = False,
) -> None:
    """List jobs, newest first."""
    with _reporting(as_json):
        from itertools import islice

        from ._shared import MAX_PAGE
        from .errors import InvalidArgumentError
        from .schema import VideoList

        if limit < 1:
            raise InvalidArgumentError(f"--limit is {limit}; it must be at least 1.")

        with _client(url, api_key) as client:
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
            _print_json(page.model_dump(mode="json"))
        else:
            from ._display import print_list

            print_list(page)


@app.command(epilog=EXIT_CODES)
def download(
    video_id: VideoId,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write, replaced if it exists; else ID.mp4 here.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the job if it is not finished.")] = False,
    contact_sheet: Sheet = None,
    url: Url = None,
    api_key: Key = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Download the video of a finished job."""
    with _reporting(as_json, lambda: _later([video_id], output, url)):
        from ._display import watcher

        target = output if output is not None else _default_output(video_id)
        for file in (target, contact_sheet):
            if file is not None:
                _check_output(file)
        with _client(url, api_key) as client, watcher(quiet=quiet) as watch:
            if wait:
                client.videos.wait(video_id, on_progress=watch.on_video)
            path = client.videos.download(video_id, target, on_bytes=watch.on_bytes)
            if contact_sheet is not None:
                client.videos.download(video_id, contact_sheet, variant="spritesheet")
        if as_json:
            _print_json({"id": video_id, "path": str(path), "bytes": path.stat().st_size})
        else:
            typer.echo(str(path))


@app.command(epilog=EXIT_CODES)
def cancel(video_id: VideoId, url: Url = None, api_key: Key = None, as_json: Json = False) -> None:
    """Stop a job that is not finished; it stays in the list as failed, with the code cancelled."""
    with _reporting(as_json):
        with _client(url, api_key) as client:
            video = client.videos.cancel(video_id)
        if as_json:
            _print_json(video.model_dump(mode="json"))
        else:
            typer.echo(f"{video.id} is being cancelled." if video.status != "failed" else f"{video.id} is cancelled.")


@app.command(epilog=EXIT_CODES)
def delete(video_id: VideoId, url: Url = None, api_key: Key = None, as_json: Json = False) -> None:
    """Cancel a job that is not finished, or remove a finished one with its video."""
    with _reporting(as_json):
        with _client(url, api_key) as client:
            gone = client.videos.delete(video_id)
        if as_json:
            _print_json(gone.model_dump(mode="json"))
        else:
            typer.echo(f"{gone.id} is deleted.")


@app.command(epilog=EXIT_CODES)
def health(url: Url = None, api_key: Key = None, as_json: Json = False) -> None:
    """Show how the server is; the exit code is 3 unless it is ok."""
    with _reporting(as_json):
        with _client(url, api_key) as client:
            found = client.health()
        if as_json:
            _print_json(found.model_dump(mode="json"))
        else:
            from ._display import describe_health

            typer.echo(describe_health(found))
        if found.status != "ok":
            raise typer.Exit(UNREACHABLE)


def _client(url: str | None, api_key: str | None) -> "Client":
    from ._client import Client

    return Client(url, api_key)


def _check_output(path: Path) -> None:
    from ._shared import output_path

    output_path(path)


def _default_output(video_id: str) -> Path:
    """`ID.mp4` in this folder; an id never names another folder."""
    return Path("".join(sign if sign.isalnum() or sign in "-_" else "_" for sign in video_id) + ".mp4")


def _later(job: list[str], output: Path | None, url: str | None) -> str:
    if not job:
        return "Stopped before the server had confirmed the job; look with: magicvideo list"
    words = ["magicvideo download", job[0], "--wait"]
    words += ["-o", str(output)] if output is not None else []
    words += ["--url", url] if url is not None else []
    return f"Stopped waiting; the job goes on. Fetch its video later with: {' '.join(words)}"


def _print_json(document: dict[str, Any]) -> None:
    typer.echo(json.dumps(document, indent=2, allow_nan=False))


@contextmanager
def _reporting(as_json: bool, interrupted: Callable[[], str] = lambda: "Stopped.") -> Iterator[None]:
    """Turn what went wrong into one sentence on stderr, a JSON document where asked for, and the exit code."""
    from .errors import MagicVideoError, VideoFailedError

    try:
        yield
    except KeyboardInterrupt:
        typer.echo(interrupted(), err=True)
        raise typer.Exit(INTERRUPTED) from None
    except VideoFailedError as error:
        typer.echo(f"Error: {error}", err=True)
        if as_json:
            _print_json(error.video.model_dump(mode="json"))
        raise typer.Exit(FAILED) from None
    except MagicVideoError as error:
        typer.echo(f"Error: {error}", err=True)
        if as_json:
            _print_json(_error_document(error))
        raise typer.Exit(_exit_code(error)) from None


def _exit_code(error: Exception) -> int:
    from .errors import APIConnectionError, ServerError, UnexpectedResponseError

    return UNREACHABLE if isinstance(error, APIConnectionError | ServerError | UnexpectedResponseError) else REFUSED


def _error_document(error: Exception) -> dict[str, Any]:
    """The error in the shape of the wire, so that scripts read one shape."""
    from .errors import APIStatusError
    from .schema import ErrorBody, ErrorDetail

    if isinstance(error, APIStatusError):
        detail = ErrorDetail(message=str(error), type=error.type, param=error.param, code=error.code)
    else:
        detail = ErrorDetail(message=str(error), type="client_error", code=type(error).__name__)
    return ErrorBody(error=detail).model_dump(mode="json")


def main() -> None:
    """The command `magicvideo`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a prompt in a script that the terminal cannot show is no crash
    app(prog_name="magicvideo")
