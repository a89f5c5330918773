"""The log of the server's processes: a line of text or of JSON for each record, with the job that it is about.

Every replica calls `set_up` once; `job_context(job_id)` marks what is logged below it, in a task or in a thread. Lines
go to stderr, which Ray keeps in a file for each process (`logs/worker-*.err` of its session) and, with
`python -m deployments serve --verbose`, brings to the terminal.
"""

import json
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

Format = Literal["text", "json"]
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
_OURS = ("deployments", "stages", "cluster")
_job: ContextVar[str | None] = ContextVar("job", default=None)


@contextmanager
def job_context(job_id: str | None) -> Iterator[None]:
    """What is logged in here is about that job."""
    token = _job.set(job_id)
    try:
        yield
    finally:
        _job.reset(token)


def set_up(form: Format, level: Level) -> None:
    """Have this process log so; once more changes it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    handler.addFilter(_note_job)
    for name in _OURS:
        ours = logging.getLogger(name)
        ours.handlers[:] = [handler]
        ours.setLevel(level)
        ours.propagate = False  # Ray's root handler would say it again


def _note_job(record: logging.LogRecord) -> bool:
    record.job = _job.get()
    return True


def _deployment() -> str:
    from ray import serve  # here, as the configuration names this module's types without needing Ray

    try:
        return str(serve.get_replica_context().deployment)
    except Exception:  # Ray raises RayServeException here, which is not public in every version
        return "main"


class _Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__(f"%(asctime)s %(levelname)s {_deployment()} %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        job = getattr(record, "job", None)
        return super().format(record) + (f" [{job}]" if job else "")


class _Json(logging.Formatter):
    def __init__(self) -> None:
        super().__init__()
        self._same = {"deployment": _deployment(), "host": socket.gethostname(), "pid": os.getpid()}

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self._same,
        }
        if job := getattr(record, "job", None):
            line["job"] = job
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
