"""What the server tells of itself: the table of metrics, the scrape point, traces, the log."""

import json
import logging
import queue
import re
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from client.schema import Health, JobError
from cluster.server_process import free_port
from deployments.api.ingress import create_app
from deployments.api.metrics import merged
from deployments.errors import ConfigError
from deployments.files.keeper import Keeper
from deployments.files.store import ArtifactStore
from deployments.jobs.values import Event, JobRequest, NewJob, Update
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from deployments.observe import logs
from deployments.observe.metrics import TABLE
from deployments.observe.traces import Tracer, spans_of
from deployments.settings.application import AppArgs, ObservabilityArgs
from deployments.settings.reading import parse_args, with_environment
from tests.journals import sqlite_journal

README = (Path(__file__).parents[3] / "deployments" / "README.md").read_text()
REQUEST = JobRequest(prompt="a fox", model="tiny", size="256x256", seconds="2", seed=1)
ONE = """# HELP ray_magicvideo_jobs_total Jobs by how they ended.
# TYPE ray_magicvideo_jobs_total counter
ray_magicvideo_jobs_total{Component="core_worker",NodeAddress="10.0.0.%d",otel_scope_name="x",state="succeeded"} 3.0
# HELP ray_serve_other_total Not ours.
# TYPE ray_serve_other_total counter
ray_serve_other_total{a="b"} 1.0
"""


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(Database(sqlite_journal(tmp_path)))
    yield made
    made.database.close()


def scraped(journal: Journal, folder: Path, nodes: Sequence[str | None]) -> str:
    async def texts() -> Sequence[str | None]:
        return nodes

    async def nudge() -> None:
        """Nobody listens."""

    store = ArtifactStore(f"file://{folder}/artifacts")
    health = Health(status="ok", model="tiny", version="1", stages={"t2i": 2})
    app = create_app(
        AppArgs(), journal, store, nudge=nudge, health=lambda: health, show=Keeper(store.url).show, nodes=texts
    )
    answer = TestClient(app, "http://localhost", client=("127.0.0.1", 1)).get("/metrics")
    assert answer.status_code == 200
    return answer.text


def test_one_scrape_has_the_gauges_and_the_numbers_of_every_node(journal: Journal, tmp_path: Path) -> None:
    journal.submit(NewJob(REQUEST))
    families = {
        family.name: family
        for family in text_string_to_metric_families(scraped(journal, tmp_path, [ONE % 1, None, ONE % 2]))
    }
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert found["magicvideo_jobs_in_state", ("state", "queued")] == 1
    assert found["magicvideo_stage_replicas", ("stage", "t2i")] == 2
    assert found["magicvideo_scrape_lacks",] == 1
    for node in ("10.0.0.1", "10.0.0.2"):
        assert found["ray_magicvideo_jobs_total", ("NodeAddress", node), ("state", "succeeded")] == 3
    assert "ray_serve_other" not in families
    gauges = {name for name, series in TABLE.items() if series.kind == "gauge"}
    assert gauges <= set(families)


def test_a_family_of_several_nodes_has_one_head() -> None:
    lines = merged([ONE % 1, ONE % 2])
    assert [line.split()[1] for line in lines if line.startswith("#")] == ["HELP", "TYPE"]
    assert len(lines) == 4


def test_every_metric_is_in_the_readme_and_nothing_else() -> None:
    assert set(re.findall(r"^\| `((?:ray_)?magicvideo_\w+)`", README, re.MULTILINE)) == {
        series.scraped(name) for name, series in TABLE.items()
    }


# Traces


class Collector:
    """An OTLP/HTTP collector: what it was sent, as the protocol has it."""

    def __init__(self) -> None:
        self.received: list[ExportTraceServiceRequest] = []
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                received.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def failed_job(journal: Journal) -> str:
    leases = Leases(journal.database)
    job_id = journal.submit(NewJob(REQUEST))[0].id
    claimed = leases.claim("one", 60.0)
    assert claimed is not None
    said = (
        ("stage_queued", {"stage": "t2i"}),
        ("stage_started", {"stage": "t2i"}),
        ("stage_retried", {"stage": "t2i", "index": 0, "reason": "it died"}),
        ("stage_output", {"stage": "t2i", "index": 0, "run_s": 0.0, "bytes": 7, "replica": "a:1"}),
        ("stage_completed", {"stage": "t2i"}),
    )
    error = JobError(code="stage_failed", message="The lens is cracked.")
    leases.finish(Update(claimed[0], events=said), "failed", error=error)
    return job_id


def test_a_collector_gets_one_trace_with_every_stage_below_its_root(journal: Journal) -> None:
    collector = Collector()
    try:
        job_id = failed_job(journal)
        became = queue.Queue[str]()
        tracer = Tracer(collector.url, "ours", became.put)
        tracer.offer(job_id, lambda: (journal.get(job_id), journal.events(job_id)))
        assert became.get(timeout=120) == "sent"
        tracer.close()
    finally:
        collector.close()
    [resource] = collector.received[0].resource_spans
    spans = {span.name: span for span in resource.scope_spans[0].spans}
    assert set(spans) == {"video", "waiting", "t2i", "t2i 0"}
    assert len({span.trace_id for span in spans.values()}) == 1
    names = {span.span_id: name for name, span in spans.items()}
    parents = {name: names.get(span.parent_span_id) for name, span in spans.items()}
    assert parents == {"video": None, "waiting": "video", "t2i": "video", "t2i 0": "t2i"}
    assert spans["video"].status.message == "The lens is cracked."
    assert [event.name for event in spans["t2i"].events] == ["stage_retried"]
    assert {"key": "service.name", "value": "ours"} in [
        {"key": item.key, "value": item.value.string_value} for item in resource.resource.attributes
    ]


def test_a_trace_holds_what_earlier_executors_did(journal: Journal) -> None:
    job = journal.get(failed_job(journal))
    kinds = [("queued", {}), ("started", {}), ("stage_queued", {"stage": "t2i"}), ("restarted", {"owner": "two"})]
    events = [
        Event(job_id=job.id, seq=n, kind=kind, at=job.created_at + n, data=data) for n, (kind, data) in enumerate(kinds)
    ]
    root, waiting, *_ = spans_of(job, events)
    assert [note[0] for note in root.notes] == ["restarted"]
    assert (waiting.begin, waiting.end) == (job.created_at, job.created_at + 1)


@pytest.mark.slow
def test_a_collector_that_is_away_costs_a_warning(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    job_id, became = failed_job(journal), queue.Queue[str]()
    tracer = Tracer(f"http://127.0.0.1:{free_port()}/v1/traces", "ours", became.put)
    tracer.offer(job_id, lambda: (journal.get(job_id), journal.events(job_id)))
    assert became.get(timeout=120) == "failed"
    tracer.close()
    assert job_id in caplog.text


@pytest.mark.slow
def test_traces_that_a_collector_does_not_take_are_dropped_and_counted(journal: Journal) -> None:
    """It accepts and never answers; nobody waits for it, at the end neither."""
    job = journal.get(failed_job(journal))
    became: Counter[str] = Counter()
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        tracer = Tracer(
            f"http://127.0.0.1:{deaf.getsockname()[1]}/v1/traces", "ours", lambda what: became.update([what])
        )
        for _ in range(1000):
            tracer.offer(job.id, lambda: (job, ()))
        tracer.close()
    assert 1000 - 256 - 1 <= became["dropped"] <= 1000
    assert became["sent"] == 0
    assert became.total() >= 998  # at the two that are left the thread may be, for some seconds


ENDS = """
import sys
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.observe.traces import Tracer

journal = Journal(Database(sys.argv[1]))
tracer = Tracer(sys.argv[2], "ours", print)
for _ in range(3):
    tracer.offer(sys.argv[3], lambda: (journal.get(sys.argv[3]), ()))
sys.stdin.read()
tracer.close()
"""


@pytest.mark.slow
def test_a_process_ends_although_the_collector_dribbles_for_ever(journal: Journal, tmp_path: Path) -> None:
    """Each byte of its answer is in time, and there is no last one."""
    job_id, over = failed_job(journal), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1/traces"
        command = [sys.executable, "-c", ENDS, f"sqlite:///{tmp_path}/jobs.sqlite", url, job_id]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
            taken, _ = server.accept()

            def dribble() -> None:
                with suppress(OSError):
                    taken.sendall(b"HTTP/1.1 200 OK\r\nx: ")
                    while not over.wait(0.2):
                        taken.sendall(b"x")

            dribbling = threading.Thread(target=dribble)
            dribbling.start()
            try:
                assert process.stdin is not None
                process.stdin.close()
                assert process.wait(120) == 0
            finally:
                process.kill()
                over.set()
                dribbling.join()
                taken.close()


def test_where_traces_go_is_read_from_the_environment_too() -> None:
    given = with_environment(AppArgs(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/"})
    assert given.observability.otlp_url == "http://collector:4318/v1/traces"
    with pytest.raises(ConfigError, match="gRPC"):
        parse_args({"observability": {"otlp_url": "collector:4317"}})


# The log


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    ours = [logging.getLogger(name) for name in ("deployments", "stages", "cluster")]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in ours]
    yield
    for logger, handlers, level, propagate in before:
        logger.handlers[:], logger.level, logger.propagate = handlers, level, propagate


def test_a_line_of_json_names_its_job(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("json", "INFO")
    logger = logging.getLogger("deployments.anything")
    with logs.job_context("video_1"):
        logger.info("Größe %d", 3)
        logger.debug("not told")
    try:
        raise ValueError("no")
    except ValueError:
        logger.exception("It broke.")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["message"], first["job"]) == ("Größe 3", "video_1")
    assert (first["level"], first["deployment"]) == ("INFO", "main")
    assert "job" not in second
    assert "ValueError: no" in second["exception"]


def test_a_line_of_text_names_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("text", "WARNING")
    with logs.job_context("video_2"):
        logging.getLogger("deployments.anything").warning("Late.")
    assert capsys.readouterr().err.endswith("deployments.anything: Late. [video_2]\n")
    assert ObservabilityArgs().log_format == "text"
