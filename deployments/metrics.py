"""What the server counts: per stage the seconds waited and computed, the bytes handed on, the ends of calls; per job
its end.

The names appear in Prometheus with the prefix `ray_`. Outside of a Ray Serve replica (a stage hosted by hand, a unit
test) the same numbers are dropped: there is nobody to scrape them.
"""

from typing import Protocol

from ray import serve
from ray.serve import metrics as serve_metrics

_SECONDS = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0]


class _Series(Protocol):
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


class StageMetrics:
    """Series of one stage's replica."""

    def __init__(self, stage: str) -> None:
        self._tags = {"stage": stage}
        self._queue: _Series = _Nowhere()
        self._run: _Series = _Nowhere()
        self._bytes: _Series = _Nowhere()
        self._calls: _Series = _Nowhere()
        if _in_replica():
            keys = ("stage",)
            self._queue = serve_metrics.Histogram(
                "magicvideo_stage_device_wait_s", "Seconds a call waited for the device.", _SECONDS, keys
            )
            self._run = serve_metrics.Histogram(
                "magicvideo_stage_run_s", "Seconds of computing per output.", _SECONDS, keys
            )
            self._bytes = serve_metrics.Counter("magicvideo_stage_bytes_out", "Bytes handed to the next stage.", keys)
            self._calls = serve_metrics.Counter(
                "magicvideo_stage_calls", "Calls by how they ended.", (*keys, "outcome")
            )

    def waited(self, seconds: float) -> None:
        self._queue.observe(seconds, self._tags)

    def produced(self, seconds: float, nbytes: int) -> None:
        self._run.observe(seconds, self._tags)
        if nbytes > 0:
            self._bytes.inc(nbytes, self._tags)

    def ended(self, outcome: str) -> None:
        """`outcome` is completed, failed or cancelled."""
        self._calls.inc(1, {**self._tags, "outcome": outcome})


class JobMetrics:
    """Series of one pipeline replica."""

    def __init__(self) -> None:
        self._jobs: _Series = _Nowhere()
        self._seconds: _Series = _Nowhere()
        self._retries: _Series = _Nowhere()
        self._wasted: _Series = _Nowhere()
        self._saved: _Series = _Nowhere()
        if _in_replica():
            self._jobs = serve_metrics.Counter("magicvideo_jobs", "Jobs by how they ended.", ("state",))
            self._seconds = serve_metrics.Histogram(
                "magicvideo_job_run_s", "Seconds from claim to end.", _SECONDS, ("state",)
            )
            self._retries = serve_metrics.Counter(
                "magicvideo_stage_retries", "Stage calls repeated because they raised or a replica died.", ("stage",)
            )
            self._wasted = serve_metrics.Counter(
                "magicvideo_wasted_gpu_seconds", "Computing whose output nobody took.", ("stage",)
            )
            self._saved = serve_metrics.Counter(
                "magicvideo_saved_gpu_seconds", "Computing that checkpoints made needless.", ("stage",)
            )

    def ended(self, state: str, seconds: float) -> None:
        self._jobs.inc(1, {"state": state})
        self._seconds.observe(seconds, {"state": state})

    def retried(self, stage: str) -> None:
        self._retries.inc(1, {"stage": stage})

    def wasted(self, stage: str, seconds: float) -> None:
        """A call was cancelled, took too long, or died with its replica."""
        if seconds > 0:
            self._wasted.inc(seconds, {"stage": stage})

    def saved(self, stage: str, seconds: float) -> None:
        """An output was taken from a checkpoint."""
        if seconds > 0:
            self._saved.inc(seconds, {"stage": stage})
