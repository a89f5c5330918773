"""What this server has: `GET /v1/pools`, `GET /v1/models`, and whether it is ready, for `GET /healthz`.

Pools are what runs and waits at every stage right now, cheap enough to be asked every two seconds.

Replicas, and how many Ray Serve wants, are Serve's own numbers. Calls are those of the pipeline's replicas, each of
which knows what it has sent: `queued` ones have no device yet, `running` ones compute. An answer is a second old at
most; while no replica of the pipeline answers, no calls are shown. `?history=true` adds the last hour: what this
process has seen of the pools, and the videos that the journal says were completed.
"""

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated

from fastapi import FastAPI, Query, Response

from client.schema import Health, Model, ModelList, Pools, PoolState
from cluster.policy.reports import Report, StageReport
from deployments import __version__
from deployments.api.answers import json_answer
from deployments.api.description import errors
from deployments.bulkheads import Bulkhead, Shared
from deployments.errors import ModelNotFoundError, UnavailableError
from deployments.files.store import free_bytes
from deployments.intake.services import Services
from deployments.jobs.outlook import Outlook
from deployments.jobs.work import Speed
from deployments.journal.looks import finished_by_minute
from deployments.observe.history import NodeTexts, PoolHistory
from stages.presets import Preset, get_preset
from stages.types import STAGE_NAMES, StageName

logger = logging.getLogger(__name__)

_FRESH_S = 1.0
_PAPER_AT = 1704758400  # 9 January 2024, in seconds since the epoch
LEAST_FREE_BYTES = 32 * 2**20


class PoolBoard:
    """The newest answer, for all who ask."""

    def __init__(self, services: Services, nodes: NodeTexts, history: PoolHistory | None = None) -> None:
        self._services, self._nodes = services, nodes
        self._history = history or PoolHistory()
        self._is_silent = False  # the pipeline
        self.read = Shared(self._read, _FRESH_S).get

    def watch(self, after_s: float = 0.0) -> None:
        """Look every now and then, so that there is a history when somebody asks; needs a running event loop."""
        self._history.watch(self.read, self._nodes, self._now, after_s)

    async def _now(self) -> float:
        return await self._services.at_journal.run(self._services.journal.database.time)

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
        counts = await services.at_journal.run(services.journal.counts)
        pools = pools_of(services, health, outlook.speeds, work, counts)
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

    @app.get("/v1/pools", summary="What runs and waits at every stage", response_model=Pools, responses=errors(400))
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


class Readiness:
    """What the cluster and the journal's database say; asked once at a time, however many probe."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._at_disk = Bulkhead("The artifact store", threads=1, wait_s=2.0)  # reads that hang do not hold a probe
        self.check = Shared(self._check, 0.0).get

    async def _check(self) -> Health:
        services = self._services
        try:
            found = await services.healths.get(0.0)  # Serve itself is asked once a second at most
        except Exception as error:
            logger.warning("Ray Serve does not answer: %s", error)
            why = str(error) if isinstance(error, UnavailableError) else f"Ray Serve fails ({type(error).__name__})."
            return self._ill(f"{why} Look at its controller's log.", services.healths.known)
        try:
            waits = await services.at_journal.run(services.journal.waits)
            small = await self._small_disks()
        except Exception as error:
            logger.warning("The journal's database does not answer: %s", error)
            return self._ill(f"The journal's database does not answer ({type(error).__name__}); look at it.", found)
        if small:
            return self._ill(" ".join(self._full(*disk) for disk in small), found)
        said = [f"{count} {'video waits' if count == 1 else 'videos wait'}: {why}" for why, count in waits.items()]
        return found.model_copy(update={"problems": [*found.problems, *said]}) if said else found

    async def _small_disks(self) -> list[tuple[str, int]]:
        """Those that a job might not fit on, and the bytes they have left. Of a store that hangs nothing is known."""
        left: dict[str, int | None] = {
            "the journal's database": await self._services.at_journal.run(self._journal_left)
        }
        with suppress(UnavailableError):
            left["the artifact store"] = await self._at_disk.run(self._services.store.free_bytes)
        return [(what, free) for what, free in left.items() if free is not None and free < LEAST_FREE_BYTES]

    def _journal_left(self) -> int | None:
        database = self._services.journal.database
        database.keep_reserve()
        return None if database.file is None else free_bytes(database.file)

    @staticmethod
    def _full(what: str, free: int) -> str:
        return (
            f"The disk of {what} has {free / 2**20:.0f} MiB left, and a job may need {LEAST_FREE_BYTES // 2**20}; "
            "delete videos or make room."
        )

    def _ill(self, problem: str, known: Health | None = None) -> Health:
        found = known or Health(status="degraded", model=self._services.args.preset, version=__version__)
        return found.model_copy(update={"status": "degraded", "problems": [*found.problems, problem]})


def add_model_routes(app: FastAPI, services: Services) -> None:
    """Put them on the application."""
    args, preset = services.args, get_preset(services.args.preset)
    models = {name: _model(name, preset) for name in (preset.name, *args.served_names)}

    @app.get("/v1/models", summary="What may stand in `model`", response_model=ModelList)
    async def list_models() -> Response:
        """Every name that a request may have in `model`; all of them are the one preset that is served."""
        return json_answer(ModelList(data=list(models.values())))

    @app.get(
        "/v1/models/{model:path}", summary="What may be asked of a model", response_model=Model, responses=errors(404)
    )
    async def retrieve_model(model: str) -> Response:
        """Sizes, lengths, steps and defaults, as a client offers them."""
        if model not in models:
            raise ModelNotFoundError(model[:80], list(models))
        return json_answer(models[model])


def _model(name: str, preset: Preset) -> Model:
    factor = preset.vfi_factor
    return Model(
        id=name,
        created=_PAPER_AT,
        root=preset.name,
        sizes=list(preset.sizes),
        seconds=list(preset.keyframes),
        frames={seconds: factor * (keyframes - 1) + 1 for seconds, keyframes in preset.keyframes.items()},
        fps=preset.keyframe_fps * factor,
        steps={"t2i": preset.t2i.steps, "i2v": preset.i2v.steps, "v2v": preset.v2v.steps},
        max_steps=preset.max_steps,
        defaults={"size": preset.default_size, "seconds": preset.default_seconds, "factor": factor},
    )
