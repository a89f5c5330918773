"""What the command line says of jobs, servers, batches and loads: results as plain text and tables.

Takes the client's results, gives text. Texts of strangers are cleaned of what would steer a terminal. Knows nothing of
HTTP; progress stands in `watching.py`.
"""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .._shell.outputs import is_stdout
from .._shell.terminal import make_console, plain
from ..schema import STAGES, Health, Pools, StageState, StageStatus, Status, Video, VideoList

_NARROW, _LEAST = 16, 8  # columns of a terminal, for the last of a table
_STATUS: dict[Status, StageStatus] = {
    "queued": "queued",
    "in_progress": "running",
    "paused": "waiting",
    "completed": "completed",
    "failed": "failed",
}
UNNAMED = "video"  # the one bar of a server that tells nothing of its stages


def stages_of(video: Video) -> list[StageState]:
    """The stages that a job has; a server that names none gets a single one, from the state of the whole."""
    if video.stages:
        return [stage for stage in video.stages if str(stage.status) != "skipped"]
    return [StageState(name=UNNAMED, status=_STATUS[video.status], progress=video.progress)]


def title_of(name: str) -> str:
    return f"{name} {STAGES[name][0]}" if name in STAGES else plain(name)


def note_of(stage: StageState) -> str:
    if stage.status == "completed" and stage.origin is not None:
        return stage.origin
    if stage.status == "completed" and stage.run_s is not None:
        return f"{stage.run_s:.1f} s"
    return stage.status


def state_of(video: Video) -> str:
    """Its status, or that it is paused, which older servers say beside the status."""
    return "paused" if video.paused_after is not None else video.status


def queue_note(video: Video) -> str:
    """Where a queued job stands, empty where that is unknown."""
    if video.status != "queued" or video.queue_position is None:
        return ""
    soon = f", done in about {video.eta_s:.0f} s" if video.eta_s is not None else ""
    ahead = {0: "next", 1: "1 goes first"}.get(video.queue_position, f"{video.queue_position} go first")
    return f"queued: {ahead}{soon}"


def timings(video: Video) -> str:
    """Seconds per stage in one line, empty where the server tells none."""
    known = [f"{plain(stage.name)} {stage.run_s:.1f} s" for stage in video.stages if stage.run_s is not None]
    return ", ".join(known)


def summary(video: Video, path: Path) -> str:
    """Where the file is, what is in it, and what it took."""
    facts = ", ".join(part for part in (*_shape(video), video.size, f"seed {video.seed}") if part)
    where = "stdout" if is_stdout(path) else plain(str(path))
    return "\n".join(line for line in (f"{where}  {facts}", timings(video)) if line)


def describe(video: Video) -> str:
    """A job in a few lines."""
    lines = [
        f"{video.id}  {state_of(video)}  {video.progress} %",
        f"prompt   {plain(video.prompt)}",
        f"model    {_asked(video)}",
        f"created  {_moment(video.created_at)}",
    ]
    if video.completed_at is not None:
        lines.append(f"ended    {_moment(video.completed_at)}")
    if video.error is not None:
        lines.append(f"error    {plain(video.error.message)} ({plain(video.error.code)})")
    if video.paused_after is not None:
        lines.append(f"paused   after {video.paused_after}; go on with: magicvideo continue {video.id}")
    if note := queue_note(video):
        lines.append(note.replace("queued: ", "queue    "))
    if video.note:
        lines.append(f"note     {plain(video.note)}")
    if video.waits_for is not None:
        lines.append(f"waits    {plain(video.waits_for)}")
    lines += [f"  {title_of(stage.name):<14} {stage.progress:>3} %  {note_of(stage)}" for stage in video.stages]
    return "\n".join(lines)


def describe_health(health: Health) -> str:
    """The server in one line, and its problems in one line each."""
    running = ", ".join(f"{plain(name)} {count}" for name, count in health.stages.items()) or "none reported"
    first = f"{health.status}: model {plain(health.model)}, version {plain(health.version)}, replicas: {running}"
    return "\n".join([first, *(f"  problem: {plain(problem)}" for problem in health.problems)])


def print_list(page: VideoList) -> None:
    """Jobs as a table."""
    rows = (
        (video.id, state_of(video), f"{video.progress} %", _moment(video.created_at), plain(video.prompt))
        for video in page.data
    )
    print_table(("id", "status", "progress", "created", "prompt"), rows, spare="created")


def print_show(video: Video) -> None:
    """All that is known of a job."""
    console = _console()
    for name, value in _facts(video):
        console.print(Text(f"{name:<9} {plain(value)}"), soft_wrap=True)
    console.print()
    print_table(("stage", "status", "progress", "queued", "run", "out", "memory"), map(_stage_row, video.stages))


def print_pools(pools: Pools) -> None:
    """The pool of every stage as a row, and the jobs by state."""
    rows = (
        (
            title_of(pool.stage),
            plain(pool.pool or "-"),
            f"{pool.replicas} of {pool.wanted}",
            str(pool.queued),
            str(pool.running),
            f"{pool.utilisation:.0%}",
            _seconds(pool.median_run_s),
        )
        for pool in pools.stages
    )
    print_table(("stage", "pool", "replicas", "queued", "running", "used", "median run"), rows)
    if pools.jobs:
        jobs = ", ".join(f"{plain(state)} {count}" for state, count in pools.jobs.items())
        _console().print(Text(f"jobs: {jobs}"), soft_wrap=True)


def print_table(
    columns: tuple[str, ...],
    rows: Iterable[tuple[str, ...]],
    *,
    cut: bool = True,
    spare: str | None = None,
    err: bool = False,
) -> None:
    """A table, on stdout or not, whole in a pipe; the last column is cut to the width of a terminal, or else wrapped.

    The column `spare` is left out where the last one would be narrow without that. All others are whole.
    """
    lines = list(rows)
    cells = {name: [Text(line[place]) for line in lines] for place, name in enumerate(columns)}
    console = _console(err)
    *others, last = cells
    widths = {name: max([len(name), *(cell.cell_len for cell in cells[name])]) + 2 for name in others}
    if spare is not None and console.width - sum(widths.values()) < _NARROW:
        del cells[spare], widths[spare]
    room = max(console.width - sum(widths.values()), _LEAST)
    console.width = sum(widths.values()) + room  # a terminal that is narrower wraps
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, width in widths.items():
        table.add_column(name, no_wrap=True, min_width=width - 2)
    table.add_column(last, overflow="fold")
    if cut:
        for cell in cells[last]:
            cell.truncate(room, overflow="ellipsis")
    for row in zip(*cells.values(), strict=True):
        table.add_row(*row)
    console.print(table)


def _console(err: bool = False) -> Console:
    console = make_console(stderr=err)
    return console if console.is_terminal else make_console(stderr=err, width=10_000)


def _facts(video: Video) -> Iterable[tuple[str, str]]:
    known = {
        "id": video.id,
        "status": f"{state_of(video)}, {video.progress} %",
        "prompt": video.prompt,
        "model": _asked(video),
        "video": ", ".join(_shape(video)),
        "from": video.remixed_from_video_id,
        "until": video.until,
        "paused": f"after {video.paused_after}" if video.paused_after else None,
        "choices": f"{video.candidates} pictures" if video.candidates > 1 else None,
        "priority": str(video.priority) if video.priority else None,
        "queue": queue_note(video).removeprefix("queued: "),
        "eta": f"{video.eta_s:.0f} s" if video.eta_s is not None and video.queue_position is None else None,
        "created": _moment(video.created_at),
        "ended": _moment(video.completed_at) if video.completed_at is not None else None,
        "expires": _moment(video.expires_at) if video.expires_at is not None else None,
        "error": f"{video.error.message} ({video.error.code})" if video.error else None,
        "note": video.note,
        "waits": video.waits_for,
    }
    return [(name, value) for name, value in known.items() if value]


def _asked(video: Video) -> str:
    length = "one picture" if video.until == "t2i" else f"{video.seconds} s"
    return f"{video.model}, {video.size}, {length}, seed {video.seed}"


def _shape(video: Video) -> list[str]:
    if video.fps is None:
        return ["one picture"] if video.until == "t2i" else []
    return [*([f"{video.frames} frames"] if video.frames else []), f"{video.fps:g} fps"]


def _stage_row(stage: StageState) -> tuple[str, ...]:
    status = f"{stage.status}, {stage.origin}" if stage.origin else stage.status
    size = "-" if stage.bytes_out is None else f"{stage.bytes_out / 1e6:.2f} MB"
    memory = "-" if stage.peak_memory_mb is None else f"{stage.peak_memory_mb:.0f} MiB"
    times = (_seconds(stage.queued_s), _seconds(stage.run_s))
    return (title_of(stage.name), status, f"{stage.progress} %", *times, size, memory)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def _moment(unix_s: int) -> str:
    """Local time."""
    return datetime.fromtimestamp(unix_s).astimezone().strftime("%Y-%m-%d %H:%M:%S")
