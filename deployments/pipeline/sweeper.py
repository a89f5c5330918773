"""Removes what nobody keeps: rows by `deployments.journal.sweeps`, then files; and files that no row has ever named.

One for each pipeline replica, in a thread of its own; several do not disturb each other. An orphan is a file of ours
that no row names and that was written longer ago than any job takes to record it: its executor was killed in between.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from deployments.files.store import ArtifactStore
from deployments.journal.database import Database
from deployments.journal.sweeps import Sweeps
from deployments.observe.metrics import JobMetrics
from deployments.settings.application import AppArgs

logger = logging.getLogger(__name__)

FOLDERS = ("checkpoints", "videos", "uploads", "studies")
_DEPTH = 2  # of our keys, like videos/<job id>/<fence>.mp4
_AT_ONCE = 500


class Sweeper:
    """See the top of this module."""

    def __init__(self, args: AppArgs, database: Database, metrics: JobMetrics) -> None:
        self._args, self._database, self._metrics = args, database, metrics
        self._sweeps, self._store = Sweeps(database), ArtifactStore(args.storage.artifacts_url)
        self._looked_s = time.monotonic()  # through all files
        self._thread = ThreadPoolExecutor(1, "sweeper")

    async def run(self) -> None:
        """Until cancelled."""
        every_s = min(self._args.retention.sweep_s, self._args.keeper.ttl_s / 4)
        while True:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._sweep_quietly)
            await asyncio.sleep(every_s)

    def sweep(self) -> None:
        """Everything that is due, to the end."""
        ages, sweeps = self._args.retention, self._sweeps
        pages: tuple[tuple[str, Callable[[float], int], float | None], ...] = (
            ("paused", sweeps.paused, ages.paused_s),
            ("checkpoints", sweeps.outputs, self._args.keeper.ttl_s),
            ("results", sweeps.results, ages.results_s),
            ("jobs", sweeps.jobs, ages.jobs_s),
            ("studies", sweeps.studies, ages.studies_s),
            ("events", sweeps.events, ages.events_s),
            ("deliveries", sweeps.deliveries, ages.deliveries_s),
        )
        for what, page, age_s in pages:
            while age_s is not None and (count := page(age_s)):
                self._metrics.swept(what, count)
        while count := sweeps.uploads():
            self._metrics.swept("uploads", count)
        sweeps.books()
        while count := sweeps.erase(self._store.delete):
            self._metrics.swept("files", count)
        if time.monotonic() - self._looked_s >= ages.orphans_every_s:
            self._looked_s = time.monotonic()
            self.sweep_orphans()

    def sweep_orphans(self) -> int:
        """Look through all files; gives how many no row names."""
        before, found = self._database.time() - self._args.retention.orphans_s, 0
        for keys in self._old_files(before):
            for key in sorted(self._sweeps.unnamed(keys)):
                self._store.delete(key)
                found += 1
        found += self._store.abort_uploads(before)
        if found:
            logger.warning("%d files that no job names were removed.", found)
        self._metrics.swept("orphans", found)
        return found

    def _old_files(self, before: float) -> Iterator[list[str]]:
        files = (file for folder in FOLDERS for file in self._store.files(folder))
        old = (key for key, written_at in files if written_at < before and key.count("/") == _DEPTH)
        while keys := list(islice(old, _AT_ONCE)):
            yield keys

    def _sweep_quietly(self) -> None:
        try:
            self.sweep()
        except Exception as error:
            logger.warning("The sweep stopped at %s: %s; it is tried again.", type(error).__name__, error)
