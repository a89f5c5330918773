"""One attempt at one job: which stages run on what, in what order, and what is taken from a checkpoint instead.

                 image          keyframes          piece, piece, ...        chunk, chunk, ...
    prompt ─► t2i ────► i2v ──────────────► v2v ═════════════════════► vfi ══════════════════════► join ───► mp4
                                            v2v ═════════════════════► vfi

V2V is called once a window, all at once, so that one request uses as many of the pool's replicas as are idle. A piece
goes to VFI as soon as it and the one before it are there, so VFI starts before V2V ends; chunks are joined in the order
of the windows. A job may begin at any stage (its inputs are then checkpoints: copied from another job, or made of a
file that somebody sent), end at any, and pause after any but the last. Values are references; none is fetched here.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from deployments import __version__
from deployments.errors import InputGoneError
from deployments.jobs.plans import comes_before, plan_of, planned_of, windows_of
from deployments.jobs.values import Job, JobRequest
from deployments.pipeline.calls import StageCalls
from deployments.pipeline.digests import digest_of, model_digest
from deployments.pipeline.kept import Kept, PutOffError
from deployments.pipeline.progress import JobProgress
from stages.base import derive_seed
from stages.presets import Plan
from stages.speed import Speed
from stages.types import StageName

_TWINS_WAIT_S = 10.0  # for the outputs of a job that has its result: a store may go away at this moment


class PausedJob(Exception):  # noqa: N818 - no error: the job waits for its user
    """The job has come to the stage after which it is to wait."""

    def __init__(self, stage: StageName) -> None:
        super().__init__(stage)
        self.stage = stage


@dataclass(frozen=True)
class Output:
    """A reference to a stage's output, and the digest of all that it depends on."""

    value: Any
    digest: str


class Attempt:
    """See the top of this module."""

    def __init__(
        self,
        job_id: str,
        request: JobRequest,
        key: str,
        calls: StageCalls,
        kept: Kept,
        speeds: Mapping[StageName, Speed],
    ) -> None:
        """`key` is that of the result, without a suffix. `speeds`: of the stages' replicas."""
        self._job_id, self._request, self._key = job_id, request, key
        self._calls, self._kept = calls, kept
        self._steps: Plan = plan_of(request)
        self._model, self._speeds = model_digest(request.model), speeds

    @property
    def _progress(self) -> JobProgress:
        return self._calls.progress

    async def run(self) -> dict[str, Any]:
        """The description of the result. A job whose twins wait for its end ends when its outputs are kept.

        Raises:
            PausedJob: the job is to wait now.
            PutOffError: the artifact store is away.
            JobFailure: a stage failed, or an input is gone.
            OutputLostError: an output died with its node.
        """
        made = await self._result()
        if self._request.reuse:
            await self._kept.settle(at_most_s=_TWINS_WAIT_S)
        return made

    async def _result(self) -> dict[str, Any]:
        request = self._request
        if request.source is not None:
            await self._kept.take_in(self._calls, request.source, self._steps)
        image = await self._picture() if comes_before(request.enter, "vfi") else None
        if image is not None:
            await self._stop_after("t2i")
            if request.until == "t2i":
                return await self._export("t2i", image)
        keyframes = await self._keyframes(image) if image is not None else None
        if keyframes is not None:
            await self._stop_after("i2v")
            if request.until == "i2v":
                return await self._export("i2v", keyframes)
        chunks = await self._redraw(image, keyframes)
        about = {"key": f"{self._key}.mp4", "provenance": provenance_of(request, self._steps)}
        before = request.extends.key if request.extends else None
        source = request.source
        sound = {"sound": source.key} if source is not None and source.sound else {}
        made = await self._kept.patiently(
            self._calls,
            "vfi",
            lambda: self._calls.finish("vfi", [chunk.value for chunk in chunks], **about, before=before, **sound),
        )
        self._progress.completed("vfi")
        return made

    async def _picture(self) -> Output:
        """T2I's picture: the only one, the chosen one, or all the candidates where one has still to be chosen."""
        request = self._request
        numbers = range(request.candidates) if request.pause_after == "t2i" else [request.candidate]
        self._calls.expect("t2i", len(numbers))
        made = await asyncio.gather(
            *(self._one("t2i", params=self._steps.t2i, seed=candidate_seed(request.seed, n), number=n) for n in numbers)
        )
        self._progress.completed("t2i")
        return made[0]

    async def _keyframes(self, image: Output) -> Output:
        made = await self._one("i2v", image, params=self._steps.i2v)
        self._progress.completed("i2v")
        return made

    async def _redraw(self, image: Output | None, keyframes: Output | None) -> list[Output]:
        """Every window through V2V and on to VFI as it comes; the chunks in the windows' order."""
        steps = self._steps
        count = windows_of(steps)
        inputs = [made for made in (image, keyframes) if made is not None]
        self._calls.expect("v2v", count)
        self._calls.expect("vfi", count)

        async def redraw(part: int) -> Output:
            return await self._one("v2v", *inputs, params=replace(steps.v2v, part=part), number=part)

        async def interpolate(part: int) -> Output:
            own = [await piece for piece in (pieces[part], *pieces[max(0, part - 1) : part])]
            return await self._one("vfi", *own, params=steps.vfi, number=part)

        async def complete() -> None:
            await asyncio.gather(*pieces)
            self._progress.completed("v2v")
            await self._stop_after("v2v")

        try:
            async with asyncio.TaskGroup() as group:
                pieces = [group.create_task(redraw(part)) for part in range(count)]
                pausing = self._request.pause_after == "v2v"
                chunks = [] if pausing else [group.create_task(interpolate(part)) for part in range(count)]
                group.create_task(complete())
        except BaseExceptionGroup as failed:
            raise _first(failed) from failed
        return [chunk.result() for chunk in chunks]

    async def _one(
        self, stage: StageName, *inputs: Output, params: Any, seed: int | None = None, number: int = 0
    ) -> Output:
        """One output: kept, another job's of the same digest, or computed now."""
        seed = self._request.seed if seed is None else seed

        def digest_with(speed: Mapping[str, Any]) -> str:
            made_of = (self._model, *(made.digest for made in inputs))
            return digest_of(stage, *made_of, params=params, seed=seed, speed=speed)

        digest = digest_with(self._speeds[stage].inexact)
        found = await self._kept.find(self._calls, stage, number, digest, reuse=self._request.reuse)
        if found is not None:
            return Output(*found)
        if comes_before(stage, self._request.enter):
            raise InputGoneError(
                f"Output {number} of {stage}, which this video begins from, cannot be read any more; "
                "send the file again, or begin at an earlier stage."
            )
        value, info = await self._calls.one(
            stage, *(made.value for made in inputs), params=params, seed=seed, number=number
        )
        if "speed" in info:  # a roll-out may still have replicas of another
            digest = digest_with(info["speed"])
        self._kept.write(stage, number, value, {"digest": digest, "run_s": info["run_s"]})
        return Output(value, digest)

    async def _stop_after(self, stage: StageName) -> None:
        if self._request.pause_after == stage:
            await self._kept.settle()
            raise PausedJob(stage)

    async def _export(self, stage: StageName, made: Output) -> dict[str, Any]:
        about = provenance_of(self._request, self._steps)
        return await self._kept.export(self._calls, stage, made.value, self._key, about)


def provenance_of(request: JobRequest, steps: Plan) -> dict[str, Any]:
    """What the file says of how it was made."""
    about = request.model_dump(exclude_none=True, exclude={"source", "extends", "reuse", "pause_after"})
    made_by = {
        "generator": f"magicvideo {__version__}",
        "ai_generated": True,
        "model_sha256": model_digest(request.model),
        "frames": planned_of(request, steps).frames,
    }
    source = request.source
    return {**made_by, **about, **({"source_sha256": source.sha256} if source else {})}


async def remake(keeper: Any, job: Job) -> None:
    """Have the keeper write a job's result again, of the last stage's checkpoints. Whether that gave the same file is
    for the caller to see: where they are not kept, or were made by another version, it does not.

    Raises:
        CheckpointError: one is gone or damaged.
    """
    request, last = job.request, job.outputs.get(job.request.until, {})
    steps = plan_of(request)
    numbers = {"t2i": [request.candidate], "i2v": [0]}.get(request.until, range(windows_of(steps)))
    if keeper is None or job.result is None or not set(numbers) <= set(last):
        return
    outputs = [(last[number]["key"], last[number]["sha256"]) for number in numbers]
    before = request.extends.key if request.extends else None
    await keeper.remake.remote(outputs, key=job.result["key"], provenance=provenance_of(request, steps), before=before)


def candidate_seed(seed: int, number: int) -> int:
    """T2I's seed for the `number`-th candidate; the first is the one that a job without candidates makes."""
    return seed if number == 0 else derive_seed(seed, "candidate", number) % 2**31


def _first(failed: BaseException) -> BaseException:
    """Of errors that came together: one that ends the job, rather than one that only pauses it or puts it off."""
    leaves = list(_leaves(failed))
    return next((error for error in leaves if not isinstance(error, PausedJob | PutOffError)), leaves[0])


def _leaves(failed: BaseException) -> Sequence[BaseException]:
    if not isinstance(failed, BaseExceptionGroup):
        return [failed]
    return [leaf for error in failed.exceptions for leaf in _leaves(error)]
