"""From a preset's table to modules with weights: safetensors only, never remote code, every gap found at load time.

A part is a folder in the layout of the hub: embedded in `stages/weights`, local, or a hub id, which is looked for under
`MAGICVIDEO_WEIGHTS`, then in the hub's cache, then fetched (`stages.model.weights.files`). Modules are complete and
fitting on the CPU before a GPU is touched. Gives modules on a device, without gradients. Knows nothing of what they
are for.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from stages.base import WeightsError
from stages.model.weights.contents import refuse_pickle, refuse_pointers
from stages.model.weights.files import (
    check_files,
    fetch_file,
    find_folder,
    source_of,
)
from stages.model.weights.packed import is_packed, unpacked
from stages.presets import DTypeName, Part, Preset

__all__ = [
    "check_device",
    "compute_dtype",
    "find_part",
    "load_module",
    "load_tensors",
    "load_tokenizer",
    "multiplies_in_bf16",
    "settle",
    "source_of",
]

_LEAST_TOKENS = 10
_LEAST_CAPABILITY: dict[DTypeName, tuple[int, int]] = {"bfloat16": (8, 0), "float16": (5, 3)}  # of CUDA devices

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def compute_dtype(preset: Preset, device: str) -> torch.dtype:
    """A CPU computes in float32, whatever the preset says; a GPU in the preset's dtype.

    Raises:
        WeightsError: there is no such device, or it cannot compute in the preset's dtype.
    """
    check_device(preset, device)
    return torch.float32 if torch.device(device).type == "cpu" else getattr(torch, preset.dtype)


def multiplies_in_bf16(preset: Preset, device: str) -> bool:
    """Whether the denoisers' products are bfloat16's on `device`: a CPU that has instructions for it, if asked for."""
    has = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return preset.bf16 and torch.device(device).type == "cpu" and bool(has)


def check_device(preset: Preset, device: str) -> None:
    """Before anything is loaded.

    Raises:
        WeightsError: there is no such device, or it cannot compute in the preset's dtype.
    """
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise WeightsError(f"Device {device!r} is not one that torch knows; use 'cpu', 'cuda' or 'cuda:1'.") from error
    if target.type not in ("cpu", "cuda", "meta") and not _has(target):
        raise WeightsError(f"Device {device!r} does not exist; this machine has none of its kind: use 'cpu'.")
    if target.type != "cuda":
        return
    count = torch.cuda.device_count()
    if (target.index or 0) >= count:
        have = f"cuda:0 to cuda:{count - 1}" if count else "no CUDA device"
        raise WeightsError(f"Device {device!r} does not exist; this machine has {have}.")
    least = _LEAST_CAPABILITY.get(preset.dtype, (0, 0))
    if torch.cuda.get_device_capability(target) < least:
        name, other = torch.cuda.get_device_name(target), "float16" if preset.dtype == "bfloat16" else "float32"
        raise WeightsError(
            f"{name} cannot compute in {preset.dtype}, the dtype of preset {preset.name!r} or of one of its parts; "
            f"use {other!r} there."
        )


def _index(device: str) -> tuple[str, int]:
    """One spelling: "cuda" is "cuda:0"."""
    target = torch.device(device)
    return target.type, target.index or 0


def _has(target: torch.device) -> bool:
    kind = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return kind is not None and kind.type == target.type


def settle(preset: Preset, device: str, *, together: Sequence[str] = ()) -> Preset:
    """The preset with the device of every part spelled out, for a stage that runs on `device`.

    Args:
        together: parts that run as one, where none may have a device or a dtype of its own.

    Raises:
        WeightsError: a device is not there, cannot compute in a part's dtype, or parts that run as one are apart.
    """
    check_device(preset, device)
    parts = {}
    for name, part in preset.parts.items():
        if part.device is not None or part.dtype is not None:
            check_device(replace(preset, dtype=part.dtype or preset.dtype), part.device or device)
        if part.device is not None and _index(part.device) == _index(device):
            part = replace(part, device=None)
        for what, own, common in (("device", part.device, device), ("dtype", part.dtype, preset.dtype)):
            if name in together and own not in (None, common):
                raise WeightsError(
                    f"Part {name!r} is to have the {what} {own!r}, the stage has {common!r}; UNet, motion module and "
                    f"ControlNets run as one: leave the part's {what} out, or change the preset's."
                )
        parts[name] = replace(part, device=part.device or device)
    return replace(preset, parts=MappingProxyType(parts))


def find_part(preset: Preset, name: str) -> Part:
    """The part of that name.

    Raises:
        WeightsError: the preset has none.
    """
    if name not in preset.parts:
        raise WeightsError(
            f"Preset {preset.name!r} has no part {name!r}, only {', '.join(preset.parts)}; add it in stages/presets.py."
        )
    return preset.parts[name]


def load_module(preset: Preset, name: str, cls: type[ModuleT], device: str, dtype: torch.dtype) -> ModuleT:
    """Part `name` as a `cls` (of diffusers or transformers), on `device`, for inference.

    Its dtype is the part's own, or the given one; a part that computes on a CPU (its own `device` before the given
    one) does so in float32, unless it asks for bfloat16 itself.

    Raises:
        WeightsError: the part is missing, broken, a pickle, or does not hold every tensor that the module needs.
    """
    part = find_part(preset, name)
    folder = find_folder(name, part)
    check_files(name, part, folder)
    if torch.device(part.device or device).type == "cpu" and (part.device or part.dtype):
        dtype = torch.bfloat16 if part.dtype == "bfloat16" else torch.float32
    elif part.dtype:
        dtype = getattr(torch, part.dtype)
    precision = {"dtype" if cls.__module__.startswith("transformers") else "torch_dtype": dtype}
    options: dict[str, Any] = {
        "use_safetensors": True,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # they are told below, all of them
        **precision,
    }
    if cls.__module__.startswith("diffusers"):
        options["low_cpu_mem_usage"] = False
    if part.variant:
        options["variant"] = part.variant
    try:
        if (file := _packed_file(folder)) is not None:
            module, info = _built(cls, folder), {"missing_keys": (), "mismatched_keys": (), "unexpected_keys": ()}
            module.load_state_dict(unpacked(file))
            module.to(dtype)
        else:
            module, info = cls.from_pretrained(str(folder), **options)  # type: ignore[attr-defined]
    except Exception as error:  # the libraries' loaders raise a dozen kinds; to a user they are one
        raise WeightsError(_sentence(name, part, error)) from error
    _judge(name, part, cls, info)
    loaded: ModuleT = module.to(device).eval().requires_grad_(False)
    return loaded


def _packed_file(folder: Path) -> Path | None:
    """The one file of a part some of whose tensors are packed."""
    files = list(folder.glob("*.safetensors"))
    return files[0] if len(files) == 1 and is_packed(files[0]) else None


def _built(cls: Any, folder: Path) -> Any:
    """A module as its config.json says, still without weights."""
    if cls.__module__.startswith("transformers"):
        return cls(cls.config_class.from_pretrained(str(folder)))
    return cls.from_config(cls.load_config(str(folder)))


def load_tensors(preset: Preset, name: str) -> dict[str, Tensor]:
    """The tensors of part `name` that is one safetensors file, on the CPU.

    Raises:
        WeightsError: the file is missing, broken or a pickle.
    """
    part = find_part(preset, name)
    file = fetch_file(name, part, part.weight_name or f"{name}.safetensors")
    refuse_pickle(name, part, file)
    try:
        tensors: dict[str, Tensor] = load_file(file)
    except Exception as error:
        raise WeightsError(_sentence(name, part, error)) from error
    return tensors


def load_tokenizer(preset: Preset, name: str) -> Any:
    """Part `name` as a tokenizer of transformers.

    Raises:
        WeightsError: it is missing or broken.
    """
    from transformers import CLIPTokenizer

    part = find_part(preset, name)
    try:
        folder = find_folder(name, part)
        refuse_pointers(name, folder)
        tokenizer = CLIPTokenizer.from_pretrained(str(folder))
        if len(tokenizer) < _LEAST_TOKENS:  # transformers makes an empty one where the files are missing
            raise ValueError(f"it holds no vocabulary, only {len(tokenizer)} tokens")
        return tokenizer
    except WeightsError:
        raise
    except Exception as error:
        raise WeightsError(_sentence(name, part, error)) from error


def _judge(name: str, part: Part, cls: type, info: Any) -> None:
    """Compare what the file held with what the module needs."""
    if missing := sorted(info["missing_keys"]):
        raise WeightsError(
            f"Part {name!r} from {_place(part)} lacks the tensors {_three(missing)} of a {cls.__name__}; "
            f"it belongs to another model, or is incomplete: fetch it again."
        )
    if wrong := sorted(info["mismatched_keys"]):
        shapes = [f"{key} is {tuple(found)} instead of {tuple(wanted)}" for key, found, wanted in wrong]
        raise WeightsError(
            f"Part {name!r} from {_place(part)} has tensors of another shape than its config.json says: "
            f"{_three(shapes)}; file and config belong to different models: fetch both again."
        )
    if unknown := sorted(info["unexpected_keys"]):
        raise WeightsError(
            f"Part {name!r} from {_place(part)} has tensors that a {cls.__name__} does not know: {_three(unknown)}; "
            f"it belongs to another model: check the preset."
        )


def _three(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _place(part: Part) -> str:
    return " ".join(filter(None, (part.source, part.subfolder, part.weight_name)))


def _sentence(name: str, part: Part, error: Exception) -> str:
    reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
    return f"Part {name!r} cannot be loaded from {_place(part)} ({reason}); check the folder or fetch it again."
