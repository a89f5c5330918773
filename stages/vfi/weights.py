"""Find, check, load and write the weights of VFI: the flow model's and the GAN's.

Takes a preset's part: `embedded:<folder>` inside `stages/weights`, or a local folder; the file in it is
`flow.safetensors` or `gan.safetensors`. Gives a `Rife` or a `Gan` ready to run, with the times that it can make. Every
name and shape is checked on the CPU, before any memory of the device is taken.

A model made for the middle alone gives the middle whatever time it is asked for. It is told by its shape (a first layer
without the channel that carries t) or by what its file says (`times: 0.5` in the metadata).

Reads safetensors only. Does not download: the embedded files are committed, and made by `stages.vfi.convert` and
`stages.training.vfi.recipe`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from client._shell.outputs import written
from stages.base import WeightsError
from stages.model.weights.contents import is_pointer
from stages.presets import WEIGHTS, Part
from stages.vfi.gan import Design, Gan
from stages.vfi.rife import Rife

__all__ = [
    "FILE_NAME",
    "GAN_FILE_NAME",
    "MIDDLE",
    "check_fits",
    "fixed_time_of",
    "load_gan",
    "load_rife",
    "weights_file",
    "write_weights",
]

FILE_NAME = "flow.safetensors"
GAN_FILE_NAME = "gan.safetensors"
MIDDLE = 0.5
_EMBEDDED = "embedded:"
_FIRST_LAYER = "blocks.0.down.0.0.weight"  # (96, 7, 3, 3): two frames and t; 6 without t


@dataclass(frozen=True, slots=True)
class _Kind:
    """What the messages say of one of the two models."""

    file_name: str
    title: str
    made_by: str
    again: str


_FLOW = _Kind(FILE_NAME, "RIFE 4.0 flow model", "python -m stages.vfi.convert", "convert it again")
_GAN = _Kind(GAN_FILE_NAME, "GAN of VFI", "python -m stages.training vfi --install", "train it again")
_KINDS = {"flow": _FLOW, "gan": _GAN}


def _first_three(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def weights_file(part: Part, kind: _Kind = _FLOW) -> Path:
    """The weights file that `part` names.

    Raises:
        WeightsError: there is none.
    """
    embedded = part.source.startswith(_EMBEDDED)
    folder = WEIGHTS / part.source.removeprefix(_EMBEDDED) if embedded else Path(part.source).expanduser()
    path = folder / part.subfolder / (part.weight_name or kind.file_name)
    if path.is_file():
        return path
    step = (
        f"restore it from the repository or run `{kind.made_by}`"
        if embedded
        else "VFI reads an `embedded:` folder or a local one, not a hub id; give a folder that holds it"
    )
    name = kind.file_name.removesuffix(".safetensors")
    raise WeightsError(f"The {name} weights {part.source!r} are missing: there is no file {path}; {step}.")


def check_fits(tensors: Mapping[str, Tensor], origin: str, net: nn.Module | None = None, kind: _Kind = _FLOW) -> None:
    """Compare names and shapes with the network; without `net`, with the flow model.

    Raises:
        WeightsError: they differ; the first three are named.
    """
    if net is None:
        with torch.device("meta"):
            net = Rife()
    wanted = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    missing = [name for name in wanted if name not in tensors]
    unknown = [name for name in tensors if name not in wanted]
    if missing or unknown:
        lists = [f"it lacks {_first_three(missing)}"] if missing else []
        lists += [f"it has the unknown {_first_three(unknown)}"] if unknown else []
        raise WeightsError(f"{origin} is not a {kind.title}: {' and '.join(lists)}; {kind.again}.")
    wrong = [
        f"{name} is {tuple(tensors[name].shape)} instead of {shape}"
        for name, shape in wanted.items()
        if tuple(tensors[name].shape) != shape
    ]
    if wrong:
        raise WeightsError(f"{origin} has tensors of another shape: {_first_three(wrong)}; {kind.again}.")


def fixed_time_of(parts: Mapping[str, Part]) -> str:
    """Which of `parts` (by "flow", "gan") makes t = 1/2 alone, as "flow weights 'folder'"; empty where none does.

    Reads the headers of the files only.

    Raises:
        WeightsError: a file is missing or broken, or says something else of its times.
    """
    for name, part in parts.items():
        path = weights_file(part, _KINDS[name])
        metadata, shapes = _header(path)
        said = metadata.get("times", "any")
        if said not in ("any", str(MIDDLE)):
            raise WeightsError(
                f"{path} says that it makes the times {said!r}; write 'any' or '{MIDDLE}' into its metadata."
            )
        if said != "any" or not _is_timed(shapes):
            return f"{name} weights {part.source!r}"
    return ""


def _is_timed(shapes: Mapping[str, list[int]]) -> bool:
    """Whether a flow model of those shapes has the channel that carries t; so for every other model."""
    first = shapes.get(_FIRST_LAYER, [])
    return not (len(first) == 4 and first[1] == 6)


def load_rife(part: Part, device: torch.device, dtype: torch.dtype) -> Rife:
    """The flow model of `part`, on `device`, its convolutions in `dtype`, without gradients.

    Raises:
        WeightsError: the file is missing, broken or of another shape.
    """
    path = weights_file(part)
    _, shapes = _header(path)
    with torch.device("meta"):
        net = Rife(timed=_is_timed(shapes))
    tensors = _read(path)
    check_fits(tensors, str(path), net)
    _fill(net, tensors, device, dtype)
    return net


def load_gan(part: Part, device: torch.device, dtype: torch.dtype) -> Gan:
    """The GAN of `part`, likewise.

    Raises:
        WeightsError: the file is missing, broken or of another shape.
    """
    path = weights_file(part, _GAN)
    metadata, _ = _header(path)
    try:
        first, second, third = (int(width) for width in metadata["widths"].split())
        design = Design((first, second, third), *(int(metadata[name]) for name in ("codes", "code_width", "head")))
    except (KeyError, ValueError) as error:
        raise WeightsError(
            f"{path} does not say how its network is built ({error} in its metadata); {_GAN.again}."
        ) from error
    with torch.device("meta"):
        net = Gan(design)
    tensors = _read(path)
    check_fits(tensors, str(path), net, _GAN)
    _fill(net, tensors, device, dtype)
    return net


def write_weights(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> str:
    """Write `tensors` with `metadata`; gives the sha256 of the file.

    The library writes metadata in random order; the header is sorted here, so that the same content gives the same
    bytes.
    """
    raw = save(dict(tensors), metadata=dict(metadata))
    start = 8 + int.from_bytes(raw[:8], "little")  # a file is: length of the header, header (JSON), data
    header = json.loads(raw[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data stays aligned
    content = len(text).to_bytes(8, "little") + text + raw[start:]
    path.parent.mkdir(parents=True, exist_ok=True)
    with written(path) as draft:
        draft.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def _header(path: Path) -> tuple[dict[str, str], dict[str, list[int]]]:
    """(metadata, shape of every tensor) of a file."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {}), {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error


def _read(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path, device="cpu")
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error
    return tensors


def _unreadable(path: Path, error: Exception) -> WeightsError:
    if path.is_file() and is_pointer(path):
        return WeightsError(f"{path} is a git-lfs pointer, not the weights; run `git lfs pull` in {path.parent}.")
    return WeightsError(f"{path} is not a readable safetensors file ({error}); restore or convert it again.")


def _fill(net: nn.Module, tensors: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype) -> None:
    net.load_state_dict({name: _laid_out(tensor.to(dtype)) for name, tensor in tensors.items()}, assign=True)
    net.to(device).requires_grad_(False).eval()


def _laid_out(tensor: Tensor) -> Tensor:
    """Channels last: measured on a CPU at 1048x1048, at least a fifth less time, and equal to rounding."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
