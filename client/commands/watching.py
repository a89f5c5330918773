"""Progress of one job on stderr: a terminal gets one bar a stage, a log file one line a change, `--quiet` nothing.

Takes the states that the client polls, gives bars and lines. Knows nothing of HTTP.
"""

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from .._shell.terminal import make_console, plain
from ..schema import StageState, Video
from .display import note_of, queue_note, stages_of, title_of


class Watcher(AbstractContextManager["Watcher"], Protocol):
    """Follows one job to the file on the disk."""

    def on_video(self, video: Video) -> None: ...

    def on_bytes(self, done: int, total: int | None) -> None: ...

    def say(self, line: str) -> None: ...


def watcher(*, quiet: bool) -> Watcher:
    """The watcher that suits stderr."""
    if quiet:
        return Silent()
    console = make_console(stderr=True)
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

    def say(self, line: str) -> None:
        return None


class Lines(Silent):
    """One line for every change of a stage: what a log file can hold."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen: dict[str, str] = {}

    def on_video(self, video: Video) -> None:
        for name, note in (("queue", queue_note(video)), ("waits", video.waits_for)):
            if note:
                self._tell(name, note)
        for stage in stages_of(video):
            if stage.status != "waiting":
                self._tell(stage.name, f"{title_of(stage.name)}: {note_of(stage)}")

    def say(self, line: str) -> None:
        self._console.print(Text(plain(line)), soft_wrap=True)

    def _tell(self, name: str, line: str) -> None:
        if self._seen.get(name) != line:
            self._seen[name] = line
            self.say(line)


class Seconds(ProgressColumn):
    """What is known of a stage: its seconds so far while it runs, else its note."""

    def render(self, task: Task) -> Text:
        since = task.fields["since"]
        return Text(task.fields["note"] if since is None else f"{task.get_time() - since:.0f} s")


class Live(Silent):
    """Something that moves at a terminal."""

    _progress: Progress

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        self._progress.console.print(Text(plain(line)), soft_wrap=True)


class Bars(Live):
    """One bar a stage, and one for the download."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            Seconds(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._since: dict[str, float] = {}  # when a stage was first seen running
        self._said: dict[str, str] = {}

    def on_video(self, video: Video) -> None:
        for name, note in (("queue", queue_note(video)), ("waits", video.waits_for or "")):
            if note and note != self._said.get(name):
                self.say(note)
            self._said[name] = note
        for stage in stages_of(video):
            self._show(title_of(stage.name), stage.progress, 100, note_of(stage), self._began(stage))

    def on_bytes(self, done: int, total: int | None) -> None:
        self._show("download", done, total or done, f"{done / 1e6:.1f} MB", None)

    def _began(self, stage: StageState) -> float | None:
        if stage.status != "running":
            return None
        return self._since.setdefault(stage.name, self._progress.get_time())

    def _show(self, title: str, done: int, total: int, note: str, since: float | None) -> None:
        if title not in self._tasks:
            self._tasks[title] = self._progress.add_task(title.ljust(14), total=total, note=note, since=since)
        self._progress.update(self._tasks[title], completed=done, total=total, note=note, since=since)


class Counter(Live):
    """How many of many things are done: a bar at a terminal, lines elsewhere."""

    def __init__(self, title: str, total: int, console: Console | None) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed:.0f} of {task.total:.0f}"),
            console=console,
            disable=console is None or not console.is_terminal,
        )
        self._task = self._progress.add_task(title, total=total)

    def step(self, line: str = "") -> None:
        """One more is done."""
        self._progress.advance(self._task)
        if line and self._console is not None:
            self.say(line)


def counter(title: str, total: int, *, quiet: bool) -> Counter:
    """The counter that suits stderr."""
    return Counter(title, total, None if quiet else make_console(stderr=True))
