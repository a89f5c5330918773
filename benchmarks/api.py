"""How fast jobs are accepted, how soon events arrive, what checkpoints cost: `python -m benchmarks.api [--quick]`.

The ingress' own application (`deployments.api.ingress.create_app`) runs under uvicorn in a process of its own, without
Ray, so that no proxy stands before it; another process sends the POSTs over connections that stay open, each with an
idempotency key. One process serves, as one ingress replica does.

    post_per_s_sqlite    accepted jobs a second, the journal on SQLite (synchronous=FULL: on disk before the answer)
    post_per_s_postgres  the same on a PostgreSQL of this machine, which shares its CPUs
    post_p99_ms          99th percentile of a POST in those runs, 16 at a time; the slower of both
    post_share_of_empty  those rates over that of a handler of the same application that does nothing; the lower of both
    sse_streams          event streams that were open at once
    event_p95_ms         95th percentile between an event being written and its arrival at the reader, on SQLite
    checkpoint_cost      share of throughput that writing checkpoints takes: 1 - (keeper on / keeper off), bursts on a
                         real Ray in one run, with the paper's payloads (V2V: 105 MB a job)

About ten minutes; `--quick` under two. What could not be measured is null.
"""

import http.client
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ray import serve

from benchmarks.pipelining import FULL, QUICK, RAY_CPUS, STORE_BYTES, Size, app_args, burst, touch_store
from benchmarks.tools.load import PROCESSES, Streams, post_load
from benchmarks.tools.result import parser_of, result
from client import Client
from cluster.server_process import free_port
from deployments.app import APP_NAME
from deployments.jobs.values import Claim, JobRequest, NewJob, Update
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from deployments.server import LocalRay, Server, deploy, start_ray, stop
from deployments.settings.application import AppArgs, IngressArgs, StorageArgs

CONNECTIONS = 16
START_S = 60.0
EVENT_EVERY_S = 0.5
STREAMS_A_JOB = 5
REQUEST = JobRequest(prompt="a fox", model="tiny", size="256x256", seconds="2", seed=7)
OWNER, LEASE_S = "benchmark", 3600.0


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of("api", __doc__, quick="fewer POSTs, 20 streams of a few events, small bursts")
    parser.add_argument("--without-ray", action="store_true", help="leave out checkpoint_cost")
    options = parser.parse_args(arguments)
    posts, streams, events, jobs = (100, 20, 5, 4) if options.quick else (3000, 500, 20, 60)
    PROCESSES.set_forkserver_preload(["benchmarks.pipelining", "deployments.api.ingress"])  # seconds in each, else
    from tests.postgres import new_database

    with tempfile.TemporaryDirectory(prefix="magicvideo-bench-") as name:
        folder = Path(name)
        figures: dict[str, float | int | None] = {}
        p99s_ms, shares = [], []
        for kind, url in (("sqlite", f"sqlite:///{folder}/jobs.sqlite"), ("postgres", new_database(durable=True))):
            figures[f"post_per_s_{kind}"], p99_ms, share = measure_posts(kind, url, folder, posts)
            p99s_ms.append(p99_ms)
            shares.append(share)
        figures["post_p99_ms"], figures["post_share_of_empty"] = max(p99s_ms), min(shares)
        figures["sse_streams"], figures["event_p95_ms"] = measure_events(folder, streams, events)
        figures["checkpoint_cost"] = (
            None if options.without_ray else checkpoint_cost(folder, jobs, QUICK if options.quick else FULL)
        )
    result("api", figures)


@contextmanager
def ingress(database_url: str, folder: Path) -> Iterator[int]:
    """The application in a process of its own; gives its port."""
    storage = StorageArgs(database_url=database_url, artifacts_url=f"file://{folder}/artifacts")
    args = AppArgs(storage=storage, ingress=IngressArgs(max_queued_jobs=1_000_000))
    port = free_port()
    process = PROCESSES.Process(target=_serve, args=(args, port), daemon=True)
    process.start()
    try:
        end = time.monotonic() + START_S
        while (status := _status(port, "/healthz")) != 200:
            if time.monotonic() > end or not process.is_alive():
                raise RuntimeError(f"The ingress does not serve: GET /healthz gave {status} for {START_S:g} s.")
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.join()


def _serve(args: AppArgs, port: int) -> None:
    import uvicorn
    from fastapi import Response

    from client.schema import Health
    from deployments.api.ingress import create_app
    from deployments.files.store import ArtifactStore

    async def nudge() -> None:
        return None

    def health() -> Health:
        return Health(status="ok", model=args.preset, version="benchmark", stages=dict.fromkeys(args.stages, 1))

    async def show(key: str, _sha256: str) -> tuple[bytes, str]:
        raise RuntimeError(f"No picture of {key} in this benchmark.")

    store = ArtifactStore(args.storage.artifacts_url)
    app = create_app(args, Journal(Database(args.storage.database())), store, nudge=nudge, health=health, show=show)

    @app.post("/empty")
    async def empty() -> Response:
        return Response("{}")

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


def _status(port: int, path: str) -> int | None:
    """The status of a GET; the body of a stream is not read."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def measure_posts(kind: str, database_url: str, folder: Path, posts: int) -> tuple[float, float, float]:
    """(accepted a second, p99 in ms, the first over the rate of a handler that does nothing), all connections busy;
    prints a line, also of a quarter of them.
    """
    with ingress(database_url, folder) as port:
        post_load(port, "/v1/videos", posts // 10, CONNECTIONS, "warm")
        full = post_load(port, "/v1/videos", posts, CONNECTIONS, "full")
        easy = post_load(port, "/v1/videos", posts // 2, CONNECTIONS // 4, "easy")
        empty = post_load(port, "/empty", posts, CONNECTIONS, "empty")
    p99_ms = 1000 * percentile(full.latencies_s, 99)
    easy_ms = 1000 * percentile(easy.latencies_s, 99)
    print(
        f"POST {kind:<9} {full.per_s:6.0f}/s on {CONNECTIONS} connections, p99 {p99_ms:.0f} ms; "
        f"{easy.per_s:.0f}/s on {CONNECTIONS // 4}, p99 {easy_ms:.0f} ms; nothing at all {empty.per_s:.0f}/s",
        flush=True,
    )
    return full.per_s, p99_ms, full.per_s / empty.per_s


def percentile(values: Sequence[float], percent: int) -> float:
    """Of at least two values."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def measure_events(folder: Path, streams: int, events: int) -> tuple[int | None, float | None]:
    """(streams open at once, p95 of the events' latency in ms)."""
    url = f"sqlite:///{folder}/events.sqlite"
    journal = Journal(Database(url))
    claims = [claimed(journal) for _ in range(streams // STREAMS_A_JOB)]
    paths = [f"/v1/videos/{claim.job_id}/events" for claim in claims for _ in range(STREAMS_A_JOB)]
    try:
        with ingress(url, folder) as port:
            if _status(port, paths[0]) == 404:
                print("events        left out: this server has no route GET /v1/videos/{id}/events.", flush=True)
                return None, None
            with Streams(port, paths) as opened:
                write_events(journal, claims, events)
                latencies_s = opened.end()
        wanted = len(paths) * (events + 1)
        if len(latencies_s) < wanted:
            raise RuntimeError(f"{len(latencies_s)} of {wanted} events arrived.")
        p95_ms = 1000 * percentile(latencies_s, 95)
        print(f"events        {opened.opened} streams, {len(latencies_s)} events, p95 {p95_ms:.0f} ms", flush=True)
        return opened.opened, p95_ms
    finally:
        journal.database.close()


def claimed(journal: Journal) -> Claim:
    leases = Leases(journal.database)
    journal.submit(NewJob(REQUEST))
    found = leases.claim(OWNER, LEASE_S)
    assert found is not None
    return found[0]


def write_events(journal: Journal, claims: list[Claim], count: int) -> None:
    """`count` events of every job, spread over `EVENT_EVERY_S` each, then the jobs' ends."""
    leases = Leases(journal.database)
    for index in range(count):
        began = time.monotonic()
        for place, claim in enumerate(claims):
            leases.record([Update(claim, events=(("stage_output", {"stage": "v2v", "index": index}),))])
            due = began + EVENT_EVERY_S * (place + 1) / len(claims)
            time.sleep(max(0.0, due - time.monotonic()))
    for claim in claims:
        leases.finish(Update(claim), "succeeded", result={"key": f"videos/{claim.job_id}/1.mp4"})


def checkpoint_cost(folder: Path, jobs: int, size: Size) -> float:
    """1 - (jobs a second with the keeper / without it), from bursts of the same work on the same Ray."""
    temp_dir = start_ray(LocalRay(RAY_CPUS, STORE_BYTES))
    try:
        touch_store()
        port = free_port()  # one for all: a proxy keeps the first that it was given
        seconds = {enabled: [burst_seconds(folder, jobs, port, size, enabled=enabled)] for enabled in (False, True)}
        for enabled in (True, False):  # again in the other order: what the machine does meanwhile hits both
            seconds[enabled].append(burst_seconds(folder, jobs, port, size, enabled=enabled))
    finally:
        stop(temp_dir)
    cost = 1 - sum(seconds[False]) / sum(seconds[True])
    for enabled, name in ((True, "with keeper"), (False, "without")):
        print(f"{name:<14}" + "  ".join(f"{value:.1f} s" for value in seconds[enabled]), flush=True)
    return cost


def burst_seconds(folder: Path, jobs: int, port: int, size: Size, *, enabled: bool) -> float:
    args = app_args(folder / f"checkpoints-{time.monotonic_ns()}", size.loads)
    keeper = args.keeper.model_copy(update={"enabled": enabled})
    deploy(args.model_copy(update={"keeper": keeper}), host="127.0.0.1", port=port)
    try:
        with Client(Server("127.0.0.1", port, None).url) as client:
            burst(client, max(2, jobs // 10))
            return burst(client, jobs)
    finally:
        serve.delete(APP_NAME)


if __name__ == "__main__":
    main()
