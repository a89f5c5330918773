"""The command that makes many videos from a file of prompts, and takes up again where it was stopped."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._shell.terminal import plain, tell
from .options import Following
from .outcome import FAILED, REFUSED, print_json, reporting

if TYPE_CHECKING:
    from .._many.batch import Row, State
    from .._many.batch_lines import Line

_STOPPED = (
    "Stopped; the jobs that were sent go on. Run the same command again: it creates nothing twice and fetches what is "
    "missing."
)


def batch(
    file: Annotated[
        Path,
        typer.Argument(metavar="PROMPTS.JSONL", help='One JSON object a line, like {"prompt": "a fox", "seed": 7}.'),
    ],
    wishes: Following,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the videos; made if missing.")],
    concurrency: Annotated[int, typer.Option("--concurrency", "-n", help="Unfinished jobs at once.")] = 4,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Make a new job for each that failed in an earlier run.")
    ] = False,
) -> None:
    """Make a video of every line of a file.

    Run again, it goes on where it stopped. A line has the fields of the API, and a "name" for its file if you want
    one. All lines are checked before anything is sent. The folder's batch-state.jsonl remembers the jobs. The exit
    code is 1 if any failed.
    """
    with reporting(wishes.as_json, lambda: _STOPPED):
        from .._many.batch import State
        from .._many.batch_lines import read_lines
        from .._shell.outputs import judge_folder
        from ..errors import InvalidArgumentError

        judge_folder(out)
        if concurrency < 1:
            raise InvalidArgumentError(f"--concurrency is {concurrency}; it must be at least 1.")
        lines, problems = read_lines(file)
        state = None if problems else State(out)
        problems += state.changed(lines) if state is not None else []
        if problems or state is None:
            _refuse(problems, wishes.as_json)
        else:
            rows = asyncio.run(_run(lines, state, out, concurrency, retry_failed, wishes))
            _tell(rows, wishes.as_json)


async def _run(
    lines: "list[Line]",
    state: "State",
    out: Path,
    concurrency: int,
    retry_failed: bool,
    wishes: Following,
) -> "list[Row]":
    from .._core.async_client import AsyncClient
    from .._many.batch import Batch
    from .watching import counter

    with counter("batch", len(lines), quiet=wishes.quiet) as count:
        async with AsyncClient(wishes.url, wishes.api_key) as client:
            batch = Batch(client, state, out, retry_failed=retry_failed, on_row=lambda row: count.step(_said(row)))
            return await batch.run(lines, concurrency)


def _refuse(problems: list[str], as_json: bool) -> None:
    for problem in problems:
        tell(f"Error: {problem}", err=True)
    if as_json:
        print_json(
            {"error": {"message": "\n".join(problems), "type": "client_error", "param": None, "code": "bad_lines"}}
        )
    raise typer.Exit(REFUSED)


def _said(row: "Row") -> str:
    return ": ".join(part for part in (row.name, row.outcome, row.error, row.note) if part)


def _tell(rows: "list[Row]", as_json: bool) -> None:
    failed = sum(row.outcome == "failed" for row in rows)
    if as_json:
        print_json({"rows": [asdict(row) for row in rows], "failed": failed})
    else:
        from .display import print_table

        cells = [
            (row.outcome, "-" if row.seconds is None else f"{row.seconds:.0f} s", plain(_result(row))) for row in rows
        ]
        print_table(("outcome", "took", "file, or why not"), cells, cut=False)
    if failed:
        raise typer.Exit(FAILED)


def _result(row: "Row") -> str:
    if row.outcome == "paused":
        return f"{row.name}: go on with: magicvideo continue {row.id}"
    return row.file or f"{row.name}: {row.error}"
