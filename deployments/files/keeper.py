"""Outputs of stages as files, so that a job whose executor or node dies goes on from what it has already paid for.

`Keeper` is a deployment: it writes a value beside the hot path, gives it back to a later executor, and joins a job's
chunks, which would wait at VFI's replicas for the windows of other jobs. A value is one
safetensors file: its arrays, and in the header what type it is and its plain fields. The file is written first, under a
name that no other attempt uses, and recorded in the journal then; its digest is checked when it is read again.
Knows nothing of jobs; keys are made by the pipeline.
"""

import asyncio
import dataclasses
import errno
import gc
import hashlib
import io
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import PIL.Image
from PIL.PngImagePlugin import PngInfo

from deployments.errors import StoreAwayError
from deployments.files.decoding import last_frame, read_picture, read_video
from deployments.files.mp4 import EncodedChunk, Mp4Finisher, encode_chunk
from deployments.files.packing import Record, pack, unpack
from deployments.files.store import ArtifactError, ArtifactStore, CheckpointError
from deployments.jobs.values import Source
from deployments.observe.logs import Format, Level, set_up
from deployments.on_ray.sweeping import collect_soon
from stages.model.network.pictures import resize_frames
from stages.model.sampling.windows import cut_piece, plan_windows
from stages.presets import Plan
from stages.types import Clip, Image, Keyframes, StageName


class Keeper:
    """Writes and reads checkpoints; holds no device and no state."""

    def __init__(self, artifacts_url: str, logs: tuple[Format, Level] | None = None) -> None:
        if logs is not None:
            set_up(*logs)
        self._store = ArtifactStore(artifacts_url)
        gc.collect()
        gc.freeze()  # collections, one a call, skip what start-up made

    def reconfigure(self, told: Mapping[str, Any]) -> None:
        """Ray Serve calls this at the start, and when a roll-out changes what a keeper is told."""
        set_up(*told["logs"])

    async def keep(self, value: Any, key: str) -> Record:
        """Write a value under a key that is used once; gives what the journal records: key, bytes, sha256.

        Raises:
            CheckpointError: a type that is not kept.
            StoreAwayError: the store is full or cannot be reached.
        """
        try:
            return await asyncio.to_thread(self._keep, value, key)
        finally:
            collect_soon()

    async def load(self, key: str, sha256: str) -> AsyncIterator[Any]:
        """The value, then the info that ends a stage's stream: to its caller a replica that computed nothing.

        Raises:
            CheckpointError: the file is gone or damaged.
        """
        started = time.monotonic()
        value = await asyncio.to_thread(self._load, key, sha256)
        yield value
        yield {
            "kind": "output",
            "last": True,
            "index": 0,
            "run_s": time.monotonic() - started,
            "bytes": int(value.nbytes),
            "replica": "checkpoint",
        }

    async def ingest(self, source: Source, plan: Plan, folder: str) -> dict[StageName, list[Record]]:
        """Checkpoints of the stages before the one that `source` enters, made of it; keys begin with `folder`.

        Raises:
            CheckpointError: the file is gone or cannot be decoded.
        """
        try:
            return await asyncio.to_thread(self._ingest, source, plan, folder)
        finally:
            collect_soon()

    async def show(self, key: str, sha256: str) -> tuple[bytes, str]:
        """A kept picture as PNG, or kept keyframes as mp4; gives (bytes, media type).

        Raises:
            CheckpointError: the file is gone, damaged, or nothing to look at.
        """
        return await asyncio.to_thread(self._show, key, sha256)

    async def export(self, value: Any, key: str, provenance: Mapping[str, Any]) -> dict[str, Any]:
        """Write a picture or keyframes as the result of a job that ends with them; gives its description."""
        try:
            return await asyncio.to_thread(self._export, value, key, provenance)
        finally:
            collect_soon()

    async def finish(
        self, *chunks: EncodedChunk, key: str, provenance: Mapping[str, Any], before: str | None = None
    ) -> dict[str, Any]:
        """Join a job's chunks, behind the kept video `before`, and write the file; gives its description."""
        try:
            made = await asyncio.to_thread(Mp4Finisher(self._store.url).assemble, chunks, key, provenance, before)
            return dataclasses.asdict(made)
        finally:
            collect_soon()

    async def remake(
        self, outputs: Sequence[tuple[str, str]], *, key: str, provenance: Mapping[str, Any], before: str | None = None
    ) -> None:
        """Write the result of a job once more, of its last stage's outputs, each a (key, sha256).

        Raises:
            CheckpointError: one of them is gone or damaged.
            StoreAwayError: the store is full or cannot be reached.
        """
        try:
            await asyncio.to_thread(self._remake, outputs, key, provenance, before)
        finally:
            collect_soon()

    def _remake(
        self, outputs: Sequence[tuple[str, str]], key: str, provenance: Mapping[str, Any], before: str | None
    ) -> None:
        values = [self._load(*output) for output in outputs]
        if all(isinstance(value, EncodedChunk) for value in values):
            Mp4Finisher(self._store.url).assemble(values, key, provenance, before)
        else:
            self._export(values[0], key.rpartition(".")[0], provenance)

    def _keep(self, value: Any, key: str) -> Record:
        made = self._store.put_pieces(pack(value), key, "application/octet-stream")
        return {"key": made.key, "bytes": made.size_bytes, "sha256": made.sha256}

    def _load(self, key: str, sha256: str) -> Any:
        data = self._read(key)
        if (found := hashlib.sha256(data).hexdigest()) != sha256:
            raise CheckpointError(f"Checkpoint {key} has sha256 {found[:12]}..., recorded was {sha256[:12]}....")
        return unpack(data)

    def _read(self, key: str) -> bytes:
        try:
            return b"".join(self._store.read(key, 0, self._store.size(key)))
        except ArtifactError as error:
            raise CheckpointError(f"Checkpoint {key} cannot be read: {error}") from error
        except StoreAwayError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EIO:
                raise CheckpointError(f"Checkpoint {key} is damaged: {error}") from error
            raise

    def _ingest(self, source: Source, plan: Plan, folder: str) -> dict[StageName, list[Record]]:
        data = self._read(source.key)
        try:
            values = outputs_of_upload(data, source, plan)
        except Exception as error:  # decoders raise whatever they meet
            raise CheckpointError(
                f"The file that was sent cannot be decoded: {type(error).__name__}: {error}."
            ) from error
        return {
            stage: [self._keep(value, f"{folder}-{stage}-{number}.bin") for number, value in enumerate(own)]
            for stage, own in values.items()
        }

    def _show(self, key: str, sha256: str) -> tuple[bytes, str]:
        value = self._load(key, sha256)
        if isinstance(value, Image):
            return png_of(value), "image/png"
        if isinstance(value, Keyframes):
            return encode_chunk(even(value.clip)).data, "video/mp4"
        raise CheckpointError(f"Checkpoint {key} holds a {type(value).__name__}, which is nothing to look at.")

    def _export(self, value: Any, key: str, provenance: Mapping[str, Any]) -> dict[str, Any]:
        if isinstance(value, Image):
            made = self._store.put_bytes(png_of(value, provenance), f"{key}.png", "image/png")
            return dataclasses.asdict(made)
        if isinstance(value, Keyframes):
            finisher = Mp4Finisher(self._store.url)
            return dataclasses.asdict(finisher.assemble([finisher.encode(even(value.clip))], f"{key}.mp4", provenance))
        raise CheckpointError(f"A {type(value).__name__} is nothing to look at.")


def outputs_of_upload(data: bytes, source: Source, plan: Plan) -> dict[StageName, list[Any]]:
    """What the stages before the one that a source enters would have made, from a picture or a video."""
    if source.kind == "picture":
        return {"t2i": [Image(read_picture(data, plan.t2i.size))]}
    if source.enters == "i2v":
        return {"t2i": [Image(last_frame(data, plan.t2i.size))]}
    frames, fps = plan.i2v.frames, plan.i2v.fps
    if source.enters == "v2v":
        taken = read_video(data, frames, fps, plan.i2v.size)
        return {"t2i": [Image(resize_frames(taken[:1], plan.t2i.size)[0])], "i2v": [Keyframes(None, Clip(taken, fps))]}
    taken = read_video(data, frames, None, plan.v2v.size)
    spans = plan_windows(frames, plan.v2v.windows)
    pieces = [cut_piece(taken[s.start : s.stop], fps, spans, index) for index, s in enumerate(spans)]
    return {"v2v": pieces}


def png_of(image: Image, provenance: Mapping[str, Any] | None = None) -> bytes:
    """With the provenance, as JSON, in the field that viewers call "Comment"."""
    buffer, about = io.BytesIO(), PngInfo()
    if provenance:
        about.add_itxt("Comment", json.dumps(dict(provenance), ensure_ascii=False, sort_keys=True))
    PIL.Image.fromarray(image.pixels).save(buffer, "PNG", pnginfo=about)
    return buffer.getvalue()


def even(clip: Clip) -> Clip:
    """Without its last row or column where their number is odd, which H.264 cannot hold."""
    height, width = clip.frames.shape[1] // 2 * 2, clip.frames.shape[2] // 2 * 2
    return Clip(clip.frames[:, :height, :width], clip.fps)
