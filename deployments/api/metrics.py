"""`GET /metrics`: every number of `deployments.observe.metrics`, of the whole cluster, in Prometheus' text format.

One scrape of any ingress replica is enough. Counters and histograms are those that Ray's agent on each node holds, up
to ten seconds old; gauges are read from the journal and from Ray Serve at the time of asking. Where a node does not
answer, its series are missing, and `magicvideo_scrape_lacks` counts it.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Iterable, Mapping

from fastapi import FastAPI, Response

from client.schema import Pools
from deployments.api.description import binary
from deployments.api.pools import PoolBoard
from deployments.intake.services import Services
from deployments.journal.looks import oldest_queued_s
from deployments.journal.sweeps import Sweeps
from deployments.observe.history import NodeTexts
from deployments.observe.metrics import TABLE
from deployments.on_ray.agents import POOL

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_OURS = "ray_magicvideo_"
_USELESS = re.compile(r'(?:otel_scope_\w+|SessionName|Version|Component)="[^"]*",?')  # the same for all, or empty


def add_metrics_route(app: FastAPI, services: Services, board: PoolBoard, nodes: NodeTexts) -> None:
    """Put it on the application."""

    @app.get(
        "/metrics",
        summary="Every number of the server, for Prometheus",
        response_class=Response,
        responses={200: binary("The numbers", "text/plain")},
    )
    async def read_metrics() -> Response:
        """Of the whole cluster, whichever replica is asked; the README lists them."""
        database = services.journal.database
        oldest = services.at_journal.run(oldest_queued_s, database)
        to_erase = services.at_journal.run(Sweeps(database).to_erase)
        pools, texts, oldest_s, files = await asyncio.gather(board.read(), nodes(), oldest, to_erase)
        lacks = sum(text is None for text in texts)
        there = Counter(_pool_of(text) for text in texts if text is not None)
        lines = [
            *gauges(pools, oldest_s),
            *_gauge("magicvideo_nodes", "pool", there),
            *_head("magicvideo_files_to_erase"),
            f"magicvideo_files_to_erase {files}",
            *_head("magicvideo_scrape_lacks"),
            f"magicvideo_scrape_lacks {lacks}",
            *merged(text for text in texts if text is not None),
        ]
        return Response("\n".join(lines) + "\n", media_type=MEDIA_TYPE)


def _pool_of(text: str) -> str:
    first = text.partition("\n")[0]
    return first.removeprefix(POOL) if first.startswith(POOL) else "none"


def merged(texts: Iterable[str]) -> list[str]:
    """Our lines of several nodes, each family with one head."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for text in texts:
        family = ""
        for line in text.splitlines():
            if line.startswith(("# HELP ", "# TYPE ")):
                family = line.split(" ", 3)[2]
                if family.startswith(_OURS) and len(heads.setdefault(family, [])) < 2:
                    heads[family].append(line)
            elif family.startswith(_OURS) and line.startswith(_OURS):
                samples.setdefault(family, []).append(_USELESS.sub("", line).replace(",}", "}"))
    return [line for family in sorted(samples) for line in (*heads[family], *samples[family])]


def gauges(pools: Pools, oldest_s: float) -> list[str]:
    """What is so now."""
    stages = {
        "magicvideo_stage_waiting": {pool.stage: pool.queued for pool in pools.stages},
        "magicvideo_stage_computing": {pool.stage: pool.running for pool in pools.stages},
        "magicvideo_stage_replicas": {pool.stage: pool.replicas for pool in pools.stages},
        "magicvideo_stage_replicas_wanted": {pool.stage: pool.wanted for pool in pools.stages},
    }
    lines = [*_gauge("magicvideo_jobs_in_state", "state", pools.jobs)]
    for name, values in stages.items():
        lines += _gauge(name, "stage", values)
    return [*lines, *_head("magicvideo_oldest_queued_s"), f"magicvideo_oldest_queued_s {oldest_s:.3f}"]


def _head(name: str) -> list[str]:
    return [f"# HELP {name} {TABLE[name].help}", f"# TYPE {name} gauge"]


def _gauge(name: str, label: str, values: Mapping[str, float]) -> list[str]:
    return _head(name) + [f'{name}{{{label}="{key}"}} {value:g}' for key, value in values.items()]
