"""One trace for each job across its stages, for any OpenTelemetry collector; on where `observability.otlp_url` is set.

    video ┬─ waiting            accepted, until its first claim
          ├─ t2i ── t2i 0       a stage from its first call to its end; each of its outputs while it was computed
          ├─ i2v ── i2v 0
          ├─ v2v ┬─ v2v 0 ...
          └─ vfi ┴─ ...

A trace is made of the journal's events when the job ends, so it also tells what happened under executors that have died
since, and costs nothing while the job runs. Its id is the job's; whoever sends it twice sends the same. `spans_of` is
pure; `Tracer` sends, and a collector that is away costs the trace, never the job nor the end of the process.
"""

import hashlib
import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event as SpanEvent
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from deployments import __version__
from deployments.jobs.values import Event, Job

logger = logging.getLogger(__name__)

_SEND_S = 5.0
_HELD = 256  # traces that wait for the collector
_CLOSE_S = 1.0
_NOTED = {"stage_retried", "stage_restored", "stage_kept"}
_NOTED |= {"restarted", "job_restarted", "released", "paused", "continued"}


_Read = Callable[[], tuple[Job, Sequence[Event]]]


@dataclass(frozen=True)
class Span:
    """One line of a trace; times in seconds since the epoch."""

    name: str
    begin: float
    end: float
    parent: str | None = None
    attributes: Mapping[str, str | int | float] = field(default_factory=dict)
    notes: Sequence[tuple[str, float, Mapping[str, str | int | float]]] = ()
    error: str | None = None


def spans_of(job: Job, events: Sequence[Event]) -> list[Span]:
    """The job's trace, its root first."""
    begin = job.created_at
    end = max([begin, *(event.at for event in events)])
    attributes: dict[str, str | int | float] = {
        "magicvideo.job": job.id,
        "magicvideo.preset": job.request.model,
        "magicvideo.seed": job.request.seed,
        "magicvideo.state": job.state,
        "magicvideo.claims": job.claims,
    }
    notes = [(event.kind, event.at, _plain(event.data)) for event in events if event.kind in _NOTED]
    of_job = [note for note in notes if "stage" not in note[2]]
    spans = [Span("video", begin, end, None, attributes, of_job, job.error.message if job.error else None)]
    if claimed := [event.at for event in events if event.kind == "started"]:
        spans.append(Span("waiting", begin, claimed[0], "video"))
    for stage in job.stages:
        own = [event for event in events if event.data.get("stage") == stage.name]
        if not own:
            continue
        said = [note for note in notes if note[2].get("stage") == stage.name]
        last = [event.at for event in own if event.kind == "stage_completed"] or [own[-1].at]
        spans.append(Span(stage.name, own[0].at, last[-1], "video", {"magicvideo.status": stage.status}, said))
        spans += [_output(stage.name, event) for event in own if event.kind == "stage_output"]
    return spans


def _output(stage: str, event: Event) -> Span:
    data = _plain(event.data)
    name = f"{stage} {data.get('index', 0)}"
    about = {f"magicvideo.{key}": value for key, value in data.items() if key != "stage"}
    return Span(name, event.at - float(data.get("run_s", 0.0)), event.at, stage, about)


def _plain(data: Mapping[str, Any]) -> dict[str, str | int | float]:
    return {key: value for key, value in data.items() if isinstance(value, (str, int, float))}


class Tracer:
    """Sends traces to a collector's OTLP/HTTP address, in a thread of its own that holds up nobody.

    Behind a collector that takes none, or none in time, `_HELD` of them wait; what is more is dropped, and counted.
    """

    def __init__(self, url: str, service: str, counted: Callable[[str], None]) -> None:
        """`counted` is told what became of each trace: sent, failed, dropped."""
        self._url, self._counted = url, counted
        self._exporter = OTLPSpanExporter(endpoint=url, timeout=int(_SEND_S))
        self._resource = Resource.create({"service.name": service, "service.version": __version__})
        self._scope = InstrumentationScope("magicvideo", __version__)
        self._waiting: queue.Queue[tuple[str, _Read] | None] = queue.Queue(_HELD)
        self._thread = threading.Thread(target=self._send_all, name="traces", daemon=True)
        self._thread.start()

    def offer(self, job_id: str, read: _Read) -> None:
        """Send the trace of what `read` gives, some time. Returns at once."""
        try:
            self._waiting.put_nowait((job_id, read))
        except queue.Full:
            self._counted("dropped")

    def close(self) -> None:
        """Send what waits while that goes fast; the rest is dropped."""
        with suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._thread.join(_CLOSE_S)
        with suppress(queue.Empty):
            while True:
                if self._waiting.get_nowait() is not None:
                    self._counted("dropped")
        self._waiting.put(None)

    def _send_all(self) -> None:
        while (offered := self._waiting.get()) is not None:
            job_id, read = offered
            try:
                result = self._exporter.export(self._readable(job_id, spans_of(*read())))
                if result is not SpanExportResult.SUCCESS:
                    raise ConnectionError("it did not take it")
                self._counted("sent")
            except Exception as error:
                self._counted("failed")
                logger.warning("The trace of job %s could not be sent to %s: %s", job_id, self._url, error)

    def _readable(self, job_id: str, spans: Sequence[Span]) -> list[ReadableSpan]:
        contexts: dict[str, SpanContext] = {}
        found = []
        for number, span in enumerate(spans):
            context = SpanContext(_trace_id(job_id), _span_id(job_id, number), False, TraceFlags(TraceFlags.SAMPLED))
            contexts.setdefault(span.name, context)
            found.append(
                ReadableSpan(
                    span.name,
                    context,
                    parent=contexts[span.parent] if span.parent is not None else None,
                    resource=self._resource,
                    attributes=dict(span.attributes),
                    events=[SpanEvent(name, dict(about), _ns(at)) for name, at, about in span.notes],
                    kind=SpanKind.INTERNAL,
                    status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.OK),
                    start_time=_ns(span.begin),
                    end_time=_ns(span.end),
                    instrumentation_scope=self._scope,
                )
            )
        return found


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


def _trace_id(job_id: str) -> int:
    return int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:16], "big")


def _span_id(job_id: str, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{job_id}/{number}".encode()).digest()[:8], "big")
