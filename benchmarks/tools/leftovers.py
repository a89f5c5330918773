"""What lies in a store when its server rests: results that are not as they were recorded, files that no row names."""

import hashlib
from collections.abc import Iterable

from deployments.files.store import ArtifactError, ArtifactStore
from deployments.jobs.values import Job
from deployments.journal.database import Database
from deployments.journal.sweeps import Sweeps
from deployments.observe.metrics import JobMetrics
from deployments.pipeline.sweeper import FOLDERS, Sweeper
from deployments.settings.application import AppArgs, RetentionArgs, StorageArgs


def wrong_bytes(jobs: Iterable[Job], store: ArtifactStore) -> int:
    """Results that are not what was recorded."""
    wrong = 0
    for made in (job.result for job in jobs if job.result is not None):
        digest = hashlib.sha256()
        try:
            for piece in store.read(made["key"], 0, store.size(made["key"])):
                digest.update(piece)
        except ArtifactError:
            pass
        wrong += digest.hexdigest() != made["sha256"]
    return wrong


def orphan_files(database: Database, storage: StorageArgs) -> tuple[int, int]:
    """Files that no row names: before the sweep, and after it."""
    store, sweeps = ArtifactStore(storage.artifacts_url), Sweeps(database)

    def count() -> int:
        return len(sweeps.unnamed([key for folder in FOLDERS for key, _ in store.files(folder)]))

    before = count()
    now = RetentionArgs(orphans_s=1e-9, orphans_every_s=1e-9)
    Sweeper(AppArgs(storage=storage, retention=now), database, JobMetrics()).sweep()
    return before, count()
