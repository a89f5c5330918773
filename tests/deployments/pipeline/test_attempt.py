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
from deployments.on_ray.streams import Info
from deployments.pipeline.attempt import Attempt
from deployments.pipeline.kept import Kept
from deployments.pipeline.progress import JobProgress
from stages.speed import EXACT, Speed
from stages.types import STAGE_NAMES
from tests.journals import sqlite_journal

REQUEST = JobRequest(prompt="a fox", model="tiny", size="256x256", seconds="2", seed=7, until="t2i")
RECORD = {"key": "checkpoints/a.bin", "sha256": "0" * 64, "bytes": 5}


EVERY = dict.fromkeys(STAGE_NAMES, EXACT)


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

    def __init__(self, progress: JobProgress, speed: dict[str, Any] | None = None) -> None:
        self.progress, self.speed = progress, speed

    def expect(self, stage: str, count: int) -> None:
        self.progress.expect_calls("t2i", count)

    async def one(self, stage: str, *inputs: Any, **rest: Any) -> tuple[Any, Info]:
        made: Info = {"kind": "output", "last": True, "run_s": 0.1}
        return "a picture", made if self.speed is None else {**made, "speed": self.speed}


@pytest.mark.parametrize(
    ("configured", "replica", "same"),
    [
        (EXACT, None, True),
        (EXACT, {}, True),
        (Speed(offload="model"), {}, True),  # changes no byte
        (Speed(compile=True), {"compile": True}, False),
        (EXACT, {"compile": True}, False),  # a roll-out's last replica, or its first
        (Speed(compile=True), {}, True),
    ],
)
def test_an_output_is_named_by_the_speed_that_it_was_made_with(
    tmp_path: Path, configured: Speed, replica: dict[str, Any] | None, same: bool
) -> None:
    def digest(configured: Speed, replica: dict[str, Any] | None, name: str) -> str:
        async def scenario() -> str:
            database = Database(sqlite_journal(tmp_path / name))
            journal, leases = Journal(database), Leases(database)
            job = journal.submit(NewJob(REQUEST))[0]
            claimed = leases.claim("a", 60.0)
            assert claimed is not None
            keeper, progress = SlowKeeper(), JobProgress(lambda: 0.0)
            keeper.kept.set()
            kept = Kept(keeper, leases, claimed[0], job, progress, JobMetrics(), None)
            calls: Any = OneStage(progress, replica)
            speeds = {**EVERY, "t2i": configured}
            await Attempt(job.id, REQUEST, "videos/a", calls, kept, speeds).run()
            await kept.settle()
            return str(journal.get(job.id).outputs["t2i"][0]["digest"])

        (tmp_path / name).mkdir()
        return asyncio.run(scenario())

    assert (digest(configured, replica, "one") == digest(EXACT, None, "other")) == same


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
        run = asyncio.create_task(Attempt(job.id, request, "videos/a", calls, kept, EVERY).run())
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
