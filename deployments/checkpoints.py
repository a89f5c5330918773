"""Outputs of stages as files, so that a job whose executor or node dies goes on from what it has already paid for.

`Keeper` is a deployment: it writes a value beside the hot path, gives it back to a later executor, and joins a job's
chunks, which would wait at VFI's replicas for the windows of other jobs. A value is one
safetensors file: its arrays, and in the header what type it is and its plain fields. The file is written first, under a
name that no other attempt uses, and recorded in the journal then; its digest is checked when it is read again.
Knows nothing of jobs; keys are made by the pipeline.
"""

import asyncio
import dataclasses
import gc
import hashlib
import io
import json
import time
from collections.abc import AsyncIterator, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import PIL.Image
from PIL.PngImagePlugin import PngInfo
from safetensors import SafetensorError
from safetensors.numpy import load

from deployments.artifacts import ArtifactError, ArtifactStore
from deployments.encode import EncodedChunk, Mp4Finisher, encode_chunk
from deployments.job_types import Source
from deployments.logs import Format, Level, set_up
from deployments.sweeping import collect_soon
from deployments.uploads import last_frame, read_picture, read_video
from stages.model.pictures import resize_frames
from stages.model.windows import cut_piece, plan_windows
from stages.presets import Plan
from stages.types import Clip, Image, Keyframes, Latents, Piece, StageName

Record = dict[str, Any]
"""What the journal records of a file: key, bytes, sha256."""

_TYPES: dict[str, type] = {kind.__name__: kind for kind in (Image, Latents, Clip, Keyframes, Piece, EncodedChunk)}


_DTYPES = {"uint8": "U8", "float16": "F16", "float32": "F32", "int64": "I64"}  # as safetensors names them


class CheckpointError(Exception):
    """A file that is gone, damaged, or of a type that nobody keeps."""


def pack(value: Any) -> list[memoryview]:
    """A value of a stage as one safetensors file: its head, then the arrays where they lie, without a copy.

    Raises:
        CheckpointError: a type that is not kept.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    fields = _unfold(value, "", arrays)
    whole = sorted(((name, np.ascontiguousarray(array)) for name, array in arrays.items()), key=_by_alignment)
    head: dict[str, Any] = {"__metadata__": {"value": json.dumps(fields)}}
    end = 0
    for name, array in whole:
        kind = _DTYPES.get(array.dtype.name)
        if kind is None:
            raise CheckpointError(f"An array of {array.dtype.name} cannot be kept.")
        head[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [end, end := end + array.nbytes]}
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    data = [array.data.cast("B") for _, array in whole if array.nbytes]
    return [memoryview(len(text).to_bytes(8, "little") + text), *data]


def _by_alignment(item: tuple[str, np.ndarray[Any, Any]]) -> tuple[int, str]:
    """The widest first, so that each lies at a multiple of its own width."""
    return -item[1].itemsize, item[0]


def unpack(data: bytes) -> Any:
    """The value that `pack` was given.

    Raises:
        CheckpointError: not such a file.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        fields = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["value"])
        return _fold(fields, load(data))
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"A checkpoint is not readable: {type(error).__name__}: {error}.") from error


def _unfold(value: Any, name: str, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    """Plain fields of a value; its arrays go into `arrays` under dotted names."""
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {"array": name}
    if isinstance(value, bytes):
        arrays[name] = np.frombuffer(value, np.uint8)
        return {"bytes": name}
    if isinstance(value, Fraction):
        return {"fraction": [value.numerator, value.denominator]}
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and type(value).__name__ in _TYPES:
        prefix = f"{name}." if name else ""
        own = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {
            "type": type(value).__name__,
            "fields": {key: _unfold(one, prefix + key, arrays) for key, one in own.items()},
        }
    if isinstance(value, tuple):
        return {"tuple": [_unfold(one, f"{name}.{index}", arrays) for index, one in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise CheckpointError(f"A value of type {type(value).__name__} cannot be kept.")


def _fold(fields: Any, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    if not isinstance(fields, dict):
        return fields
    if "array" in fields:
        return arrays[fields["array"]]
    if "bytes" in fields:
        return arrays[fields["bytes"]].tobytes()
    if "fraction" in fields:
        return Fraction(*fields["fraction"])
    if "tuple" in fields:
        return tuple(_fold(one, arrays) for one in fields["tuple"])
    return _TYPES[fields["type"]](**{key: _fold(one, arrays) for key, one in fields["fields"].items()})


class Keeper:
    """Writes and reads checkpoints; holds no device and no state."""

    def __init__(self, artifacts_url: str, logs: tuple[Format, Level] | None = None) -> None:
        if logs is not None:
            set_up(*logs)
        self._store = ArtifactStore(artifacts_url)
        gc.collect()
        gc.freeze()  # collections, one a call, skip what start-up made

    async def keep(self, value: Any, key: str) -> Record:
        """Write a value under a key that is used once; gives what the journal records: key, bytes, sha256.

        Raises:
            CheckpointError: a type that is not kept.
            OSError: the store is full or cannot be reached.
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
        except (ArtifactError, OSError) as error:
            raise CheckpointError(f"Checkpoint {key} cannot be read: {error}") from error

    def _ingest(self, source: Source, plan: Plan, folder: str) -> dict[StageName, list[Record]]:
        data = self._read(source.key)
        try:
            values = given_outputs(data, source, plan)
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


def given_outputs(data: bytes, source: Source, plan: Plan) -> dict[StageName, list[Any]]:
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
