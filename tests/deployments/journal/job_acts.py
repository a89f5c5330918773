"""What tests of the journal do again and again: write a job, claim it, end it with outputs. Imported by tests only."""

from deployments.jobs.values import Claim, Job, JobRequest, NewJob, Update
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from stages.types import STAGE_NAMES, StageName

REQUEST = JobRequest(prompt="a fox", model="tiny", size="256x256", seconds="2", seed=7)
LONG_S, LAPSED_S = 60.0, -1.0
RECORD: dict[str, str | int] = {"key": "checkpoints/a/1.bin", "bytes": 3, "sha256": "00"}


def submit(journal: Journal, **asked: str) -> str:
    return journal.submit(NewJob(REQUEST.model_copy(update=asked)))[0].id


def claim(leases: Leases, lease_s: float = LONG_S, owner: str = "a") -> tuple[Claim, Job]:
    claimed = leases.claim(owner, lease_s)
    assert claimed is not None
    return claimed


def kept(name: str, digest: str = "") -> dict[str, str | int]:
    return {**RECORD, "key": f"checkpoints/{name}.bin", "digest": digest}


def finished(journal: Journal, request: JobRequest = REQUEST, tenant: str = "", **outputs: dict[str, str | int]) -> str:
    """A job that has ended with these outputs of stages and a video."""
    leases = Leases(journal.database)
    journal.submit(NewJob(request, tenant=tenant))
    held, job = claim(leases)
    for stage, record in outputs.items():
        assert leases.keep(held, stage_name(stage), 0, dict(record))
    leases.finish(Update(held), "succeeded", result={**RECORD, "key": f"videos/{job.id}/1.mp4"})
    return job.id


def stage_name(text: str) -> StageName:
    return next(name for name in STAGE_NAMES if name == text)
