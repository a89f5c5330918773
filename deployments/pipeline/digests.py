"""What a stage's output depends on, as one digest: equal digests, equal bytes.

A stage is a pure function of its inputs, parameters and seed, with the weights and the code of one version. So the
digest of an output is that of these, and of the digests of its inputs. Takes plain values. Knows nothing of jobs.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from deployments import __version__
from stages.model.weights.identity import identity_of
from stages.presets import WEIGHTS, get_preset


def digest_of(kind: str, *inputs: str, **values: Any) -> str:
    """Of something that is made from `values` and from things with the digests `inputs`."""
    text = json.dumps([kind, list(inputs), _plain(values)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def model_digest(preset_name: str) -> str:
    """Of everything that a preset's stages compute with: its settings, this version, and the weights of every part, as
    this process finds them first: stages load theirs once, too. A part that is not on this machine counts by its name.
    """
    preset, own = get_preset(preset_name), hashlib.sha256()
    for path in sorted(WEIGHTS.rglob("*.safetensors")):
        own.update(path.relative_to(WEIGHTS).as_posix().encode())
        own.update(hashlib.sha256(path.read_bytes()).digest())
    parts = {
        name: identity_of(name, part) for name, part in preset.parts.items() if not part.source.startswith("embedded:")
    }
    return digest_of("model", version=__version__, preset=preset, weights=own.hexdigest(), parts=parts)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.name != "note"
        }
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    return str(value)
