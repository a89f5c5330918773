"""What the command line shows of a job: progress on stderr, results as plain text.

Takes the client's results, gives text and bars. A terminal gets one bar a stage; a log file gets one line a change;
`--quiet` gets nothing. Knows nothing of HTTP; rich is imported here and nowhere else.
"""

from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from .schema import Health, StageState, Video, VideoList

LABELS = {"t2i": "image", "i2v": "keyframes", "v2v": "redraw", "vfi": "frames"}
UNNAMED = "video"  # the one bar of a server that tells nothing of its stages


class Watcher(AbstractContextManager["Watcher"], Protocol):
    """Follows one job to the file on the disk."""

    def on_video(self, video: Video) -> None: ...

    def on_bytes(self, done: int, total: int | None) -> None: ...


def watcher(*, quiet: bool) -> Watcher:
    """The watcher that suits stderr."""
    if quiet:
        return Silent()
    console = Console(stderr=True)
    return Bars(console) if console.is_terminal else Lines(console)


class Silent:
    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def on_video(self, video: Video) -> None:
        return None

    def on_bytes(self, done: int, total: int | None) -> None:
        return None


class Lines(Silent):
    """One line for every change of a stage: what a log file can hold."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen: dict[str, str] = {}

    def on_video(self, video: Video) -> None:
        for stage in stages_of(video):
            note = note_of(stage)
            if stage.status != "waiting" and self._seen.get(stage.name) != note:
                self._seen[stage.name] = note
                self._console.print(Text(f"{title_of(stage.name)}: {note}"), soft_wrap=True)


class Bars(Silent):
    """One bar a stage, and one for the download."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def on_video(self, video: Video) -> None:
        for stage in stages_of(video):
            self._show(title_of(stage.name), stage.progress, 100, note_of(stage))

    def on_bytes(self, done: int, total: int | None) -> None:
        self._show("download", done, total or done, f"{done / 1e6:.1f} MB")

    def _show(self, title: str, done: int, total: int, note: str) -> None:
        if title not in self._tasks:
            self._tasks[title] = self._progress.add_task(title.ljust(14), total=total, note=note)
        self._progress.update(self._tasks[title], completed=done, total=total, note=note)


def stages_of(video: Video) -> list[StageState]:
    """The stages of a job; a server that names none gets a single one, from the state of the whole."""
    if video.stages:
        return video.stages
    status = "running" if video.status == "in_progress" else video.status
    return [StageState(name=UNNAMED, status=status, progress=video.progress)]


def title_of(name: str) -> str:
    return f"{plain(name)} {LABELS[name]}" if name in LABELS else plain(name)


def note_of(stage: StageState) -> str:
    if stage.status == "completed" and stage.run_s is not None:
        return f"{stage.run_s:.1f} s"
    return stage.status


def plain(text: str) -> str:
    """Text of strangers without control signs: a prompt must not steer the terminal."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def timings(video: Video) -> str:
    """Seconds per stage in one line, empty where the server tells none."""
    known = [f"{plain(stage.name)} {stage.run_s:.1f} s" for stage in video.stages if stage.run_s is not None]
    return ", ".join(known)


def summary(video: Video, path: Path) -> str:
    """Where the file is, what is in it, and what it took."""
    shape = [f"{video.frames} frames" if video.frames else "", f"{video.fps:g} fps" if video.fps else ""]
    facts = ", ".join(part for part in (*shape, video.size, f"seed {video.seed}") if part)
    return "\n".join(line for line in (f"{path}  {facts}", timings(video)) if line)


def describe(video: Video) -> str:
    """A job in a few lines."""
    lines = [
        f"{video.id}  {video.status}  {video.progress} %",
        f"prompt   {plain(video.prompt)}",
        f"model    {video.model}, {video.size}, {video.seconds} s, seed {video.seed}",
        f"created  {_moment(video.created_at)}",
    ]
    if video.completed_at is not None:
        lines.append(f"ended    {_moment(video.completed_at)}")
    if video.error is not None:
        lines.append(f"error    {plain(video.error.message)} ({plain(video.error.code)})")
    lines += [f"  {title_of(stage.name):<14} {stage.progress:>3} %  {note_of(stage)}" for stage in video.stages]
    return "\n".join(lines)


def describe_health(health: Health) -> str:
    """The server in one line, and its problems in one line each."""
    running = ", ".join(f"{plain(name)} {count}" for name, count in health.stages.items()) or "none reported"
    first = f"{health.status}: model {plain(health.model)}, version {plain(health.version)}, replicas: {running}"
    return "\n".join([first, *(f"  problem: {plain(problem)}" for problem in health.problems)])


def print_list(page: VideoList) -> None:
    """Jobs as a table: cut to the width of a terminal, whole in a pipe."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=10_000)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("id", "status", "progress", "created"):
        table.add_column(name, no_wrap=True)
    table.add_column("prompt", no_wrap=True, overflow="ellipsis")
    for video in page.data:
        cells = (video.id, video.status, f"{video.progress} %", _moment(video.created_at), plain(video.prompt))
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)


def _moment(unix_s: int) -> str:
    """Local time."""
    return datetime.fromtimestamp(unix_s).astimezone().strftime("%Y-%m-%d %H:%M:%S")
