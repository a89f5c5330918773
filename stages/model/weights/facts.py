"""All that the bytes of a preset's stages depend on beside their inputs, as short texts by name: a state that was kept
between two steps holds them, and is continued only where they are the same.

As in the contract of a stage, machines of one device type count as equal; on a CPU with as many threads, which divide
a matrix product. Knows nothing of modules or requests.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

import stages
from stages.model.weights.identity import identity_of
from stages.model.weights.loading import multiplies_in_bf16
from stages.presets import Preset
from stages.speed import PACKAGES

_LIBRARIES = ("torch", "diffusers", "transformers", "numpy")
_SHOWN = 16  # digits of a digest


def facts_of(preset: Preset, device: str) -> Mapping[str, str]:
    """To be asked for when weights are loaded: their files may change later."""
    weights = hashlib.sha256()
    for name, part in sorted(preset.parts.items()):
        weights.update(f"{name} {identity_of(name, part)}\n".encode())
    libraries = sorted({PACKAGES[speed.weights] for speed in preset.speeds.values() if speed.weights in PACKAGES})
    settings = hashlib.sha256(repr(preset).encode()).hexdigest()
    kind = torch.device(device).type
    cpu = f"{kind}, threads {torch.get_num_threads()}" + ", bfloat16" * multiplies_in_bf16(preset, device)
    return {
        "preset": f"{preset.name} {settings[:_SHOWN]}",
        "weights": weights.hexdigest()[:_SHOWN],
        "code": _code(),
        "libraries": ", ".join(f"{name} {_version(name)}" for name in (*_LIBRARIES, *libraries)),
        "device": cpu if kind == "cpu" else kind,
    }


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "absent"


@cache
def _code() -> str:
    """Of the files of this package, as they were first asked for."""
    root, own = Path(stages.__file__).parent, hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        own.update(f"{file.relative_to(root)}\n".encode())
        own.update(file.read_bytes())
    return own.hexdigest()[:_SHOWN]
