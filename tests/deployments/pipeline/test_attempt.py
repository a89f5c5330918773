"""One attempt at a job on a real journal, its stage and its keeper answering when they are told to."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deployments.jobs.values import JobRequest, NewJob
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from deployments.observe.metrics import JobMetrics
from deployments.pipeline.attempt import Attempt
from deployments.pipeline.kept import Kept
from deployments.pipeline.progress import JobProgress
from tests.journals import sqlite_journal

REQUEST = JobRequest(prompt="a fox", model="tiny", size="256x256", seconds="2", seed=7, until="t2i")
RECORD = {"key": "checkpoints/a.bin", "sha256": "0" * 64, "bytes": 5}


class SlowKeeper:
    """What a handle to the keeper gives: the picture at once, a checkpoint when `kept` is set."""

    def __init__(self) -> None:
        self.asked, self.kept = asyncio.Event(), asyncio.Event()
        self.keep = SimpleNamespace(remote=self._keep)
        self.export = SimpleNamespace(remote=self._export)

    async def _keep(self, value: Any, key: str) -> dict[str, Any]:
        self.asked.set()
        await self.kept.wait()
        return {**RECORD, "key": key}

    async def _export(self, value: Any, key: str, provenance: Any) -> dict[str, Any]:
        return {"key": key}


class OneStage:
    """T2I's calls, answered at once."""

    idle = True

    def __init__(self, progress: JobProgress) -> None:
        self.progress = progress

    def expect(self, stage: str, count: int) -> None:
        self.progress.expect_calls("t2i", count)

    async def one(self, stage: str, *inputs: Any, **rest: Any) -> tuple[Any, float]:
        return "a picture", 0.1


@pytest.mark.parametrize("reuse", [True, False])
def test_twins_find_all_outputs_of_a_job_that_has_ended(tmp_path: Path, reuse: bool) -> None:
    """Else the last of them is computed again, for every twin that waited for it."""

    async def scenario() -> None:
        database = Database(sqlite_journal(tmp_path))
        journal, leases = Journal(database), Leases(database)
        request = REQUEST.model_copy(update={"reuse": reuse})
        job = journal.submit(NewJob(request))[0]
        claimed = leases.claim("a", 60.0)
        assert claimed is not None
        keeper, progress = SlowKeeper(), JobProgress(lambda: 0.0)
        kept = Kept(keeper, leases, claimed[0], job, progress, JobMetrics(), None)
        calls: Any = OneStage(progress)
        run = asyncio.create_task(Attempt(job.id, request, "videos/a", calls, kept).run())
        await keeper.asked.wait()
        if reuse:
            assert not run.done()
        else:
            await run
        keeper.kept.set()
        await run
        await kept.settle()
        assert [record["bytes"] for record in journal.get(job.id).outputs["t2i"].values()] == [5]

    asyncio.run(scenario())
