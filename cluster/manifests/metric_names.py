"""The metrics that the server exports, by the names that they are scraped under: what queries may ask for.

The server's own table is `deployments.metrics.TABLE`, which cluster/ does not import; a test holds both equal.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """How a metric is read, and the labels that we ask for (it may carry more)."""

    kind: Literal["counter", "histogram", "gauge"]
    labels: tuple[str, ...] = ()


SCRAPED: dict[str, Metric] = {
    "ray_magicvideo_stage_queue_s": Metric("histogram", ("stage",)),
    "ray_magicvideo_stage_device_wait_s": Metric("histogram", ("stage",)),
    "ray_magicvideo_stage_run_s": Metric("histogram", ("stage",)),
    "ray_magicvideo_stage_bytes_out_total": Metric("counter", ("stage",)),
    "ray_magicvideo_stage_calls_total": Metric("counter", ("stage", "outcome")),
    "ray_magicvideo_stage_retries_total": Metric("counter", ("stage",)),
    "ray_magicvideo_outputs_taken_over_total": Metric("counter", ("stage", "origin")),
    "ray_magicvideo_saved_gpu_seconds_total": Metric("counter", ("stage",)),
    "ray_magicvideo_wasted_gpu_seconds_total": Metric("counter", ("stage",)),
    "ray_magicvideo_checkpoints_total": Metric("counter", ("stage", "outcome")),
    "ray_magicvideo_checkpoint_bytes_total": Metric("counter", ("stage",)),
    "ray_magicvideo_jobs_total": Metric("counter", ("state",)),
    "ray_magicvideo_job_wait_s": Metric("histogram"),
    "ray_magicvideo_job_run_s": Metric("histogram", ("state",)),
    "ray_magicvideo_job_first_frame_s": Metric("histogram"),
    "ray_magicvideo_requests_total": Metric("counter", ("method", "route", "status")),
    "ray_magicvideo_refused_total": Metric("counter", ("code",)),
    "magicvideo_jobs_in_state": Metric("gauge", ("state",)),
    "magicvideo_oldest_queued_s": Metric("gauge"),
    "magicvideo_stage_waiting": Metric("gauge", ("stage",)),
    "magicvideo_stage_computing": Metric("gauge", ("stage",)),
    "magicvideo_stage_replicas": Metric("gauge", ("stage",)),
    "magicvideo_stage_replicas_wanted": Metric("gauge", ("stage",)),
    "magicvideo_scrape_lacks": Metric("gauge"),
}
"""`magicvideo_scrape_lacks` is written by the scrape itself and is not in the server's table."""
