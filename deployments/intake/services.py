"""What the routes of the ingress share: arguments, journal, artifacts, and what they ask of the rest of the server."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from client.schema import Health
from cluster.policy.reports import Report
from deployments.bulkheads import Bulkhead, Shared
from deployments.files.store import ArtifactStore
from deployments.intake.admission import Admission, Promise
from deployments.intake.fetching import Fetcher
from deployments.intake.intact import Intact, Remake
from deployments.intake.prompts import PromptCheck
from deployments.intake.room import UploadRoom
from deployments.intake.stills import Stills
from deployments.journal.journal import Journal
from deployments.settings.application import AppArgs
from deployments.tenants.links import Links
from deployments.tenants.uploads import UploadBook
from stages.types import StageName

logger = logging.getLogger(__name__)

Nudge = Callable[[], Awaitable[None]]
HealthOf = Callable[[], Health]
Show = Callable[[str, str], Awaitable[tuple[bytes, str]]]
"""(key, sha256) of a checkpoint to (bytes, media type) of something to look at."""
GlimpseOf = Callable[[str], Awaitable[bytes | None]]
"""The last denoising step of a job that was shown, as WebP."""
WorkOf = Callable[[], Awaitable[Report | None]]
"""The calls at every stage, of all pipeline replicas; None of none."""
_FRESH_S = 1.0  # of what Ray Serve says


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
    remake: Remake
    promise: Promise | None = None
    glimpse: GlimpseOf | None = None
    at_journal: Bulkhead = field(init=False)
    at_store: Bulkhead = field(init=False)
    at_serve: Bulkhead = field(init=False)
    at_decoder: Bulkhead = field(init=False)
    healths: Shared[Health] = field(init=False)
    stills: Stills = field(init=False)
    intact: Intact = field(init=False)
    uploads: UploadRoom = field(init=False)
    admission: Admission = field(init=False)
    prompts: PromptCheck = field(init=False)
    links: Links = field(init=False)
    fetcher: Fetcher = field(init=False)
    files: UploadBook = field(init=False)
    _background: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        ingress = self.args.ingress
        self.at_journal = Bulkhead("The journal's database", threads=8, wait_s=10.0)
        self.at_store = Bulkhead("The artifact store", threads=8, wait_s=15.0)
        self.at_serve = Bulkhead("Ray Serve", threads=2, wait_s=5.0)
        self.at_decoder = Bulkhead("The decoder", threads=2, wait_s=30.0)
        self.healths = Shared(lambda: self.at_serve.run(self.health), _FRESH_S)
        self.uploads = UploadRoom(ingress.max_uploads)
        self.stills = Stills(self.store, self.at_decoder)
        self.intact = Intact(self.store, self.at_store, self.remake)
        self.prompts = PromptCheck(ingress.blocked_terms, ingress.prompt_check)
        self.fetcher = Fetcher(self.args.fetching, ingress.max_upload_bytes)
        self.files = UploadBook(self.journal.database)
        self.links = Links(self.journal.database, self.at_journal, lasts_s=ingress.links_s)
        self.admission = Admission(
            self.journal.database,
            self.at_journal,
            preset=self.args.preset,
            limits=self.args.limits_for,
            retry_after_s=ingress.retry_after_s,
            replicas=self._replicas,
            promise=self.promise,
            refuses=self.args.order.refuses,
            devices={name: self.args.device(name) for name in self.args.stages},
        )

    def _replicas(self) -> Mapping[StageName, int]:
        """Running ones of each stage, as Serve said last; until it has, those that the configuration starts with.

        Asks Serve anew, and does not wait for the answer: an ETA is not worth it.
        """
        self.in_background(self.healths.get())
        running = self.healths.known.stages if self.healths.known is not None else {}
        return {name: running.get(name) or stage.least_replicas for name, stage in self.args.stages.items()}

    def nudge_pipeline(self) -> None:
        """Without waiting; a nudge that is lost costs one poll."""
        self.in_background(self.at_serve.wait(self.nudge()))

    def in_background(self, work: Awaitable[object]) -> None:
        """Have it done without waiting; what it raises is logged."""
        task = asyncio.create_task(_quietly(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)


async def _quietly(work: Awaitable[object]) -> None:
    try:
        await work
    except Exception as error:
        logger.warning("What need not be waited for has failed: %s", error)
