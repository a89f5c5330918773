"""`GET /v1/pools`: what runs and waits at every stage right now, cheap enough to be asked every two seconds.

Replicas, and how many Ray Serve wants, are Serve's own numbers. Calls are those of the pipeline's replicas, each of
which knows what it has sent: `queued` ones have no device yet, `running` ones compute. An answer is a second old at
most; while no replica of the pipeline answers, no calls are shown. `?history=true` adds the last hour: what this
process has seen of the pools, and the videos that the journal says were completed.
"""

import logging
from collections.abc import Mapping
from typing import Annotated

from fastapi import FastAPI, Query, Response

from client.schema import Health, Pools, PoolState
from cluster.policy.reports import Report, StageReport
from deployments.api.answers import json_answer
from deployments.bulkheads import Shared
from deployments.errors import UnavailableError
from deployments.intake.services import Services
from deployments.jobs.outlook import Outlook
from deployments.jobs.work import Speed
from deployments.journal.looks import finished_by_minute
from deployments.observe.history import NodeTexts, PoolHistory
from stages.types import STAGE_NAMES, StageName

logger = logging.getLogger(__name__)

_FRESH_S = 1.0


class PoolBoard:
    """The newest answer, for all who ask."""

    def __init__(self, services: Services, nodes: NodeTexts, history: PoolHistory | None = None) -> None:
        self._services, self._nodes = services, nodes
        self._history = history or PoolHistory()
        self._is_silent = False  # the pipeline
        self.read = Shared(self._read, _FRESH_S).get

    def watch(self, after_s: float = 0.0) -> None:
        """Look every now and then, so that there is a history when somebody asks; needs a running event loop."""
        self._history.watch(self.read, self._nodes, after_s)

    async def with_history(self) -> Pools:
        if not self._history.is_watched:
            self.watch()
        pools, services = await self.read(), self._services
        finished = await services.at_journal.run(finished_by_minute, services.journal.database)
        return pools.model_copy(update={"finished": finished, "history": list(self._history.moments)})

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
        pools = pools_of(services, health, outlook.speeds, work, await services.at_journal.run(services.journal.counts))
        return pools.model_copy(update={"stages": [self._weighed(stage, outlook) for stage in pools.stages]})

    def _weighed(self, stage: PoolState, outlook: Outlook) -> PoolState:
        """With its memory, and how long it will take to do all that waits for it."""
        name: StageName = stage.stage  # type: ignore[assignment]  # one of STAGE_NAMES
        memory = self._history.memory.get(self._services.args.home(name))
        return stage.model_copy(update={"memory_bytes": memory, "backlog_s": outlook.backlog_s(name)})

    async def _work(self) -> Report | None:
        try:
            said = await self._services.at_serve.wait(self._services.work())
        except Exception:
            if not self._is_silent:  # a line for each time that it begins
                logger.warning("The pipeline does not say what it has sent; no calls are shown.", exc_info=True)
            self._is_silent = True
            return None
        self._is_silent = False
        return said


def add_pool_routes(app: FastAPI, board: PoolBoard) -> None:
    """Put it on the application."""

    @app.get("/v1/pools", summary="What runs and waits at every stage", response_model=Pools)
    async def read_pools(
        history: Annotated[bool, Query(description="With the last hour beside what is so now.")] = False,
    ) -> Response:
        """Replicas, calls and jobs of the whole server, a second old at most."""
        return json_answer(await (board.with_history() if history else board.read()))


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
        busy = min(replicas, round(calls.busy))
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
                busy=busy,
                free=replicas - busy,
            )
        )
    return Pools(stages=states, jobs=dict(jobs))
