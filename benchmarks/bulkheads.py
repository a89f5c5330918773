"""What a frozen dependency costs everybody else: `python -m benchmarks.bulkheads [--quick]`.

The served application on a real Ray with stand-in stages, its journal in PostgreSQL, its files in an S3 server, its
traces sent to a collector and its webhooks to a target that accept connections and never answer. Under a load of GETs
of jobs, new jobs, and requests for what hangs, each dependency is stopped (SIGSTOP) in turn and let go again.

    worst_p99_ms        99th percentile of GETs of jobs, the worst of all dependencies but the journal's own
    p99_ms_<name>       of each: none, store, controller, keeper, decoder
    unready_ms_<name>   the slowest answer to a request that needs what is stopped: 503 with Retry-After
    wrong               answers that were neither what was asked for nor a 503 with Retry-After
    journal_p99_ms      while the database is stopped: the page and the description, which need it not

About three minutes; `--quick` under one.
"""

import http.client
import json
import os
import signal
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg

from benchmarks.tools.result import parser_of, result
from client import Client
from cluster.server_process import free_port
from deployments.app import APP_NAME
from deployments.server import LocalRay, start, stop
from deployments.settings.application import AppArgs, ObservabilityArgs, StorageArgs, WebhookArgs
from deployments.settings.reading import load_config
from deployments.settings.variants import laptop, rehearsal
from stages.replay import ReplayProfile
from stages.types import StageName

PROFILES: dict[StageName, ReplayProfile] = {
    "t2i": ReplayProfile(run_s=0.1, bytes_out=3_000_000),
    "i2v": ReplayProfile(run_s=0.1, bytes_out=12_000_000),
    "v2v": ReplayProfile(run_s=0.2, bytes_out=36_000_000),
    "vfi": ReplayProfile(run_s=0.1, bytes_out=1_200_000),
}
SECRET = "whsec_YSBzZWNyZXQgb2YgdGhlIGJlbmNobWFyaw=="
READERS, NEEDERS, VIEWERS = 3, 6, 10
PAUSE_S = 0.02  # of a reader between two GETs
NEED_PAUSE_S = 0.1  # of one who asks for what is stopped
VIEW_PAUSE_S = 1.0  # of one who looks at a sheet: what is decoded is to be measured, not how much a proxy carries
JOBS = 3
ASK_S = 60.0


@dataclass
class Seen:
    """What one kind of asker saw."""

    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Askers:
    """Who asks for what is stopped."""

    count: int = NEEDERS
    pause_s: float = NEED_PAUSE_S


def main(arguments: list[str] | None = None) -> None:
    options = parser_of("bulkheads", __doc__, quick="each dependency for 4 s").parse_args(arguments)
    span_s = 4.0 if options.quick else 20.0
    from tests.postgres import new_database
    from tests.s3 import new_bucket

    os.environ["MAGICVIDEO_WEBHOOK_SECRET"] = SECRET
    with tempfile.TemporaryDirectory(prefix="magicvideo-bench-") as name, deaf() as deaf_url:
        database_url = new_database()
        args = rehearsal(laptop(load_config(), data_dir=Path(name)), PROFILES).model_copy(
            update={
                "storage": StorageArgs(database_url=database_url, artifacts_url=new_bucket()),
                "webhooks": WebhookArgs(allow_private=True),
                "observability": ObservabilityArgs(otlp_url=f"{deaf_url}/v1/traces"),
            }
        )
        with served(args) as port:
            ids = finished_jobs(port, f"{deaf_url}/hook")
            figures = measure(port, ids, span_s, database_url)
    result("bulkheads", figures)


@contextmanager
def served(args: AppArgs) -> Iterator[int]:
    """The application; gives its port."""
    server = start(args, host="127.0.0.1", port=free_port(), where=LocalRay(num_cpus=4, object_store_bytes=2**29))
    try:
        yield int(server.url.rpartition(":")[2])
    finally:
        stop(server.temp_dir)


@contextmanager
def deaf() -> Iterator[str]:
    """The address of a server that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1000)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def finished_jobs(port: int, hook: str) -> list[str]:
    """Videos to ask for; each has a webhook that nobody takes."""
    with Client(f"http://127.0.0.1:{port}") as client:
        made = [client.videos.create("a fox", webhook_url=hook) for _ in range(JOBS)]
        return [client.videos.wait(video.id).id for video in made]


def measure(port: int, ids: Sequence[str], span_s: float, database_url: str) -> dict[str, float | int | None]:
    """All figures."""
    content = [f"/v1/videos/{video_id}/content" for video_id in ids]
    victims: dict[str, tuple[Callable[[], list[psutil.Process]], Sequence[str]]] = {
        "none": (list, []),
        "store": (store_processes, content),
        "controller": (lambda: children("ServeController"), ["/healthz", "/v1/pools"]),
        "keeper": (lambda: children(f"ServeReplica:{APP_NAME}:keeper"), [f"{content[0]}?variant=keyframe"]),
        "decoder": (list, [f"{path}?variant=spritesheet" for path in content]),
    }
    figures: dict[str, float | int | None] = {}
    worst, wrong = 0.0, 0
    for name, (find, needed) in victims.items():
        askers = Askers(VIEWERS, VIEW_PAUSE_S) if name == "decoder" else Askers()
        jobs, needers = under_load(port, [f"/v1/videos/{video_id}" for video_id in ids], needed, find(), span_s, askers)
        p99_ms = 1000 * statistics.quantiles(jobs.seconds, n=100)[98]
        slowest_ms = 1000 * max(needers.seconds, default=0.0)
        print(f"{name:<11} GET of a job p99 {p99_ms:6.1f} ms; what needs it at most {slowest_ms:7.0f} ms", flush=True)
        for problem in (*jobs.wrong, *needers.wrong)[:3]:
            print(f"  wrong: {problem}", flush=True)
        figures[f"p99_ms_{name}"] = p99_ms
        if name not in ("none", "decoder"):
            figures[f"unready_ms_{name}"] = slowest_ms
        worst, wrong = max(worst, p99_ms), wrong + len(jobs.wrong) + len(needers.wrong)
    stopped = postgres_processes(database_url)
    others, needers = under_load(port, ["/", "/openapi.json"], [f"/v1/videos/{ids[0]}"], stopped, span_s)
    figures["journal_p99_ms"] = 1000 * statistics.quantiles(others.seconds, n=100)[98]
    figures["unready_ms_journal"] = 1000 * max(needers.seconds)
    for problem in (*others.wrong, *needers.wrong)[:3]:
        print(f"  wrong: {problem}", flush=True)
    return {
        "worst_p99_ms": worst,
        **figures,
        "wrong": wrong + len(others.wrong) + len(needers.wrong),
    }


def under_load(
    port: int,
    read: Sequence[str],
    needed: Sequence[str],
    victims: Sequence[psutil.Process],
    span_s: float,
    askers: Askers | None = None,
) -> tuple[Seen, Seen]:
    """What readers of `read` and those who ask for what is stopped saw, while it was."""
    readers, needers, over = Seen(), Seen(), threading.Event()
    threads = [threading.Thread(target=ask, args=(port, read, readers, over, PAUSE_S)) for _ in range(READERS)]
    if needed:
        many = askers or Askers()
        told = (port, needed, needers, over, many.pause_s)
        threads += [threading.Thread(target=ask, args=told) for _ in range(many.count)]
    threads.append(threading.Thread(target=post, args=(port, over)))
    for process in victims:
        process.send_signal(signal.SIGSTOP)
    try:
        for thread in threads:
            thread.start()
        time.sleep(span_s)
    finally:
        over.set()
        for process in victims:
            process.send_signal(signal.SIGCONT)
    for thread in threads:
        thread.join()
    return readers, needers


def ask(port: int, paths: Sequence[str], seen: Seen, over: threading.Event, pause_s: float) -> None:
    """GET one path after the other on one connection, until it is over."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ASK_S)
    number = 0
    while not over.is_set():
        path = paths[number % len(paths)]
        number += 1
        began = time.monotonic()
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            seen.wrong.append(f"{path}: {type(error).__name__} after {time.monotonic() - began:.1f} s")
            connection.close()
            continue
        seen.seconds.append(time.monotonic() - began)
        told = answer.status == 503 and (path == "/healthz" or answer.headers.get("retry-after"))
        if answer.status != 200 and not told:
            seen.wrong.append(f"{path}: {answer.status} {body[:200]!r}")
        over.wait(pause_s)
    connection.close()


def post(port: int, over: threading.Event) -> None:
    """A new job a second; what becomes of it is not looked at."""
    headers: Mapping[str, str] = {"content-type": "application/json"}
    while not over.is_set():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ASK_S)
        try:
            connection.request("POST", "/v1/videos", json.dumps({"prompt": "a fox", "until": "t2i"}), dict(headers))
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            pass
        connection.close()
        over.wait(1.0)


def children(title: str) -> list[psutil.Process]:
    """Processes below this one with that title."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if any(title in part for part in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue  # it ended while we looked
    return found


def store_processes() -> list[psutil.Process]:
    return [process for process in psutil.Process().children(recursive=True) if process.name() == "weed"]


def postgres_processes(database_url: str) -> list[psutil.Process]:
    """The postmaster and its backends."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None
        postmaster = psutil.Process(int(row[0])).parent()
    assert postmaster is not None
    assert postmaster.pid != os.getpid()
    return [postmaster, *postmaster.children(recursive=True)]


if __name__ == "__main__":
    main()
