"""Executors in processes of their own, to be killed, stopped and cut off from their database.

Each runs `tests.deployments.journal.executor`. Imported by tests only.
"""

import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, TypeVar

import psutil

from deployments.jobs.values import FINAL, JobRequest, NewJob
from deployments.journal.journal import Journal
from tests.deployments.journal.executor import Settings, main, said, violations
from tests.postgres import server

REQUEST = JobRequest(prompt="a fox", model="tiny", size="256x256", seconds="2", seed=7)
DEADLINE_S = 240.0
LEASE_S = 1.0

ValueT = TypeVar("ValueT")
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.deployments.journal.executor"])


def until(what: str, probe: Callable[[], ValueT | None]) -> ValueT:
    """The first answer of `probe` that is not empty."""
    end = time.monotonic() + DEADLINE_S
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < end, f"waited {DEADLINE_S:g} s for {what}"
        time.sleep(0.01)


class Fleet:
    """Executors on one journal."""

    def __init__(self, url: str, folder: Path, journal: Journal) -> None:
        self.url, self.log, self.journal = url, folder / "said.jsonl", journal
        self.struck: set[str] = set()
        self._running: dict[str, ForkServerProcess] = {}

    def start(self, owner: str, **settings: Any) -> None:
        own = replace(Settings(self.url, owner, str(self.log), lease_s=LEASE_S), **settings)
        process = _processes.Process(target=main, args=(own,), name=owner, daemon=True)
        process.start()
        self._running[owner] = process

    def ready(self) -> None:
        for owner in self._running:
            until(f"{owner} to be ready", lambda owner=owner: bool(self.said(owner, "ready")))  # type: ignore[misc]

    def strike(self, owner: str, how: signal.Signals) -> None:
        """SIGKILL, SIGSTOP or SIGCONT; proves that it struck."""
        process = self._running[owner]
        assert process.pid is not None
        assert process.is_alive()
        os.kill(process.pid, how)
        self.struck.add(owner)
        if how == signal.SIGKILL:
            process.join(DEADLINE_S)
            assert process.exitcode == -signal.SIGKILL
        elif how == signal.SIGSTOP:
            until(f"{owner} to stop outside of a transaction", lambda: self._stopped(psutil.Process(process.pid)))

    def _stopped(self, process: psutil.Process) -> bool:
        """On SQLite a writer that is frozen in a transaction blocks all others: it is then stopped anew."""
        until("the signal to arrive", lambda: process.status() == psutil.STATUS_STOPPED)
        if not self.url.startswith("sqlite"):
            return True
        writer = sqlite3.connect(self.url.removeprefix("sqlite:///"), isolation_level=None, timeout=0.0)
        try:
            writer.execute("BEGIN IMMEDIATE")
            writer.execute("ROLLBACK")
        except sqlite3.OperationalError:
            process.resume()
            process.suspend()
            return False
        finally:
            writer.close()
        return True

    def said(self, owner: str, what: str) -> list[dict[str, Any]]:
        return said(self.log, owner, what)

    def held_by(self, owner: str) -> list[str]:
        """Jobs under way whose last claim is the executor's."""
        found = []
        for job in self.journal.page(limit=1000)[0]:
            claimed = [e.data["owner"] for e in self.journal.events(job.id) if e.kind in ("started", "restarted")]
            if job.state == "running" and claimed and claimed[-1] == owner:
                found.append(job.id)
        return found

    def submit(self, count: int) -> list[str]:
        return [self.journal.submit(NewJob(REQUEST))[0].id for _ in range(count)]

    def all_ended(self) -> None:
        try:
            until("every job to end", lambda: set(self.journal.counts()) <= FINAL)
        except AssertionError as late:
            raise AssertionError(f"{late}; {violations(self.url, self.struck)}; {self.log.read_text()}") from late

    def kinds(self, job_id: str) -> list[str]:
        return [event.kind for event in self.journal.events(job_id)]

    def owners(self, job_id: str) -> list[str]:
        """Who claimed a job, in order."""
        return [e.data["owner"] for e in self.journal.events(job_id) if e.kind in ("started", "restarted")]

    def end(self) -> None:
        for process in self._running.values():
            process.kill()  # one that is stopped, too
            process.join(DEADLINE_S)


@contextmanager
def unreachable(url: str) -> Iterator[None]:
    """The database answers nobody: PostgreSQL's processes are stopped, SQLite's write lock is held by a frozen one."""
    if url.startswith("sqlite"):
        writer = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, timeout=30.0)
        writer.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            writer.execute("ROLLBACK")
            writer.close()
        return
    root = psutil.Process(server().get_pid())
    stopped = [root, *root.children(recursive=True)]
    for process in stopped:
        process.suspend()
    until("PostgreSQL to stop", lambda: root.status() == psutil.STATUS_STOPPED)
    try:
        yield
    finally:
        for process in stopped:
            process.resume()
