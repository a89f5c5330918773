"""Weights in a byte each: rows of int8 beside a scale a row, so that a small set takes less room.

A folder of the hub's layout whose safetensors file says so in its metadata; `config.json` is as it was. `pack` writes
one from a folder of float16, `unpacked` gives the tensors back. What is packed loses about 41 dB of signal to rounding;
everything else stays as it is. Knows nothing of models: which tensors may be packed says who packs.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

__all__ = ["is_packed", "pack", "unpacked"]

_MARK = {"format": "pt", "packed": "int8"}
_SCALE = ".scale"
_LEVELS = 127


def is_packed(file: Path) -> bool:
    """Whether some of the file's tensors are rows of int8."""
    with safe_open(file, "pt") as opened:
        return (opened.metadata() or {}).get("packed") == _MARK["packed"]


def pack(file: Path, target: Path, chosen: Callable[[str, Tensor], bool]) -> None:
    """Write `file` anew with the tensors that `chosen` names packed."""
    made = dict[str, Tensor]()
    with safe_open(file, "pt") as opened:
        for name in sorted(opened.keys()):
            tensor = opened.get_tensor(name)
            if not chosen(name, tensor):
                made[name] = tensor
                continue
            rows = tensor.float().flatten(1)
            scale = (rows.abs().amax(1, keepdim=True) / _LEVELS).clamp_min(1e-8).half()
            made[name] = (rows / scale.float()).round().clamp(-_LEVELS, _LEVELS).to(torch.int8).view(tensor.shape)
            made[name + _SCALE] = scale.flatten()
    save_file(made, target, metadata=_MARK)


def unpacked(file: Path) -> dict[str, Tensor]:
    """The tensors of a packed file; what was packed in float32."""
    made = dict[str, Tensor]()
    with safe_open(file, "pt") as opened:
        names = set(opened.keys())
        for name in sorted(names):
            tensor = opened.get_tensor(name)
            if name + _SCALE in names:
                scale = opened.get_tensor(name + _SCALE).float()
                tensor = tensor.float() * scale.view(-1, *[1] * (tensor.ndim - 1))
            if not (name.endswith(_SCALE) and name.removesuffix(_SCALE) in names):
                made[name] = tensor
    return made
