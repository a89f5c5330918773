"""The command line: `magicvideo generate "a fox" -o fox.mp4`, and what belongs to it.

Results go to stdout, progress and errors (one sentence) to stderr; `--json` puts exactly one JSON document on stdout,
also for an error. Takes arguments and two environment variables, gives text and the exit codes of `EXIT_CODES`. This
file names the commands; what they do stands in `commands/`. Imports are light: httpx, pydantic and rich are loaded by
the command that needs them.
"""

import io
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from ._shell.ending import open_streams, take_debug
from ._shell.terminal import plain
from ._version import __version__
from .commands import batch, jobs, load, making, server, studies
from .commands.options import spread
from .commands.outcome import EXIT_CODES, show_tracebacks

app = typer.Typer(
    name="magicvideo",
    help="Text to video from a MagicVideo server.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"magicvideo {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="After an error, also show where it came from.")] = False,
) -> None:
    """Text to video from a MagicVideo server."""
    show_tracebacks(debug)


COMMANDS: dict[str, Callable[..., None]] = {
    "generate": making.generate,
    "remix": making.remix,
    "continue": making.continue_,
    "extend": making.extend,
    "upscale": making.upscale,
    "interpolate": making.interpolate,
    "batch": batch.batch,
    "watch": jobs.watch,
    "status": jobs.status,
    "show": jobs.show,
    "list": jobs.list_videos,
    "open": jobs.open_,
    "download": jobs.download,
    "stream": jobs.stream,
    "cancel": jobs.cancel,
    "delete": jobs.delete,
    "health": server.health,
    "pools": server.pools,
    "load": load.load,
}
for name, command in COMMANDS.items():
    app.command(name, epilog=EXIT_CODES)(spread(command))
for name, command in studies.COMMANDS.items():
    studies.app.command(name, epilog=EXIT_CODES)(spread(command))
app.add_typer(studies.app)
app.command("keys", hidden=True)(server.keys)


def main() -> None:
    """The command `magicvideo`."""
    open_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a prompt in a script that the terminal cannot show is no crash
    words, debug = take_debug(sys.argv[1:])
    try:
        code = app(["--debug", *words] if debug else words, prog_name="magicvideo", standalone_mode=False)
    except Exception as error:
        if not isinstance(message := getattr(error, "message", None), str):
            raise
        error.message = "\n".join(map(plain, message.split("\n")))  # type: ignore[attr-defined]
        error.show()  # type: ignore[attr-defined]
        code = error.exit_code  # type: ignore[attr-defined]
    sys.exit(code)
