"""A value of a stage, or the state of one that has stopped, as the bytes of one safetensors file, and back.

The file holds the value's arrays, and in its head what type it is and its plain fields. Knows nothing of where files
lie.
"""

import dataclasses
import json
from fractions import Fraction
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from deployments.files.mp4 import EncodedChunk
from deployments.files.store import CheckpointError
from stages.state import DenoisingState, StateError
from stages.types import Clip, Image, Keyframes, Latents, Piece

Record = dict[str, Any]
"""What the journal records of a file: key, bytes, sha256."""

_TYPES: dict[str, type] = {kind.__name__: kind for kind in (Image, Latents, Clip, Keyframes, Piece, EncodedChunk)}
_DTYPES = {"uint8": "U8", "float16": "F16", "float32": "F32", "int64": "I64"}  # as safetensors names them


def pack(value: Any) -> list[memoryview]:
    """A value of a stage as one safetensors file: its head, then the arrays where they lie, without a copy.

    Raises:
        CheckpointError: a type that is not kept.
    """
    if isinstance(value, DenoisingState):
        return [memoryview(value.to_bytes())]
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
        about = json.loads(data[8 : 8 + length])["__metadata__"]
        if "state" in about:
            return DenoisingState.from_bytes(data)
        return _fold(json.loads(about["value"]), load(data))
    except StateError as error:
        raise CheckpointError(f"A state is not readable: {error}.") from error
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
