"""The Grafana dashboard: jobs, nodes and their bill, stages, what was saved and lost, answers.

Takes what a node of each pool costs, gives the document. `$__rate_interval` is Grafana's. Every metric that the server
exports is on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cluster.manifests.site import NAME

_WIDTH = 24
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_RATE = "[$__rate_interval]"


@dataclass(frozen=True)
class Panel:
    """One picture: queries by the legend of their lines."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    kind: Literal["timeseries", "stat"] = "timeseries"
    columns: int = 8
    description: str = ""


def _rate(name: str, by: str, seconds: int = 1) -> str:
    scaled = "" if seconds == 1 else f" * {seconds}"
    return f"sum by ({by}) (rate({name}{_RATE})){scaled}"


def _quantile(name: str, share: float, by: str = "", matching: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share:g}, sum by ({labels}) (rate({name}_bucket{matching}{_RATE})))"


def _both(name: str, by: str = "", matching: str = "") -> dict[str, str]:
    legend = f"{{{{{by}}}}} " if by else ""
    return {f"{legend}p50": _quantile(name, 0.5, by, matching), f"{legend}p95": _quantile(name, 0.95, by, matching)}


_S = "{{stage}}"
_SAVED = "sum(increase(ray_magicvideo_saved_gpu_seconds_total[1d]))"


def _jobs(state: str) -> dict[str, str]:
    """None in that state has no series."""
    return {"jobs": f'sum(magicvideo_jobs_in_state{{state="{state}"}}) or vector(0)'}


ROWS: dict[str, tuple[Panel, ...]] = {
    "Now": (
        Panel("Server", {"up": f'up{{job="{NAME}"}}'}, kind="stat", columns=4),
        Panel("Waiting", _jobs("queued"), kind="stat", columns=4),
        Panel("Running", _jobs("running"), kind="stat", columns=4),
        Panel("Oldest waits", {"age": "magicvideo_oldest_queued_s"}, unit="s", kind="stat", columns=4),
        Panel("GPU seconds saved", {"day": _SAVED}, unit="s", kind="stat", columns=4),
        Panel("Nodes without numbers", {"nodes": "magicvideo_scrape_lacks"}, kind="stat", columns=4),
    ),
    "Jobs": (
        Panel("Jobs in the journal", {"{{state}}": "sum by (state) (magicvideo_jobs_in_state)"}),
        Panel("Ended, a minute", {"{{state}}": _rate("ray_magicvideo_jobs_total", "state", 60)}),
        Panel("From acceptance to the first claim", _both("ray_magicvideo_job_wait_s"), "s"),
        Panel("From claim to end", _both("ray_magicvideo_job_run_s", matching='{state="succeeded"}'), "s"),
        Panel("Until something can be played", _both("ray_magicvideo_job_first_frame_s"), "s"),
        Panel("Age of the oldest that waits", {"age": "magicvideo_oldest_queued_s"}, "s"),
        Panel("Ended by path, a minute", {"{{path}}": _rate("ray_magicvideo_job_paths_total", "path", 60)},
              description="The stages that a job was to pass: those that end at a picture, a remix that enters later."),
    ),
    "Stages": (
        Panel("Calls without a device yet", {_S: "magicvideo_stage_waiting"}),
        Panel("Calls that compute", {_S: "magicvideo_stage_computing"}),
        Panel("Replicas, and how many are asked for",
              {_S: "magicvideo_stage_replicas", f"{_S} wanted": "magicvideo_stage_replicas_wanted"}),
        Panel("Share of replicas at work", {_S: "magicvideo_stage_computing / (magicvideo_stage_replicas > 0)"},
              "percentunit",
              description="Calls of one batch count each: a stage that computes several at once can read above 100 %."),
        Panel("Seconds an output, p50 and p95", _both("ray_magicvideo_stage_run_s", "stage"), "s"),
        Panel("From sending a call to its start, p95",
              {_S: _quantile("ray_magicvideo_stage_queue_s", 0.95, "stage")}, "s"),
        Panel("Of that in the replica, p95", {_S: _quantile("ray_magicvideo_stage_device_wait_s", 0.95, "stage")}, "s"),
        Panel("Calls, a minute",
              {f"{_S} {{{{outcome}}}}": _rate("ray_magicvideo_stage_calls_total", "stage, outcome", 60)}),
        Panel("Stopped for an urgent job or a shutdown, a minute",
              {_S: _rate("ray_magicvideo_stage_yields_total", "stage", 60)}),
        Panel("From that stop to going on, p95", {_S: _quantile("ray_magicvideo_stage_parked_s", 0.95, "stage")}, "s"),
        Panel("Handed to the next stage", {_S: _rate("ray_magicvideo_stage_bytes_out_total", "stage")}, "Bps"),
    ),
    "Saved and lost": (
        Panel("GPU seconds wasted, a second", {_S: _rate("ray_magicvideo_wasted_gpu_seconds_total", "stage")}),
        Panel("GPU seconds saved, a second", {_S: _rate("ray_magicvideo_saved_gpu_seconds_total", "stage")}),
        Panel("Calls repeated, a minute", {_S: _rate("ray_magicvideo_stage_retries_total", "stage", 60)}),
        Panel("Outputs not computed, a minute",
              {f"{_S} {{{{origin}}}}": _rate("ray_magicvideo_outputs_taken_over_total", "stage, origin", 60)}),
        Panel("Checkpoints, a minute",
              {f"{_S} {{{{outcome}}}}": _rate("ray_magicvideo_checkpoints_total", "stage, outcome", 60)}),
        Panel("Written as checkpoints", {_S: _rate("ray_magicvideo_checkpoint_bytes_total", "stage")}, "Bps"),
        Panel("Traces, a minute", {"{{outcome}}": _rate("ray_magicvideo_traces_total", "outcome", 60)}),
        Panel("Swept, a minute", {"{{what}}": _rate("ray_magicvideo_swept_total", "what", 60)}),
        Panel("Files to erase", {"files": "magicvideo_files_to_erase"}),
    ),
    "Answers": (
        Panel("By status", {"{{status}}": _rate("ray_magicvideo_requests_total", "status")}, "reqps"),
        Panel("By route", {"{{method}} {{route}}": _rate("ray_magicvideo_requests_total", "method, route")}, "reqps"),
        Panel("Refused, a minute", {"{{code}}": _rate("ray_magicvideo_refused_total", "code", 60)}),
    ),
}  # fmt: skip


def _of_nodes(prices: Mapping[str, float], currency: str) -> tuple[Panel, ...]:
    """Nodes by their label, and what these cost at the prices of the pools file."""
    there = "sum by (pool) (magicvideo_nodes)"
    panels = [Panel("Nodes", {"{{pool}}": there})]
    if priced := {pool: price for pool, price in prices.items() if price > 0}:
        bill = {pool: f'sum(magicvideo_nodes{{pool="{pool}"}}) * {price:.6g}' for pool, price in priced.items()}
        whole = " + ".join(f"({one} or vector(0))" for one in bill.values())
        unit = f"{currency} an hour".strip()
        panels.append(Panel(f"Bill, {unit}", {**bill, "all": whole}, description="Whole nodes."))
        panels.append(
            Panel(
                f"Of a video, {currency or 'at these prices'}",
                {"now": f'({whole}) / (sum(rate(ray_magicvideo_jobs_total{{state="succeeded"}}{_RATE})) * 3600 > 0)'},
                description="The bill of an hour over the videos of an hour; empty while none ends.",
            )
        )
    return tuple(panels)


def dashboard(prices: Mapping[str, float] | None = None, currency: str = "") -> dict[str, Any]:
    """The document, as Grafana imports it; `prices` are of a node an hour, by the label of its pool."""
    rows = {**ROWS, "Nodes": _of_nodes(prices or {}, currency)}
    panels: list[dict[str, Any]] = []
    y = 0
    for row, members in rows.items():
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": row, "collapsed": False, "panels": []}
            | {"gridPos": {"x": 0, "y": y, "w": _WIDTH, "h": 1}}
        )
        x, y = 0, y + 1
        height = 4 if members[0].kind == "stat" else 8
        for panel in members:
            if x + panel.columns > _WIDTH:
                x, y = 0, y + height
            place = {"x": x, "y": y, "w": panel.columns, "h": height}
            panels.append(_drawn(panel, len(panels) + 1, place))
            x += panel.columns
        y += height
    return {
        "uid": NAME,
        "title": "magicvideo",
        "description": "Jobs and stages; rendered by `python -m cluster render`.",
        "tags": [NAME],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]
        },
        "panels": panels,
    }


def _drawn(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + index), "datasource": _SOURCE, "expr": query, "legendFormat": legend}
        for index, (legend, query) in enumerate(panel.queries.items())
    ]
    document = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": targets,
    }
    return document | ({"description": panel.description} if panel.description else {})
