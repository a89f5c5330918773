"""A stand-in for the pipeline: makes the jobs of a journal, a step with every look at them, so nothing depends on time.

It drives the real `Leases` and `JobProgress` and keeps real outputs (pictures, an mp4 of noise); no stage computes. A
job that pauses is put aside until it is continued.
"""

import dataclasses
import io
import itertools
import threading
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from client.schema import JobError
from deployments.errors import VideoNotFoundError
from deployments.files.fragments import Fragments
from deployments.files.keeper import png_of
from deployments.files.mp4 import EncodedChunk, encode_chunk
from deployments.files.packing import pack
from deployments.files.store import ArtifactStore
from deployments.jobs.plans import comes_before, stages_of
from deployments.jobs.values import Claim, Job, Update
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from deployments.on_ray.streams import Info
from deployments.pipeline.progress import JobProgress, Origin
from stages import sheets
from stages.types import STAGE_NAMES, Clip, Image, Keyframes, Latents, StageName

OWNER, LEASE_S = "stand-in", 3600.0


@cache
def video() -> EncodedChunk:
    """Every job's video; noise, since that stays 0.2 MB however it is encoded."""
    frames = np.random.default_rng(7).integers(0, 256, (46, 64, 64, 3), dtype=np.uint8)
    return encode_chunk(Clip(frames, 24.0), x264_preset="ultrafast")


@cache
def streamed() -> bytes:
    """The same, as it is streamed."""
    return Fragments().add_rest(video())


@cache
def keyframe(candidate: int = 0) -> bytes:
    """T2I's picture, as PNG."""
    return png_of(_picture(candidate))


@cache
def preview() -> bytes:
    """I2V's frames, as mp4."""
    return encode_chunk(_frames().clip).data


@cache
def sheet() -> bytes:
    """Six frames of the video, as PNG."""
    return sheets.sheet_png(io.BytesIO(video().data))


@cache
def thumbnail() -> bytes:
    """The first frame of the video, as WebP."""
    return sheets.thumbnail_webp(io.BytesIO(video().data))


def _picture(number: int) -> Image:
    return Image(np.full((32, 32, 3), 40 * number, np.uint8))


def _frames() -> Keyframes:
    return Keyframes(Latents(np.zeros((2, 4, 4, 4), np.float16)), Clip(np.zeros((2, 32, 32, 3), np.uint8), 2.0))


@cache
def _output(stage: StageName, number: int) -> bytes:
    """A checkpoint; nobody looks at V2V's."""
    value = {"t2i": _picture(number), "vfi": video()}.get(stage) or _frames()
    return b"".join(pack(value))


@dataclass
class _Work:
    """One claimed job."""

    claim: Claim
    job: Job
    progress: JobProgress
    todo: list[StageName] = field(default_factory=list)
    begun: int = 0  # of those to do
    ended: int = 0
    looks: int = 0


class Standin:
    """See the top of this module. Thread-safe."""

    def __init__(self, journal: Journal, leases: Leases, store: ArtifactStore) -> None:
        self._journal, self._leases, self._store = journal, leases, store
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget everything, as if just started."""
        self.ticks = 4  # looks until a job ends
        self.error: JobError | None = None  # how jobs end, if not well
        self.keeps = True  # whether outputs of stages are kept
        self._work: dict[str, _Work] = {}

    def look(self, job_id: str) -> None:
        """Somebody asks how this job stands: it goes on by one step."""
        with self._lock:
            self._go_on(job_id, 1)

    def complete(self, job_id: str) -> None:
        """All steps at once."""
        with self._lock:
            self._go_on(job_id, self.ticks)

    def heed_cancels(self) -> None:
        """End the jobs that somebody cancelled while they ran."""
        with self._lock:
            for job_id in self._leases.beat([work.claim for work in self._work.values()], LEASE_S).cancelled:
                work = self._work.pop(job_id)
                self._leases.finish(Update(work.claim, *work.progress.take()), "cancelled", error=_CANCELLED)

    def _go_on(self, job_id: str, steps: int) -> None:
        try:
            state = self._journal.get(job_id).state
        except VideoNotFoundError:
            return
        while state in ("queued", "running") and job_id not in self._work:
            claimed = self._leases.claim(OWNER, LEASE_S)
            if claimed is None:
                return
            self._begin(*claimed)
        if state not in ("queued", "running"):
            return
        work = self._work[job_id]
        work.looks += steps
        self._advance(work)

    def _begin(self, claim: Claim, job: Job) -> None:
        """Take over what is kept of earlier stages, and know what is to do."""
        ticking = itertools.count()
        work = _Work(claim, job, JobProgress(lambda: 0.1 * next(ticking)))  # every stage waits 0.1 s for its device
        for stage in stages_of(job.request):
            if comes_before(stage, job.request.enter) or stage in job.outputs:
                origin: Origin = "uploaded" if job.request.source else "reused" if job.parent_id else "restored"
                for number in job.outputs.get(stage, {}) or self._keep(work, stage):
                    work.progress.restored(stage, 1, number, origin)
                work.progress.completed(stage)
            else:
                work.todo.append(stage)
        self._work[job.id] = work

    def _advance(self, work: _Work) -> None:
        at = min(work.looks * len(work.todo) / self.ticks, len(work.todo))
        for index in range(work.ended, len(work.todo)):
            stage, share = work.todo[index], at - index
            if index == work.begun:
                work.progress.sent(stage)
                work.progress.info(stage, Info(kind="started", last=False))
                work.begun += 1
            if share < 1:
                work.progress.info(stage, Info(kind="progress", last=False, step=int(1000 * share), total=1000))
                break
            if self.error is not None and index == len(work.todo) - 1:
                break
            self._end(work, stage)
            if stage == work.job.request.pause_after:
                self._leases.pause(self._last_words(work), stage)
                return
        if at < len(work.todo):
            self._leases.record([Update(work.claim, *work.progress.take())])
        elif self.error is not None:
            self._leases.finish(self._last_words(work), "failed", error=self.error)
        else:
            self._leases.finish(self._last_words(work), "succeeded", result=self._result(work))

    def _last_words(self, work: _Work) -> Update:
        del self._work[work.job.id]
        return Update(work.claim, *work.progress.take())

    def _end(self, work: _Work, stage: StageName) -> None:
        numbers = self._numbers(work.job, stage)
        run_s = (1.5 + STAGE_NAMES.index(stage)) / len(numbers)
        work.progress.expect_calls(stage, len(numbers))
        for number in numbers:
            made = Info(kind="output", last=True, index=0, run_s=run_s, bytes=1, replica=OWNER)
            work.progress.info(stage, made, number)
        for number in self._keep(work, stage) if self.keeps else ():
            work.progress.kept(stage, number)
        work.progress.completed(stage)
        work.ended += 1

    def _keep(self, work: _Work, stage: StageName) -> list[int]:
        numbers = self._numbers(work.job, stage)
        for number in numbers:
            key = f"checkpoints/{work.job.id}/{work.claim.fence}-{stage}-{number}.bin"
            made = self._store.put_bytes(_output(stage, number), key, "application/octet-stream")
            record = {"key": key, "bytes": made.size_bytes, "sha256": made.sha256}
            assert self._leases.keep(work.claim, stage, number, record)
        return numbers

    @staticmethod
    def _numbers(job: Job, stage: StageName) -> list[int]:
        """The calls of a stage."""
        if stage == "t2i":
            return list(range(job.request.candidates)) if job.request.pause_after == "t2i" else [job.request.candidate]
        return [0] if stage == "i2v" else list(range(job.planned.windows))

    def _result(self, work: _Work) -> dict[str, object]:
        data, suffix, kind = video().data, "mp4", "video/mp4"
        if work.job.request.until == "t2i":
            data, suffix, kind = keyframe(work.job.request.candidate), "png", "image/png"
        key = f"videos/{work.job.id}/{work.claim.fence}.{suffix}"
        return dataclasses.asdict(self._store.put_bytes(data, key, kind))


_CANCELLED = JobError(code="cancelled", message="The job was cancelled.")
