"""Whether a finished job's file is still what the journal recorded: looked at when this process first reads it.

A file that is missing or damaged is made again of the job's checkpoints, where those are kept; it is the same byte for
byte or it does not count. Later reads look only whether it is there. By one at a time for each file.
"""

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from deployments.bulkheads import Bulkhead
from deployments.errors import VideoGoneError
from deployments.files.store import Artifact, ArtifactError, ArtifactStore

logger = logging.getLogger(__name__)

Remake = Callable[[str], Awaitable[None]]
"""Writes the result of a job again, if that can be done."""
_REMEMBERED = 10_000  # files


class Intact:
    """One for each ingress replica."""

    def __init__(self, store: ArtifactStore, at_store: Bulkhead, remake: Remake) -> None:
        self._store, self._at_store, self._remake = store, at_store, remake
        self._reading = Bulkhead("The artifact store", threads=4, wait_s=60.0)
        self._at_pipeline = Bulkhead("The pipeline", threads=1, wait_s=60.0)
        self._seen: OrderedDict[Artifact, None] = OrderedDict()  # the last found whole at the end
        self._looking: dict[Artifact, asyncio.Task[None]] = {}

    async def check(self, job_id: str, artifact: Artifact) -> None:
        """Return once the file is as it was recorded.

        Raises:
            VideoGoneError: it is not, and cannot be made again.
            UnavailableError: the store or the pipeline does not answer.
            StoreAwayError: the store cannot be used.
        """
        if artifact in self._seen and await self._at_store.run(self._store.exists, artifact.key):
            return
        if artifact not in self._looking:
            self._looking[artifact] = asyncio.create_task(self._look(job_id, artifact))
        await asyncio.shield(self._looking[artifact])

    async def _look(self, job_id: str, artifact: Artifact) -> None:
        try:
            if (why := await self._wrong(artifact)) is None:
                return
            logger.warning("The content of video %s is made again: %s.", job_id, why)
            await self._at_pipeline.wait(self._remake(job_id))
            self._seen.pop(artifact, None)
            if (why := await self._wrong(artifact)) is not None:
                raise VideoGoneError(job_id, f"{why}, and what it was made of is not kept")
        finally:
            del self._looking[artifact]

    async def _wrong(self, artifact: Artifact) -> str | None:
        """What is wrong with the file."""
        if artifact in self._seen:
            return None if await self._at_store.run(self._store.exists, artifact.key) else _MISSING
        if (why := await self._reading.run(_examined, self._store, artifact)) is None:
            self._seen[artifact] = None
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
        return why


_MISSING = "its file is not in the artifact store"


def _examined(store: ArtifactStore, artifact: Artifact) -> str | None:
    try:
        size, digest = store.size(artifact.key), hashlib.sha256()
    except ArtifactError:
        return _MISSING
    if size == artifact.size_bytes:
        for piece in store.read(artifact.key, 0, size):
            digest.update(piece)
        if digest.hexdigest() == artifact.sha256:
            return None
    return "its file is damaged"
