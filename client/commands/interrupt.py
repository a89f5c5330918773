"""Ctrl-C while a job runs: at a terminal, ask whether to cancel the job too; else leave it and say how to find it.

No answer within a few seconds, a second Ctrl-C, or anything but yes leaves the job running. Knows nothing of progress.
"""

import contextlib
import os
import queue
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from .options import Server
from .outcome import connect

if TYPE_CHECKING:
    from ..schema import Video

ANSWER_S = 8.0


def stopped(job: list[str], output: Path | None, server: Server) -> str:
    """The last sentence of a command that was stopped. `job` holds its id, or nothing when there is none yet."""
    if not job:
        return "Stopped before the server had confirmed the job; look with: magicvideo list"
    if _at_a_terminal() and _wants_cancel(job[0]):
        return _cancel(job[0], server)
    words = ["magicvideo download", job[0], "--wait"]
    words += ["-o", str(output)] if output is not None else []
    words += ["--url", server.url] if server.url is not None else []
    return f"Stopped waiting; the job goes on. Fetch its video later with: {' '.join(words)}"


def _at_a_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _wants_cancel(video_id: str) -> bool:
    answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    # Reads past sys.stdin: a thread that still waits in there at the end would hold its lock and break the exit.
    reader = threading.Thread(target=lambda: answers.put(os.read(0, 1024)), daemon=True)
    answer = b""
    with contextlib.suppress(queue.Empty, KeyboardInterrupt):
        typer.echo(f"Cancel {video_id} too? [y/N] ({ANSWER_S:.0f} s, then it goes on) ", err=True, nl=False)
        reader.start()
        answer = answers.get(timeout=ANSWER_S)
    if not answer:
        typer.echo("", err=True)
    return answer.strip().lower() in (b"y", b"yes")


def _cancel(video_id: str, server: Server) -> str:
    from ..errors import MagicVideoError

    try:
        with connect(server) as client:
            return cancel_note(client.videos.cancel(video_id))
    except MagicVideoError as error:
        return f"{video_id} could not be cancelled: {error}"
    except KeyboardInterrupt:
        return f"Stopped while asking for it; look with: magicvideo show {video_id}"


def cancel_note(video: "Video") -> str:
    """What a cancel has done so far: a stage that computes learns of it after its step."""
    return f"{video.id} is cancelled." if video.status == "failed" else f"{video.id} is being cancelled."
