"""What the routes of the ingress share: arguments, journal, artifacts, and what they ask of the rest of the server."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from client.schema import Health
from cluster.policy.reports import Report
from deployments.files.store import ArtifactStore
from deployments.intake.admission import Admission
from deployments.intake.prompts import PromptCheck
from deployments.journal.journal import Journal
from deployments.settings.application import AppArgs
from stages.types import StageName

logger = logging.getLogger(__name__)

Nudge = Callable[[], Awaitable[None]]
HealthOf = Callable[[], Health]
Show = Callable[[str, str], Awaitable[tuple[bytes, str]]]
"""(key, sha256) of a checkpoint to (bytes, media type) of something to look at."""
WorkOf = Callable[[], Awaitable[Report | None]]
"""The calls at every stage, of all pipeline replicas; None of none."""


@dataclass
class Services:
    """One for each ingress replica. `nudge` tells the pipeline that the journal has news."""

    args: AppArgs
    journal: Journal
    store: ArtifactStore
    nudge: Nudge
    health: HealthOf
    show: Show
    work: WorkOf
    admission: Admission = field(init=False)
    prompts: PromptCheck = field(init=False)
    _nudges: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        ingress = self.args.ingress
        self.prompts = PromptCheck(ingress.blocked_terms, ingress.prompt_check)
        self.admission = Admission(
            self.journal.database,
            preset=self.args.preset,
            limits=self.args.limits_for,
            retry_after_s=ingress.retry_after_s,
            replicas=self._replicas,
        )

    def _replicas(self) -> Mapping[StageName, int]:
        """Running ones of each stage; where that is not known, those that the configuration starts with."""
        try:
            running = self.health().stages
        except Exception:
            logger.warning(
                "Ray Serve does not say how many replicas run; the configuration's are taken.", exc_info=True
            )
            running = {}
        return {name: running.get(name) or stage.least_replicas for name, stage in self.args.stages.items()}

    def nudge_pipeline(self) -> None:
        """Without waiting; a nudge that is lost costs one poll."""
        task = asyncio.create_task(self._nudge_quietly())
        self._nudges.add(task)
        task.add_done_callback(self._nudges.discard)

    async def _nudge_quietly(self) -> None:
        try:
            await self.nudge()
        except Exception:
            logger.warning("The pipeline could not be nudged; it finds the news at its next poll.", exc_info=True)
