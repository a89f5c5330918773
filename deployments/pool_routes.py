"""`GET /v1/pools`: what runs and waits at every stage right now, cheap enough to be asked every two seconds.

Replicas are those that Ray Serve says run; `wanted` is where the configuration starts, or more where more run. Queued
and running are derived from the journal: jobs whose call to that stage was sent and has no device yet, and jobs that it
computes for; a job counts once, however many windows it has there. An answer is a second old at most.
"""

import asyncio
import time
from collections.abc import Mapping

from fastapi import FastAPI, Response

from client.schema import Pools, PoolState
from deployments.looks import read_at_stages
from deployments.services import Services, json_answer
from stages.types import STAGE_NAMES, StageName

_FRESH_S = 1.0


class PoolBoard:
    """The newest answer, for all who ask."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._kept: tuple[float, Pools] | None = None
        self._asking = asyncio.Lock()

    async def read(self) -> Pools:
        async with self._asking:
            if self._kept is None or time.monotonic() - self._kept[0] > _FRESH_S:
                outlook = await self._services.admission.outlook()
                pools = await asyncio.to_thread(read_pools, self._services, outlook.seconds)
                self._kept = (time.monotonic(), pools)
            return self._kept[1]


def add_pool_routes(app: FastAPI, board: PoolBoard) -> None:
    """Put it on the application."""

    @app.get("/v1/pools", response_model=Pools)
    async def pools() -> Response:
        return json_answer(await board.read())


def read_pools(services: Services, medians: Mapping[StageName, float]) -> Pools:
    """From Serve's status and the journal."""
    running = services.health().stages
    counts = read_at_stages(services.journal.database)
    states = []
    for name in STAGE_NAMES:
        stage, replicas = services.args.stages[services.args.home(name)], running.get(name, 0)
        at_work = counts.get((name, "running"), 0)
        states.append(
            PoolState(
                stage=name,
                pool=stage.pool,
                replicas=replicas,
                wanted=max(replicas, stage.least_replicas),
                queued=counts.get((name, "queued"), 0),
                running=at_work,
                utilisation=min(1.0, at_work / replicas) if replicas else 0.0,
                median_run_s=medians.get(name),
            )
        )
    return Pools(stages=states, jobs=services.journal.counts())
