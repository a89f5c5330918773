"""The command that loads a server with requests at a given rate, and says how long they took."""

import asyncio
import random
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._shell.terminal import plain, tell
from .options import Following, Model, Seconds, Size, Steps, Until
from .outcome import UNREACHABLE, print_json, reporting

if TYPE_CHECKING:
    from .._core.job_options import CreateOptions
    from .._many.load import Latency, Shot, Summary

_STOPPED = "Stopped; nothing was measured, and the jobs that were sent go on: look with magicvideo list"
_COLUMNS = ("number", "intended_s", "sent_s", "accepted_s", "completed_s", "outcome", "id")


def load(
    rate: Annotated[float, typer.Option(help="Requests a second, on average.")],
    duration: Annotated[float, typer.Option(help="Seconds for which requests are sent.")],
    wishes: Following,
    prompt: Annotated[str, typer.Option(help="What every video shows.")] = "a fox in a snowy forest at dusk",
    accept_only: Annotated[
        bool, typer.Option("--accept-only", help="Measure until a job is accepted; do not wait for its video.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds after which a job that is not completed is given up.")] = 600,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel what is not completed at the end.")] = False,
    out: Annotated[Path | None, typer.Option("--out", metavar="CSV", help="Also write one line a request.")] = None,
    arrivals_seed: Annotated[int, typer.Option("--seed", help="Of the times; the same seed, the same times.")] = 0,
    model: Model = None,
    size: Size = None,
    seconds: Seconds = None,
    steps: Steps = None,
    until: Until = None,
) -> None:
    """Load the server, and print percentiles.

    Requests are sent at random times (Poisson), whether or not earlier ones are done. Latencies count from the time
    at which a request was meant to be sent. Refusals are results: nothing is sent twice, and the exit code is 0
    unless no request reached a server.
    """
    with reporting(wishes.as_json, lambda: _STOPPED):
        from .._core.requests import create_request
        from .._many.load import arrivals, summary
        from ..errors import InvalidArgumentError
        from .follow import check_outputs, taken

        check_outputs(out, as_json=wishes.as_json)
        times = arrivals(rate, duration, random.Random(arrivals_seed))
        if not times:
            raise InvalidArgumentError(
                f"Nothing is sent: --rate {rate:g} for --duration {duration:g} draws no request; raise one of them."
            )
        options: CreateOptions = {"model": model, "size": size, "seconds": seconds, "steps": steps, "until": until}
        create_request(prompt, options)  # says now what is wrong with it
        shots = asyncio.run(_run(times, prompt, options, wishes, not accept_only, timeout, cancel))
        if out is not None:
            _write(out, shots)
        _tell(summary(shots), wishes.as_json, err=taken(out))
        if all(shot.outcome == "no connection" for shot in shots):
            raise typer.Exit(UNREACHABLE)


async def _run(
    times: list[float],
    prompt: str,
    options: "CreateOptions",
    wishes: Following,
    waits: bool,
    timeout_s: float,
    cancels: bool,
) -> "list[Shot]":
    import httpx

    from .._core.async_client import AsyncClient
    from .._many.load import Load
    from .watching import counter

    # Without a bound on connections: one would make requests wait for earlier ones.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    with counter("load", len(times), quiet=wishes.quiet) as count:
        url, key = wishes.url, wishes.api_key
        async with (
            AsyncClient(url, key, max_retries=0, transport=httpx.AsyncHTTPTransport(limits=limits)) as sender,
            AsyncClient(url, key, transport=httpx.AsyncHTTPTransport(limits=limits)) as waiter,
        ):
            runner = Load(sender, waiter if waits else None, timeout_s=timeout_s, on_shot=lambda shot: count.step())
            shots = await runner.run(times, prompt, options)
            if cancels:
                await _cancel(waiter, [shot.id for shot in shots if shot.id is not None and shot.completed_s is None])
    return shots


async def _cancel(client: Any, ids: list[str]) -> None:
    from ..errors import MagicVideoError

    for video_id in ids:
        try:
            await client.videos.cancel(video_id)
        except MagicVideoError as error:
            tell(f"{video_id} could not be cancelled: {error}", err=True)


def _write(path: Path, shots: "list[Shot]") -> None:
    import csv

    from .._shell.outputs import written

    with written(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(
            {name: f"{value:.6f}" if isinstance(value, float) else value for name, value in asdict(shot).items()}
            for shot in shots
        )


def _tell(found: "Summary", as_json: bool, *, err: bool) -> None:
    kinds = {"accepted": found.accepted, "completed": found.completed, "sent late": found.late}
    if as_json:
        latencies = {name.replace(" ", "_"): _document(value) for name, value in kinds.items()}
        print_json({"sent": found.sent, **latencies, "outcomes": dict(found.outcomes)})
        return
    from .display import print_table

    rows = [(name, str(value.count), *_seconds(value)) for name, value in kinds.items() if value is not None]
    print_table(("seconds until", "count", "p50", "p90", "p95", "p99", "longest"), rows, err=err)
    print_table(("outcome", "count"), [(plain(name), str(count)) for name, count in found.outcomes.items()], err=err)


def _seconds(value: "Latency") -> list[str]:
    return [f"{seconds:.3f}" for seconds in (*value.quantiles.values(), value.longest_s)]


def _document(value: "Latency | None") -> dict[str, float] | None:
    if value is None:
        return None
    return {
        "count": value.count,
        **{f"p{share * 100:g}": seconds for share, seconds in value.quantiles.items()},
        "longest": value.longest_s,
    }
