"""From a preset's table to modules with weights: safetensors only, never remote code, every gap found at load time.

A part is a folder in the layout of the hub: embedded in `stages/weights`, local, or a hub id that is downloaded. Gives
modules on a device, without gradients. Knows nothing of what the modules are for.
"""

from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from stages.base import WeightsError
from stages.presets import Part, Preset

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
_EMBEDDED = "embedded:"
_LEAST_TOKENS = 10

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def compute_dtype(preset: Preset, device: str) -> torch.dtype:
    """A CPU computes in float32, whatever the preset says; a GPU in the preset's dtype."""
    return torch.float32 if torch.device(device).type == "cpu" else getattr(torch, preset.dtype)


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


def source_of(part: Part) -> str:
    """What `from_pretrained` takes: an existing folder, or a hub id.

    Raises:
        WeightsError: an embedded folder is not there.
    """
    if not part.source.startswith(_EMBEDDED):
        return str(Path(part.source).expanduser()) if part.source.startswith(("/", "~", ".")) else part.source
    folder = WEIGHTS / part.source.removeprefix(_EMBEDDED)
    if not folder.is_dir():
        raise WeightsError(
            f"The embedded weights {part.source!r} are missing: there is no folder {folder}; "
            f"restore it from the repository or run `make train`."
        )
    return str(folder)


def load_module(preset: Preset, name: str, cls: type[ModuleT], device: str, dtype: torch.dtype) -> ModuleT:
    """Part `name` as a `cls` (of diffusers or transformers), on `device`, for inference.

    Raises:
        WeightsError: the part is missing, broken, or does not hold every tensor that the module needs.
    """
    part = find_part(preset, name)
    source = source_of(part)
    precision = {"dtype" if cls.__module__.startswith("transformers") else "torch_dtype": dtype}
    options: dict[str, Any] = {"use_safetensors": True, "output_loading_info": True, **precision}
    if part.subfolder:
        options["subfolder"] = part.subfolder
    if part.variant:
        options["variant"] = part.variant
    try:
        module, info = cls.from_pretrained(source, **options)  # type: ignore[attr-defined]
    except Exception as error:  # the hub's loaders raise a dozen kinds; to a user they are one
        raise WeightsError(_sentence(name, part, error)) from error
    if missing := sorted(info["missing_keys"]):
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise WeightsError(
            f"Part {name!r} from {source} lacks the tensors {', '.join(missing[:3])}{more} of a {cls.__name__}; "
            f"it belongs to another model, or is incomplete: fetch it again."
        )
    loaded: ModuleT = module.to(device).eval().requires_grad_(False)
    return loaded


def load_tensors(preset: Preset, name: str) -> dict[str, Tensor]:
    """The tensors of part `name` that is one safetensors file, on the CPU.

    Raises:
        WeightsError: the file is missing or broken.
    """
    part = find_part(preset, name)
    source = source_of(part)
    file_name = part.weight_name or f"{name}.safetensors"
    try:
        if Path(source).is_dir():
            tensors: dict[str, Tensor] = load_file(Path(source) / part.subfolder / file_name)
            return tensors
        from huggingface_hub import hf_hub_download  # only for public weights, and only inside a worker

        downloaded: dict[str, Tensor] = load_file(hf_hub_download(source, file_name, subfolder=part.subfolder or None))
        return downloaded
    except Exception as error:
        raise WeightsError(_sentence(name, part, error)) from error


def load_tokenizer(preset: Preset, name: str) -> Any:
    """Part `name` as a tokenizer of transformers.

    Raises:
        WeightsError: it is missing or broken.
    """
    from transformers import CLIPTokenizer

    part = find_part(preset, name)
    source = source_of(part)
    try:
        tokenizer = CLIPTokenizer.from_pretrained(source, **({"subfolder": part.subfolder} if part.subfolder else {}))
        if len(tokenizer) < _LEAST_TOKENS:  # transformers makes an empty one where the files are missing
            raise ValueError(f"it holds no vocabulary, only {len(tokenizer)} tokens")
        return tokenizer
    except Exception as error:
        raise WeightsError(_sentence(name, part, error)) from error


def _sentence(name: str, part: Part, error: Exception) -> str:
    reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
    place = " ".join(filter(None, (part.source, part.subfolder, part.weight_name)))
    return f"Part {name!r} cannot be loaded from {place} ({reason}); check the folder or fetch it again."
