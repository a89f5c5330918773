"""Find, check and load the weights of the flow model.

Takes the preset's `flow` part: `embedded:<folder>` inside `stages/weights`, or a local folder; the file in it is
`flow.safetensors`. Gives a `Rife` ready to run. Every name and shape is checked on the CPU, before any memory of the
device is taken.

Reads safetensors only. Does not download: the embedded file is committed and made by `stages.vfi.convert`.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from stages.base import WeightsError
from stages.presets import Part
from stages.vfi.rife import Rife

__all__ = ["FILE_NAME", "WEIGHTS", "check_fits", "load_rife", "weights_file"]

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
FILE_NAME = "flow.safetensors"
_EMBEDDED = "embedded:"


def _first_three(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _skeleton() -> Rife:
    with torch.device("meta"):
        return Rife()


def weights_file(part: Part) -> Path:
    """The weights file that `part` names.

    Raises:
        WeightsError: there is none.
    """
    embedded = part.source.startswith(_EMBEDDED)
    folder = WEIGHTS / part.source.removeprefix(_EMBEDDED) if embedded else Path(part.source).expanduser()
    path = folder / part.subfolder / (part.weight_name or FILE_NAME)
    if path.is_file():
        return path
    step = (
        "restore it from the repository or run `python -m stages.vfi.convert`"
        if embedded
        else "VFI reads an `embedded:` folder or a local one, not a hub id; give a folder that holds it"
    )
    raise WeightsError(f"The flow weights {part.source!r} are missing: there is no file {path}; {step}.")


def check_fits(tensors: Mapping[str, Tensor], origin: str) -> None:
    """Compare names and shapes with the network.

    Raises:
        WeightsError: they differ; the first three are named.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in _skeleton().state_dict().items()}
    missing = [name for name in wanted if name not in tensors]
    unknown = [name for name in tensors if name not in wanted]
    if missing or unknown:
        lists = [f"it lacks {_first_three(missing)}"] if missing else []
        lists += [f"it has the unknown {_first_three(unknown)}"] if unknown else []
        raise WeightsError(f"{origin} is not a RIFE 4.0 flow model: {' and '.join(lists)}; convert it again.")
    wrong = [
        f"{name} is {tuple(tensors[name].shape)} instead of {shape}"
        for name, shape in wanted.items()
        if tuple(tensors[name].shape) != shape
    ]
    if wrong:
        raise WeightsError(f"{origin} has tensors of another shape: {_first_three(wrong)}; convert it again.")


def load_rife(part: Part, device: torch.device, dtype: torch.dtype) -> Rife:
    """The network of `part`, on `device`, its convolutions in `dtype`, without gradients.

    Raises:
        WeightsError: the file is missing, broken or of another shape.
    """
    path = weights_file(part)
    try:
        tensors = load_file(path, device="cpu")
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is not a readable safetensors file ({error}); restore or convert it again."
        ) from error
    check_fits(tensors, origin=str(path))
    net = _skeleton()
    net.load_state_dict({name: _laid_out(tensor.to(dtype)) for name, tensor in tensors.items()}, assign=True)
    net.to(device).requires_grad_(False)
    return net


def _laid_out(tensor: Tensor) -> Tensor:
    """Channels last: measured on a CPU at 1048x1048, at least a fifth less time, and equal to rounding."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
