"""`GET /v1/pools`: what runs and waits at every stage right now, cheap enough to be asked every two seconds.

Replicas, and how many Ray Serve wants, are Serve's own numbers. Calls are those of the pipeline's replicas, each of
which knows what it has sent: `queued` ones have no device yet, `running` ones compute. An answer is a second old at
most; while no replica of the pipeline answers, no calls are shown.
"""

import logging
from collections.abc import Mapping

from fastapi import FastAPI, Response

from client.schema import Health, Pools, PoolState
from cluster.policy.reports import Report, StageReport
from deployments.api.answers import json_answer
from deployments.bulkheads import Shared
from deployments.errors import UnavailableError
from deployments.intake.services import Services
from deployments.jobs.work import Speed
from stages.types import STAGE_NAMES, StageName

logger = logging.getLogger(__name__)

_FRESH_S = 1.0


class PoolBoard:
    """The newest answer, for all who ask."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.read = Shared(self._read, _FRESH_S).get

    async def _read(self) -> Pools:
        services = self._services
        outlook, work = await services.admission.outlook(), await self._work()
        try:
            health = await services.healths.get()
        except UnavailableError:
            if services.healths.known is None:
                raise
            health = services.healths.known
            logger.warning("Ray Serve does not say which replicas run; what it said last is shown.")
        return pools_of(services, health, outlook.speeds, work, await services.at_journal.run(services.journal.counts))

    async def _work(self) -> Report | None:
        try:
            return await self._services.at_serve.wait(self._services.work())
        except Exception:
            logger.warning("The pipeline does not say what it has sent; no calls are shown.", exc_info=True)
            return None


def add_pool_routes(app: FastAPI, board: PoolBoard) -> None:
    """Put it on the application."""

    @app.get("/v1/pools", summary="What runs and waits at every stage", response_model=Pools)
    async def read_pools() -> Response:
        """Replicas, calls and jobs of the whole server, a second old at most."""
        return json_answer(await board.read())


def pools_of(
    services: Services,
    health: Health,
    speeds: Mapping[StageName, Speed],
    work: Report | None,
    jobs: Mapping[str, int],
) -> Pools:
    """From Serve's status, the pipeline's report and the journal."""
    states = []
    for name in STAGE_NAMES:
        stage, replicas = services.args.stages[services.args.home(name)], health.stages.get(name, 0)
        calls = work.stages.get(name, StageReport()) if work is not None else StageReport()
        states.append(
            PoolState(
                stage=name,
                pool=stage.pool,
                replicas=replicas,
                wanted=health.wanted.get(name, stage.least_replicas),
                queued=round(calls.waiting),
                running=round(calls.running),
                utilisation=min(1.0, calls.busy / replicas) if replicas else 0.0,
                median_run_s=speeds[name].median_s if name in speeds else None,
            )
        )
    return Pools(stages=states, jobs=dict(jobs))
