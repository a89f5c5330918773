"""What the server counts, by one table: of stages, of jobs, of requests; and where it is read.

Replicas count through Ray Serve, whose agent on each node serves the numbers to Prometheus with the prefix `ray_` and,
for counters, the suffix `_total`; `GET /metrics` gathers those of all nodes. Outside of a replica (a stage hosted by
hand, a unit test) they are dropped: there is nobody to scrape them.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

from ray import serve
from ray.serve import metrics as serve_metrics

_SECONDS = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0]


@dataclass(frozen=True)
class Series:
    """One metric, as it is scraped: `kind` says how to read it, `labels` what it is told apart by."""

    kind: Literal["counter", "histogram", "gauge"]
    help: str
    labels: tuple[str, ...] = ()

    def scraped(self, name: str) -> str:
        """Its name at the scrape point."""
        if self.kind == "gauge":
            return name  # read from the journal by `deployments.api.metrics`
        return f"ray_{name}_total" if self.kind == "counter" else f"ray_{name}"


TABLE: dict[str, Series] = {
    "magicvideo_stage_queue_s": Series("histogram", "Seconds from sending a call to its start.", ("stage",)),
    "magicvideo_stage_device_wait_s": Series("histogram", "Seconds of that in the replica.", ("stage",)),
    "magicvideo_stage_run_s": Series("histogram", "Seconds of computing per output.", ("stage",)),
    "magicvideo_stage_bytes_out": Series("counter", "Bytes handed to the next stage.", ("stage",)),
    "magicvideo_stage_calls": Series("counter", "Calls by how they ended.", ("stage", "outcome")),
    "magicvideo_stage_yields": Series("counter", "Calls that stopped between two steps, to go on later.", ("stage",)),
    "magicvideo_stage_parked_s": Series("histogram", "Seconds from such a stop to going on.", ("stage",)),
    "magicvideo_stage_retries": Series("counter", "Calls repeated: they raised, or a replica died.", ("stage",)),
    "magicvideo_outputs_taken_over": Series(
        "counter", "Outputs that were not computed: restored, reused or uploaded.", ("stage", "origin")
    ),
    "magicvideo_saved_gpu_seconds": Series("counter", "Computing that those made needless.", ("stage",)),
    "magicvideo_wasted_gpu_seconds": Series("counter", "Computing whose output nobody took.", ("stage",)),
    "magicvideo_checkpoints": Series("counter", "Outputs by how their keeping ended.", ("stage", "outcome")),
    "magicvideo_checkpoint_bytes": Series("counter", "Bytes that were kept.", ("stage",)),
    "magicvideo_jobs": Series("counter", "Jobs by how they ended.", ("state",)),
    "magicvideo_job_paths": Series("counter", "Jobs that ended, by the stages that they were to pass.", ("path",)),
    "magicvideo_job_wait_s": Series("histogram", "Seconds from a job's acceptance to its first claim."),
    "magicvideo_job_run_s": Series("histogram", "Seconds from the last claim to the end.", ("state",)),
    "magicvideo_job_first_frame_s": Series("histogram", "Seconds from acceptance until something can be played."),
    "magicvideo_swept": Series("counter", "Rows and files that were removed, by what they were.", ("what",)),
    "magicvideo_traces": Series("counter", "Traces of jobs by what became of them.", ("outcome",)),
    "magicvideo_requests": Series("counter", "Answers of the API.", ("method", "route", "status")),
    "magicvideo_refused": Series("counter", "Requests that were refused, by the error's code.", ("code",)),
    "magicvideo_jobs_in_state": Series("gauge", "Jobs in the journal.", ("state",)),
    "magicvideo_oldest_queued_s": Series("gauge", "Age of the oldest job that waits."),
    "magicvideo_files_to_erase": Series("gauge", "Files that no job names any more and the store still has."),
    "magicvideo_nodes": Series("gauge", "Living nodes whose numbers are here, by their label `pool`.", ("pool",)),
    "magicvideo_scrape_lacks": Series("gauge", "Nodes whose numbers are missing here."),
    "magicvideo_stage_waiting": Series("gauge", "Calls that were sent and have no device yet.", ("stage",)),
    "magicvideo_stage_computing": Series("gauge", "Calls that compute.", ("stage",)),
    "magicvideo_stage_replicas": Series("gauge", "Replicas that run.", ("stage",)),
    "magicvideo_stage_replicas_wanted": Series("gauge", "Replicas that are asked for.", ("stage",)),
}  # fmt: skip


class _Sink(Protocol):
    def inc(self, value: float = 1.0, tags: dict[str, str] | None = None) -> None: ...

    def observe(self, value: float, tags: dict[str, str] | None = None) -> None: ...


class _Nowhere:
    def inc(self, value: float = 1.0, tags: dict[str, str] | None = None) -> None:
        """Dropped."""

    def observe(self, value: float, tags: dict[str, str] | None = None) -> None:
        """Dropped."""


def _in_replica() -> bool:
    try:
        serve.get_replica_context()
    except Exception:  # Ray raises RayServeException here, which is not public in every version
        return False
    return True


class _Counts:
    """Those of one replica, each made when it is first counted."""

    def __init__(self) -> None:
        self._live = _in_replica()
        self._made: dict[str, _Sink] = {}

    def add(self, name: str, value: float = 1.0, **labels: str) -> None:
        self._sink(name).inc(value, labels)

    def observe(self, name: str, value: float, **labels: str) -> None:
        self._sink(name).observe(max(0.0, value), labels)

    def _sink(self, name: str) -> _Sink:
        if name not in self._made:
            self._made[name] = self._make(name, TABLE[name]) if self._live else _Nowhere()
        return self._made[name]

    @staticmethod
    def _make(name: str, series: Series) -> _Sink:
        if series.kind == "histogram":
            histogram: _Sink = serve_metrics.Histogram(name, series.help, _SECONDS, series.labels)
            return histogram
        counter: _Sink = serve_metrics.Counter(name, series.help, series.labels)
        return counter


class StageMetrics:
    """Series of one stage's replica."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._counts = _Counts()

    def waited(self, seconds: float) -> None:
        self._counts.observe("magicvideo_stage_device_wait_s", seconds, stage=self._stage)

    def produced(self, seconds: float, nbytes: int) -> None:
        self._counts.observe("magicvideo_stage_run_s", seconds, stage=self._stage)
        if nbytes > 0:
            self._counts.add("magicvideo_stage_bytes_out", nbytes, stage=self._stage)

    def ended(self, outcome: str) -> None:
        """`outcome` is completed, failed, cancelled or yielded."""
        self._counts.add("magicvideo_stage_calls", stage=self._stage, outcome=outcome)


class JobMetrics:
    """Series of one pipeline replica."""

    def __init__(self) -> None:
        self._counts = _Counts()

    def begun(self, waited_s: float) -> None:
        """A job was claimed for the first time."""
        self._counts.observe("magicvideo_job_wait_s", waited_s)

    def first_frame(self, seconds: float) -> None:
        self._counts.observe("magicvideo_job_first_frame_s", seconds)

    def swept(self, what: str, count: int) -> None:
        self._counts.add("magicvideo_swept", count, what=what)

    def traced(self, outcome: str) -> None:
        """`outcome` is sent, failed or dropped."""
        self._counts.add("magicvideo_traces", outcome=outcome)

    def ended(self, state: str, seconds: float, path: str) -> None:
        """`path` names the stages that it was to pass."""
        self._counts.add("magicvideo_jobs", state=state)
        self._counts.add("magicvideo_job_paths", path=path or "none")
        self._counts.observe("magicvideo_job_run_s", seconds, state=state)

    def queued(self, stage: str, seconds: float) -> None:
        """A call started so long after it was sent."""
        self._counts.observe("magicvideo_stage_queue_s", seconds, stage=stage)

    def retried(self, stage: str) -> None:
        self._counts.add("magicvideo_stage_retries", stage=stage)

    def yielded(self, stage: str) -> None:
        self._counts.add("magicvideo_stage_yields", stage=stage)

    def parked(self, stage: str, seconds: float | None) -> None:
        """A call that had stopped went on after so long; None: it had not stopped, its replica had died."""
        if seconds is not None:
            self._counts.observe("magicvideo_stage_parked_s", seconds, stage=stage)

    def wasted(self, stage: str, seconds: float) -> None:
        """A call was cancelled, took too long, or died with its replica."""
        if seconds > 0:
            self._counts.add("magicvideo_wasted_gpu_seconds", seconds, stage=stage)

    def taken_over(self, stage: str, origin: str, seconds: float) -> None:
        """An output was there already, which had taken so many seconds."""
        self._counts.add("magicvideo_outputs_taken_over", stage=stage, origin=origin)
        if seconds > 0:
            self._counts.add("magicvideo_saved_gpu_seconds", seconds, stage=stage)

    def kept(self, stage: str, nbytes: int | None) -> None:
        """An output of so many bytes was kept; None: it could not be."""
        outcome = "failed" if nbytes is None else "kept"
        self._counts.add("magicvideo_checkpoints", stage=stage, outcome=outcome)
        if nbytes:
            self._counts.add("magicvideo_checkpoint_bytes", nbytes, stage=stage)


class RequestMetrics:
    """Series of one ingress replica."""

    def __init__(self) -> None:
        self._counts = _Counts()

    def answered(self, method: str, route: str, status: int) -> None:
        """`route` is the route's pattern, never what the client asked for."""
        self._counts.add("magicvideo_requests", method=method, route=route, status=str(status))

    def refused(self, code: str) -> None:
        self._counts.add("magicvideo_refused", code=code)
