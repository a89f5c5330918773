"""A batch: many jobs with a bounded number at once; run again, it creates nothing twice and fetches what is missing.

Takes `Line`s and a folder, gives a `Row` a line. The folder's state file holds each job's id and idempotency key; a
key follows from the batch, the line and the attempt, so that even a run that was killed between sending and writing
finds its job again. Knows nothing of terminals.
"""

import asyncio
import io
import json
import os
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from .._core.async_client import AsyncClient
from .._core.job_options import CreateOptions
from ..errors import (
    BadRequestError,
    ConflictError,
    InvalidArgumentError,
    MagicVideoError,
    NotFoundError,
    OutputError,
    RateLimitError,
    VideoFailedError,
)
from ..schema import Video
from .batch_lines import Line

STATE = "batch-state.jsonl"
FULL_S = 5.0  # pause before a full server is asked again, where it does not say
FULL_TRIES = 100
LONGEST_PAUSE_S = 600.0

Outcome = Literal["done", "already done", "paused", "failed"]


@dataclass(frozen=True)
class Entry:
    """What is known of one line's job."""

    digest: str
    attempt: int = 1
    key: str = ""
    id: str | None = None
    error: str | None = None  # why the job failed


@dataclass(frozen=True)
class Row:
    """What became of one line."""

    name: str
    outcome: Outcome
    id: str | None = None
    file: str | None = None
    seconds: float | None = None  # from its creation to its end, as the server says
    error: str | None = None
    note: str | None = None  # what was done otherwise than the line asks


class State:
    """The state file of a folder: a line for the batch, then one for every change; the last of a name counts.

    Raises:
        OutputError: it cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / STATE
        self._entries: dict[str, Entry] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not self._path.exists():
                self._begin()
            first, *others = io.StringIO(self._path.read_text(encoding="utf-8"))
            self._batch = uuid.UUID(json.loads(first)["batch"])
            for line in others:
                self._take(line)
        except OSError as error:
            raise self._unusable(error) from error
        except (ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"{self._path} is not the state of a batch of this version; choose another --out.", path=self._path
            ) from error

    def get(self, name: str) -> Entry | None:
        return self._entries.get(name)

    def put(self, name: str, entry: Entry) -> None:
        """Remember it, on the disk too."""
        self._entries[name] = entry
        self._append(json.dumps({"name": name, **asdict(entry)}) + "\n")

    def key(self, line: Line, attempt: int) -> str:
        return uuid.uuid5(self._batch, f"{line.name} {line.digest} {attempt}").hex

    def changed(self, lines: list[Line]) -> list[str]:
        """One sentence for each line that asks for something else than it did when its job was made."""
        return [
            f"Line {line.number}: {line.name!r} asked for something else when its job was made; give it another name, "
            "or choose another --out."
            for line in lines
            if (entry := self.get(line.name)) is not None and entry.digest != line.digest
        ]

    def _begin(self) -> None:
        """Appears under its name whole; of two that begin at once, one wins."""
        mine = self._path.with_name(f".{STATE}.{uuid.uuid4().hex[:8]}")
        mine.write_text(json.dumps({"version": 1, "batch": str(uuid.uuid4())}) + "\n", encoding="utf-8")
        try:
            os.link(mine, self._path)
        except FileExistsError:
            pass
        except OSError:
            mine.replace(self._path)  # a file system without links
        finally:
            mine.unlink(missing_ok=True)

    def _take(self, line: str) -> None:
        try:
            document = json.loads(line)
        except ValueError:
            # A run was killed while it wrote this: its job is found again by its key.
            if not line.endswith("\n"):
                self._append("\n")
        else:
            name = document.pop("name")
            self._entries[name] = Entry(**document)

    def _append(self, text: str) -> None:
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> OutputError:
        return OutputError(
            f"The batch's state {self._path} cannot be used ({error.strerror or error}); free the space or choose "
            "another --out.",
            path=self._path,
        )


class Batch:
    """One run over the lines."""

    def __init__(
        self,
        client: AsyncClient,
        state: State,
        folder: Path,
        *,
        retry_failed: bool = False,
        on_row: Callable[[Row], object] = lambda row: None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._client, self._state, self._folder = client, state, folder
        self._retry_failed, self._on_row, self._sleep = retry_failed, on_row, sleep

    async def run(self, lines: list[Line], concurrency: int) -> list[Row]:
        """Every line's row, in the order of the lines; at most `concurrency` jobs are unfinished at once.

        Raises:
            MagicVideoError: nothing can go on: no server, a refused key, a full disk. What was done is remembered.
        """
        if concurrency < 1:
            raise InvalidArgumentError(f"The concurrency is {concurrency}; it must be at least 1.")
        rows: dict[str, Row] = {}
        waiting = iter(lines)

        async def work() -> None:
            for line in waiting:  # shared: each takes the next
                rows[line.name] = row = await self._row(line)
                self._on_row(row)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(concurrency, len(lines))):
                    group.create_task(work())
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [rows[line.name] for line in lines]

    async def _row(self, line: Line) -> Row:
        entry = self._state.get(line.name) or Entry(line.digest)
        target = self._folder / line.file
        if entry.error is not None and self._retry_failed:
            entry = Entry(line.digest, entry.attempt + 1)
        if entry.error is not None:
            return Row(line.name, "failed", entry.id, error=entry.error)
        if entry.id is not None and target.exists():
            return Row(line.name, "already done", entry.id, str(target))
        try:
            return await self._make(line, entry, target)
        except (BadRequestError, ConflictError, RateLimitError) as error:
            return Row(line.name, "failed", entry.id, error=str(error))

    async def _make(self, line: Line, entry: Entry, target: Path) -> Row:
        if entry.id is None:
            key = self._state.key(line, entry.attempt)
            self._state.put(line.name, replace(entry, key=key))
            video = await self._create(line, key)
            entry = replace(entry, key=key, id=video.id)
            self._state.put(line.name, entry)
        assert entry.id is not None
        try:
            video = await self._client.videos.wait(entry.id)
            if video.paused_after is not None:
                return Row(line.name, "paused", video.id, note=video.note)
            await self._client.videos.download(video.id, target)
        except (VideoFailedError, NotFoundError) as error:
            self._state.put(line.name, replace(entry, error=_reason(error)))
            return Row(line.name, "failed", entry.id, error=_reason(error))
        seconds = None if video.completed_at is None else float(video.completed_at - video.created_at)
        return Row(line.name, "done", video.id, str(target), seconds, note=video.note)

    async def _create(self, line: Line, key: str) -> Video:
        """Sent until the server has room for it."""
        options: CreateOptions = {**line.options, "idempotency_key": key}
        for _ in range(FULL_TRIES):
            try:
                return await self._client.videos.create(line.prompt, **options)
            except RateLimitError as error:
                pause = FULL_S if error.retry_after_s is None else error.retry_after_s
                if pause > LONGEST_PAUSE_S:
                    raise
                await self._sleep(pause)
        return await self._client.videos.create(line.prompt, **options)


def _reason(error: MagicVideoError) -> str:
    if isinstance(error, VideoFailedError) and error.video.error is not None:
        return f"{error.video.error.message} ({error.video.error.code})"
    return str(error)
