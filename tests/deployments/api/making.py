"""What the pipeline does with a job, done step by step by a test: stages that run, outputs that are kept, the end."""

from typing import Any, Self

import numpy as np

from client.schema import JobError, StageState
from deployments.files.mp4 import EncodedChunk, Mp4Finisher, encode_chunk
from deployments.files.packing import pack
from deployments.jobs.values import Update
from stages.types import STAGE_NAMES, Clip, Image, Keyframes, StageName, UInt8
from tests.deployments.api.served import Served

SIDE, FPS = 64, 24.0
SECOND = 24  # frames


def frames(count: int, hue: int = 0, side: int = SIDE) -> UInt8:
    """(count, side, side, 3): a bright square that moves over a ground of one colour."""
    made = np.empty((count, side, side, 3), np.uint8)
    made[:] = (60 + hue % 120, 90, 140 - hue % 90)
    for number in range(count):
        at = 2 + (number * 2) % (side - 18)
        made[number, at : at + 14, at : at + 14] = (240, 210, 120)
    return made


def chunk(number: int, count: int = SECOND, pictures: UInt8 | None = None) -> EncodedChunk:
    """One of VFI's outputs."""
    return encode_chunk(Clip(frames(count, 40 * number) if pictures is None else pictures, FPS))


class Making:
    """One job of a `Served`, in the hands of a test; the only queued one there is."""

    def __init__(self, served: Served, prompt: str = "a fox", **body: Any) -> None:
        self._served = served
        self.id = served.create(prompt, **body)
        self._begin()

    @classmethod
    def of(cls, served: Served, video_id: str) -> Self:
        """A job that is there already."""
        made = cls.__new__(cls)
        made._served, made.id = served, video_id
        made._begin()
        return made

    def _begin(self) -> None:
        self._claim = self._served.claim()
        self._chunks: list[EncodedChunk] = []
        self._kept: set[str] = set()
        self.say(("started", {}))

    def say(self, *events: tuple[str, dict[str, Any]], stages: tuple[StageState, ...] = (), **more: Any) -> None:
        self._served.leases.record([Update(self._claim, stages, events, **more)])

    def stage(self, name: StageName, progress: int = 0, **state: Any) -> None:
        """It runs, or with 100 it is done."""
        done = progress == 100
        about = {"status": "completed", "run_s": 1.5, "queued_s": 0.2, "bytes_out": 12_000_000} if done else {}
        made = StageState.model_validate({"name": name, "status": "running", "progress": progress, **about, **state})
        kind = "stage_completed" if done else "stage_started"
        self.say((kind, {"stage": name}), stages=(made,))

    def keep(self, name: StageName, value: Any, number: int = 0) -> None:
        """An output that can be looked at from now on."""
        key = f"checkpoints/{self.id}/{name}-{number}-{self._claim.fence}.bin"
        made = self._served.store.put_pieces(pack(value), key, "application/octet-stream")
        record = {"key": made.key, "bytes": made.size_bytes, "sha256": made.sha256, "digest": key}
        assert self._served.leases.keep(self._claim, name, number, record)
        self._kept.add(name)
        told: dict[str, tuple[str, dict[str, Any]]] = {
            "t2i": ("keyframe_ready", {"variant": "keyframe", "candidate": number}),
            "i2v": ("preview_ready", {"variant": "preview"}),
            "vfi": ("chunk_ready", {"index": number, "total": 2}),
        }
        self.say(("stage_kept", {"stage": name, "index": number}), *([told[name]] if name in told else []))

    def picture(self, pixels: UInt8 | None = None, number: int = 0) -> None:
        self.keep("t2i", Image(frames(1, 30 * number)[0] if pixels is None else pixels), number)

    def preview(self, pictures: UInt8 | None = None) -> None:
        self.keep("i2v", Keyframes(None, Clip(frames(16) if pictures is None else pictures, 8.0)))

    def chunk(self, number: int, pictures: UInt8 | None = None) -> None:
        self._chunks.append(chunk(number, pictures=pictures))
        self.keep("vfi", self._chunks[-1], number)

    def pause(self, after: StageName) -> None:
        self._served.leases.pause(Update(self._claim), after)

    def go_on(self) -> None:
        """Take it up again after its user has decided."""
        self._begin()

    def finish(self) -> None:
        """With the chunks that there are as its video, and with what comes before them."""
        if "t2i" not in self._kept:
            self.picture()
        if "i2v" not in self._kept:
            self.preview()
        for number in range(len(self._chunks), self._served.journal.get(self.id).planned.windows):
            self.chunk(number)
        finisher = Mp4Finisher(self._served.store.url)
        made = finisher.assemble(self._chunks, f"videos/{self.id}/1.mp4", {"prompt": "a fox"})
        states = tuple(
            StageState(name=name, status="completed", progress=100, run_s=1.5, queued_s=0.2, bytes_out=12_000_000)
            for name in STAGE_NAMES
        )
        self._served.leases.finish(Update(self._claim, states), "succeeded", result=vars(made))

    def fail(self, code: str, message: str) -> None:
        self._served.leases.finish(Update(self._claim), "failed", error=JobError(code=code, message=message))
